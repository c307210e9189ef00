"""Weights that do not move: the GRPO and DAPO baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .base import TaskSignal, TaskVector, WeightingState, as_task_vector


@dataclass(frozen=True)
class FixedWeighting:
    """
    Task weights that stay as they are.

    Args:
        weights (`Sequence[float]`, *optional*):
            Weights on the simplex, one per task. Uniform when not given, as in the paper's GRPO and DAPO baselines.

    Raises:
        ValueError: If the weights are negative, do not add up to 1, or do not fit the number of tasks.

    Example:

    ```python
    >>> from trl_mtgrpo.weighting import FixedWeighting
    >>> weighting = FixedWeighting([0.75, 0.25])
    >>> weighting.weights(weighting.init(2)).tolist()
    [0.75, 0.25]

    ```
    """

    task_weights: tuple[float, ...] | None = None

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        values = None if weights is None else tuple(float(weight) for weight in weights)
        if values is not None and not (min(values, default=-1.0) >= 0 and abs(sum(values) - 1.0) <= 1e-6):
            raise ValueError(
                f"`weights` must be non-negative and add up to 1, got {list(values)}. Divide them by their sum."
            )
        object.__setattr__(self, "task_weights", values)

    def init(self, num_tasks: int) -> WeightingState:
        """The weights, as `state.values`. Raises `ValueError` when their number is not `num_tasks`."""
        state = WeightingState.zeros(num_tasks)
        if self.task_weights is None:
            return replace(state, values=np.full(num_tasks, 1.0 / num_tasks))
        return replace(state, values=as_task_vector("weights", self.task_weights, num_tasks))

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        """Counts the step; the weights stay."""
        return replace(state, step=state.step + 1)

    def weights(self, state: WeightingState) -> TaskVector:
        """z, shape `(K,)`."""
        total = float(state.values.sum())
        return state.values / total
