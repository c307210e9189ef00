"""Rollouts and groups as values: taken apart after generation, kept between steps, put together for the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


# Positions in the tuple that the host's `_generate` returns.
PROMPT_IDS, COMPLETION_IDS, TOOL_MASK, COMPLETIONS, LOGPROBS = range(5)


class Rollout(NamedTuple):
    """
    One completion, as one row of everything the host's generation returned.

    Args:
        row (`dict[str, Any]`):
            The dataset row that was answered.
        fields (`tuple`):
            This row's entry of each element of the host's generation tuple; `None` for elements that are not per row.
        logged (`dict[str, Any]`):
            Extra columns that the reward functions logged for this row.
    """

    row: dict[str, Any]
    fields: tuple[Any, ...]
    logged: dict[str, Any]

    @property
    def num_tokens(self) -> int:
        return len(self.fields[COMPLETION_IDS])


@dataclass(frozen=True, eq=False)
class Group:
    """
    All rollouts of one prompt: what is filtered, selected, trained and carried as a whole.

    Args:
        task_id (`int`):
            Position of the task in the mixture.
        row_index (`int`):
            Row of the task's train set; -1 when the host's loader delivered the row.
        generation (`int`):
            Index of the generation batch that produced it.
        rewards (`np.ndarray`):
            Rewards of shape `(G, F)`, one column per reward function, NaN where a function gave none.
        num_tokens (`int`):
            Completion tokens of all rollouts.
        rollouts (`tuple[Rollout, ...]`):
            The G rollouts; empty until they are fetched from the ranks that hold them.
        logps (`tuple[tuple[float, ...], ...]`, *optional*):
            Per-token log-probabilities under the policy that generated the rollouts. Set for carried groups.
    """

    task_id: int
    row_index: int
    generation: int
    rewards: NDArray[np.float32]
    num_tokens: int
    rollouts: tuple[Rollout, ...] = ()
    logps: tuple[tuple[float, ...], ...] | None = None

    def with_rollouts(self, rollouts: Sequence[Rollout]) -> "Group":
        return replace(self, rollouts=tuple(rollouts))

    def with_logps(self, logps: Sequence[Sequence[float]]) -> "Group":
        return replace(self, logps=tuple(tuple(row) for row in logps))

    def to_json(self) -> dict[str, Any]:
        """The group as JSON values; the dataset row is left out, it is found again by task and index."""
        return {
            "task_id": self.task_id,
            "row_index": self.row_index,
            "generation": self.generation,
            "rewards": [[None if np.isnan(r) else float(r) for r in row] for row in self.rewards],
            "num_tokens": self.num_tokens,
            "rollouts": [{"fields": _plain(r.fields), "logged": _plain(r.logged)} for r in self.rollouts],
            "logps": None if self.logps is None else [list(row) for row in self.logps],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], row: dict[str, Any]) -> "Group":
        """The group that `to_json` wrote, given its dataset row."""
        rewards = [[np.nan if r is None else r for r in rewards] for rewards in value["rewards"]]
        group = cls(
            task_id=value["task_id"],
            row_index=value["row_index"],
            generation=value["generation"],
            rewards=np.array(rewards, dtype=np.float32),
            num_tokens=value["num_tokens"],
            rollouts=tuple(Rollout(dict(row), tuple(r["fields"]), r["logged"]) for r in value["rollouts"]),
        )
        return group if value["logps"] is None else group.with_logps(value["logps"])


def split_generation(
    output: tuple[Any, ...], rows: Sequence[dict[str, Any]], logged: dict[str, list[Any]]
) -> list[Rollout]:
    """
    Takes the host's generation tuple apart into rollouts.

    Args:
        output (`tuple`):
            What the host's `_generate` returned for `rows`. Every list of `len(rows)` entries is per row.
        rows (`list[dict]`):
            The dataset rows, extra fields already merged in.
        logged (`dict[str, list]`):
            Extra columns logged by reward functions, each with one value per row.

    Returns:
        `list[Rollout]`: one per row, in order.
    """
    num_rows = len(rows)
    per_row = [isinstance(element, list) and len(element) == num_rows for element in output]
    if not (per_row[PROMPT_IDS] and per_row[COMPLETION_IDS]):
        raise RuntimeError(
            f"`_generate` must return one list of token ids per prompt, got {num_rows} prompts and a tuple of "
            f"{[type(element).__name__ for element in output]}. Use a tested TRL version."
        )
    return [
        Rollout(
            row=row,
            fields=tuple(element[i] if is_row else None for element, is_row in zip(output, per_row, strict=True)),
            logged={column: values[i] for column, values in logged.items() if len(values) == num_rows},
        )
        for i, row in enumerate(rows)
    ]


def merge_extra_fields(output: tuple[Any, ...], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Adds what a `rollout_func` returned besides tokens to the dataset rows, as the host does before scoring.

    Args:
        output (`tuple`):
            What the host's `_generate` returned; its dict element holds the extra fields.
        rows (`list[dict]`):
            The dataset rows.

    Returns:
        `list[dict]`: new rows with the extra fields.
    """
    extra = next((element for element in output if isinstance(element, dict)), {})
    merged = [dict(row) for row in rows]
    for key, values in extra.items():
        for i, row in enumerate(merged):
            if not isinstance(values, list):
                row[key] = values
            elif i < len(values):
                row[key] = values[i]
    return merged


def join_generation(rollouts: Sequence[Rollout], masked: Sequence[bool]) -> tuple[Any, ...]:
    """
    Puts rollouts together into the tuple that the host's `_generate` would have returned for them.

    Args:
        rollouts (`list[Rollout]`):
            The rows to train on, in order.
        masked (`list[bool]`):
            Rows that only fill the shape: their tokens are masked out of the loss and of its normaliser.

    Returns:
        `tuple`: the host's generation tuple, `None` for elements that are not per row.
    """
    columns = [list(column) for column in zip(*(rollout.fields for rollout in rollouts), strict=True)]
    output = [None if all(value is None for value in column) else column for column in columns]
    if any(masked):
        masks = output[TOOL_MASK] or [[1] * rollout.num_tokens for rollout in rollouts]
        output[TOOL_MASK] = [[0] * len(mask) if off else mask for mask, off in zip(masks, masked, strict=True)]
    return tuple(output)


def _plain(value: Any) -> Any:
    """`value` in JSON types. Arrays become lists; what a reward function logged may be anything and becomes text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return _plain(value.tolist()) if callable(getattr(value, "tolist", None)) else str(value)
