"""What a folder is: a complete checkpoint, a half-written one, a finished model, or a checkpoint of the host alone."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from .state_file import OTHER_CHECKPOINT, OTHER_VERSION, STATE_FILE, StateFile, StateFileError, read_state_file


# The host writes it last, so that a checkpoint without it was interrupted.
TRAINER_STATE = "trainer_state.json"
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
# Others that the host reads as weights: DeepSpeed, FSDP, and adapters with names.
_OTHER_WEIGHTS = ("latest", "pytorch_model_fsdp*", "*/adapter_model.safetensors", "*/adapter_model.bin")
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer_[0-9]*", "rank*-of-*-optimizer.pt", "latest")


class Found(NamedTuple):
    """
    What was found in a folder.

    Args:
        problem (`str`, *optional*):
            Why it cannot be resumed.
        cure (`str`, *optional*, defaults to `""`):
            What to do about it, where that is not to use another checkpoint.
        half_written (`bool`, *optional*, defaults to `False`):
            Whether it is the rest of an interrupted save, which nobody needs.
        note (`str`, *optional*, defaults to `""`):
            What a run that resumes from it goes on without, to follow the folder's name.
    """

    problem: str | None
    cure: str = ""
    half_written: bool = False
    note: str = ""


def inspect(folder: Path, plain: bool = False) -> Found:
    """
    Looks into a folder that is to be resumed from. No tensor is loaded.

    Args:
        folder (`Path`):
            The folder.
        plain (`bool`, *optional*, defaults to `False`):
            Whether a checkpoint of the host alone will do.

    Returns:
        [`Found`]
    """
    has_weights = _has(folder, (*_WEIGHTS, *_INDEXES, *_OTHER_WEIGHTS))
    has_state = (folder / STATE_FILE).is_file()
    if not (folder / TRAINER_STATE).is_file():
        if has_state:
            return Found(f"it has no `{TRAINER_STATE}`, so writing it was interrupted", half_written=True)
        if has_weights:
            return Found("it is a model without the trainer's state", cure=f"Give it as `model`: {folder}.")
        return Found("it has neither a model nor the trainer's state")
    try:
        saved = read_state_file(folder / STATE_FILE) if has_state or not plain else None
    except StateFileError as error:
        return _without_state(folder, error, has_state, has_weights)
    if not _json(folder / TRAINER_STATE):
        return Found(f"its `{TRAINER_STATE}` is damaged")
    if saved is not None and saved.steps_left:
        return Found(
            f"it lies inside a generation batch of which {saved.steps_left} optimizer steps were still to come"
        )
    if not has_weights:
        return Found("it has no model weights")
    missing, of = _missing(folder, saved)
    if missing and len(missing) < of:
        return Found(f"it has no {missing[0]}")
    damaged = next((file.name for file in _files(folder) if not _is_whole(file)), None)
    if damaged is not None:
        return Found(f"`{damaged}` is damaged")
    notes = []
    if missing:
        notes.append("was saved without optimizer: it starts anew, as with the host.")
    if saved is None:
        notes.append("was written by the host alone: what this library remembers of the tasks starts anew.")
    return Found(None, note=" It ".join(notes))


def _without_state(folder: Path, error: StateFileError, has_state: bool, has_weights: bool) -> Found:
    if not has_state:
        cure = f"Give it as `model` to start a run with tasks from its weights: {folder}." if has_weights else ""
        return Found(f"it has no `{STATE_FILE}`, so another trainer wrote it", cure=cure)
    reason = str(error).removesuffix(OTHER_CHECKPOINT)
    if reason.endswith(OTHER_VERSION):
        return Found(reason.removesuffix(OTHER_VERSION).strip(" ."), cure=OTHER_VERSION)
    return Found(reason.strip(" ."))


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(any(folder.glob(pattern)) for pattern in patterns)


def _missing(folder: Path, saved: StateFile | None) -> tuple[list[str], int]:
    """What a resumed run needs beside the model and does not find, and how much it needs."""
    wanted: dict[str, tuple[str, ...]] = {"optimizer": _OPTIMIZERS, "scheduler": ("scheduler.pt",)}
    num_ranks = 0 if saved is None else saved.num_ranks  # of the host's own nobody says how many there were
    if num_ranks == 1:
        wanted["random state"] = ("rng_state.pth",)
    elif num_ranks:
        wanted |= {f"random state of rank {rank}": (f"rng_state_{rank}.pth",) for rank in range(num_ranks)}
    return [what for what, patterns in wanted.items() if not _has(folder, patterns)], len(wanted)


def _files(folder: Path) -> Iterator[Path]:
    """The files that the host reads tensors from; what else lies in a checkpoint is its owner's business."""
    for index in _INDEXES:
        if (folder / index).is_file():
            yield folder / index
            shards = _json(folder / index)
            yield from (folder / name for name in sorted(set(shards.get("weight_map", {}).values())))
    names = (*_WEIGHTS, "*/adapter_model.*", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state*.pth")
    for name in names:
        yield from sorted(folder.glob(name))
    if (folder / "latest").is_file():
        tag = folder / (folder / "latest").read_text(encoding="utf-8").strip()
        states = sorted(tag.glob("*.pt"))
        yield from states or [tag]


def _json(file: Path) -> dict[str, Any]:
    """What a file holds; empty where it is damaged."""
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return contents if isinstance(contents, dict) else {}


def _is_whole(file: Path) -> bool:
    """Whether a file ends where it says; nothing in it is loaded."""
    if not file.is_file():
        return False
    if file.suffix == ".json":
        return bool(_json(file))
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="np"):
                return True
        except (SafetensorError, OSError):
            return False
    with file.open("rb") as stream:
        start = stream.read(2)
    # The directory of a zip file stands at its end; files of torch's older format tell no length.
    return zipfile.is_zipfile(file) if start == b"PK" else bool(start)
