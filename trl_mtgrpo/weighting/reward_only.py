"""Reward-only weights (the paper's Subroutine 2): the task with the lowest reward gains weight, against a decay."""

from dataclasses import dataclass

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
class RewardOnlyWeighting:
    """
    Reward-only task weights with L2 on the logits, Subroutine 2 (appendix E, Eq. (43)) of
    [Multi-Task GRPO](https://huggingface.co/papers/2602.05547).

    $$ g_k = \\lambda z_k (J_k - \\sum_j z_j J_j) + \\eta \\xi_k, \\qquad \\xi \\leftarrow \\xi - \\mathrm{step}(g),
    \\qquad z = \\mathrm{softmax}(\\xi) $$

    with rewards J (`signal.rewards`), λ (`tradeoff`), η (`decay`), logits ξ (`state.values`), ξ = 0 at the start.
    `decay=0` is the strict worst-task objective of section 3.1, which collapses onto one task at a time.

    Args:
        lr (`float`, *optional*, defaults to `0.025`):
            Step size on the logits (paper and released code).
        decay (`float`, *optional*, defaults to `1e-2`):
            η. The paper tries 1e-5, 5e-4 and 1e-2; the last is its best. It has no effect with `"adamw"`.
        optimizer (`str`, *optional*, defaults to `"adam"`):
            `"adam"`, `"adamw"` or `"sgd"`.
        floor (`float`, *optional*, defaults to `0.0`):
            Least share of a task. The paper has none.
        cap (`float`, *optional*, defaults to `1.0`):
            Greatest share of a task. The paper has none.
        tradeoff (`float`, *optional*, defaults to `0.2`):
            λ, the scale of the rewards against the decay. The released regularisation runs use 0.2, and the paper's
            values of η belong to it; Eq. (43) as printed has 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.weighting import RewardOnlyWeighting, TaskSignal
    >>> weighting = RewardOnlyWeighting()
    >>> state = weighting.update(TaskSignal(rewards=np.array([0.8, 0.2])), weighting.init(2))
    >>> bool(weighting.weights(state)[1] > 0.5)
    True

    ```
    """

    lr: float = 0.025
    decay: float = 1e-2
    optimizer: WeightOptimizer = "adam"
    floor: float = 0.0
    cap: float = 1.0
    tradeoff: float = 0.2

    def __post_init__(self) -> None:
        check_optimizer(self.optimizer, self.lr, self.decay)
        check_bounds(self.floor, self.cap)
        if not self.tradeoff > 0:
            raise ValueError(f"`tradeoff` must be positive, got {self.tradeoff}. The released code uses 0.2.")

    def init(self, num_tasks: int) -> WeightingState:
        """Uniform weights. Raises `ValueError` when `floor` or `cap` do not fit `num_tasks`."""
        check_bounds(self.floor, self.cap, num_tasks)
        return WeightingState.zeros(num_tasks)

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        """One step on the logits."""
        weights = softmax(state.values)
        rewards = fill_unknown(signal.rewards, ~np.isnan(signal.rewards), weights)
        gradient = softmax_gradient(self.tradeoff * rewards, weights)
        return optimizer_step(state, gradient, optimizer=self.optimizer, lr=self.lr, decay=self.decay)

    def weights(self, state: WeightingState) -> TaskVector:
        """z = softmax(ξ) within `floor` and `cap`, shape `(K,)`."""
        return bounded_simplex(softmax(state.values), self.floor, self.cap)
