"""From task weights to the shares of the batch that are drawn from."""

import numpy as np
from numpy.typing import NDArray

from .acceptance import AcceptanceEstimate


def unsolved_shares(
    weights: NDArray[np.float64], unsolved: AcceptanceEstimate, discount: float = 1.0
) -> NDArray[np.float64]:
    """
    Shares of the batch that leave out what is solved, z′ ∝ z (1 - σ)^γ with σ the share of a task's groups in which
    every rollout is correct.

    A place in the batch costs 1 / (1 - ρ) generated groups. Of the filtered share ρ only the failed groups are a
    reason to generate more: a solved prompt has nothing left to teach. With γ = 1 the weights are shares of the
    prompts that are *not solved yet*, and those are kept exactly however many of them fail. The paper has γ = 0.

    Args:
        weights (`numpy.ndarray` of shape `(K,)`):
            Task weights z, on the simplex.
        unsolved ([`AcceptanceEstimate`]):
            What is believed of 1 - σ.
        discount (`float`, *optional*, defaults to `1.0`):
            γ, at least 0.

    Returns:
        `numpy.ndarray` of shape `(K,)`: shares on the simplex; `weights` as they are when γ = 0.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import AcceptanceEstimate, unsolved_shares
    >>> unsolved = AcceptanceEstimate.init(num_tasks=2).update(np.array([8, 8]), np.array([8, 2]))
    >>> unsolved_shares(np.array([0.5, 0.5]), unsolved).round(2).tolist()
    [0.75, 0.25]

    ```
    """
    if discount == 0:
        return weights
    shares: NDArray[np.float64] = weights * unsolved.rates**discount
    total = float(shares.sum())
    return shares / total if total > 0 else weights
