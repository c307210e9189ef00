"""The self-evolving curriculum baseline: a bandit that prefers the tasks with the largest absolute advantages."""

from dataclasses import dataclass, replace

import numpy as np

from .base import TaskSignal, TaskVector, WeightingState, bounded_simplex, check_bounds, softmax


@dataclass(frozen=True)
class SelfEvolvingCurriculum:
    """
    Bandit weights of the [Self-Evolving Curriculum](https://huggingface.co/papers/2505.14970), the SEC baseline.

    $$ Q_k \\leftarrow (1 - \\alpha) Q_k + \\alpha \\, \\overline{|A|}_k, \\qquad z = \\mathrm{softmax}(Q / \\tau) $$

    with the task's mean absolute advantage (`signal.advantages`) over the trained batch, Q (`state.values`) = 0 at the
    start.

    Args:
        alpha (`float`, *optional*, defaults to `0.5`):
            α, the share of the new observation (SEC paper, and the released MT-GRPO code).
        temperature (`float`, *optional*, defaults to `0.2`):
            τ (same sources).
        decay_unobserved (`bool`, *optional*, defaults to `False`):
            Whether a task without a group in the batch counts as an observation of 0, as in the released code: its Q
            then shrinks merely for not being sampled.
        floor (`float`, *optional*, defaults to `0.0`):
            Least share of a task.
        cap (`float`, *optional*, defaults to `1.0`):
            Greatest share of a task.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.weighting import SelfEvolvingCurriculum, TaskSignal
    >>> weighting = SelfEvolvingCurriculum()
    >>> signal = TaskSignal(rewards=np.zeros(2), advantages=np.array([0.8, 0.4]))
    >>> weighting.weights(weighting.update(signal, weighting.init(2))).round(4).tolist()
    [0.7311, 0.2689]

    ```
    """

    alpha: float = 0.5
    temperature: float = 0.2
    decay_unobserved: bool = False
    floor: float = 0.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        check_bounds(self.floor, self.cap)
        if not 0 < self.alpha <= 1:
            raise ValueError(f"`alpha` must be in (0, 1], got {self.alpha}. The paper uses 0.5.")
        if not self.temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {self.temperature}. The paper uses 0.2.")

    def init(self, num_tasks: int) -> WeightingState:
        """Q = 0, uniform weights. Raises `ValueError` when `floor` or `cap` do not fit `num_tasks`."""
        check_bounds(self.floor, self.cap, num_tasks)
        return WeightingState.zeros(num_tasks)

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        """One step of the moving averages."""
        known = signal.observed & ~np.isnan(signal.advantages)
        observed = np.where(known, signal.advantages, 0.0)
        moved = known | self.decay_unobserved
        values = np.where(moved, (1 - self.alpha) * state.values + self.alpha * observed, state.values)
        return replace(state, values=values, step=state.step + 1)

    def weights(self, state: WeightingState) -> TaskVector:
        """z = softmax(Q / τ) within `floor` and `cap`, shape `(K,)`."""
        return bounded_simplex(softmax(state.values / self.temperature), self.floor, self.cap)
