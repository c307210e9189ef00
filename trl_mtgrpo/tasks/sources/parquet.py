"""Decides how verl's parquet files, and the paper's own, become tasks."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset

from ..answers import BoxedReward, is_countdown_solution, is_same_text
from ..rewards import RewardFunc
from ..task import Task


Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_SPLITS = ("train", "test")
_COLUMNS = ("data_source", "prompt", "reward_model")
_FAMILIES = ("countdown", "zebra", "arc")


def tasks_from_parquet(
    train: Paths,
    test: Paths | None = None,
    names: Sequence[str] | None = None,
    reward_funcs: Mapping[str, RewardFunc | Sequence[RewardFunc]] | None = None,
    success_threshold: float = 1.0,
    format_reward: float = 0.1,
) -> list[Task]:
    r"""
    Tasks from parquet files with the columns `data_source`, `prompt` and `reward_model`, one per data source.

    A data source `<family>-<level>-train` or `-test` becomes the task `<family>-<level>`. The paper's families,
    `countdown`, `zebra` and `arc`, are rewarded as [`reasoning_gym_task`] does; for any other source give a function.
    A prompt of a single user message becomes its plain text for the paper's families, as the paper feeds it to the
    model without a chat template, and stays a list of messages for others.

    Args:
        train (`str`, `os.PathLike` or a sequence of them):
            Files with training rows.
        test (`str`, `os.PathLike` or a sequence of them, *optional*):
            Files with evaluation rows. Rows of tasks without training rows are left out.
        names (`Sequence[str]`, *optional*):
            Tasks to take, in this order; by default all, in the order in which they first appear.
        reward_funcs (`Mapping`, *optional*):
            From task name to its function or functions, called with the columns `ground_truth`, `data_source` and
            those of `extra_info`.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            See [`Task`].
        format_reward (`float`, *optional*, defaults to `0.1`):
            Reward of a wrong answer in a box, for the paper's families. The default is the paper's.

    Returns:
        `list[Task]`: ready for [`MultiTaskGRPOTrainer`].

    Raises:
        `ValueError`: when a file lacks a column, a task has no rows, or a data source has no reward.

    Example:

    ```python
    >>> tasks = tasks_from_parquet("train.parquet", "test.parquet", names=["countdown-medium", "zebra-medium"])
    ```
    """
    train_rows, test_rows = _rows_by_name(train), _rows_by_name(test) if test is not None else {}
    chosen = list(train_rows) if names is None else list(names)
    missing = [name for name in chosen if name not in train_rows]
    if missing:
        raise ValueError(
            f"`names` must be tasks with training rows, got {missing}. The files hold {sorted(train_rows)}."
        )
    functions = dict(reward_funcs or {})
    unknown = [name for name in chosen if name not in functions and name.partition("-")[0] not in _FAMILIES]
    if unknown:
        raise ValueError(
            f"`reward_funcs` must have a function for every data source that is not the paper's, got functions for "
            f"{sorted(functions)} and none for {unknown}. Add them, or choose tasks with `names`."
        )
    return [
        Task(
            name,
            _dataset(train_rows[name], name, name in functions),
            functions.get(name, _bundled_reward(name, format_reward)),
            eval_dataset=_dataset(test_rows[name], name, name in functions) if name in test_rows else None,
            success_threshold=success_threshold,
        )
        for name in chosen
    ]


def _rows_by_name(paths: Paths) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        table = pq.read_table(path)
        if not set(_COLUMNS) <= set(table.column_names):
            raise ValueError(
                f"`train` and `test` must be files with the columns {list(_COLUMNS)}, got {table.column_names} in "
                f"'{os.path.basename(path)}'. Convert other files to a `datasets.Dataset` and build a `Task` from it."
            )
        for row in table.to_pylist():
            family_and_level, _, split = row["data_source"].rpartition("-")
            rows.setdefault(family_and_level if split in _SPLITS else row["data_source"], []).append(row)
    return rows


def _dataset(rows: list[dict[str, Any]], name: str, own_function: bool) -> Dataset:
    if own_function:
        return Dataset.from_list([_general_row(row) for row in rows])
    columns = _countdown_row if name.startswith("countdown") else _text_row
    return Dataset.from_list([{"prompt": row["prompt"][0]["content"], **columns(row)} for row in rows])


def _general_row(row: dict[str, Any]) -> dict[str, Any]:
    extra = row.get("extra_info") or {}
    return {
        **{key: value for key, value in extra.items() if key not in ("prompt", "task")},
        "prompt": row["prompt"],
        "data_source": row["data_source"],
        "ground_truth": row["reward_model"]["ground_truth"],
    }


def _countdown_row(row: dict[str, Any]) -> dict[str, Any]:
    truth = row["reward_model"]["ground_truth"]
    numbers = truth["numbers"]
    return {
        "numbers": [int(number) for number in (numbers.split(",") if isinstance(numbers, str) else numbers)],
        "target": int(truth["target"]),
    }


def _text_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"expected": str(row["reward_model"]["ground_truth"]["target"])}


def _bundled_reward(name: str, format_reward: float) -> BoxedReward:
    if name.startswith("countdown"):
        return BoxedReward(is_countdown_solution, ("numbers", "target"), format_reward)
    return BoxedReward(is_same_text, ("expected",), format_reward)
