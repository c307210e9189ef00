"""How a finished run becomes the outline of a simulation."""

import numpy as np

from .curves import Vector
from .forecast import RunOutline
from .runs import Run


_LEAST_GROUPS = 30


def outline_of(run: Run, num_groups: int | None = None, num_generations: int = 1) -> RunOutline:
    """
    What a finished run says about its weights, its acceptance and its lengths, step by step.

    The acceptance of a step is that of the nearest steps that hold at least 30 groups of the task: of fewer it would
    be mostly noise, and what a task costs grows with one over its acceptance.

    Args:
        run ([`Run`]):
            The run.
        num_groups (`int`, *optional*):
            Groups per training step; by default what the log says.
        num_generations (`int`, *optional*, defaults to `1`):
            Rollouts per group, for counting rollouts; tokens come from the log.

    Returns:
        [`RunOutline`]: one row per logged step.

    Raises:
        ValueError: when the log lacks a metric of multi-task training, or a task was never generated.
    """
    steps = run.steps
    weights, acceptance, tokens = [], [], []
    for task in run.tasks:
        groups = run.series(f"tasks/{task}/generated_groups")
        filtered = run.series(f"tasks/{task}/filtered_ratio")
        if not groups.y.sum():
            raise ValueError(
                f"`--replay` must be a run in which every task was generated, got none for '{task}'. Give its "
                "acceptance with `--acceptance` instead."
            )
        weights.append(np.interp(steps, *run.asked_share(task)))
        known = np.isin(groups.x, filtered.x)
        accepted = np.zeros_like(groups.y)
        accepted[known] = groups.y[known] * (1.0 - filtered.y)
        acceptance.append(np.interp(steps, groups.x, _pooled_ratio(accepted, groups.y)))
        generated = run.series(f"tasks/{task}/generated_tokens").y.sum()
        tokens.append(generated / groups.y.sum() / num_generations)
    if num_groups is None:
        generated, waste = run.series("sampling/generated_groups"), run.series("sampling/waste")
        known = np.isin(generated.x, waste.x[waste.y > 0])
        num_groups = round(float(np.median(generated.y[known] / waste.y[waste.y > 0])))
    matrix = np.stack(weights, axis=1)
    return RunOutline(
        names=run.tasks,
        weights=matrix / matrix.sum(axis=1, keepdims=True),
        acceptance=np.stack(acceptance, axis=1).clip(0.0, 1.0),
        num_groups=num_groups,
        num_generations=num_generations,
        tokens_per_rollout=np.array(tokens),
    )


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
