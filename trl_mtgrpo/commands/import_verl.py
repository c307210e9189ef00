"""`mtgrpo import`: verl's data files and settings as a task file."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from ..tasks.names import as_number
from .verl_settings import VerlSettings, carry_over, groups_and_generations, read_settings


_SPLITS = ("train", "test")
# Rewarded by the rules of the paper's data; any other source needs a reward of its user's.
_FAMILIES = ("countdown", "zebra", "arc")


def run(options: argparse.Namespace) -> str:
    """
    Writes a task file.

    Args:
        options (`argparse.Namespace`):
            `given`, files and settings, and `output`.

    Returns:
        `str`: the task file, or where it was written. What could not be carried over goes to the error stream.

    Raises:
        ValueError: when there are no training files, or a file cannot be read.
    """
    settings = read_settings([argument for argument in options.given if "=" in argument])
    files = [argument for argument in options.given if "=" not in argument]
    train = files + _paths(settings.take("data.train_files"))
    evaluation = _paths(settings.take("data.val_files"))
    if not train:
        raise ValueError(
            "`data.train_files` must name at least one parquet file, got none. Give it, or the files themselves."
        )
    folder = Path() if options.output is None else options.output.parent
    tasks = _tasks(settings, _sources(train), _sources(evaluation), folder)
    content: dict[str, Any] = {"model": settings.take("actor_rollout_ref.model.path")}
    if content["model"] is None:
        settings.notes.append("actor_rollout_ref.model.path is not given: write the model's name behind `model:`")
        content["model"] = "MODEL"
    if any(key.startswith(("actor_rollout_ref.rollout.", "data.train_batch", "trainer.")) for key in settings.given):
        content["processes"] = groups_and_generations(settings)[3]
        limit = settings.take("data.max_prompt_length")
        if limit is not None:
            content["max_prompt_tokens"] = settings.number("data.max_prompt_length", convert=int, least=1)
        carry_over(settings)
        content["trainer"] = settings.trainer
    else:
        settings.notes += [
            f"{key}={settings.given[key]} is left behind: no counterpart is known" for key in settings.left
        ]
    text = yaml.safe_dump(content | {"tasks": tasks}, sort_keys=False, allow_unicode=True, width=100)
    for note in settings.notes:
        sys.stderr.write(f"mtgrpo import: {note}\n")
    if options.output is None:
        return text.rstrip("\n")
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"`--output` must be a file that can be written, got '{options.output}' ({error.strerror}). Name another "
            "one."
        ) from error
    return f"wrote {options.output}; look at it with `mtgrpo check {options.output}`"


def _task_name(source: str, taken: list[str]) -> str:
    name = source.replace("/", "_")
    return name if name not in taken else _task_name(f"{name}_2", taken)


def _paths(value: Any) -> list[str]:
    return [] if value is None else [str(path) for path in value] if isinstance(value, list) else [str(value)]


def _sources(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Per data source without its split: the files that hold it, in order and as often as named, and its group."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        try:
            columns = pq.ParquetFile(path).schema_arrow.names
            wanted = [name for name in ("data_source", "extra_info") if name in columns]
            rows = pq.read_table(path, columns=wanted).to_pylist() if "data_source" in wanted else []
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`data.train_files` must be parquet files with a column 'data_source', got '{path}' "
                f"({error!s:.200}). Check the path."
            ) from error
        if "data_source" not in columns or not rows:
            raise ValueError(
                f"`data.train_files` must be parquet files with rows and a column 'data_source', got {len(rows)} rows "
                f"with the columns {columns} in '{path}'. Name another file."
            )
        seen = set()
        for place, row in enumerate(rows):
            if not isinstance(row["data_source"], str) or not row["data_source"].strip():
                raise ValueError(
                    f"`data.train_files` must name the data source of every row, got {row['data_source']!r} in row "
                    f"{place} of '{path}'. Fill it in, or filter such rows out."
                )
            stem, _, split = row["data_source"].rpartition("-")
            name = stem if split in _SPLITS else row["data_source"]
            if name not in seen:
                seen.add(name)
                extra = row.get("extra_info")
                extra = extra if isinstance(extra, dict) else {}
                entry = found.setdefault(
                    name, {"files": [], "group": f"{extra.get('difficulty')}-{extra.get('type')}"}
                )
                entry["files"].append(path)
    return found


def _tasks(
    settings: VerlSettings, train: Mapping[str, Any], evaluation: Mapping[str, Any], folder: Path
) -> list[dict[str, Any]]:
    def beside(paths: list[str]) -> str | list[str]:
        moved = [os.path.relpath(path, folder or ".") for path in paths]
        return moved[0] if len(moved) == 1 else moved

    groups = _paths(settings.take("trainer.sec.bandit.groups_to_train"))
    known = {entry["group"]: name for name, entry in train.items()}
    for group in groups:
        if group not in known:
            settings.notes.append(f"trainer.sec.bandit.groups_to_train: no training row is of group {group!r}")
    names = [known[group] for group in groups if group in known] if groups else list(train)
    if not names:
        raise ValueError(
            f"`trainer.sec.bandit.groups_to_train` must name groups of the training rows, got {groups} beside "
            f"{sorted(known)}. Correct the names."
        )
    shares = settings.take("trainer.sec.bandit.preset_probs")
    if shares is not None and not (isinstance(shares, list) and all(as_number(share) is not None for share in shares)):
        raise ValueError(
            f"`trainer.sec.bandit.preset_probs` must be a list of numbers, got {shares!r}. Write `[0.5,0.5]`."
        )
    weights = dict(zip(groups or names, shares or [], strict=False))
    if shares is not None and len(shares) != len(groups or names):
        settings.notes.append(
            f"trainer.sec.bandit.preset_probs holds {len(shares)} shares for {len(groups or names)} tasks: the first "
            "ones "
            "are written"
        )
    tasks: list[dict[str, Any]] = []
    for name in names:
        source: dict[str, Any] = {"data_source": name, "train": beside(train[name]["files"])}
        if name in evaluation:
            source["eval"] = beside(evaluation[name]["files"])
        elif evaluation:
            settings.notes.append(f"data.val_files hold no row of '{name}': it has no evaluation rows")
        task: dict[str, Any] = {"name": _task_name(name, [task["name"] for task in tasks]), "verl": source}
        if task["name"] != name:
            settings.notes.append(f"'{name}' is called '{task['name']}' here: a name is a part of metrics' names")
        if name.partition("-")[0] not in _FAMILIES:
            settings.notes.append(
                f"the reward of '{name}' is left behind: `exact_match` is written in its place, choose the one that "
                "fits"
            )
            task |= {"answer": "{ground_truth}", "reward": "exact_match"}
        weight = weights.get(train[name]["group"] if groups else name)
        if weight is not None:
            task["weight"] = float(weight)
        tasks.append(task)
    left = [name for name in evaluation if name not in names]
    if left:
        settings.notes.append(
            f"data.val_files also hold {left}, which are not trained: they are left out of evaluation"
        )
    return tasks
