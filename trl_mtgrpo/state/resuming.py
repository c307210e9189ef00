"""What a resumed run remembers, also when its tasks or its settings are others than those of the checkpoint."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..weighting import FixedWeighting, SelfEvolvingCurriculum, WeightingState
from .branches import Lineage
from .codec import from_json, to_json
from .parts import WeightOwner, can_move
from .run_state import MultiTaskState
from .state_file import STATE_FILE, StateFile, StateFileError, read_state
from .task_changes import change_tasks, changed_functions, changed_rows, expire, fitting


logger = logging.getLogger(__name__)

# Strategies whose state holds no logits, so that a state without owner is not theirs.
_WITHOUT_LOGITS = (FixedWeighting.__name__, SelfEvolvingCurriculum.__name__)
_WITH_MOMENTS = ("adam", "adamw")


class Resumed(NamedTuple):
    """
    What a run goes on with.

    Args:
        state ([`MultiTaskState`]):
            Its memory.
        payload (`list[dict]`):
            What the maker of carried groups stored of each that is still carried.
        lineage (`tuple[Branch, ...]`):
            The branches of the run up to the checkpoint, for [`begin_branch`].
    """

    state: MultiTaskState
    payload: list[dict[str, Any]]
    lineage: Lineage


class ResumeSettings(Protocol):
    """The settings that decide whether a resumed run is the uninterrupted one; all are TRL's."""

    beta: float
    sync_ref_model: bool
    save_only_model: bool
    ignore_data_skip: bool


def resume_state(path: Path, start: MultiTaskState, num_generations: int, allow_task_changes: bool = False) -> Resumed:
    """
    The memory that a run continues with. What is not as in the checkpoint is logged, one warning for each change.

    Args:
        path (`Path`):
            State file of the checkpoint.
        start ([`MultiTaskState`]):
            What the run would start with: its tasks, their rows and functions, its strategy. Fixed weights come from
            it and not from the checkpoint.
        num_generations (`int`):
            Rollouts per prompt (G) of the run. Carried groups of another size expire.
        allow_task_changes (`bool`, *optional*, defaults to `False`):
            Whether the checkpoint may have other tasks or other training rows.

    Returns:
        [`Resumed`]

    Raises:
        StateFileError: if the file cannot be resumed from by this run.
    """
    file = read_state(path)
    state, anew, changes = _decode(file, start)
    changes = [*file.notes, *changes]
    if not allow_task_changes:
        check_tasks(state, start)
    changes += [
        f"task '{name}' has {what}: it goes on at the same count of another order."
        for name, what in changed_rows(state, start).items()
    ]
    changes += [f"task '{name}' is scored by {what}." for name, what in changed_functions(state, start).items()]
    keep, why = fitting(state, start, num_generations)
    state, sentence = expire(state, keep, why)
    changes += [sentence] if sentence else []
    state, sentences = change_tasks(state, start)
    state = replace(state, owner=start.owner)
    if anew:
        state = replace(state, weighting=start.weighting)
    elif start.owner.strategy == FixedWeighting.__name__:
        state = replace(state, weighting=replace(start.weighting, step=state.weighting.step))
    for change in changes + sentences:
        logger.warning(change)
    payload = [entry for entry, stays in zip(file.payload, keep, strict=True) if stays]
    return Resumed(state, payload, file.lineage)


def check_tasks(saved: MultiTaskState, start: MultiTaskState) -> None:
    """
    Checks that a checkpoint is of the run's tasks, in their order, with their training rows. With other rows, every
    later prompt of the task would be another one.

    Args:
        saved ([`MultiTaskState`]):
            The state of a checkpoint.
        start ([`MultiTaskState`]):
            What the run would start with.

    Raises:
        StateFileError: showing both lists of names, or the first task that differs.
    """
    if saved.task_names != start.task_names:
        raise StateFileError(
            f"`tasks` must be those of the checkpoint {list(saved.task_names)}, got {list(start.task_names)}. Give "
            "the same tasks in the same order, or set `allow_task_changes=True`."
        )
    for name, what in changed_rows(saved, start).items():
        raise StateFileError(
            f"`train_dataset` of task '{name}' must have the rows of the checkpoint, got {what}. Give the same "
            "dataset, or set `allow_task_changes=True` to go on in another order."
        )


def resume_exceptions(args: ResumeSettings) -> list[str]:
    """
    Settings with which a resumed run is not the uninterrupted one, bit for bit, and how to change that.

    Args:
        args ([`~trl.GRPOConfig`]):
            The run's settings.

    Returns:
        `list[str]`: one sentence per setting; empty where nothing is left out of a checkpoint.
    """
    exceptions = []
    if args.sync_ref_model and args.beta != 0.0:
        exceptions.append(
            "`sync_ref_model=True`: the reference model is not in a checkpoint. A resumed run compares with the model "
            "it is given until the next synchronisation. Set `sync_ref_model=False` for an exact resume."
        )
    if args.save_only_model:
        exceptions.append(
            "`save_only_model=True`: the optimizer is not in a checkpoint. A resumed run starts it anew. Set "
            "`save_only_model=False` for an exact resume."
        )
    if args.ignore_data_skip:
        exceptions.append(
            "`ignore_data_skip=True`: where the host's loader chooses the prompts, a resumed run starts its data "
            "anew. Set `ignore_data_skip=False` for an exact resume."
        )
    return exceptions


def _decode(file: StateFile, start: MultiTaskState) -> tuple[MultiTaskState, bool, list[str]]:
    """The state of a checkpoint, whether its weights start anew, and what is to be said of them."""
    saved, own = from_json(WeightOwner, file.state["owner"]), start.owner
    names = tuple(file.state["task_names"])
    # What every list of tasks can be made from, where the weights are replaced in the end.
    nothing = WeightingState.zeros(len(names))
    if not _is_own(saved, start):
        state = _read({**file.state, "weighting": to_json(nothing)}, WeightingState)
        return (
            state,
            True,
            [
                f"the checkpoint's task weights are those of {saved.strategy or 'a strategy with logits'}, the run's "
                f"are those of {own.strategy}: they start anew, and everything else is kept. Resume with the strategy "
                "of the checkpoint to keep them."
            ],
        )
    state = _read(file.state, type(start.weighting))
    memory = state.weighting
    if isinstance(memory, WeightingState):
        if own.strategy != FixedWeighting.__name__ and _is_of_another_optimizer(saved, own, memory):
            return (
                replace(state, weighting=replace(nothing, values=memory.values)),
                False,
                [
                    f"`task_weight_optimizer` is {own.optimizer!r} instead of {saved.optimizer or 'another'!r}: its "
                    "moments and its step start anew, and the task weights are kept."
                ],
            )
    elif names != start.task_names and not can_move(memory, len(names)):
        return (
            replace(state, weighting=nothing),
            True,
            [
                f"{type(memory).__name__} does not say what a new task gets: the task weights start anew. Declare its "
                "fields with `field(metadata={'new_task': value})` to keep them."
            ],
        )
    return state, False, []


def _read(data: dict[str, Any], memory: type) -> MultiTaskState:
    try:
        return from_json(MultiTaskState, data, weighting=memory)
    except ValueError as error:
        raise StateFileError(
            f"`{STATE_FILE}` must hold what this run remembers, got other contents: {error} Resume with the code that "
            "wrote it, or start anew."
        ) from error


def _is_own(saved: WeightOwner, start: MultiTaskState) -> bool:
    if saved.strategy:
        return saved.strategy == start.owner.strategy
    return type(start.weighting) is WeightingState and start.owner.strategy not in _WITHOUT_LOGITS


def _is_of_another_optimizer(saved: WeightOwner, own: WeightOwner, memory: WeightingState) -> bool:
    if saved.strategy:
        return saved.optimizer != own.optimizer
    # Logits that moved without moments are of plain descent, and the other way round.
    return bool(memory.values.any()) and bool(memory.second_moment.any()) != (own.optimizer in _WITH_MOMENTS)
