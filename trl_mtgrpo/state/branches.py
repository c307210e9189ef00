"""Which checkpoints of an output folder belong together: a run that goes on from an older one is another branch."""

import hashlib
import itertools
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .codec import from_json, to_json


# Beside the checkpoints, where some of them do not belong to the run that wrote there last.
BRANCH_FILE = "multi_task_grpo_branch.json"


@dataclass(frozen=True)
class Branch:
    """
    A stretch of a run without a jump.

    Args:
        name (`str`):
            Tells it from other branches in its folder.
        start (`int`):
            Optimizer step at which it began.
    """

    name: str
    start: int


Lineage = tuple[Branch, ...]


def belongs(step: int, of: Sequence[Branch], lineage: Sequence[Branch]) -> bool:
    """
    Whether a checkpoint is part of a run.

    Args:
        step (`int`):
            Step of the checkpoint.
        of (`list[Branch]`):
            Its lineage.
        lineage (`list[Branch]`):
            The run's lineage.
    """
    if not lineage:
        return not of
    if not of:  # written before branches were noted
        return step <= lineage[0].start
    ends = [*(branch.start for branch in lineage[1:]), None]
    return any(branch == of[-1] and (end is None or step <= end) for branch, end in zip(lineage, ends, strict=True))


def was_left(step: int, of: Sequence[Branch], lineage: Sequence[Branch]) -> bool:
    """
    Whether a run went on from a step before that of a checkpoint, and left the checkpoint behind.

    Args:
        step (`int`):
            Step of the checkpoint.
        of (`list[Branch]`):
            Its lineage.
        lineage (`list[Branch]`):
            The run's lineage.
    """
    if not of:
        return bool(lineage) and 0 < lineage[0].start < step
    return any(branch == of[-1] and after.start < step for branch, after in itertools.pairwise(lineage))


def next_lineage(seed: int, step: int, parent: Sequence[Branch], others: Mapping[int, Sequence[Branch]]) -> Lineage:
    """
    The lineage of a run that goes on from a step, or begins at step 0.

    Nothing random is in a branch's name: it is a hash of the seed, the step and the parent branch, counted on while a
    checkpoint in the folder has it.

    Args:
        seed (`int`):
            Seed of the run.
        step (`int`):
            Step that it goes on from.
        parent (`list[Branch]`):
            Lineage of the checkpoint; empty for a run that begins.
        others (`dict`):
            Lineages of the checkpoints in the output folder, by step.

    Returns:
        `tuple[Branch, ...]`: `parent`, followed by a new branch where a later checkpoint already continues it.
    """
    if parent and not any(later > step and of and of[-1] == parent[-1] for later, of in others.items()):
        return tuple(parent)
    taken = {branch.name for of in others.values() for branch in of} | {branch.name for branch in parent}
    return (*parent, Branch(_name(seed, step, parent, taken), step))


def write_branch(output_dir: Path, lineage: Sequence[Branch]) -> None:
    """Notes which branch an output folder's run is on."""
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / BRANCH_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([to_json(branch) for branch in lineage]) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_branch(output_dir: Path) -> Lineage:
    """The branch that an output folder's run is on; empty where nothing is noted, or it cannot be read."""
    try:
        return tuple(from_json(Branch, branch) for branch in json.loads((output_dir / BRANCH_FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return ()


def _name(seed: int, step: int, parent: Sequence[Branch], taken: Collection[str]) -> str:
    attempt = 0
    while True:
        key = f"{seed} {step} {parent[-1].name if parent else ''} {attempt}"
        name = hashlib.sha256(key.encode("utf-8")).hexdigest()[:12]
        if name not in taken:
            return name
        attempt += 1
