"""Decides whether a dataset can be trained on: rows that can be drawn by position, each with a prompt of one kind."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset


# TRL passes these to every reward function itself, or the mixture adds them.
RESERVED_COLUMNS = (
    "task_id",
    "prompts",
    "completions",
    "completion",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
    "environments",
)


def is_conversational(dataset: Any, argument: str, task: str) -> bool:
    """
    Check the rows of one task and find out what kind of prompts they have.

    Args:
        dataset ([`~datasets.Dataset`]):
            The rows. A dataset whose rows are made when they are read is checked by its first row.
        argument (`str`):
            The argument that holds it, for error messages.
        task (`str`):
            Name of the task.

    Returns:
        `bool`: `True` for lists of messages, `False` for plain text.

    Raises:
        `TypeError` or `ValueError`: when the dataset cannot be trained on.
    """
    owner = f"`{argument}` of task '{task}'"
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"{owner} must be a `datasets.Dataset`, got {type(dataset).__name__}. Rows are drawn by position, so turn "
            "a stream into one with `Dataset.from_list(list(stream.take(n)))`."
        )
    if len(dataset) == 0:
        raise ValueError(f"{owner} must have at least one row, got 0. Check the filter or split that made it.")
    if "prompt" not in dataset.column_names:
        raise ValueError(
            f"{owner} must have a column 'prompt', got {dataset.column_names}. Rename one with "
            "`dataset.rename_column('question', 'prompt')`."
        )
    reserved = [column for column in dataset.column_names if column in RESERVED_COLUMNS]
    if reserved:
        raise ValueError(
            f"{owner} must not have columns that the trainer passes to reward functions itself, got {reserved}. "
            "Rename them with `dataset.rename_column`."
        )
    if dataset.format["type"] == "custom":  # made when it is read, so only a sample is looked at
        return _kinds_of([dataset[0]["prompt"]], owner)
    kinds = set()
    for start, table in _tables(dataset):
        column = table.column("prompt")
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            lengths, kind = pc.utf8_length(column), False
        elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            lengths, kind = pc.list_value_length(column), _kinds_of(column.slice(0, 1).to_pylist(), owner, start)
        else:
            kinds.add(_kinds_of(dataset[start : start + len(column)]["prompt"], owner, start))
            continue
        missing = pc.index(pc.greater(pc.fill_null(lengths, 0), 0), False).as_py()
        if missing >= 0:
            _kinds_of(column.slice(missing, 1).to_pylist(), owner, start + missing)
        kinds.add(kind)
    return kinds.pop()


def _tables(dataset: Dataset) -> Iterator[tuple[int, pa.Table]]:
    plain = dataset.select_columns(["prompt"]).with_format("arrow")
    size = 10_000
    return ((start, plain[start : start + size]) for start in range(0, len(plain), size))


def _kinds_of(prompts: Sequence[Any], owner: str, start: int = 0) -> bool:
    kinds = set()
    for row, prompt in enumerate(prompts, start):
        if prompt is None or (isinstance(prompt, str | list) and not prompt):
            raise ValueError(
                f"{owner} must have a prompt in every row, got {prompt!r} in row {row}. Filter such rows out."
            )
        if not isinstance(prompt, str) and not (
            isinstance(prompt, list) and all(isinstance(message, dict) and "role" in message for message in prompt)
        ):
            raise ValueError(
                f"{owner} must have prompts that are text or lists of messages, got {repr(prompt)[:80]} in row {row}. "
                "A message is `{'role': 'user', 'content': '...'}`."
            )
        kinds.add(not isinstance(prompt, str))
    if len(kinds) > 1:
        raise ValueError(
            f"{owner} must have prompts of one kind, got text and lists of messages. Convert one of the two."
        )
    return kinds.pop()


def rows_by_task(dataset: Any, argument: str, names: tuple[str, ...], must_cover: bool) -> dict[str, list[int]]:
    """
    The rows of each task in a dataset with a column `task`.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows of all tasks.
        argument (`str`):
            The argument that holds it, for error messages.
        names (`tuple[str, ...]`):
            The tasks that are known.
        must_cover (`bool`):
            Whether every known task must have a row.

    Returns:
        `dict[str, list[int]]`: row numbers per task name.

    Raises:
        `ValueError`: when the names in the data are not the known ones.
    """
    if not isinstance(dataset, Dataset) or "task" not in dataset.column_names:
        got = dataset.column_names if isinstance(dataset, Dataset) else type(dataset).__name__
        raise ValueError(
            f"`{argument}` must be a `datasets.Dataset` with a column 'task' when `reward_funcs` is a dict, got "
            f"{got}. Add the column, or build the tasks with `Task(...)`."
        )
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(dataset["task"]):
        rows.setdefault(name, []).append(row)
    unknown = [name for name in rows if name not in names]
    unused = [name for name in names if name not in rows] if must_cover else []
    if unknown or unused:
        close = {str(name): difflib.get_close_matches(str(name), names, n=1) for name in unknown}
        hints = "".join(f" Did you mean '{m[0]}' where it says '{name}'?" for name, m in close.items() if m)
        raise ValueError(
            f"`reward_funcs` must have exactly the task names of `{argument}`, got functions for {sorted(names)} and "
            f"rows for {sorted(map(str, rows))}.{hints} Add the missing functions or rows, or filter the others out."
        )
    return rows


def kind_name(conversational: bool) -> str:
    """What to call prompts of a kind, in error messages."""
    return "lists of messages" if conversational else "text"
