"""Which checkpoint a run is resumed from: the newest complete one of its branch, or the reason why there is none."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .branches import BRANCH_FILE, Branch, Lineage, belongs, next_lineage, read_branch, was_left, write_branch
from .checkpoint_files import TRAINER_STATE, Found, inspect
from .state_file import STATE_FILE, StateFileError, read_lineage


logger = logging.getLogger(__name__)

# What a command line hands over as text.
_WORDS: dict[str, bool | None] = {"true": True, "false": None, "none": None, "null": None, "": None}


class _Candidate(NamedTuple):
    step: int
    folder: Path


def begin_checkpoint(folder: Path) -> None:
    """
    Prepares a checkpoint folder: what was there before counts as incomplete until the host has written all of it anew.

    Args:
        folder (`Path`):
            The checkpoint to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINER_STATE).unlink(missing_ok=True)


def begin_branch(output_dir: Path, seed: int, step: int = 0, parent: Sequence[Branch] = ()) -> Lineage:
    """
    The lineage of a run that starts to write into a folder. Where the folder holds checkpoints of other runs, or
    later ones that this run leaves behind, it is noted there which run goes on.

    Args:
        output_dir (`Path`):
            The run's output folder.
        seed (`int`):
            Seed of the run.
        step (`int`, *optional*, defaults to `0`):
            Step of the checkpoint that it goes on from.
        parent (`list[Branch]`, *optional*, defaults to `()`):
            Lineage of that checkpoint.

    Returns:
        `tuple[Branch, ...]`: for [`write_state`].
    """
    others = {one.step: read_lineage(one.folder / STATE_FILE) for one in _numbered(output_dir)}
    lineage = next_lineage(seed, step, parent, others)
    strangers = any(not belongs(at, of, lineage) for at, of in others.items())
    if strangers or (output_dir / BRANCH_FILE).exists():
        write_branch(output_dir, lineage)
    return lineage


def find_checkpoint(wanted: str | Path | bool | None, output_dir: str | Path, plain: bool = False) -> Path | None:
    """
    The checkpoint that `resume_from_checkpoint` means, complete and undamaged.

    Args:
        wanted (`str`, `Path` or `bool`, *optional*):
            The folder of a checkpoint, a folder of checkpoints, or `True` for the newest complete one of the run. The
            texts "True" and "False" of a command line are what they say.
        output_dir (`str`):
            The run's output folder.
        plain (`bool`, *optional*, defaults to `False`):
            Whether the run can go on from a checkpoint of the host alone, without this library's state.

    Returns:
        `Path` or `None`: the folder of the checkpoint; `None` when nothing is to be resumed.

    Raises:
        StateFileError: if there is none, or the one asked for cannot be resumed, with the reason and the cure.
    """
    if isinstance(wanted, str):
        wanted = _WORDS.get(wanted.strip().lower(), wanted)
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        return _newest(Path(output_dir), plain)
    folder = Path(wanted)
    if not folder.is_dir():
        what = "a file" if folder.is_file() else "a path that does not exist"
        raise StateFileError(
            f"`resume_from_checkpoint` must be the folder of a checkpoint, got {what}: {folder}. "
            + _instead(folder.parent, folder, plain, "Check the path.")
        )
    if _numbered(folder):
        newest = _newest(folder, plain)
        logger.warning(f"`resume_from_checkpoint` is a folder of checkpoints: {newest} is used. Name it to be sure.")
        return newest
    found = inspect(folder, plain)
    if found.problem is not None:
        raise StateFileError(
            f"`resume_from_checkpoint` must be a complete checkpoint, got {folder}: {found.problem}. "
            + (found.cure or _instead(folder.parent, folder, plain, "Start anew; no other one is complete."))
        )
    _say(found, folder)
    return folder


def last_complete_checkpoint(output_dir: Path, plain: bool = False) -> Path | None:
    """
    The newest checkpoint of a folder's run that can be resumed. One warning names newer ones that are skipped.

    Args:
        output_dir (`Path`):
            The run's output folder.
        plain (`bool`, *optional*, defaults to `False`):
            See [`find_checkpoint`].

    Returns:
        `Path` or `None`: the folder of the checkpoint, or `None` when there is none.
    """
    found, skipped = _search(output_dir, plain)
    if found is not None and skipped:
        reasons = "; ".join(f"{folder.name} ({reason})" for folder, reason in skipped)
        logger.warning(
            f"{found} is the newest checkpoint that can be resumed. Skipped: {reasons}. Name a checkpoint in "
            "`resume_from_checkpoint` to end this warning."
        )
    return found


def _numbered(folder: Path) -> list[_Candidate]:
    """The checkpoints in a folder, newest first."""
    found = []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else []:
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and path.is_dir():
            found.append(_Candidate(int(match[1]), path))
    return sorted(found, reverse=True)


def _search(output_dir: Path, plain: bool) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest complete checkpoint of the folder's run, and what is skipped before it with the reasons."""
    numbered = _numbered(output_dir)
    lineages = {one.folder: read_lineage(one.folder / STATE_FILE) for one in numbered}
    noted = read_branch(output_dir)
    skipped: list[tuple[Path, str]] = []
    for step, folder in numbered:
        found, of = inspect(folder, plain), lineages[folder]
        left = not belongs(step, of, noted) if noted else any(was_left(step, of, line) for line in lineages.values())
        if found.problem is not None:
            skipped.append((folder, found.problem + (", it may be deleted" if found.half_written else "")))
        elif left:
            skipped.append((folder, "it belongs to a run that another one in this folder has left behind"))
        else:
            _say(found, folder)
            return folder, skipped
    return None, skipped


def _newest(folder: Path, plain: bool) -> Path:
    newest = last_complete_checkpoint(folder, plain)
    if newest is not None:
        return newest
    skipped = _search(folder, plain)[1]
    if not skipped:
        raise StateFileError(
            "`resume_from_checkpoint` must be left out when there is no complete checkpoint, got True and none in "
            f"{folder}. Start anew, or name the folder of a checkpoint."
        )
    complete = [path for path, _ in skipped if inspect(path, plain).problem is None]
    reasons = "; ".join(f"{path.name} ({reason})" for path, reason in skipped)
    raise StateFileError(
        f"`resume_from_checkpoint` must find a complete checkpoint of this run in {folder}, got {reasons}. "
        + (f"Name the one to use, such as {complete[0]}." if complete else "Start anew; none of them is complete.")
    )


def _instead(parent: Path, folder: Path, plain: bool, otherwise: str) -> str:
    """What to use in place of a folder."""
    other = next((one for _, one in _numbered(parent) if one != folder and inspect(one, plain).problem is None), None)
    return otherwise if other is None else f"Use {other} instead."


def _say(found: Found, folder: Path) -> None:
    if found.note:
        logger.warning(f"{folder} {found.note}")
