"""How a finished run becomes the outline of a simulation."""

import numpy as np
from numpy.typing import NDArray

from .curves import Vector
from .forecast import RunOutline
from .prompt_forecast import PromptOutline
from .runs import Run


Counts = NDArray[np.int64]

_LEAST_GROUPS = 30


def outline_of(run: Run, num_groups: int | None = None, num_generations: int = 1) -> RunOutline:
    """
    What a finished run says about its weights, its acceptance and its lengths, batch by batch.

    One entry of a log is the mean over the generation batches since the entry before it (`logging_steps`), so it
    stands for all of them. Their number is the growth of `sampling/total_generated_groups` over the logged mean.

    The acceptance of a batch is that of the nearest entries that hold at least 30 groups of the task: of fewer it
    would be mostly noise, and what a task costs grows with one over its acceptance.

    Args:
        run ([`Run`]):
            The run.
        num_groups (`int`, *optional*):
            Groups per training step; by default what the log says.
        num_generations (`int`, *optional*, defaults to `1`):
            Rollouts per group, for counting rollouts; tokens come from the log.

    Returns:
        [`RunOutline`]: one row per generation batch.

    Raises:
        ValueError: when the log lacks a metric of multi-task training, or a task was never generated.
    """
    steps = run.steps
    if not steps.size:
        raise ValueError(
            f"`--replay` must be a run that logged a training step, got none in '{run.name}'. Train with a smaller "
            "`logging_steps`, or give `--acceptance` instead."
        )
    batches = batches_per_entry(run)
    weights, acceptance, tokens = [], [], []
    for task in run.tasks:
        means = run.series(f"tasks/{task}/generated_groups")
        filtered = run.series(f"tasks/{task}/filtered_ratio")
        groups = np.interp(steps, *means) * batches if means.x.size else np.zeros_like(steps)
        if not groups.sum():
            raise ValueError(
                f"`--replay` must be a run in which every task was generated, got none for '{task}'. Give its "
                "acceptance with `--acceptance` instead."
            )
        weights.append(np.interp(steps, *run.asked_share(task)))
        known = np.isin(steps, filtered.x)
        accepted = np.where(known, groups * (1.0 - np.interp(steps, *filtered)), 0.0)
        acceptance.append(_pooled_ratio(accepted, np.where(known, groups, 0.0)))
        generated = (np.interp(steps, *run.series(f"tasks/{task}/generated_tokens")) * batches).sum()
        tokens.append(generated / groups.sum() / num_generations)
    matrix = np.stack(weights, axis=1)
    return RunOutline(
        names=run.tasks,
        weights=np.repeat(matrix / matrix.sum(axis=1, keepdims=True), batches, axis=0),
        acceptance=np.repeat(np.stack(acceptance, axis=1).clip(0.0, 1.0), batches, axis=0),
        num_groups=_groups_per_batch(run, batches) if num_groups is None else num_groups,
        num_generations=num_generations,
        tokens_per_rollout=np.array(tokens),
    )


def replayed_prompts(run: Run, outline: RunOutline, num_prompts: int) -> PromptOutline:
    """
    What a finished run says about its prompts, batch by batch.

    Args:
        run ([`Run`]):
            The run.
        outline ([`RunOutline`]):
            Its weights, acceptance and lengths, by [`outline_of`].
        num_prompts (`int`):
            Prompts of each task.

    Returns:
        [`PromptOutline`]

    Raises:
        ValueError: when a task's accuracy was never logged.
    """
    if lacking := [task for task in run.tasks if not run.series(f"tasks/{task}/accuracy").x.size]:
        raise ValueError(
            f"`--replay` must be a run that logged the accuracy of every task, got none for {lacking}. Leave out "
            "`--prompts`, or give `--acceptance` and `--accuracy` instead."
        )
    batches = batches_per_entry(run)
    values = [np.interp(run.steps, *run.series(f"tasks/{task}/accuracy")) for task in run.tasks]
    return PromptOutline(outline, np.repeat(np.stack(values, axis=1), batches, axis=0), num_prompts)


def batches_per_entry(run: Run) -> Counts:
    """
    How many generation batches each entry of a log stands for.

    Args:
        run ([`Run`]):
            The run.

    Returns:
        `np.ndarray`: shape `(n,)`, at least 1 each. Batches after the last entry are added to it where a checkpoint
        tells of them. A log without totals counts one batch per optimizer step.
    """
    steps, means = run.series("sampling/generated_groups")
    totals = run.series("sampling/total_generated_groups")
    if not np.array_equal(steps, totals.x):
        return np.diff(steps, prepend=0.0).astype(np.int64).clip(min=1)
    batches = np.rint(np.diff(totals.y, prepend=0.0) / np.maximum(means, 1.0)).astype(np.int64).clip(min=1)
    waste = run.series("sampling/waste")
    if run.groups is not None and np.array_equal(waste.x, steps) and (waste.y > 0).all():
        # Trained groups tell the rest better than generated ones: nearly every batch has the same number of them.
        trained = means / waste.y
        rest = (float(run.groups.trained.sum()) - trained @ batches) / max(float(trained.mean()), 1.0)
        batches[-1] += max(round(rest), 0)
    return batches


def _groups_per_batch(run: Run, batches: Counts) -> int:
    if run.groups is not None:
        return max(round(float(run.groups.trained.sum() / batches.sum())), 1)
    generated, waste = run.series("sampling/generated_groups"), run.series("sampling/waste")
    known = np.isin(generated.x, waste.x[waste.y > 0])
    return round(float(np.median(generated.y[known] / waste.y[waste.y > 0])))


def _pooled_ratio(part: Vector, whole: Vector) -> Vector:
    """`part` over `whole`, each summed over the nearest entries whose `whole` suffices."""
    parts, wholes = (np.cumsum(np.append(0.0, values)) for values in (part, whole))
    ratio = np.empty_like(part)
    for i in range(part.size):
        for reach in range(part.size):
            low, high = max(i - reach, 0), min(i + reach + 1, part.size)
            pooled = wholes[high] - wholes[low]
            if pooled >= _LEAST_GROUPS or (low, high) == (0, part.size):
                ratio[i] = (parts[high] - parts[low]) / pooled if pooled else 0.0
                break
    return ratio
