"""What a resumed run remembers, also when tasks were added, removed or moved since its checkpoint."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling import OUTCOMES, AcceptanceEstimate, StallState
from ..sampling.accounting import REASONS, RolloutLedger
from ..sampling.stalls import USUAL_AT_FIRST
from ..weighting import FixedWeighting, GuardState, TaskWeighting, WeightingState
from ..weighting.signals import RewardAverage
from .run_state import MultiTaskState, check_carried, check_num_rows, check_task_names, read_state


logger = logging.getLogger(__name__)


def resume_state(
    path: Path,
    names: tuple[str, ...],
    num_rows: tuple[int, ...],
    row: Callable[[int, int], dict[str, Any]],
    weighting: TaskWeighting,
    group_shape: tuple[int, int],
    allow_task_changes: bool = False,
) -> MultiTaskState:
    """
    The memory that a run continues with.

    Args:
        path (`Path`):
            State file of the checkpoint.
        names (`tuple[str, ...]`):
            Names of the run's tasks in order.
        num_rows (`tuple[int, ...]`):
            Training rows of each of them.
        row (`Callable`):
            Finds a dataset row from task and index.
        weighting ([`TaskWeighting`]):
            The run's strategy. Fixed weights come from it and not from the checkpoint.
        group_shape (`tuple[int, int]`):
            Rollouts per prompt and reward columns, (G, F).
        allow_task_changes (`bool`, *optional*, defaults to `False`):
            Whether the checkpoint may have other tasks or datasets of other sizes. Each change is logged.

    Returns:
        [`MultiTaskState`]

    Raises:
        StateFileError: if the file cannot be resumed from by this run.
    """
    saved = read_state(path)
    same = tuple(saved["task_names"]) == names and tuple(saved["num_rows"]) in ((), num_rows)
    if allow_task_changes and not same:
        # Carried groups expire, so nobody asks for their rows.
        state, changes = change_tasks(MultiTaskState.from_json(saved, lambda task_id, index: {}), names, num_rows)
        for change in changes:
            logger.warning(f"{change} Set `allow_task_changes=False` to refuse such a resume.")
    else:
        check_task_names(saved["task_names"], names)
        check_num_rows(names, saved["num_rows"], num_rows)
        state = MultiTaskState.from_json(saved, row)
        check_carried(state, *group_shape)
    if isinstance(weighting, FixedWeighting):
        state = replace(state, weighting=replace(weighting.init(len(names)), step=state.weighting.step))
    return state


def change_tasks(
    state: MultiTaskState, names: Sequence[str], num_rows: Sequence[int] = ()
) -> tuple[MultiTaskState, list[str]]:
    """
    The memory of a run for another list of tasks, or for datasets of other sizes.

    A task of both lists keeps everything that belongs to it: logit and moments, so that kept tasks keep their relative
    weights, acceptance estimate, reward average, place in its data and totals. A new task starts at the mean logit of
    the kept ones with nothing observed. Carried groups expire, because their rewards are columns of the old list
    and their prompts rows of the old datasets.

    Args:
        state ([`MultiTaskState`]):
            The memory.
        names (`list[str]`):
            Names of the run's tasks in order.
        num_rows (`list[int]`, *optional*, defaults to `()`):
            Training rows of each of them.

    Returns:
        `tuple`: the memory for `names`, and one sentence per change.
    """
    old = {name: k for k, name in enumerate(state.task_names)}
    source = np.array([old.get(name, -1) for name in names], dtype=np.int64)  # (K,)

    def moved(values: NDArray[Any], new: Any) -> NDArray[Any]:
        """Rows of `values` in the new order, `new` for tasks that had none."""
        rows = np.full((len(names), *values.shape[1:]), new, dtype=values.dtype)
        rows[source >= 0] = values[source[source >= 0]]
        return rows

    def mean(values: NDArray[np.float64]) -> float:
        kept = values[source[source >= 0]]
        return float(kept.mean()) if kept.size else 0.0

    carried = np.bincount([group.task_id for group in state.carried], minlength=len(state.task_names))
    carried_tokens = np.bincount(
        [group.task_id for group in state.carried],
        weights=[group.num_tokens for group in state.carried],
        minlength=len(state.task_names),
    ).astype(np.int64)

    def ledger(total: RolloutLedger, expired: NDArray[np.int64]) -> RolloutLedger:
        return RolloutLedger(
            carried_in=moved(total.carried_in, 0),
            generated=moved(total.generated, 0),
            trained=moved(total.trained, 0),
            filtered=moved(total.filtered, np.zeros(len(REASONS), dtype=np.int64)),
            expired=moved(total.expired + expired, 0),
            carried_out=moved(total.carried_out - expired, 0),
        )

    def estimate(old: AcceptanceEstimate) -> AcceptanceEstimate:
        return replace(old, accepted=moved(old.accepted, 0.0), filtered=moved(old.filtered, 0.0))

    weighting, guard, average = state.weighting, state.guard, state.reward_average
    changed = replace(
        state,
        task_names=tuple(names),
        weighting=WeightingState(
            values=moved(weighting.values, mean(weighting.values)),
            first_moment=moved(weighting.first_moment, 0.0),
            second_moment=moved(weighting.second_moment, mean(weighting.second_moment)),
            step=weighting.step,
        ),
        guard=GuardState(
            held=moved(guard.held, False),
            cap=moved(guard.cap, 1.0),
            age=moved(guard.age, 0),
            streak=moved(guard.streak, 0),
            reward=moved(guard.reward, np.nan),
            smoothed=moved(guard.smoothed, np.nan),
            spread=moved(guard.spread, 0.0),
            anchor=moved(guard.anchor, np.nan),
            others=moved(guard.others, np.nan),
        ),
        acceptance=estimate(state.acceptance),
        unsolved=estimate(state.unsolved),
        stalls=StallState(
            empty_steps=moved(state.stalls.empty_steps, 0),
            outcomes=moved(state.stalls.outcomes, np.zeros(len(OUTCOMES), dtype=np.int64)),
            stalled_steps=moved(state.stalls.stalled_steps, 0),
            usual=moved(state.stalls.usual, USUAL_AT_FIRST),
        ),
        reward_average=RewardAverage(
            mass=moved(average.mass, 0.0),
            weight=moved(average.weight, 0.0),
            previous=moved(average.previous, np.nan),
        ),
        cursors=tuple(state.cursors[k] if k >= 0 else 0 for k in source.tolist()),
        carried=(),
        groups=ledger(state.groups, carried),
        tokens=ledger(state.tokens, carried_tokens),
        empty_steps=0,
        num_rows=tuple(num_rows),
    )
    sizes = dict(zip(names, num_rows, strict=False))
    return changed, _sentences(state, names, carried) + [
        f"task '{name}' has {sizes[name]} rows instead of {before}: it goes on at the same count of another order."
        for name, before in zip(state.task_names, state.num_rows, strict=False)
        if sizes.get(name, before) != before
    ]


def _sentences(state: MultiTaskState, names: Sequence[str], carried: NDArray[np.int64]) -> list[str]:
    sentences = [
        f"task '{name}' is new: it starts at the mean weight logit of the kept tasks with nothing observed."
        for name in names
        if name not in state.task_names
    ]
    sentences += [
        f"task '{name}' is removed after {state.groups.generated[k]} generated groups."
        for k, name in enumerate(state.task_names)
        if name not in names
    ]
    if carried.sum():
        by_task = ", ".join(f"{carried[k]} of '{name}'" for k, name in enumerate(state.task_names) if carried[k])
        sentences.append(f"{carried.sum()} carried groups expire ({by_task}).")
    kept = [name for name in names if name in state.task_names]
    sentences.append(f"tasks {kept} keep their relative weights, estimates, places in the data and totals.")
    return sentences
