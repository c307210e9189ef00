"""A row of a task, and the copy of it that the host sees: nothing of the library's own stands among user's columns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset


# The one key that the host's copy of a row carries beside what the host itself reads. Its value is a [`TaskRow`].
KEY = "_task_row"
# Images of a row; the host reads them from its copies, where all rows of a batch have them in one form.
HOST_COLUMNS = ("image", "images")


class TaskRow(NamedTuple):
    """
    One row of one task.

    Args:
        task_id (`int`):
            Position of the task in the mixture.
        row (`int`):
            Row of the task's dataset; -1 for a row that came from elsewhere.
        columns (`dict[str, Any]`):
            The task's own columns, as its dataset gives them, `prompt` included.
    """

    task_id: int
    row: int
    columns: Mapping[str, Any]

    def for_host(self, **more: Any) -> dict[str, Any]:
        """The host's copy: its prompt, what is given besides, and this row under `KEY`."""
        return {"prompt": self.columns.get("prompt"), **more, KEY: self}


def task_row(row: Mapping[str, Any]) -> TaskRow | None:
    """The [`TaskRow`] behind the host's copy; `None` for any other row, whatever its columns are called."""
    found = row.get(KEY)
    return found if isinstance(found, TaskRow) else None


def read_rows(dataset: Dataset, indices: Sequence[int]) -> list[dict[str, Any]]:
    """
    Rows as the host's loader would read them, with the dataset's own format or transform.

    Args:
        dataset ([`~datasets.Dataset`]):
            The rows.
        indices (`list[int]`):
            Which of them. They are read together, as one batch of the loader is.

    Returns:
        `list[dict[str, Any]]`: one per index.
    """
    positions = [int(index) for index in indices]
    if dataset.format["type"] == "arrow":  # whose tables the loader cannot take apart
        table = dataset[positions]
        assert isinstance(table, pa.Table)
        return table.to_pylist()
    rows: list[dict[str, Any]] = dataset.__getitems__(positions)
    return rows


class HostRows:
    """
    Turns positions into the host's copies of rows; the transform of the dataset that the host evaluates.

    Args:
        datasets (`list[Dataset | None]`):
            One per task; `None` for a task without rows.
    """

    def __init__(self, datasets: Sequence[Dataset | None]) -> None:
        self.datasets = tuple(datasets)
        self.ends = np.cumsum([0 if dataset is None else len(dataset) for dataset in self.datasets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def place(self, position: int) -> tuple[int, int]:
        """Task and row behind a position."""
        task_id = int(np.searchsorted(self.ends, position, side="right"))
        return task_id, int(position - (self.ends[task_id - 1] if task_id else 0))

    def __deepcopy__(self, memo: dict[int, Any]) -> "HostRows":
        # Formatting a dataset copies its transform; the rows behind it are never written.
        return self

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """
        The transform.

        Args:
            batch (`dict[str, list[int]]`):
                Positions under `prompt`, which is a column that the host never removes.

        Returns:
            `dict[str, list]`: prompts and rows.
        """
        # A position that comes several times, as for the rollouts of one prompt, is read once.
        positions, again = np.unique(np.asarray(batch["prompt"]), return_inverse=True)
        places = [self.place(position) for position in positions.tolist()]
        once = [row.for_host() for row in read_places(self.datasets, places)]
        rows = [once[i] for i in again.tolist()]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}


def read_places(datasets: Sequence[Dataset | None], places: Sequence[tuple[int, int]]) -> list[TaskRow]:
    """
    Rows of several tasks, each task's read together.

    Args:
        datasets (`list[Dataset | None]`):
            One per task.
        places (`list[tuple[int, int]]`):
            Task and row of each.

    Returns:
        `list[TaskRow]`: in the order of `places`.
    """
    found: dict[int, TaskRow] = {}
    for task_id in dict.fromkeys(task_id for task_id, _ in places):
        mine = [i for i, place in enumerate(places) if place[0] == task_id]
        dataset = datasets[task_id]
        assert dataset is not None
        rows = read_rows(dataset, [places[i][1] for i in mine])
        found |= {i: TaskRow(int(task_id), int(places[i][1]), columns) for i, columns in zip(mine, rows, strict=True)}
    return [found[i] for i in range(len(places))]
