"""Which groups carry a gradient: exactly those whose advantages, as TRL computes them, are not all zero."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


BoolVector: TypeAlias = NDArray[np.bool_]
Aggregation: TypeAlias = Literal["sum_then_normalize", "normalize_then_sum"]

# The code of an outcome is its position.
OUTCOMES = ("informative", "solved", "failed", "constant", "unscored")

# Rewards that differ by less are equal: above the rounding of float32 around 1, far below any reward step in use.
TOLERANCE = 1e-6
# What TRL adds to a standard deviation before dividing by it.
TRL_STD_EPSILON = 1e-4


def has_reward_variance(
    rewards: ArrayLike,
    reward_weights: ArrayLike | None = None,
    aggregation: Aggregation = "sum_then_normalize",
) -> BoolVector:
    """
    The lenient filter, DAPO's rule: keep a group when its advantages are not all zero.

    Args:
        rewards (`numpy.ndarray` of shape `(N, G)` or `(N, G, F)`):
            Rewards of N groups of G rollouts, one column per reward function; NaN where a function gave no score.
        reward_weights (`numpy.ndarray` of shape `(F,)`, *optional*):
            TRL's weights of the reward functions. Ones when not given.
        aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            TRL's `multi_objective_aggregation`.

    Returns:
        `numpy.ndarray` of `bool`, shape `(N,)`.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import has_reward_variance
    >>> has_reward_variance(np.array([[0.1, 0.1], [0.1, 1.0]])).tolist()
    [False, True]

    ```
    """
    return ~advantage_is_zero(rewards, reward_weights, aggregation)


def has_mixed_correctness(outcomes: ArrayLike, threshold: float = 1.0) -> BoolVector:
    """
    The strict filter of the paper's 3-task experiment: keep a group when some, not all, of its rollouts are correct.

    Args:
        outcomes (`numpy.ndarray` of shape `(N, G)`):
            `bool` for correct or not, or the rewards to hold against `threshold`; NaN where there is no score.
        threshold (`float`, *optional*, defaults to `1.0`):
            Reward from which a rollout is correct (the paper's reward of a right answer).

    Returns:
        `numpy.ndarray` of `bool`, shape `(N,)`.
    """
    correct, scored = _correctness(outcomes, threshold)
    return np.asarray((correct & scored).any(axis=1) & (~correct & scored).any(axis=1))


def advantage_is_zero(
    rewards: ArrayLike,
    reward_weights: ArrayLike | None = None,
    aggregation: Aggregation = "sum_then_normalize",
) -> BoolVector:
    """
    Whether every advantage of a group is zero, for any `scale_rewards` of TRL.

    - `"sum_then_normalize"`: the weighted sum of the scores is the same for all scored rollouts.
    - `"normalize_then_sum"`: the normalised columns add up to zero everywhere, as when every column with a weight is
      constant within the group.

    A rollout that no reward function scored takes no part; fewer than two scored rollouts make no advantage. Scores
    closer than 1e-6 are equal.

    Args:
        rewards (`numpy.ndarray` of shape `(N, G)` or `(N, G, F)`):
            See [`has_reward_variance`].
        reward_weights (`numpy.ndarray` of shape `(F,)`, *optional*):
            Ones when not given.
        aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            TRL's `multi_objective_aggregation`.

    Returns:
        `numpy.ndarray` of `bool`, shape `(N,)`.

    Raises:
        ValueError: If a shape does not fit or `aggregation` is unknown.
    """
    scores = _as_scores(rewards)  # (N, G, F)
    num_functions = scores.shape[2]
    weights = np.ones(num_functions) if reward_weights is None else np.asarray(reward_weights, dtype=np.float64)
    if weights.shape != (num_functions,):
        raise ValueError(
            f"`reward_weights` must be of shape ({num_functions},), got {weights.shape}. Pass one weight per reward "
            "function."
        )
    scored = ~np.isnan(scores).all(axis=2)  # (N, G)
    if aggregation == "normalize_then_sum":
        scores = _normalize_columns(scores)
    elif aggregation != "sum_then_normalize":
        raise ValueError(
            "`aggregation` must be 'sum_then_normalize' or 'normalize_then_sum', got "
            f"{aggregation!r}. Pass TRL's `multi_objective_aggregation`."
        )
    total = np.nansum(scores * weights, axis=2)  # (N, G)
    highest = np.where(scored, total, -np.inf).max(axis=1)
    lowest = np.where(scored, total, np.inf).min(axis=1)
    spread = np.where(scored.sum(axis=1) >= 2, highest - lowest, 0.0)
    return np.asarray(~(spread > TOLERANCE))


def group_outcomes(
    rewards: ArrayLike,
    correct: ArrayLike | None = None,
    reward_weights: ArrayLike | None = None,
    aggregation: Aggregation = "sum_then_normalize",
    require_mixed: bool = False,
) -> NDArray[np.int64]:
    """
    Why each group trains or not, as a position in `OUTCOMES`: 0 informative, 1 solved (all correct), 2 failed (none
    correct), 3 constant (no advantage, and not known to be solved or failed), 4 unscored (fewer than two scores).

    Args:
        rewards (`numpy.ndarray` of shape `(N, G)` or `(N, G, F)`):
            See [`has_reward_variance`].
        correct (`numpy.ndarray` of `bool`, shape `(N, G)`, *optional*):
            Which rollouts are correct, where the task knows.
        reward_weights (`numpy.ndarray` of shape `(F,)`, *optional*):
            Ones when not given.
        aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            TRL's `multi_objective_aggregation`.
        require_mixed (`bool`, *optional*, defaults to `False`):
            Whether a solved or failed group is filtered even if its advantages are not zero (the strict filter).

    Returns:
        `numpy.ndarray` of `int`, shape `(N,)`. A group is kept where it is 0.

    Raises:
        ValueError: If `require_mixed` is set without `correct`.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import OUTCOMES, group_outcomes
    >>> rewards = np.array([[0.1, 1.0], [1.0, 1.0], [0.1, 0.1]])
    >>> [OUTCOMES[code] for code in group_outcomes(rewards, correct=rewards >= 1.0)]
    ['informative', 'solved', 'failed']

    ```
    """
    scores = _as_scores(rewards)
    scored = ~np.isnan(scores).all(axis=2)  # (N, G)
    filtered = advantage_is_zero(rewards, reward_weights, aggregation)
    solved = failed = np.zeros(scored.shape[0], dtype=bool)
    if correct is not None:
        right = np.asarray(correct, dtype=bool)
        if right.shape != scored.shape:
            raise ValueError(
                f"`correct` must be of shape {scored.shape}, got {right.shape}. Pass one value per rollout."
            )
        solved = np.asarray((right | ~scored).all(axis=1))
        failed = np.asarray(~(right & scored).any(axis=1))
    elif require_mixed:
        raise ValueError("`correct` must be given with `require_mixed`, got None. Pass which rollouts are correct.")
    if require_mixed:
        filtered = filtered | solved | failed
    unscored = scored.sum(axis=1) < 2
    reasons = np.select([unscored, solved, failed], [4, 1, 2], default=3)
    return np.where(filtered, reasons, 0).astype(np.int64)


def _as_scores(rewards: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(rewards, dtype=np.float64)
    if scores.ndim == 2:
        scores = scores[:, :, None]
    if scores.ndim != 3:
        raise ValueError(
            f"`rewards` must be of shape (N, G) or (N, G, F), got {scores.shape}. Reshape to groups of G rollouts."
        )
    return scores


def _correctness(outcomes: ArrayLike, threshold: float) -> tuple[BoolVector, BoolVector]:
    values = np.asarray(outcomes)
    if values.ndim != 2:
        raise ValueError(f"`outcomes` must be of shape (N, G), got {values.shape}. Reshape to groups of G rollouts.")
    if values.dtype == np.bool_:
        return values, np.ones_like(values)
    return values >= threshold - TOLERANCE, ~np.isnan(values)


def _normalize_columns(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column of each group centred and divided by its standard deviation; a constant column becomes 0."""
    known = ~np.isnan(scores)
    count = known.sum(axis=1, keepdims=True)  # (N, 1, F)
    mean = np.where(known, scores, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    centred = np.where(known, scores - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1))
    spread = np.where(known, scores, -np.inf).max(axis=1, keepdims=True) - np.where(known, scores, np.inf).min(
        axis=1, keepdims=True
    )
    varies = (count >= 2) & (spread > TOLERANCE)
    return np.where(varies, centred / (deviation + TRL_STD_EPSILON), 0.0)
