"""The further columns of the completions table: a value or None for each row, aligned at all times."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..rollouts import Row
from ..tasks.images import images_of
from ..tasks.logged import merge_logged
from ..tasks.rows import TaskRow
from .distributed import Ranks


class ExtraColumns:
    """
    What reward functions log about single completions.

    The host keeps one queue per column and fills those that were logged; a column that a batch lacks, or that came
    later than others, would then stand beside other completions. Here every column that was ever logged gets an entry
    for every row.

    Args:
        names (`tuple[str, ...]`):
            Task names; with several of them the table has a column `task`.
        shows_images (`bool`, *optional*, defaults to `False`):
            Whether tasks have images. The host gathers those of a batch only on ranks that have some, which would
            leave the others waiting, so they are gathered here.
    """

    def __init__(self, names: tuple[str, ...], shows_images: bool = False) -> None:
        self.names, self.shows_images = names, shows_images
        self._trainer: Any = None

    def attach(self, trainer: GRPOTrainer) -> None:
        """Called once, when the host's constructor is done."""
        self._trainer = trainer

    def log(self, column: str, values: list[Any]) -> None:
        """Notes what a reward function logged for the rows of a call, `None` for rows of others."""
        pending = self._trainer._pending_extra_logs
        pending[column] = merge_logged(pending.get(column), values)

    def take(self) -> dict[str, list[Any]]:
        """What was logged since the last time."""
        pending = self._trainer._pending_extra_logs
        logged = dict(pending)
        pending.clear()
        return logged

    @contextmanager
    def of(self, rows: Sequence[Row]) -> Iterator[None]:
        """While the host prepares `rows`: their columns, as they were logged when they were scored."""
        columns = {column for row in rows for column in row.logged}
        with (
            self._table(len(rows), [row.task_id for row in rows]) as pending,
            self._pictures([row.images or () for row in rows]),
        ):
            pending.update({column: [row.logged.get(column) for row in rows] for column in columns})
            yield

    def leave_out(self, outside: NDArray[np.bool_]) -> None:
        """Takes the rows of the last batch that only fill its shape out of the table, shape `(N,)` over all ranks."""
        if not outside.any():
            return
        for entry in self._trainer._logs.values():
            for column in entry.values() if isinstance(entry, dict) else [entry]:
                rows = list(column)[-len(outside) :]
                if len(rows) == len(outside):  # images are there only where they are logged
                    column.clear()
                    column.extend(row for row, off in zip(rows, outside, strict=True) if not off)

    @contextmanager
    def of_evaluation(self, rows: Sequence[TaskRow]) -> Iterator[None]:
        """While the host evaluates `rows`: what reward functions log meanwhile."""
        with (
            self._table(len(rows), [row.task_id for row in rows]),
            self._pictures([images_of(row.columns) for row in rows]),
        ):
            yield

    @contextmanager
    def _pictures(self, images: Sequence[Sequence[Any]]) -> Iterator[None]:
        if not self.shows_images or not self._trainer.log_multimodal:
            yield
            return
        self._trainer.log_multimodal = False
        try:
            yield
        finally:
            self._trainer.log_multimodal = True
        everyones = Ranks(self._trainer.accelerator).gather_objects([list(own) for own in images])
        self._trainer._logs["images"].extend(everyones)

    @contextmanager
    def _table(self, num_rows: int, task_ids: list[int]) -> Iterator[dict[str, list[Any]]]:
        table, pending = self._trainer._logs, self._trainer._pending_extra_logs
        pending.clear()
        # Columns of earlier batches, on every rank alike.
        pending.update({column: [None] * num_rows for column in table["extra"]})
        if len(self.names) > 1:
            pending["task"] = [self.names[task_id] for task_id in task_ids]
        yield pending
        for values in table["extra"].values():  # a column that came later than others
            values.extendleft([None] * (len(table["prompt"]) - len(values)))
