"""What the task weights listen to: accuracy averages, their change, and summaries over tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RewardAverage:
    r"""
    Bias-corrected moving average of each task's accuracy over everything generated (the paper's J_k).

    With factor b and the pooled accuracy a of a step in which the task was generated,
    $$m \leftarrow b\,m + (1 - b)\,a, \qquad w \leftarrow b\,w + (1 - b), \qquad J = m / w.$$
    A task that was not generated keeps its value. Without the division by w, as in the released code, the first values
    are half of the truth.

    Args:
        mass (`np.ndarray`):
            The uncorrected averages m, shape `(K,)`.
        weight (`np.ndarray`):
            The correction w, shape `(K,)`; 0 for a task never observed.
        previous (`np.ndarray`):
            J before the last update, shape `(K,)`; NaN for a task with fewer than two observations.
    """

    mass: Vector = field(metadata={"new_task": 0.0})
    weight: Vector = field(metadata={"new_task": 0.0})
    previous: Vector = field(metadata={"new_task": np.nan})

    @classmethod
    def start(cls, num_tasks: int) -> "RewardAverage":
        return cls(np.zeros(num_tasks), np.zeros(num_tasks), np.full(num_tasks, np.nan))

    def update(self, accuracy: Vector, observed: NDArray[np.bool_], factor: float) -> "RewardAverage":
        """
        The average after one step.

        Args:
            accuracy (`np.ndarray`):
                Pooled accuracy of the step per task, shape `(K,)`; ignored where not observed.
            observed (`np.ndarray`):
                Which tasks were generated, shape `(K,)`.
            factor (`float`):
                Share of the old value, in [0, 1).

        Returns:
            [`RewardAverage`]
        """
        step = np.where(observed, 1.0 - factor, 0.0)
        keep = 1.0 - step
        value = np.where(observed, accuracy, 0.0)
        return RewardAverage(
            mass=keep * self.mass + step * value,
            weight=keep * self.weight + step,
            previous=np.where(self.weight > 0, self.values, np.nan),
        )

    @property
    def values(self) -> Vector:
        """J per task, shape `(K,)`; the mean of the observed tasks for one never observed, 0 before any."""
        seen = self.weight > 0
        values = np.divide(self.mass, self.weight, out=np.zeros_like(self.mass), where=seen)
        neutral = values[seen].mean() if seen.any() else 0.0
        return np.where(seen, values, neutral)

    @property
    def changes(self) -> Vector:
        """J after minus J before the last update, shape `(K,)`; 0 where there was no earlier value."""
        return np.where(np.isnan(self.previous), 0.0, self.values - np.nan_to_num(self.previous))


def task_means(values: Vector, task_ids: NDArray[np.int64], num_tasks: int) -> tuple[Vector, NDArray[np.int64]]:
    """
    Mean of a value per task.

    Args:
        values (`np.ndarray`):
            One value per row, shape `(N,)`; NaN rows are left out.
        task_ids (`np.ndarray`):
            Task of each row, shape `(N,)`.
        num_tasks (`int`):
            Number of tasks K.

    Returns:
        `tuple`: means of shape `(K,)`, NaN where a task has no row, and the row counts of shape `(K,)`.
    """
    known = ~np.isnan(values)
    counts = np.bincount(task_ids[known], minlength=num_tasks)
    sums = np.bincount(task_ids[known], weights=values[known], minlength=num_tasks)
    means = np.divide(sums, counts, out=np.full(num_tasks, np.nan), where=counts > 0)
    return means, counts


def summarize_accuracy(accuracy: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> dict[str, float]:
    r"""
    Worst, average and spread over tasks, and the average relative change against a baseline.

    The relative change is the paper's $\frac{100}{K} \sum_k (acc_k - acc_k^{base}) / acc_k^{base}$ (Section 6).

    Args:
        accuracy (`dict[str, float]`):
            Accuracy by task name; NaN values are left out.
        baseline (`dict[str, float]`, *optional*):
            Accuracy of the run to compare with, by task name. Tasks at 0 are left out of the relative change.

    Returns:
        `dict[str, float]`: `worst_task_accuracy`, `average_accuracy`, `task_accuracy_spread` (largest minus
        smallest) and, with a baseline, `relative_change` in percent. Empty when no accuracy is known.
    """
    known = {name: value for name, value in accuracy.items() if not np.isnan(value)}
    if not known:
        return {}
    values = np.array(list(known.values()))
    summary = {
        "worst_task_accuracy": float(values.min()),
        "average_accuracy": float(values.mean()),
        "task_accuracy_spread": float(values.max() - values.min()),
    }
    shared = [name for name in known if baseline is not None and baseline.get(name, 0.0) > 0.0]
    if baseline is not None and shared:
        summary["relative_change"] = 100.0 * float(
            np.mean([(known[name] - baseline[name]) / baseline[name] for name in shared])
        )
    return summary


def mix_distance(counts: NDArray[np.int64], shares: Vector) -> float:
    """
    L1 distance between the shares of a batch and the shares asked for, in [0, 2].

    Args:
        counts (`np.ndarray`):
            Groups per task, shape `(K,)`.
        shares (`np.ndarray`):
            Target shares on the simplex, shape `(K,)`.

    Returns:
        `float`: 0 for an exact match, and for an empty batch.
    """
    total = counts.sum()
    return float(np.abs(counts / total - shares).sum()) if total else 0.0
