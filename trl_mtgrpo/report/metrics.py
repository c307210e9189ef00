"""The numbers a step reports, under the names that users see."""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rollouts import CollectedBatch
from ..sampling import OUTCOMES
from ..state.parts import Draws
from ..weighting.signals import mix_distance


Metrics = dict[str, float]


def batch_metrics(
    names: tuple[str, ...],
    batch: CollectedBatch,
    weights: NDArray[np.float64],
    stalled: NDArray[np.bool_],
    regressed: NDArray[np.bool_] | None = None,
) -> Metrics:
    """
    What one generation batch was made of, over everything generated and not only what trains.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        batch ([`CollectedBatch`]):
            The batch.
        weights (`np.ndarray`):
            The task weights that its shares were made from, shape `(K,)`.
        stalled (`np.ndarray`):
            Tasks whose share of the budget is shrunk because they yield nothing, shape `(K,)`.
        regressed (`np.ndarray`, *optional*, defaults to none of them):
            Tasks that have forgotten, shape `(K,)`.

    Returns:
        `dict[str, float]`: `tasks/<name>/{weight,target_share,reward,accuracy,filtered_ratio,solved_ratio,
        failed_ratio,batch_share,generated_groups,generated_tokens,stalled,regressed}` and `sampling/{rounds,
        generated_groups,accepted_groups,carried_groups,expired_groups,unfilled_groups,waste,mix_distance}`. What was
        not measured is absent: the ratios of a task that was not generated, and the accuracy and reward of one that
        was not scored.
    """
    groups, tokens = batch.group_ledger, batch.token_ledger
    generated = np.where(groups.generated > 0, groups.generated, np.nan)
    informative, solved, failed = (batch.outcomes[:, OUTCOMES.index(o)] for o in ("informative", "solved", "failed"))
    share = groups.trained / max(int(groups.trained.sum()), 1)
    columns = {
        "weight": weights,
        "target_share": batch.plan.weights,
        "reward": batch.reward,
        "accuracy": batch.accuracy,
        "filtered_ratio": 1.0 - informative / generated,
        "solved_ratio": solved / generated,
        "failed_ratio": failed / generated,
        "batch_share": share,
        "generated_groups": groups.generated,
        "generated_tokens": tokens.generated,
        "stalled": stalled,
        "regressed": np.zeros(len(names)) if regressed is None else regressed,
    }
    return _per_task(names, columns) | {
        "sampling/rounds": float(batch.plan.rounds),
        "sampling/generated_groups": float(groups.generated.sum()),
        "sampling/accepted_groups": float(groups.generated.sum() - groups.filtered.sum()),
        "sampling/carried_groups": float(groups.carried_out.sum()),
        "sampling/expired_groups": float(groups.expired.sum()),
        "sampling/unfilled_groups": float(batch.is_filler.sum()),
        "sampling/waste": groups.waste,
        "sampling/mix_distance": mix_distance(groups.trained, batch.plan.weights),
    }


def memory_metrics(names: tuple[str, ...], batch: CollectedBatch, before: Draws, after: Draws) -> Metrics:
    """
    What the memory of prompts did in a step, or would have done.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        batch ([`CollectedBatch`]):
            The batch.
        before ([`Draws`]):
            Where the prompts of the step began.
        after ([`Draws`]):
            Where they ended.

    Returns:
        `dict[str, float]`: `sampling/memory_saving`, the share of generated groups that passing over solved prompts
        saves, or would save, against uniform draws; absent while next to no prompt has come up again. Where prompts
        are passed over also `tasks/<name>/{passed_over,polarised}`, how many of them in the step, and whether the task
        has been taken out of it.
    """
    metrics: Metrics = {}
    generated, saving = batch.group_ledger.generated, after.memory.savings
    known = ~np.isnan(saving) & (generated > 0)
    if known.any():
        metrics["sampling/memory_saving"] = float((generated * saving)[known].sum() / generated[known].sum())
    if batch.corrected is not None:
        drawn = batch.generated.select(batch.generated.opens_bundle).counts(len(names))
        passed_over = np.array(after.cursors) - np.array(before.cursors) - drawn
        metrics |= _per_task(names, {"passed_over": passed_over, "polarised": after.memory.polarised})
    return metrics


def episode_metrics(names: tuple[str, ...], task_ids: NDArray[np.int64], activity: NDArray[np.int64]) -> Metrics:
    """
    What was done in the episodes of a batch or of an evaluation, per task and on average.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        task_ids (`numpy.ndarray`):
            Task of each episode, shape `(N,)`.
        activity (`numpy.ndarray`):
            Turns, tool calls and failed tool calls of each, shape `(N, 3)`.

    Returns:
        `dict[str, float]`: `tasks/<name>/{turns,tool_calls,tool_failures}` of every task with episodes.
    """
    return {
        f"tasks/{name}/{column}": float(values[task_ids == k].mean())
        for k, name in enumerate(names)
        for column, values in zip(("turns", "tool_calls", "tool_failures"), activity.T, strict=True)
        if (task_ids == k).any()
    }


def update_metrics(
    names: tuple[str, ...],
    improvements: NDArray[np.float64],
    clip: float | None,
    counts: NDArray[np.float64],
    held: NDArray[np.bool_],
) -> Metrics:
    """
    What one update of the task weights listened to.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        improvements (`np.ndarray`):
            I_k before the clip, shape `(K,)`.
        clip (`float`, *optional*):
            Symmetric clip of the improvement.
        counts (`np.ndarray`):
            Trained groups per task, shape `(K,)`.
        held (`np.ndarray`):
            Tasks whose weight the guard bounds, shape `(K,)`.

    Returns:
        `dict[str, float]`: `tasks/<name>/{improvement,improvement_raw,held}` (after and before the clip, without a
        task absent from the batch) and `task_weights/clipped_ratio`, the share of present tasks at the clip.
    """
    present = counts > 0
    raw = np.where(present, improvements, np.nan)
    clipped = raw if clip is None else np.clip(raw, -clip, clip)
    at_clip = np.zeros_like(present) if clip is None else np.abs(raw) >= clip
    metrics = _per_task(names, {"improvement": clipped, "improvement_raw": raw, "held": held})
    if present.any():
        metrics["task_weights/clipped_ratio"] = float(at_clip[present].mean())
    return metrics


def averaged(metrics: Mapping[str, Sequence[float]]) -> Metrics:
    """
    The mean of each metric over the times at which it was measured.

    Args:
        metrics (`dict[str, list[float]]`):
            Measured values by name; NaN where there was nothing to measure.

    Returns:
        `dict[str, float]`: without the metrics that were never measured.
    """
    known = {name: [value for value in values if is_known(value)] for name, values in metrics.items()}
    return {name: sum(values) / len(values) for name, values in known.items() if values}


def leave_out_unmeasured(metrics: MutableMapping[str, list[float]]) -> None:
    """
    Takes away the metrics that were never measured, which the host would log as `None`.

    Args:
        metrics (`dict[str, list[float]]`):
            What the host is about to average and log; changed in place.
    """
    for name in [name for name, values in metrics.items() if not any(is_known(value) for value in values)]:
        del metrics[name]


def is_known(value: Any) -> bool:
    """Whether a measured value is a number: neither absent nor NaN."""
    return value is not None and not math.isnan(value)


def _per_task(names: tuple[str, ...], columns: Mapping[str, NDArray[Any]]) -> Metrics:
    """`tasks/<name>/<column>` of every value of columns of shape `(K,)` that is known."""
    return {
        f"tasks/{name}/{column}": float(values[k])
        for k, name in enumerate(names)
        for column, values in columns.items()
        if not np.isnan(values[k])
    }
