"""What becomes of a run's memory when its tasks are others than those of the checkpoint."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling.accounting import RolloutLedger
from .parts import move_tasks
from .run_state import MultiTaskState


def change_tasks(state: MultiTaskState, start: MultiTaskState) -> tuple[MultiTaskState, list[str]]:
    """
    The memory of a run for another list of tasks, or for other datasets.

    A task of both lists keeps everything that belongs to it: logit and moments, so that kept tasks keep their relative
    weights, acceptance estimate, reward average, place in its data and totals. What a new task gets is declared by
    each field; its weight starts at the mean logit of the kept ones with nothing observed.

    Args:
        state ([`MultiTaskState`]):
            The memory, without carried groups that do not fit.
        start ([`MultiTaskState`]):
            What the run would start with.

    Returns:
        `tuple`: the memory for the run's tasks, and one sentence per change.
    """
    names, others = start.task_names, start.task_names != state.task_names
    old = {name: k for k, name in enumerate(state.task_names)}
    moved = move_tasks(state, np.array([old.get(name, -1) for name in names], dtype=np.int64))
    changed = replace(
        moved,
        task_names=names,
        draws=replace(
            start.draws,
            cursors=moved.draws.cursors,
            memory=moved.draws.memory.forget(np.isin(names, list(changed_rows(state, start)))),
        ),
        functions=start.functions,
        empty_steps=0 if others or changed_rows(state, start) else state.empty_steps,
    )
    return changed, _sentences(state, start) if others else []


def changed_rows(state: MultiTaskState, start: MultiTaskState) -> dict[str, str]:
    """What is different about the training rows of tasks that both know, by task name."""
    changes: dict[str, str] = {}
    now = _by_name(start, start.draws.num_rows)
    for name, rows in _by_name(state, state.draws.num_rows).items():
        if name in now and now[name] != rows:
            changes[name] = f"{now[name]} rows instead of {rows}"
    prints = _by_name(start, start.draws.fingerprints)
    for name, fingerprint in _by_name(state, state.draws.fingerprints).items():
        if name in prints and prints[name] != fingerprint and name not in changes:
            changes[name] = "other or reordered rows, as a sample of them shows"
    return changes


def changed_functions(state: MultiTaskState, start: MultiTaskState) -> dict[str, str]:
    """What is different about the reward functions of tasks that both know, by task name."""
    now = _by_name(start, start.functions)
    return {
        name: f"{list(now[name])} instead of {list(functions)}"
        for name, functions in _by_name(state, state.functions).items()
        if name in now and now[name] != functions
    }


def fitting(state: MultiTaskState, start: MultiTaskState, num_generations: int) -> tuple[NDArray[np.bool_], list[str]]:
    """
    Which carried groups a run can train.

    Args:
        state ([`MultiTaskState`]):
            The memory of the checkpoint.
        start ([`MultiTaskState`]):
            What the run would start with.
        num_generations (`int`):
            Rollouts per prompt (G) of the run.

    Returns:
        `tuple`: booleans of shape `(N,)`, and why others do not fit.
    """
    if state.task_names != start.task_names:
        return np.zeros(len(state.carried), dtype=bool), ["the list of tasks is another one"]
    rows, functions = changed_rows(state, start), changed_functions(state, start)
    carried, size = state.carried, state.carried.place.shape[1]
    names = np.array(state.task_names, dtype=object)[carried.task]
    sized = np.full(len(carried), size == num_generations)
    kept_rows, kept_functions = ~np.isin(names, list(rows)), ~np.isin(names, list(functions))
    limits = np.array(start.draws.num_rows or [np.inf] * len(state.task_names))
    kept_rows &= carried.prompt < limits[carried.task]
    why = []
    if not sized.all():
        why.append(f"`num_generations` is {num_generations} instead of {size}")
    if not kept_functions.all():
        why.append("reward functions are others")
    if not kept_rows.all():
        why.append("training rows are others")
    return sized & kept_rows & kept_functions, why


def expire(state: MultiTaskState, keep: NDArray[np.bool_], why: Sequence[str]) -> tuple[MultiTaskState, str]:
    """
    The memory without some carried groups, which its ledgers then count as expired.

    Args:
        state ([`MultiTaskState`]):
            The memory.
        keep (`numpy.ndarray` of `bool`, shape `(N,)`):
            Which of them stay.
        why (`list[str]`):
            Why the others go.

    Returns:
        `tuple`: the memory, and a sentence that counts them; empty for none.
    """
    if keep.all():
        return state, ""
    gone = state.carried.select(~keep)
    num_tasks = len(state.task_names)
    groups, tokens = (count(num_tasks) for count in (gone.counts, gone.token_counts))
    rollouts = np.bincount(gone.task, gone.members, num_tasks).astype(np.int64)
    by_task = ", ".join(f"{groups[k]} of '{name}'" for k, name in enumerate(state.task_names) if groups[k])
    expired = replace(
        state,
        carried=state.carried.select(keep),
        groups=_expired(state.groups, groups),
        tokens=_expired(state.tokens, tokens),
        rollouts=_expired(state.rollouts, rollouts),
    )
    return expired, f"{groups.sum()} carried groups expire ({by_task}): {', '.join(why)}."


def _expired(ledger: RolloutLedger, counts: NDArray[np.int64]) -> RolloutLedger:
    return replace(ledger, expired=ledger.expired + counts, carried_out=ledger.carried_out - counts)


def _by_name(state: MultiTaskState, values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(state.task_names, values, strict=True)) if values else {}


def _sentences(state: MultiTaskState, start: MultiTaskState) -> list[str]:
    names, before = start.task_names, state.task_names
    sentences = [
        f"task '{name}' is new: it starts at the mean weight logit of the kept tasks with nothing observed."
        for name in names
        if name not in before
    ]
    sentences += [
        f"task '{name}' is removed after {state.groups.generated[k]} generated groups."
        for k, name in enumerate(before)
        if name not in names
    ]
    kept = [name for name in names if name in before]
    return [*sentences, f"tasks {kept} keep their relative weights, estimates, places in the data and totals."]
