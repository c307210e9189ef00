"""How a finished run becomes the outline of a simulation."""

import numpy as np

from ..forecast import RunOutline
from .curves import carried_forward
from .runs import Run


def outline_of(run: Run, num_groups: int | None = None, num_generations: int = 1) -> RunOutline:
    """
    What a finished run says about its weights, its acceptance and its lengths, step by step.

    Acceptance is a moving mean over what was generated; before a task's first group it is that of its first.

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
        accepted = run.smoothed_ratio(task, "filtered_ratio")
        if not accepted.x.size:
            raise ValueError(
                f"`--replay` must be a run in which every task was generated, got none for '{task}'. Give its "
                "acceptance "
                "with `--acceptance` instead."
            )
        weights.append(np.interp(steps, *run.series(f"tasks/{task}/weight")))
        first = np.full(int((steps < accepted.x[0]).sum()), accepted.y[0])
        acceptance.append(1.0 - np.append(first, carried_forward(accepted, steps).y))
        groups, generated = (run.series(f"tasks/{task}/generated_{unit}").y.sum() for unit in ("groups", "tokens"))
        tokens.append(generated / groups / num_generations)
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
