"""The file of a state in a checkpoint: complete or absent, with a schema number and a checksum."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .branches import Branch
from .codec import from_json, to_json
from .run_state import MultiTaskState
from .schema_4 import from_schema_4


SCHEMA = 5
STATE_FILE = "multi_task_grpo_state.json"

OTHER_CHECKPOINT = "Resume from another checkpoint of the run, or start anew."
OTHER_VERSION = (
    "Resume with the version of this library that wrote it, or give the checkpoint as `model` to a new run."
)

# The first key of the body, so that it can be read without the payload.
_LINEAGE = '"body": {"lineage": '


class StateFileError(ValueError):
    """A checkpoint or state file that is missing, damaged, cut inside a generation batch, or of another run."""


class StateFile(NamedTuple):
    """
    What a state file says.

    Args:
        state (`dict`):
            JSON form of the state.
        payload (`list[dict]`):
            What its maker keeps of each carried group, in the order of the state's carried groups.
        steps_left (`int`):
            Optimizer steps of the last generation batch that were still to come; 0 at its end.
        num_ranks (`int`):
            Processes of the run that wrote it.
        lineage (`tuple[Branch, ...]`):
            The branches of the run up to here, oldest first.
        notes (`tuple[str, ...]`, *optional*, defaults to `()`):
            What could not be kept of a file of an older schema, one sentence each.
    """

    state: dict[str, Any]
    payload: list[dict[str, Any]]
    steps_left: int
    num_ranks: int
    lineage: tuple[Branch, ...]
    notes: tuple[str, ...] = ()


def write_state(
    path: Path,
    state: MultiTaskState,
    payload: Sequence[dict[str, Any]] = (),
    steps_left: int = 0,
    num_ranks: int = 1,
    lineage: Sequence[Branch] = (),
) -> None:
    """
    Writes a state so that the file is either complete or absent.

    Args:
        path (`Path`):
            Where the file goes; its folder must exist.
        state ([`MultiTaskState`]):
            The state to write.
        payload (`list[dict]`, *optional*, defaults to `()`):
            What its maker keeps of each carried group, as JSON values.
        steps_left (`int`, *optional*, defaults to `0`):
            Optimizer steps of the generation batch that are still to come.
        num_ranks (`int`, *optional*, defaults to `1`):
            Processes of the run.
        lineage (`list[Branch]`, *optional*, defaults to `()`):
            The branches of the run up to here.
    """
    contents = {
        "lineage": [to_json(branch) for branch in lineage],
        "num_ranks": num_ranks,
        "payload": list(payload),
        "state": to_json(state),
        "steps_left": steps_left,
    }
    body = json.dumps(contents, sort_keys=True)
    document = f'{{"schema": {SCHEMA}, "checksum": "{_checksum(body)}", "body": {body}}}\n'
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_state_file(path: Path) -> StateFile:
    """
    Reads and checks a state file, also one of version 0.1 (schema 4).

    Args:
        path (`Path`):
            The file that [`write_state`] wrote.

    Returns:
        [`StateFile`]

    Raises:
        StateFileError: if the file is missing, truncated, altered or of another schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StateFileError(
            f"`{path.name}` must be in the checkpoint, got none in {path.parent}. {OTHER_CHECKPOINT}"
        ) from None
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise StateFileError(
            f"`{path}` must be a complete state file, got a damaged one ({error}). {OTHER_CHECKPOINT}"
        ) from None
    if not isinstance(document, dict) or not {"schema", "checksum", "body"} <= document.keys():
        raise StateFileError(
            f"`{path}` must have the fields schema, checksum and body, got others. {OTHER_CHECKPOINT}"
        )
    if document["schema"] not in (SCHEMA, 4):
        raise StateFileError(f"`{path}` must have schema {SCHEMA} or 4, got {document['schema']}. {OTHER_VERSION}")
    if _checksum(json.dumps(document["body"], sort_keys=True)) != document["checksum"]:
        raise StateFileError(f"`{path}` must match its checksum, got altered contents. {OTHER_CHECKPOINT}")
    body = document["body"]
    if document["schema"] == 4:
        state, note = from_schema_4(body["state"])
        return StateFile(state, [], body["steps_left"], body["num_ranks"], (), (note,) if note else ())
    return StateFile(**{**body, "lineage": tuple(from_json(Branch, branch) for branch in body["lineage"])})


def read_lineage(path: Path) -> tuple[Branch, ...]:
    """The lineage in a state file, from its first lines; empty where the file has none or cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(2**16)
        start = head.index(_LINEAGE) + len(_LINEAGE)
        return tuple(from_json(Branch, branch) for branch in json.JSONDecoder().raw_decode(head, start)[0])
    except (OSError, ValueError, TypeError):
        return ()


def read_state(path: Path) -> StateFile:
    """
    Reads the state that a run can be resumed from.

    Args:
        path (`Path`):
            The file that [`write_state`] wrote.

    Returns:
        [`StateFile`]

    Raises:
        StateFileError: as [`read_state_file`], and if the checkpoint lies inside a generation batch.
    """
    file = read_state_file(path)
    if file.steps_left:
        raise StateFileError(
            f"`{path.parent}` must lie between two generation batches, got one with {file.steps_left} optimizer steps "
            "of its batch still to come. Resume from an earlier checkpoint, and let `save_steps` and `max_steps` be "
            "multiples of the steps per generation batch."
        )
    return file


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8")).hexdigest()
