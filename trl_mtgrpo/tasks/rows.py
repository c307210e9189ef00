"""A row of a task, and the copy of it that the host sees: nothing of the library's own stands among user's columns."""

from collections.abc import Mapping
from typing import Any, NamedTuple


# The one key that the host's copy of a row carries beside what the host itself reads. Its value is a [`TaskRow`].
KEY = "_task_row"
# What the host reads from its copy of a row besides the prompt.
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
        """The host's copy: its prompt, what the host reads besides, and this row under `KEY`."""
        read = {name: self.columns[name] for name in HOST_COLUMNS if name in self.columns}
        return {"prompt": self.columns.get("prompt"), **read, **more, KEY: self}
