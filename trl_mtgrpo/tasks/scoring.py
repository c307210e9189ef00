"""Where a completion is scored: what the task's functions gave becomes one reward and one success, once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .said import warn_user


class Scores(NamedTuple):
    """
    What N completions earned.

    Args:
        reward (`numpy.ndarray` of shape `(N,)`):
            Sum of the task's functions with their weights; NaN where none of them gave a value.
        success (`numpy.ndarray` of shape `(N,)`):
            Between 0 and 1, what tasks are compared by; NaN where it is not known.
        parts (`numpy.ndarray` of `float32`, shape `(N, F)`):
            The values of the task's own functions in their order, NaN where one gave none. F is the largest number of
            functions of any task; further places are NaN.
    """

    reward: NDArray[np.float64]
    success: NDArray[np.float64]
    parts: NDArray[np.float32]


class TaskScoring(NamedTuple):
    """
    How one task's values become reward and success.

    Args:
        name (`str`):
            The task.
        columns (`tuple[int, ...]`):
            Its functions' places in the host's matrix of rewards.
        weights (`tuple[float, ...]`):
            Their weights; 0 for an outcome function.
        outcome (`int`, *optional*):
            Which of them says whether a completion is correct.
        threshold (`float`, *optional*):
            Reward from which a completion is correct.
        reward_range (`tuple[float, float]`):
            Rewards that count as 0 and 1 where there is neither.
    """

    name: str
    columns: tuple[int, ...]
    weights: tuple[float, ...]
    outcome: int | None = None
    threshold: float | None = None
    reward_range: tuple[float, float] = (0.0, 1.0)

    @property
    def has_outcome(self) -> bool:
        """Whether the task says of each completion that it is correct or not."""
        return self.outcome is not None or self.threshold is not None


@dataclass(frozen=True)
class Scoring:
    """
    The scoring of all tasks.

    Args:
        tasks (`tuple[TaskScoring, ...]`):
            One per task, in the order of the mixture.
        num_columns (`int`):
            Columns of the host's matrix of rewards.
    """

    tasks: tuple[TaskScoring, ...]
    num_columns: int
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def num_parts(self) -> int:
        """F, the largest number of functions of any task."""
        return max(len(task.columns) for task in self.tasks)

    @property
    def has_outcome(self) -> NDArray[np.bool_]:
        """Which tasks say of each completion whether it is correct, shape `(K,)`."""
        return np.array([task.has_outcome for task in self.tasks], dtype=bool)

    @property
    def part_weights(self) -> NDArray[np.float64]:
        """Weights of the parts, shape `(K, F)`; 0 in places without a function."""
        weights = np.zeros((len(self.tasks), self.num_parts))
        for k, task in enumerate(self.tasks):
            weights[k, : len(task.weights)] = task.weights
        return weights

    def score(self, values: ArrayLike, task_ids: Sequence[int] | NDArray[np.int64]) -> Scores:
        """
        Scores completions.

        Args:
            values (`numpy.ndarray` of shape `(N, num_columns)`):
                What the host's reward functions gave; columns of other tasks' functions are ignored.
            task_ids (`numpy.ndarray` of shape `(N,)`):
                Task of each completion.

        Returns:
            [`Scores`]
        """
        given, ids = np.asarray(values), np.asarray(task_ids, dtype=np.int64)
        parts = np.full((len(ids), self.num_parts), np.nan, dtype=np.float32)
        reward, success = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        for k in np.unique(ids):
            task, mine = self.tasks[k], ids == k
            own = given[np.ix_(mine, task.columns)]  # (n, F of the task)
            parts[mine, : len(task.columns)] = own
            summed = _weighted(own, task)
            # A row without reward does not train, and tells as little of the task as of itself.
            reward[mine] = summed
            success[mine] = np.where(np.isnan(summed), np.nan, self._success(own, summed, task))
        return Scores(reward, success, parts)

    def host_values(
        self, parts: NDArray[np.float32], task_ids: NDArray[np.int64], reward: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """
        The matrix that the host aggregates rewards from: the inverse of [`Scoring.score`].

        Args:
            parts (`numpy.ndarray` of shape `(N, F)`):
                As in [`Scores`].
            task_ids (`numpy.ndarray` of shape `(N,)`):
                Task of each row.
            reward (`numpy.ndarray` of shape `(N,)`):
                As in [`Scores`].

        Returns:
            `numpy.ndarray` of shape `(N, num_columns)`: NaN in the columns of other tasks and in rows without reward,
            which the host would otherwise train on as 0.
        """
        values = np.full((len(task_ids), self.num_columns), np.nan, dtype=np.float32)
        for k in np.unique(task_ids):
            task, mine = self.tasks[k], task_ids == k
            scored = ~np.isnan(reward[mine])[:, None]
            values[np.ix_(mine, task.columns)] = np.where(scored, parts[mine, : len(task.columns)], np.nan)
        return values

    def _success(
        self, own: NDArray[np.float32], summed: NDArray[np.float64], task: TaskScoring
    ) -> NDArray[np.float64]:
        if task.outcome is not None:
            return own[:, task.outcome].astype(np.float64)
        if task.threshold is not None:
            # Rewards arrive in single precision, where 0.9 is a little less than 0.9.
            reached = summed >= task.threshold - 1e-6 * max(1.0, abs(task.threshold))
            return np.where(np.isnan(summed), np.nan, reached)
        low, high = task.reward_range
        scaled = (summed - low) / (high - low)
        # A single task is compared with no other, so its units favour nobody.
        leaves = len(self.tasks) > 1 and np.any((scaled < -1e-6) | (scaled > 1 + 1e-6))
        if leaves and task.name not in self._said:
            self._said.add(task.name)
            warn_user(
                f"rewards of task '{task.name}' leave its `reward_range` {task.reward_range} and are cut to it. Give "
                "the task the range its rewards really have, or a `success_threshold`."
            )
        return np.clip(scaled, 0.0, 1.0)


def _weighted(own: NDArray[np.float32], task: TaskScoring) -> NDArray[np.float64]:
    weights = np.asarray(task.weights)
    counted = np.ones(len(weights), dtype=bool)
    if task.outcome is not None:
        counted[task.outcome] = False
    values = own[:, counted].astype(np.float64)
    total: NDArray[np.float64] = np.nansum(values * weights[counted], axis=1)
    return np.where(np.isnan(values).all(axis=1), np.nan, total)
