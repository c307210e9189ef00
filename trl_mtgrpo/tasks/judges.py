"""A reward model that several tasks share: loaded once, one column, and only its own tasks' rows are scored."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from .rows import TaskRow


class BoundRows:
    """The rows of the batch that is being scored on this rank; a model is told nothing of them by the host."""

    def __init__(self) -> None:
        self.task_ids: tuple[int, ...] = ()

    def bind(self, rows: Sequence[TaskRow]) -> None:
        """Remembers the rows of the next batch."""
        self.task_ids = tuple(row.task_id for row in rows)


class TaskJudge(nn.Module):
    """
    A reward model for the rows of some tasks.

    Its place among TRL's reward functions and the name of its column are those of the model. Every rank calls the
    model once per batch, with one foreign row where it has none of its own, because the model's weights may be spread
    over the ranks.

    Args:
        model ([`~torch.nn.Module`]):
            The reward model, as TRL prepared it.
        task_ids (`Iterable[int]`):
            Tasks whose rows it scores.
        rows ([`BoundRows`]):
            The rows of the current batch.
    """

    def __init__(self, model: nn.Module, task_ids: Iterable[int], rows: BoundRows) -> None:
        super().__init__()
        self.model = model
        self.task_ids = frozenset(task_ids)
        self.rows = rows

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        """
        Scores the batch.

        Args:
            **inputs (`torch.Tensor`):
                What the model takes, each with `N` rows, padded on the right.

        Returns:
            `SimpleNamespace`: `logits` of shape `(N, ...)`, NaN in rows of other tasks.
        """
        num_rows = len(next(iter(inputs.values())))
        if len(self.rows.task_ids) != num_rows:
            raise RuntimeError(
                f"`bind` must get the {num_rows} rows of the batch before rewards are calculated, got "
                f"{len(self.rows.task_ids)}. Call `mixture.bind(rows)` first."
            )
        own = [i for i, task_id in enumerate(self.rows.task_ids) if task_id in self.task_ids]
        logits = self.model(**_cut(inputs, own or [0])).logits
        spread = logits.new_full((num_rows, *logits.shape[1:]), torch.nan)
        if own:
            spread[own] = logits
        return SimpleNamespace(logits=spread)


def _cut(inputs: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Some rows, no wider than the longest of them: what the host would have made of these rows alone."""
    cut = {name: value[rows] for name, value in inputs.items()}
    mask = cut.get("attention_mask")
    if mask is None:
        return cut
    padded, width = mask.shape[1], max(int(mask.sum(dim=1).max()), 1)
    return {
        name: value[:, :width] if value.ndim > 1 and value.shape[1] == padded else value for name, value in cut.items()
    }
