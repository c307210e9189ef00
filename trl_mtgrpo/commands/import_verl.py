"""`mtgrpo import`: verl's data files and settings as a task file."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

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
            content["max_prompt_tokens"] = int(limit)
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


def _paths(value: Any) -> list[str]:
    return [] if value is None else [str(path) for path in value] if isinstance(value, list) else [str(value)]


def _sources(paths: list[str]) -> dict[str, dict[str, Any]]:
    """Per data source without its split: the files that hold it, in order and as often as named, and its group."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        try:
            table = pq.read_table(path, columns=["data_source", "extra_info"])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"`data.train_files` must be parquet files with a column 'data_source', got '{path}' "
                f"({error!s:.200}). "
                "Check the path."
            ) from error
        seen = set()
        for row in table.to_pylist():
            stem, _, split = row["data_source"].rpartition("-")
            name = stem if split in _SPLITS else row["data_source"]
            if name not in seen:
                seen.add(name)
                extra = row.get("extra_info") or {}
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
    shares = settings.take("trainer.sec.bandit.preset_probs")
    weights = dict(zip(groups or names, shares or [], strict=False))
    if shares is not None and len(shares) != len(groups or names):
        settings.notes.append(
            f"trainer.sec.bandit.preset_probs holds {len(shares)} shares for {len(groups or names)} tasks: the first "
            "ones "
            "are written"
        )
    tasks = []
    for name in names:
        source: dict[str, Any] = {"data_source": name, "train": beside(train[name]["files"])}
        if name in evaluation:
            source["eval"] = beside(evaluation[name]["files"])
        elif evaluation:
            settings.notes.append(f"data.val_files hold no row of '{name}': it has no evaluation rows")
        task: dict[str, Any] = {"name": name.replace("/", "_"), "verl": source}
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
