"""Which checkpoint of a run can be resumed: the newest one that was written to its end and is not damaged."""

import json
import logging
import re
import zipfile
from pathlib import Path

from .run_state import STATE_FILE, StateFileError, read_state_file


logger = logging.getLogger(__name__)

# The host writes it last, so that a checkpoint without it was interrupted.
TRAINER_STATE = "trainer_state.json"
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "latest",  # DeepSpeed
    "pytorch_model_fsdp*",
)
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer_*", "latest")


def begin_checkpoint(folder: Path) -> None:
    """
    Prepares a checkpoint folder: what was there before counts as incomplete until the host has written all of it anew.

    Args:
        folder (`Path`):
            The checkpoint to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINER_STATE).unlink(missing_ok=True)


def find_checkpoint(wanted: str | bool, output_dir: str, needs_optimizer: bool = True) -> Path:
    """
    The checkpoint that `resume_from_checkpoint` means, complete and undamaged.

    Args:
        wanted (`str` or `bool`):
            The folder of a checkpoint, or `True` for the newest complete one of the run.
        output_dir (`str`):
            The run's output folder.
        needs_optimizer (`bool`, *optional*, defaults to `True`):
            See [`last_complete_checkpoint`].

    Returns:
        `Path`: the folder of the checkpoint.

    Raises:
        StateFileError: if there is none, or the one asked for cannot be resumed, with the one to use instead.
    """
    if wanted is True:
        newest = last_complete_checkpoint(Path(output_dir), needs_optimizer)
        if newest is None:
            raise StateFileError(
                "`resume_from_checkpoint` must be left out when there is no complete checkpoint, got True and none "
                f"in {output_dir}. Start anew, or name the folder of a checkpoint."
            )
        return newest
    folder = Path(str(wanted))
    problem = checkpoint_problem(folder, needs_optimizer)
    if problem is not None:
        other = last_complete_checkpoint(folder.parent, needs_optimizer)
        raise StateFileError(
            f"`resume_from_checkpoint` must be a complete checkpoint, got {folder}: {problem}. "
            + ("Start anew; no other one is complete." if other is None else f"Use {other} instead.")
        )
    return folder


def last_complete_checkpoint(output_dir: Path, needs_optimizer: bool = True) -> Path | None:
    """
    The newest checkpoint of a folder that can be resumed. A warning names newer ones that cannot.

    Args:
        output_dir (`Path`):
            The run's output folder.
        needs_optimizer (`bool`, *optional*, defaults to `True`):
            Whether a checkpoint without optimizer is incomplete. `False` for runs with `save_only_model`.

    Returns:
        `Path` or `None`: the folder of the checkpoint, or `None` when there is none.
    """
    numbered = []
    for folder in output_dir.glob("checkpoint-*") if output_dir.is_dir() else []:
        match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if match and folder.is_dir():
            numbered.append((int(match[1]), folder))
    for _, folder in sorted(numbered, reverse=True):
        problem = checkpoint_problem(folder, needs_optimizer)
        if problem is None:
            return folder
        logger.warning(f"{folder} is skipped: {problem}. Delete the folder to end this warning.")
    return None


def checkpoint_problem(folder: Path, needs_optimizer: bool = True) -> str | None:
    """
    Why a checkpoint cannot be resumed.

    Args:
        folder (`Path`):
            The checkpoint.
        needs_optimizer (`bool`, *optional*, defaults to `True`):
            Whether the optimizer must be there.

    Returns:
        `str` or `None`: what is missing or damaged, or `None` for a complete checkpoint.
    """
    if not (folder / TRAINER_STATE).is_file():
        return f"it has no `{TRAINER_STATE}`, so writing it was interrupted"
    try:
        json.loads((folder / TRAINER_STATE).read_text(encoding="utf-8"))
        saved = read_state_file(folder / STATE_FILE)
    except StateFileError as error:
        return str(error)
    except ValueError:
        return f"its `{TRAINER_STATE}` is damaged"
    if saved.steps_left:
        return f"it lies inside a generation batch of which {saved.steps_left} optimizer steps were still to come"
    wanted: dict[str, tuple[str, ...]] = {"model weights": _WEIGHTS}
    if needs_optimizer:
        wanted |= {"optimizer": _OPTIMIZERS, "scheduler": ("scheduler.pt",)}
        if saved.num_ranks == 1:
            wanted["random state"] = ("rng_state.pth",)
        else:
            wanted |= {f"random state of rank {rank}": (f"rng_state_{rank}.pth",) for rank in range(saved.num_ranks)}
    for what, patterns in wanted.items():
        if not any(any(folder.glob(pattern)) for pattern in patterns):
            return f"it has no {what}"
    damaged = [file.name for file in _files(folder) if not _is_readable(file)]
    return f"`{damaged[0]}` is damaged" if damaged else None


def _files(folder: Path) -> list[Path]:
    """The files of a checkpoint that hold tensors; for DeepSpeed those of the folder that `latest` names too."""
    folders = [folder]
    if (folder / "latest").is_file():
        folders.append(folder / (folder / "latest").read_text(encoding="utf-8").strip())
    files = [path for part in folders for path in sorted(part.glob("*")) if path.is_file()]
    shards: set[str] = set()
    for index in folder.glob("*.index.json"):
        shards |= set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
    return files + [folder / name for name in sorted(shards) if not (folder / name).is_file()]


def _is_readable(file: Path) -> bool:
    """Whether a tensor file ends where its own header says; nothing in it is loaded."""
    if not file.is_file():
        return False
    if file.suffix in (".pt", ".pth", ".bin"):
        return zipfile.is_zipfile(file)  # the directory of a zip file stands at its end
    if file.suffix != ".safetensors":
        return True
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return False
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)
