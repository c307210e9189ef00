"""From task weights to the shares of the batch that are drawn from."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .acceptance import AcceptanceEstimate
from .filtering import OUTCOMES
from .stalls import StallDoctor, StallState


def batch_shares(
    weights: NDArray[np.float64],
    *,
    unsolved: AcceptanceEstimate,
    acceptance: AcceptanceEstimate,
    held: NDArray[np.bool_] | None = None,
    regressed: NDArray[np.bool_] | None = None,
    stalls: StallState | None = None,
    doctor: StallDoctor | None = None,
    discount: float = 1.0,
) -> NDArray[np.float64]:
    """
    From the task weights and what is known of each task to the shares of the batch: the one place where a share is
    decided, for training, simulation and forecasts.

    In this order: solved groups shrink a task's share ([`unsolved_shares`]), a held task's filtered groups are not
    made up for ([`shares_without_refill`]), a stalled task has no share ([`StallDoctor.adjust`]).

    Args:
        weights (`numpy.ndarray` of shape `(K,)`):
            Task weights z, on the simplex.
        unsolved ([`AcceptanceEstimate`]):
            Decayed counts of groups that are unsolved (`accepted`) and solved (`filtered`).
        acceptance ([`AcceptanceEstimate`]):
            Believed acceptance 1 - ρ.
        held (`numpy.ndarray` of `bool`, shape `(K,)`, *optional*):
            Tasks that the plateau guard holds. None when not given.
        regressed (`numpy.ndarray` of `bool`, shape `(K,)`, *optional*):
            Tasks that have forgotten, see [`ForgettingAlarm`]: their solved groups do not count against them. None
            when not given.
        stalls ([`StallState`], *optional*):
            What is known of the tasks since their last accepted groups; needed with `doctor`.
        doctor ([`StallDoctor`], *optional*):
            Takes the share of stalled tasks. Left out where nothing is filtered.
        discount (`float`, *optional*, defaults to `1.0`):
            γ of [`unsolved_shares`]. 0 leaves the share of solved tasks as it is.

    Returns:
        `numpy.ndarray` of shape `(K,)`: shares on the simplex; `weights` as they are where nothing speaks against it.

    Raises:
        ValueError: If `doctor` is given without `stalls`.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import AcceptanceEstimate, batch_shares
    >>> none = AcceptanceEstimate.init(num_tasks=2)
    >>> unsolved = none.update(np.array([8, 8]), np.array([8, 2]))
    >>> batch_shares(np.array([0.5, 0.5]), unsolved=unsolved, acceptance=none).round(2).tolist()
    [0.75, 0.25]

    ```
    """
    if doctor is not None and stalls is None:
        raise ValueError("`stalls` must be given with `doctor`, got None. Pass the state that the doctor updates.")
    held = np.zeros(weights.size, dtype=np.bool_) if held is None else held
    # A held task loses all that is filtered, in the next line, so that this one leaves its solved groups alone.
    exempt = held if regressed is None else held | regressed
    shares = unsolved_shares(weights, replace(unsolved, filtered=np.where(exempt, 0.0, unsolved.filtered)), discount)
    shares = shares_without_refill(shares, held, acceptance)
    return shares if doctor is None or stalls is None else doctor.adjust(shares, stalls)


def count_unsolved(
    unsolved: AcceptanceEstimate, outcomes: NDArray[np.int64], solved_share: NDArray[np.float64] | None = None
) -> AcceptanceEstimate:
    """
    What is known of how much of each task is solved, after a step.

    Only groups that say something about it count: solved ones, and ones in which a rollout is wrong or better than
    another. A group whose rewards are all alike, that has no score or is masked, is neither solved nor unsolved.

    Args:
        unsolved ([`AcceptanceEstimate`]):
            Decayed counts of groups that are unsolved (`accepted`) and solved (`filtered`).
        outcomes (`numpy.ndarray` of `int`, shape `(K, len(OUTCOMES))`):
            Groups generated in the step by outcome, in the order of `OUTCOMES`.
        solved_share (`numpy.ndarray`, shape `(K,)`, *optional*):
            Share of solved groups that uniform draws would have shown, where some prompts were passed over; NaN, and
            by default, what was generated says it.

    Returns:
        [`AcceptanceEstimate`]
    """
    informative, solved, failed = (outcomes[:, OUTCOMES.index(o)] for o in ("informative", "solved", "failed"))
    told, open_groups = informative + failed + solved, informative + failed
    if solved_share is None or np.isnan(solved_share).all():
        return unsolved.update(told, open_groups)
    return unsolved.update(told, np.where(np.isnan(solved_share), open_groups, (1.0 - solved_share) * told))


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
