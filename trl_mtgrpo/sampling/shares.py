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

    A task counts as unsolved until solved groups of it are seen: while nothing is solved, shares are the weights.

    Args:
        weights (`numpy.ndarray` of shape `(K,)`):
            Task weights z, on the simplex.
        unsolved ([`AcceptanceEstimate`]):
            Decayed counts of groups that are unsolved (`accepted`) and solved (`filtered`).
        discount (`float`, *optional*, defaults to `1.0`):
            γ, at least 0.

    Returns:
        `numpy.ndarray` of shape `(K,)`: shares on the simplex; `weights` as they are when γ = 0 or nothing is solved.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import AcceptanceEstimate, unsolved_shares
    >>> unsolved = AcceptanceEstimate.init(num_tasks=2).update(np.array([8, 8]), np.array([8, 2]))
    >>> unsolved_shares(np.array([0.5, 0.5]), unsolved).round(2).tolist()
    [0.75, 0.25]

    ```
    """
    if discount == 0 or not unsolved.filtered.any():
        return weights
    # One pseudo-group, unsolved: a share never ends at 0, where nothing would be seen of the task any more.
    fractions = (unsolved.accepted + 1.0) / (unsolved.accepted + unsolved.filtered + 1.0)
    shares: NDArray[np.float64] = weights * fractions**discount
    return _scaled(shares, weights)


def shares_without_refill(
    shares: NDArray[np.float64], bounded: NDArray[np.bool_], acceptance: AcceptanceEstimate
) -> NDArray[np.float64]:
    """
    Shares of the batch in which some tasks get their part of what is *generated*, not of what is trained.

    A task that cannot be learned fails most of its groups, and keeping its share after filtering costs 1 / (1 - ρ)
    times as much. So a task that the plateau guard holds is left with the groups that survive, z′_k ∝ z_k (1 - ρ_k).

    Args:
        shares (`numpy.ndarray` of shape `(K,)`):
            Shares asked for so far, on the simplex.
        bounded (`numpy.ndarray` of shape `(K,)`, `bool`):
            The tasks whose filtered groups are not made up for.
        acceptance ([`AcceptanceEstimate`]):
            Believed acceptance 1 - ρ.

    Returns:
        `numpy.ndarray` of shape `(K,)`: shares on the simplex; `shares` as they are when no task is bounded, or all.
    """
    if not bounded.any() or bounded.all():
        return shares
    return _scaled(shares * np.where(bounded, acceptance.rates, 1.0), shares)


def _scaled(shares: NDArray[np.float64], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    total = float(shares.sum())
    return shares / total if total > 0 else otherwise
