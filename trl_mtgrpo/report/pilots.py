"""What pilots did, in numbers and in words."""

from collections.abc import Sequence

import numpy as np

from ..rollouts import CollectedBatch
from ..sampling.accounting import Counts
from ..sampling.pilots import PilotEstimate


def pilot_metrics(names: Sequence[str], batch: CollectedBatch, estimate: PilotEstimate) -> dict[str, float]:
    """
    What pilots did in a step, or would have done.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        batch ([`CollectedBatch`]):
            The batch.
        estimate ([`PilotEstimate`]):
            What is known of pilots after it.

    Returns:
        `dict[str, float]`: nothing without pilots. With them `sampling/generated_rollouts`; `sampling/pilot_stopped`,
        groups that ended with their pilot; `sampling/pilot_saving`, the share of rollouts that pilots save, or would
        save, in the tasks of the step, absent while unknown. Of tasks that used them `tasks/<name>/pilot_stopped`, the
        share of its groups that ended so, and `tasks/<name>/pilot_weight`, the mean 1 / pi of its trained groups.
    """
    if not estimate.size:
        return {}
    made, generated = batch.generated, batch.group_ledger.generated
    metrics = {
        "sampling/generated_rollouts": float(batch.rollout_ledger.generated.sum()),
        "sampling/pilot_stopped": float(made.stopped.sum()),
    }
    known = ~np.isnan(estimate.saving) & (generated > 0)
    if known.any():
        metrics["sampling/pilot_saving"] = float((generated * estimate.saving)[known].sum() / generated[known].sum())
    trained = batch.groups.select(~batch.is_filler & (batch.groups.pilot > 0))
    for k, name in enumerate(names):
        begun = (made.task == k) & (made.pilot > 0)
        if begun.any():
            metrics[f"tasks/{name}/pilot_stopped"] = float(made.stopped[begun].mean())
        if (trained.task == k).any():
            metrics[f"tasks/{name}/pilot_weight"] = float(trained.weight[trained.task == k].mean())
    return metrics


def pilot_sentences(names: Sequence[str], estimate: PilotEstimate, groups: Counts, rollouts: Counts) -> list[str]:
    """
    What pilots did in a run.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        estimate ([`PilotEstimate`]):
            What is known of pilots at its end.
        groups (`numpy.ndarray` of `int`, shape `(K,)`):
            Groups that the run generated.
        rollouts (`numpy.ndarray` of `int`, shape `(K,)`):
            Rollouts that it generated.

    Returns:
        `list[str]`: nothing without pilots.
    """
    if not estimate.size:
        return []
    used = [name for k, name in enumerate(names) if estimate.active[k]]
    by_task = ", ".join(
        f"{name!r} {value:+.0%}" for name, value in zip(names, estimate.saving, strict=True) if not np.isnan(value)
    )
    known = f" Savings for equally certain gradients at the end: {by_task}." if by_task else ""
    verb = f"{len(used)} of {len(names)} tasks began" if used else "no task began"
    return [
        f"At the end of this run {verb} groups with {estimate.size} rollouts; {rollouts.sum():,} rollouts were made "
        f"in {groups.sum():,} groups.{known}"
    ]
