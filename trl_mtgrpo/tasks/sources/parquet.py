"""Decides how verl's parquet files, and the paper's own, become tasks."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from ..answers import BoxedReward, is_countdown_solution, is_same_text
from ..rewards import RewardFunc
from ..said import warn_user
from ..task import Task
from .parquet_rows import as_dataset, column_of, general_table


Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_SPLITS = ("train", "test")
_COLUMNS = ("data_source", "prompt", "reward_model")
_PAPERS = re.compile(r"(countdown|zebra|arc)-(?:easy|medium|hard|very_hard)")
_GRID = re.compile(r"[0-9](?: [0-9])*")


def tasks_from_parquet(
    train: Paths,
    test: Paths | None = None,
    names: Sequence[str] | None = None,
    reward_funcs: Mapping[str, RewardFunc | Sequence[RewardFunc]] | None = None,
    success_threshold: float = 1.0,
    format_reward: float = 0.1,
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
) -> list[Task]:
    r"""
    Tasks from parquet files with the columns `data_source`, `prompt` and `reward_model`, one per data source.

    A data source `<name>-train` or `<name>-test` becomes the task `<name>`. The paper's own, which are `countdown`,
    `zebra` and `arc` with one of the levels `easy`, `medium`, `hard` and `very_hard` and the paper's form of ground
    truth, are rewarded as [`reasoning_gym_task`] does and get the columns that this reward reads. For any other source
    give a function: its rows keep all columns, with the fields of `extra_info` and `reward_model` as columns of their
    own, `None` where a row lacks one.

    Prompts stay lists of messages, system messages and all. Only where every prompt of a task of the paper is a single
    user message, prompts become its plain text, as the paper feeds it to the model without a chat template. A column
    `images` of encoded images or paths becomes one of images, and `<image>` in a message the place of one.

    Args:
        train (`str`, `os.PathLike` or a sequence of them):
            Files with training rows.
        test (`str`, `os.PathLike` or a sequence of them, *optional*):
            Files with evaluation rows. Rows of tasks without training rows are left out, with a warning.
        names (`Sequence[str]`, *optional*):
            Tasks to take, in this order; by default all, in the order in which they first appear.
        reward_funcs (`Mapping`, *optional*):
            From task name to its function or functions, called with the columns `ground_truth`, `data_source` and
            those of `extra_info`.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            See [`Task`].
        format_reward (`float`, *optional*, defaults to `0.1`):
            Reward of a wrong answer in a box, for the paper's families. The default is the paper's.
        rename (`Mapping[str, str]`, *optional*):
            From data source, with or without its `-train` or `-test`, to the name of its task. Needed for names with a
            slash. Several sources may get one name.
        drop (`Sequence[str]`, *optional*):
            Columns, or fields of `extra_info` and `reward_model`, to leave out.

    Returns:
        `list[Task]`: ready for [`MultiTaskGRPOTrainer`].

    Raises:
        `ValueError`: when a file lacks a column, a task has no rows, a data source has no reward or no usable name, an
            argument names something that is not in the files, or a row holds what cannot be kept.

    Example:

    ```python
    >>> tasks = tasks_from_parquet("train.parquet", "test.parquet", names=["countdown-medium", "zebra-medium"])
    ```
    """
    rename = dict(rename or {})
    train_rows = _tables_by_name(train, "train", rename)
    test_rows = _tables_by_name(test, "test", rename) if test is not None else {}
    chosen = _chosen_names(names, train_rows, test_rows)
    functions = dict(reward_funcs or {})
    _check_arguments(functions, rename, drop, train_rows, test_rows)
    families = {name: _family(train_rows[name] + test_rows.get(name, [])) for name in chosen}
    unknown = [name for name in chosen if name not in functions and families[name] is None]
    if unknown:
        raise ValueError(
            f"`reward_funcs` must have a function for every data source that is not the paper's, got functions for "
            f"{sorted(functions)} and none for {unknown}. Add them, or choose tasks with `names`."
        )
    slashes = {name: name.rpartition("/")[2] for name in chosen if "/" in name}
    if slashes:
        raise ValueError(
            f"`rename` must give data sources with a slash another name, because metrics are called "
            f"`tasks/<name>/...`, got none for {list(slashes)}. Pass `rename={slashes}` and use the new names in "
            "`names` and `reward_funcs`."
        )
    tasks = []
    for name in chosen:
        parts, held_out = train_rows[name], test_rows.get(name, [])
        family = None if name in functions else families[name]
        if family is None:
            tables = general_table(parts, name, drop), general_table(held_out, name, drop) if held_out else None
        else:
            text = all(_is_text(row) for row in _prompts(parts + held_out)) and not _has_images(parts + held_out)
            tables = _paper_table(parts, family, text), _paper_table(held_out, family, text) if held_out else None
        datasets: list[Dataset | None] = [None if table is None else as_dataset(table, name) for table in tables]
        tasks.append(
            Task(
                name,
                datasets[0],
                functions[name] if family is None else _bundled_reward(family, format_reward),
                eval_dataset=datasets[1],
                success_threshold=success_threshold,
            )
        )
    return tasks


def _tables_by_name(paths: Paths, argument: str, rename: Mapping[str, str]) -> dict[str, list[pa.Table]]:
    """Rows of each task, one table per file and data source."""
    tables: dict[str, list[pa.Table]] = {}
    sources: dict[str, set[str]] = {}
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        table = pq.read_table(path).replace_schema_metadata(None)
        if not set(_COLUMNS) <= set(table.column_names):
            raise ValueError(
                f"`train` and `test` must be files with the columns {list(_COLUMNS)}, got {table.column_names} in "
                f"'{os.path.basename(path)}'. Convert other files to a `datasets.Dataset` and build a `Task` from it."
            )
        if not pa.types.is_struct(table.schema.field("reward_model").type) or (
            table.schema.field("reward_model").type.get_field_index("ground_truth") < 0
        ):
            raise ValueError(
                f"`train` and `test` must be files whose column 'reward_model' has a field 'ground_truth', got "
                f"{table.schema.field('reward_model').type} in '{os.path.basename(path)}'. Convert other files to a "
                "`datasets.Dataset` and build a `Task` from it."
            )
        column = table.column("data_source")
        for source in pc.unique(column).to_pylist():
            if not isinstance(source, str) or not source:
                raise ValueError(
                    f"`{argument}` must be files with a data source in every row, got {source!r} in "
                    f"'{os.path.basename(path)}'. Fill it in, or filter such rows out."
                )
            name = rename.get(source, rename.get(_without_split(source), _without_split(source)))
            tables.setdefault(name, []).append(table.filter(pc.equal(column, source)))
            sources.setdefault(name, set()).add(source)
    for name, together in sources.items():
        if len(together) > 1 and not together <= set(rename):
            raise ValueError(
                f"`{argument}` must have one data source per task, got {sorted(together)} for '{name}'. Pass them in "
                "`rename`, each with the name of its task."
            )
    return tables


def _without_split(source: str) -> str:
    name, _, split = source.rpartition("-")
    return name if name and split in _SPLITS else source


def _chosen_names(
    names: Sequence[str] | None, train_rows: Mapping[str, Any], test_rows: Mapping[str, Any]
) -> list[str]:
    chosen = list(train_rows) if names is None else list(names)
    missing = [name for name in chosen if name not in train_rows]
    if missing:
        raise ValueError(
            f"`names` must be tasks with training rows, got {missing}. The files hold {sorted(train_rows)}."
        )
    left_out = sorted(set(test_rows) - set(train_rows))
    if left_out and names is None:
        warn_user(
            f"rows of {left_out} in `test` are left out, because `train` has no rows of these tasks. Name the tasks "
            "that you want with `names` to end this warning."
        )
    return chosen


def _check_arguments(
    functions: Mapping[str, Any],
    rename: Mapping[str, str],
    drop: Sequence[str],
    train_rows: Mapping[str, list[pa.Table]],
    test_rows: Mapping[str, list[pa.Table]],
) -> None:
    tables = [table for rows in (train_rows, test_rows) for parts in rows.values() for table in parts]
    sources = {source for table in tables for source in pc.unique(table.column("data_source")).to_pylist()}
    named = {*train_rows, *test_rows}
    fields = {name for table in tables for name in (*table.column_names, *_fields(table)) if name not in _COLUMNS}
    sources |= {_without_split(source) for source in sources}
    for argument, given, known in (
        ("reward_funcs", functions, named),
        ("rename", rename, sources),
        ("drop", drop, fields),
    ):
        strange = sorted(set(given) - known)
        if strange:
            raise ValueError(
                f"`{argument}` must hold names that are in the files, got {strange}. They hold {sorted(known)}."
            )


def _fields(table: pa.Table) -> Iterator[str]:
    for column in ("extra_info", "reward_model"):
        if column in table.column_names and pa.types.is_struct(table.schema.field(column).type):
            yield from (field.name for field in table.schema.field(column).type if field.name != "ground_truth")


def _family(tables: list[pa.Table]) -> str | None:
    """The paper's family whose rows these are, or `None`."""
    found = set()
    for table in tables:
        match = _PAPERS.fullmatch(_without_split(table.column("data_source")[0].as_py()))
        family = match.group(1) if match else None
        found.add(family if family and all(_is_paper_s(family, truth) for truth in _truths(table)) else None)
    return found.pop() if len(found) == 1 else None


def _is_paper_s(family: str, truth: Any) -> bool:
    if not isinstance(truth, dict) or truth.get("target") is None:
        return False
    if family == "countdown":
        return _numbers(truth) is not None
    return family == "zebra" or bool(_GRID.fullmatch(str(truth["target"]).strip()))


def _numbers(truth: dict[str, Any]) -> tuple[list[int], int] | None:
    numbers: Any = truth.get("numbers")
    try:
        split = numbers.split(",") if isinstance(numbers, str) else numbers
        return [int(number) for number in split], int(truth["target"])
    except (TypeError, ValueError):
        return None


def _truths(table: pa.Table) -> list[Any]:
    truths: list[Any] = pc.struct_field(column_of(table, "reward_model"), "ground_truth").to_pylist()
    return truths


def _prompts(tables: list[pa.Table]) -> Iterator[Any]:
    for table in tables:
        yield from table.column("prompt").to_pylist()


def _is_text(prompt: Any) -> bool:
    if isinstance(prompt, str):
        return True
    message = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else {}
    return message.get("role") == "user" and isinstance(message.get("content"), str)


def _has_images(tables: list[pa.Table]) -> bool:
    return any(any(table.column("images").to_pylist()) for table in tables if "images" in table.column_names)


def _paper_table(tables: list[pa.Table], family: str, text: bool) -> list[pa.Table]:
    """The columns that the bundled reward reads, with images where there are some."""
    result = []
    for table in tables:
        prompts = table.column("prompt")
        if text:
            prompts = pa.array(
                [p if isinstance(p, str) else p[0]["content"] for p in prompts.to_pylist()], pa.string()
            )
        columns = {"prompt": prompts}
        if family == "countdown":
            rows = [_numbers(truth) for truth in _truths(table)]
            columns["numbers"] = pa.array([row[0] for row in rows if row], pa.list_(pa.int64()))
            columns["target"] = pa.array([row[1] for row in rows if row], pa.int64())
        else:
            columns["expected"] = pa.array([str(truth["target"]) for truth in _truths(table)], pa.string())
        if _has_images([table]):
            columns["images"] = table.column("images")
        result.append(pa.table(columns))
    return result


def _bundled_reward(family: str, format_reward: float) -> BoxedReward:
    if family == "countdown":
        return BoxedReward(is_countdown_solution, ("numbers", "target"), format_reward)
    return BoxedReward(is_same_text, ("expected",), format_reward)
