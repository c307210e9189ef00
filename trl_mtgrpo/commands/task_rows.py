"""Decides how an entry of a task file becomes a [`Task`]: rows are read, templates filled, evaluation rows held "
"out."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetsError

from trl_mtgrpo import Task, reasoning_gym_task

from ..tasks.environments import owned_rows
from ..tasks.sources.parquet import tasks_from_parquet
from .named_rewards import Reward, imported, reward_function, with_options
from .task_file import (
    HubDataset,
    LocalFiles,
    PartEntry,
    Prompt,
    ReasoningGym,
    Seeds,
    TaskEntry,
    TaskFile,
    VerlFiles,
    as_list,
)
from .templates import check_columns, fill


# One draw for every run and seed, so that two runs of a file are evaluated on the same rows.
_HOLD_OUT_SEED = 0
_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, eq=False)
class _Rows:
    train: Dataset
    eval: Dataset | None
    rewards: tuple[Reward, ...] = ()


def load_task(file: TaskFile, entry: TaskEntry) -> Task:
    """
    The task of an entry.

    Args:
        file ([`TaskFile`]):
            The file, for its folder.
        entry ([`TaskEntry`]):
            The entry.

    Returns:
        [`Task`]

    Raises:
        ValueError: naming the task and its line, when rows cannot be read or do not fit the templates.
    """
    owner = f"task '{entry.name}'"
    try:
        functions = tuple(reward_function(reward, file.folder, owner) for reward in entry.reward)
        rows = _with_templates(_read(file, entry), entry, owner)
        if entry.eval_size is not None:
            rows = _held_out(rows, entry, entry.eval_size, owner)
        named = len(entry.reward) == 1 and ":" not in entry.reward[0].use
        threshold = entry.success_threshold
        if threshold is None and (named or not functions):
            threshold = 1.0
        options = _parts(file, entry, owner)
        if entry.reward_range is not None:
            options["reward_range"] = tuple(entry.reward_range)
        if functions:
            options["reward_weights"] = [reward.weight for reward in entry.reward]
        # Where the file adds nothing to the rows, the environment says everything.
        owned = isinstance(entry.source, Seeds) and (entry.prompt, entry.answer, entry.answer_after) == (None,) * 3
        if owned:
            options["num_rows"] = len(rows.train)
        return Task(
            entry.name,
            None if owned else rows.train,
            list(functions or rows.rewards),
            eval_dataset=rows.eval,
            success_threshold=threshold,
            max_completion_length=entry.max_completion_length,
            **options,
        )
    # What `datasets`, reasoning-gym and pyarrow raise for what a user wrote; the place in the file is what is missing.
    except (ValueError, TypeError, OSError, ImportError, KeyError, DatasetsError) as error:
        cause = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
        text = str(cause) if isinstance(cause, ValueError | TypeError) else f"{type(cause).__name__}: {cause}"
        raise ValueError(f"{file.place(entry)}: {owner}: {text}") from error


def _parts(file: TaskFile, entry: TaskEntry, owner: str) -> dict[str, Any]:
    """What a task is made of besides rows and rewards, as arguments of [`Task`]."""

    def named(field: str, path: str) -> Callable[..., Any]:
        return imported(path, file.folder, f"`{field}` of {owner}")

    def made(field: str, part: PartEntry | None) -> Callable[..., Any] | None:
        return None if part is None else with_options(named(field, part.use), part, f"`{field}` of {owner}")

    program = made("program", entry.program)
    if program is not None and inspect.isclass(program.func if isinstance(program, functools.partial) else program):
        try:
            program = program()
        except Exception as error:  # user code may raise anything
            raise ValueError(
                f"`program` of {owner} must be a class that can be made, got {type(error).__name__}: {error!s:.200}. "
                "Give what it needs as `{use: ..., options: ...}`."
            ) from error
    rewards = {module: named("module_rewards", path) for module, path in entry.module_rewards.items()}
    return {
        "tools": [named("tools", path) for path in entry.tools],
        "environment_factory": made("environment", entry.environment),
        "max_environments": entry.max_environments,
        "tool_timeout": entry.tool_timeout,
        "program": program,
        "module_rewards": rewards or None,
        "trainable_modules": entry.trainable_modules,
        "failure_reward": entry.failure_reward,
        "format_failure_reward": entry.format_failure_reward,
    }


def training_rows(task: Task) -> Dataset:
    """The training rows of a task of a file; every kind of source has some."""
    assert task.train_dataset is not None
    return task.train_dataset


def sources_of(file: TaskFile, entry: TaskEntry) -> list[str]:
    """
    What a task's training rows are read from, one text per set.

    Args:
        file ([`TaskFile`]):
            The file, for its folder.
        entry ([`TaskEntry`]):
            The entry.

    Returns:
        `list[str]`: equal texts mean the same rows.
    """
    source = entry.source
    if isinstance(source, HubDataset):
        return [f"{_dataset_path(file, source)} {source.name or ''} {source.split} {source.revision or ''}".strip()]
    if isinstance(source, ReasoningGym):
        return [f"{source.family} {source.level or ''} {dict(source.options)} seed {source.seed}"]
    if isinstance(source, Seeds):
        assert entry.environment is not None
        return [f"seeds of {entry.environment.use} {dict(entry.environment.options)}"]
    ending = f" {source.data_source}" if isinstance(source, VerlFiles) else ""
    return [str(Path(file.beside(path)).resolve()) + ending for path in as_list(source.train)]


def _dataset_path(file: TaskFile, source: HubDataset) -> str:
    return file.beside(source.path) if source.path.startswith(("./", "../")) else source.path


def _read(file: TaskFile, entry: TaskEntry) -> _Rows:
    source = entry.source
    if isinstance(source, HubDataset):
        parts = [
            load_dataset(_dataset_path(file, source), source.name, split=split, revision=source.revision)
            for split in (source.split, source.eval_split)
            if split is not None
        ]
        return _Rows(parts[0], parts[1] if len(parts) > 1 else None)
    if isinstance(source, LocalFiles):
        evaluation = as_list(source.eval)
        return _Rows(_from_files(file, source.train), _from_files(file, evaluation) if evaluation else None)
    if isinstance(source, Seeds):
        if source.train < 1 or source.eval < 0:
            raise ValueError(
                f"`seeds` must be at least 1 to train and none or more to evaluate, got {source.train} and "
                f"{source.eval}. Change the numbers."
            )
        rows = owned_rows(source.train + source.eval)
        held_out = rows.select(range(source.train, source.train + source.eval)) if source.eval else None
        return _Rows(rows.select(range(source.train)), held_out)
    if isinstance(source, ReasoningGym):
        return _from_reasoning_gym(source, entry.prompt)
    return _from_verl(file, source, bool(entry.reward))


def _from_files(file: TaskFile, paths: str | list[str]) -> Dataset:
    found = [Path(file.beside(path)) for path in as_list(paths)]
    kinds = {path.suffix for path in found}
    if len(kinds) != 1 or not kinds <= set(_BUILDERS):
        raise ValueError(
            f"`files` must be of one kind out of {list(_BUILDERS)}, got {sorted(kinds)}. Convert the others, or use "
            "`dataset`."
        )
    for path in found:
        if not path.is_file():
            raise ValueError(f"`files` must be files that exist, got '{path}'. Paths start at the task file's folder.")
        if not path.stat().st_size:
            raise ValueError(
                f"`files` must have at least one row, got the empty file '{path}'. Fill it, or leave it out."
            )
    return load_dataset(_BUILDERS[kinds.pop()], data_files={"rows": [str(path) for path in found]}, split="rows")


def _from_reasoning_gym(source: ReasoningGym, prompt: Prompt | None) -> _Rows:
    task = reasoning_gym_task(
        source.family,
        source.level,
        train_size=source.train_size,
        eval_size=source.eval_size,
        seed=source.seed,
        format_reward=source.format_reward,
        prompt=prompt,
        chat=source.chat or isinstance(prompt, list),
        shots=source.shots,
        box=source.box,
        **source.options,
    )
    assert isinstance(task.reward_funcs, tuple)
    return _Rows(training_rows(task), task.eval_dataset, task.reward_funcs)  # type: ignore[arg-type]


def _from_verl(file: TaskFile, source: VerlFiles, own_reward: bool) -> _Rows:
    train, evaluation = ([file.beside(path) for path in as_list(paths)] for paths in (source.train, source.eval))
    (task,) = tasks_from_parquet(
        train,
        evaluation or None,
        names=["rows" if own_reward else source.data_source],
        rename={source.data_source: "rows"} if own_reward else None,
        reward_funcs={"rows": _replaced} if own_reward else None,
    )
    assert isinstance(task.reward_funcs, tuple)
    return _Rows(training_rows(task), task.eval_dataset, () if own_reward else task.reward_funcs)  # type: ignore[arg-type]


def _replaced(completions: list[Any], **kwargs: Any) -> list[None]:
    """Stands for the task file's reward while verl's rows are read."""
    return [None] * len(completions)


def _with_templates(rows: _Rows, entry: TaskEntry, owner: str) -> _Rows:
    prompt = None if isinstance(entry.source, ReasoningGym) else entry.prompt
    if prompt is None and entry.answer is None and entry.answer_after is None:
        return rows
    answer = "{answer}" if entry.answer is None and entry.answer_after is not None else entry.answer

    def filled(row: Mapping[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = {}
        if prompt is not None:
            new["prompt"] = fill(prompt, row)
        if answer is not None:
            new["answer"] = _after(fill(answer, row), entry.answer_after)
        return new

    parts = []
    for part in (rows.train, rows.eval):
        if part is not None:
            for name, template in (("prompt", prompt), ("answer", answer)):
                if template is not None:
                    check_columns(template, part.column_names, f"`{name}` of {owner}")
            # In memory: a cache file would outlive a change of the task file, and every process would write it.
            part = part.map(filled, keep_in_memory=True, load_from_cache_file=False)
        parts.append(part)
    return _Rows(parts[0], parts[1], rows.rewards)


def _after(text: str, mark: str | None) -> str:
    """What follows the last mark; nothing where it is missing, which `check` reports as an empty answer."""
    if mark is None:
        return text
    _, found, answer = text.rpartition(mark)
    return answer.strip() if found else ""


def _held_out(rows: _Rows, entry: TaskEntry, size: int, owner: str) -> _Rows:
    if isinstance(entry.source, Seeds):
        raise ValueError(
            f"`eval_size` of {owner} must be left out beside `seeds`, got {size}. Write `seeds: {{train: "
            f"{len(rows.train)}, eval: {size}}}`."
        )
    if rows.eval is not None:
        raise ValueError(
            f"`eval_size` of {owner} must be left out where evaluation rows are given, got {size}. Keep one of the "
            "two."
        )
    if not 0 < size < len(rows.train):
        raise ValueError(
            f"`eval_size` of {owner} must be between 1 and the rows less one, got {size} of {len(rows.train)} rows. "
            "Hold out fewer."
        )
    held = np.zeros(len(rows.train), dtype=bool)
    held[np.random.default_rng(_HOLD_OUT_SEED).permutation(len(rows.train))[:size]] = True
    train, evaluation = rows.train.select(np.flatnonzero(~held)), rows.train.select(np.flatnonzero(held))
    return _Rows(train, evaluation, rows.rewards)
