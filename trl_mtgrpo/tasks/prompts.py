"""Decides whether a dataset can be trained on: rows that can be drawn by position, each with a prompt of one kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from .names import close_names
from .rows import read_rows


# TRL passes these to every reward function itself. (Columns called `completion` or `completion_ids` it leaves out.)
RESERVED_COLUMNS = ("prompts", "completions", "trainer_state", "log_extra", "log_metric", "environments")


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
    check_dataset(dataset, owner)
    if len(dataset) == 0:
        raise ValueError(f"{owner} must have at least one row, got 0. Check the filter or split that made it.")
    made = makes_columns(dataset)
    sample = read_rows(dataset, [0])[0]
    columns = list(sample) if made else visible_columns(dataset)
    if "prompt" not in columns:
        raise ValueError(
            f"{owner} must have a column 'prompt', got {columns}. Rename one with "
            "`dataset.rename_column('question', 'prompt')`."
        )
    reserved = [column for column in columns if column in RESERVED_COLUMNS]
    if reserved:
        raise ValueError(
            f"{owner} must not have columns that the trainer passes to reward functions itself, got {reserved}. "
            "Rename them with `dataset.rename_column`."
        )
    first = sample["prompt"]
    if made:  # when they are read, so only a sample is looked at
        return _kinds_of([first], owner)
    shown = dataset.format["type"]
    if shown is not None and first is not None and not isinstance(first, str | list):
        _kinds_of([first], f"{owner} in the format '{shown}'")
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
    check_dataset(dataset, f"`{argument}`")
    if "task" not in dataset.column_names and not makes_columns(dataset):
        raise ValueError(
            f"`{argument}` must have a column 'task' that names the task of each row, got {dataset.column_names}. Add "
            "the column, or build the tasks with `Task(...)`."
        )
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(_column(dataset, "task")):
        if not isinstance(name, str | None):
            raise ValueError(
                f"`{argument}` must have names of tasks in its column 'task', got {name!r} of type "
                f"{type(name).__name__} in row {row}. Give the rows a column of text under this "
                "name."
            )
        rows.setdefault(name, []).append(row)  # type: ignore[arg-type]
    unknown = [name for name in rows if name not in names]
    unused = [name for name in names if name not in rows] if must_cover else []
    if unused:
        raise ValueError(
            f"`reward_funcs` must have exactly the task names of `{argument}`, got {unused} without rows beside rows "
            f"for {sorted(map(str, rows))}.{close_names(unused, [str(name) for name in rows])} Correct the names in "
            "the dict, or leave these tasks out of it."
        )
    if unknown:
        raise ValueError(
            f"`{argument}` must have names of tasks in its column 'task', got {sorted(map(str, unknown))} beside the "
            f"tasks {list(names)}.{close_names(unknown, names)} Add their functions to `reward_funcs`, or filter the "
            "rows out."
        )
    return rows


def sets_by_task(dataset: Dataset | Mapping[str, Dataset] | None, names: tuple[str, ...]) -> Mapping[str, Dataset]:
    """Evaluation rows by task name."""
    if dataset is None:
        return {}
    if not isinstance(dataset, Mapping):
        rows = rows_by_task(dataset, "eval_dataset", names, must_cover=False)
        return {name: dataset.select(rows[name]) for name in names if name in rows}
    unknown = sorted(set(dataset) - set(names))
    if unknown:
        raise ValueError(
            f"`eval_dataset` must have names of tasks as its keys, got {unknown} beside the tasks {list(names)}."
            f"{close_names(unknown, names)} Rename them; other sets can be given to `trainer.evaluate`, with a column "
            "'task'."
        )
    for name, rows_of_task in dataset.items():
        if "task" in (getattr(rows_of_task, "column_names", None) or ()):
            others = sorted({str(other) for other in _column(rows_of_task, "task")} - {name})
            if others:
                raise ValueError(
                    f"`eval_dataset` must hold under '{name}' rows of that task only, got rows of {others}. Pass one "
                    "set for all tasks, or filter it by its column 'task'."
                )
    return dataset


def kind_name(conversational: bool) -> str:
    """What to call prompts of a kind, in error messages."""
    return "lists of messages" if conversational else "text"


def check_dataset(dataset: Any, owner: str) -> None:
    """
    Check that something is rows that can be drawn by position.

    Args:
        dataset (`Any`):
            What the user gave.
        owner (`str`):
            What holds it, for error messages.

    Raises:
        `TypeError`: when it is anything but a [`~datasets.Dataset`].
    """
    if isinstance(dataset, Dataset):
        return
    kind = type(dataset).__name__
    if isinstance(dataset, DatasetDict | IterableDatasetDict) or (
        isinstance(dataset, Mapping) and any(isinstance(part, Dataset | IterableDataset) for part in dataset.values())
    ):
        splits = list(dataset)
        cure = f"Name one of them: `dataset[{splits[0]!r}]`." if splits else "Load one that has some."
        raise TypeError(f"{owner} must be a `datasets.Dataset`, got {kind} with the splits {splits}. {cure}")
    raise TypeError(f"{owner} must be a `datasets.Dataset`, got {kind}. {_cure(dataset)}")


def _cure(dataset: Any) -> str:
    if isinstance(dataset, str):
        return "Load it first: `datasets.load_dataset(name, split='train')`."
    if dataset is None:
        return "Give its rows; an environment that makes its own problems has their number instead, `num_rows`."
    if isinstance(dataset, list | tuple):
        return "Build one: `Dataset.from_list(rows)`."
    if isinstance(dataset, Mapping):
        return "Build one: `Dataset.from_dict(columns)`."
    if type(dataset).__name__ == "DataFrame":
        return "Build one: `Dataset.from_pandas(frame)`."
    return "Rows are drawn by position, so turn a stream into one with `Dataset.from_list(list(stream.take(n)))`."


def makes_columns(dataset: Dataset) -> bool:
    """Whether a dataset makes its rows when they are read, with columns that only the rows show."""
    return dataset.format["type"] == "custom"


def visible_columns(dataset: Dataset) -> list[str]:
    """Columns that the rows of a dataset have, in its format."""
    shown = dataset.format
    return list(dataset.column_names if shown["output_all_columns"] else shown["columns"])


def _column(dataset: Dataset, name: str) -> Iterator[Any]:
    if name not in dataset.column_names:
        return (read_rows(dataset, [row])[0][name] for row in range(len(dataset)))
    return iter(dataset.with_format(None)[name])
