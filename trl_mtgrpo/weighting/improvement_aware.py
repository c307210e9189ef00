"""The improvement-aware update (the paper's Subroutine 1): tasks that score low and do not improve gain weight."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .base import (
    TaskSignal,
    TaskVector,
    WeightingState,
    bounded_simplex,
    check_bounds,
    fill_unknown,
    softmax,
    softmax_gradient,
)
from .optimizers import WeightOptimizer, check_optimizer, optimizer_step


@dataclass(frozen=True)
class ImprovementAwareWeighting:
    """
    Improvement-aware task weights, Subroutine 1 of [Multi-Task GRPO](https://huggingface.co/papers/2602.05547).

    $$ s_k = \\mathrm{clip}(I_k, -c, c) + \\lambda J_k, \\qquad g_k = z_k (s_k - \\sum_j z_j s_j), \\qquad
    \\xi \\leftarrow \\xi - \\mathrm{step}(g), \\qquad z = \\mathrm{softmax}(\\xi) $$

    with improvements I (`signal.improvements`), rewards J (`signal.rewards`), trade-off λ (`tradeoff`), clip c
    (`improvement_clip`), logits ξ (`state.values`), ξ = 0 at the start. A low s raises the weight.

    The gradient is taken at softmax(ξ); `floor` and `cap` act on what [`ImprovementAwareWeighting.weights`] returns.

    Args:
        tradeoff (`float`, *optional*, defaults to `0.2`):
            λ. Larger values put the worst task first. The paper's 3-task value; it belongs to improvements that are
            *summed* over a task's sequences, then clipped.
        lr (`float`, *optional*, defaults to `0.025`):
            Step size on the logits (paper and released code).
        decay (`float`, *optional*, defaults to `1e-5`):
            Decay of the logits towards uniform (the paper's 3-task value; 1e-4 for 9 tasks).
        optimizer (`str`, *optional*, defaults to `"adam"`):
            `"adam"` (decay coupled into the gradient, as in the released code), `"adamw"` (as printed), or `"sgd"`.
        improvement_clip (`float` or `None`, *optional*, defaults to `0.1`):
            c, the paper's 3-task value (0.2 for 9 tasks). `None` switches the clip off.
        floor (`float`, *optional*, defaults to `0.0`):
            Least share of a task. The paper has none.
        cap (`float`, *optional*, defaults to `1.0`):
            Greatest share of a task. The paper has none.
        absent_improvement (`str`, *optional*, defaults to `"zero"`):
            The improvement of a task without a group in the trained batch. `"zero"` (paper and released code) is the
            sum over no sequences: beside tasks at the clip, a task that is seldom sampled gains weight, which keeps
            every task in the run. `"neutral"` gives it the weight-averaged improvement of the others, so that absence
            moves no relative weight; with a summed and clipped improvement little but the reward term is then left.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.weighting import ImprovementAwareWeighting, TaskSignal
    >>> weighting = ImprovementAwareWeighting()
    >>> state = weighting.init(num_tasks=2)
    >>> state = weighting.update(TaskSignal(rewards=np.array([0.9, 0.1])), state)
    >>> weighting.weights(state).round(4).tolist()
    [0.4875, 0.5125]

    ```
    """

    tradeoff: float = 0.2
    lr: float = 0.025
    decay: float = 1e-5
    optimizer: WeightOptimizer = "adam"
    improvement_clip: float | None = 0.1
    floor: float = 0.0
    cap: float = 1.0
    absent_improvement: Literal["neutral", "zero"] = "zero"

    def __post_init__(self) -> None:
        check_optimizer(self.optimizer, self.lr, self.decay)
        check_bounds(self.floor, self.cap)
        if not self.tradeoff >= 0:
            raise ValueError(f"`tradeoff` must be non-negative, got {self.tradeoff}. The paper uses 0.1 to 1.2.")
        if self.improvement_clip is not None and not self.improvement_clip > 0:
            raise ValueError(
                f"`improvement_clip` must be positive or None, got {self.improvement_clip}. Pass None for no clip."
            )
        if self.absent_improvement not in ("neutral", "zero"):
            raise ValueError(
                f"`absent_improvement` must be 'neutral' or 'zero', got {self.absent_improvement!r}. "
                "Pick 'zero' to run as the released code does."
            )

    def init(self, num_tasks: int) -> WeightingState:
        """Uniform weights, shape `(K,)`. Raises `ValueError` when `floor` or `cap` do not fit `num_tasks`."""
        check_bounds(self.floor, self.cap, num_tasks)
        return WeightingState.zeros(num_tasks)

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        """One step on the logits."""
        weights = softmax(state.values)
        improvements = self._improvements(signal, weights)
        rewards = fill_unknown(signal.rewards, ~np.isnan(signal.rewards), weights)
        gradient = softmax_gradient(improvements + self.tradeoff * rewards, weights)
        return optimizer_step(state, gradient, optimizer=self.optimizer, lr=self.lr, decay=self.decay)

    def weights(self, state: WeightingState) -> TaskVector:
        """z = softmax(ξ) within `floor` and `cap`, shape `(K,)`."""
        return bounded_simplex(softmax(state.values), self.floor, self.cap)

    def _improvements(self, signal: TaskSignal, weights: TaskVector) -> TaskVector:
        known = signal.observed & ~np.isnan(signal.improvements)
        improvements = np.where(known, signal.improvements, 0.0)
        if self.improvement_clip is not None:
            improvements = np.clip(improvements, -self.improvement_clip, self.improvement_clip)
        if self.absent_improvement == "zero":
            return improvements
        return fill_unknown(improvements, known, weights)
