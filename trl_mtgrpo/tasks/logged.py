"""Columns that reward functions log: one value per row of a batch, `None` for rows that did not log."""

from collections.abc import Sequence
from typing import Any


class LoggedValues(list[Any]):
    """
    What one function logged, spread over the rows of a batch.

    Args:
        rows (`list[int]`):
            Rows that logged.
        values (`list`):
            Their values.
        num_rows (`int`):
            Rows of the batch.
    """

    def __init__(self, rows: Sequence[int], values: Sequence[Any], num_rows: int) -> None:
        super().__init__([None] * num_rows)
        self.rows = tuple(rows)
        for row, value in zip(rows, values, strict=True):
            self[row] = value


def merge_logged(held: Sequence[Any] | None, values: Sequence[Any]) -> list[Any]:
    """
    One column out of what several functions logged under one name for the same batch.

    Rows keep what was logged for them last. (The host would write the values behind each other and lose track of the
    rows.)

    Args:
        held (`list`, *optional*):
            The column so far; empty or `None` before the first function.
        values (`list`):
            What the next function logged.

    Returns:
        `list`: one value per row.
    """
    if not held:
        return list(values)
    merged = list(held)
    for row in getattr(values, "rows", range(len(values))):
        merged[row] = values[row]
    return merged
