"""Which groups carry a gradient: exactly those whose advantages, as TRL computes them, are not all zero."""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


BoolVector: TypeAlias = NDArray[np.bool_]
Aggregation: TypeAlias = Literal["sum_then_normalize", "normalize_then_sum"]
Scale: TypeAlias = Literal["group", "batch", "none"]

# The code of an outcome is its position.
OUTCOMES = ("informative", "solved", "failed", "constant", "unscored", "masked", "singleton")

# Rewards that differ by less are equal: above the rounding of float32 around 1, far below any reward step in use.
TOLERANCE = 1e-6
# What TRL adds to a standard deviation before dividing by it.
TRL_STD_EPSILON = 1e-4


def has_reward_variance(
    rewards: ArrayLike,
    reward_weights: ArrayLike | None = None,
    aggregation: Aggregation = "sum_then_normalize",
    scale_rewards: Scale = "group",
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
        scale_rewards (`str`, *optional*, defaults to `"group"`):
            TRL's `scale_rewards`: `"group"`, `"batch"` or `"none"`.

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
    return ~advantage_is_zero(rewards, reward_weights, aggregation, scale_rewards)


def has_mixed_correctness(outcomes: ArrayLike, threshold: float = 1.0) -> BoolVector:
    """
    The strict filter of the paper's 3-task experiment: keep a group when some, not all, of its rollouts are correct.

    Args:
        outcomes (`numpy.ndarray` of shape `(N, G)`):
            `bool` for correct or not, or the rewards to hold against `threshold`; NaN where nothing is known, which
            counts neither as correct nor as wrong.
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
    scale_rewards: Scale = "group",
) -> BoolVector:
    """
    Whether every advantage of a group is zero.

    - `"sum_then_normalize"`: the weighted sum of the scores is the same for all scored rollouts, or it is so far
      spread that its float32 standard deviation overflows and every advantage is divided to zero.
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
        scale_rewards (`str`, *optional*, defaults to `"group"`):
            TRL's `scale_rewards`: `"group"`, `"batch"` or `"none"`.

    Returns:
        `numpy.ndarray` of `bool`, shape `(N,)`.

    Raises:
        ValueError: If a shape does not fit or `aggregation` is unknown.
    """
    return np.asarray(~_has_advantage(rewards, reward_weights, aggregation, scale_rewards).any(axis=1))


def group_outcomes(
    rewards: ArrayLike,
    correct: ArrayLike | None = None,
    reward_weights: ArrayLike | None = None,
    aggregation: Aggregation = "sum_then_normalize",
    require_mixed: bool = False,
    scale_rewards: Scale = "group",
    in_loss: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """
    Why each group trains or not, as a position in `OUTCOMES`: 0 informative (a row of the loss has an advantage),
    1 solved (all correct), 2 failed (none correct), 3 constant (no advantage, and not known to be solved or failed),
    4 unscored (fewer than two scores), 5 masked (only rows without a token in the loss have an advantage). 6 singleton
    (a single member) is for groups of programs, whose calls are counted elsewhere.

    A rollout whose correctness is not known counts for neither side: a group is solved when those that are known are
    all correct, failed when they are all wrong, and neither when none is known.

    Args:
        rewards (`numpy.ndarray` of shape `(N, G)` or `(N, G, F)`):
            See [`has_reward_variance`].
        correct (`numpy.ndarray` of shape `(N, G)`, *optional*):
            Which rollouts are correct, where the task knows: `bool`, or numbers of which 0.5 and more is correct and
            NaN is not known.
        reward_weights (`numpy.ndarray` of shape `(F,)`, *optional*):
            Ones when not given.
        aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            TRL's `multi_objective_aggregation`.
        require_mixed (`bool`, *optional*, defaults to `False`):
            Whether a solved or failed group is filtered even if its advantages are not zero (the strict filter).
            Where the correctness of no rollout is known the advantages decide.
        scale_rewards (`str`, *optional*, defaults to `"group"`):
            TRL's `scale_rewards`: `"group"`, `"batch"` or `"none"`.
        in_loss (`numpy.ndarray` of `bool`, shape `(N, G)`, *optional*):
            Which rollouts have a token in the loss. All when not given.

    Returns:
        `numpy.ndarray` of `int`, shape `(N,)`. A group is kept where it is 0.

    Raises:
        ValueError: If a shape does not fit, or `require_mixed` is set without `correct`.

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
    scored: BoolVector = np.asarray(~np.isnan(scores).all(axis=2))  # (N, G)
    advantage = _has_advantage(rewards, reward_weights, aggregation, scale_rewards)  # (N, G)
    trains = advantage if in_loss is None else advantage & _of_shape("in_loss", in_loss, scored).astype(bool)
    solved: BoolVector = np.zeros(scored.shape[0], dtype=np.bool_)
    failed = solved
    if correct is not None:
        right, known = _correctness(_of_shape("correct", correct, scored), threshold=0.5)
        some_right = np.asarray((right & known & scored).any(axis=1))
        some_wrong = np.asarray((~right & known & scored).any(axis=1))
        solved, failed = some_right & ~some_wrong, some_wrong & ~some_right
    elif require_mixed:
        raise ValueError("`correct` must be given with `require_mixed`, got None. Pass which rollouts are correct.")
    excluded = ~advantage.any(axis=1)
    if require_mixed:
        excluded |= solved | failed
    unscored = scored.sum(axis=1) < 2
    reasons = np.select([unscored, solved, failed], [4, 1, 2], default=3)
    masked = ~trains.any(axis=1)
    return np.select([excluded, masked], [reasons, OUTCOMES.index("masked")], default=0).astype(np.int64)


def _has_advantage(
    rewards: ArrayLike, reward_weights: ArrayLike | None, aggregation: Aggregation, scale_rewards: Scale
) -> NDArray[np.bool_]:
    """Which rollouts have an advantage other than zero, shape `(N, G)`."""
    scores = _as_scores(rewards)  # (N, G, F)
    num_functions = scores.shape[2]
    weights = np.ones(num_functions) if reward_weights is None else np.asarray(reward_weights, dtype=np.float64)
    if weights.shape != (num_functions,):
        raise ValueError(
            f"`reward_weights` must be of shape ({num_functions},), got {weights.shape}. Pass one weight per reward "
            "function."
        )
    if aggregation not in ("sum_then_normalize", "normalize_then_sum"):
        raise ValueError(
            "`aggregation` must be 'sum_then_normalize' or 'normalize_then_sum', got "
            f"{aggregation!r}. Pass TRL's `multi_objective_aggregation`."
        )
    if scale_rewards not in ("group", "batch", "none"):
        raise ValueError(
            f"`scale_rewards` must be 'group', 'batch' or 'none', got {scale_rewards!r}. Pass TRL's `scale_rewards`."
        )
    scored = ~np.isnan(scores).all(axis=2)  # (N, G)
    # Infinite rewards make differences that are not numbers; TRL sets such advantages to zero.
    with np.errstate(invalid="ignore", over="ignore"):
        if aggregation == "normalize_then_sum":
            scores = _normalize_columns(scores)
        total = np.nansum(scores * weights, axis=2)  # (N, G)
        spread = np.where(scored, total, -np.inf).max(axis=1) - np.where(scored, total, np.inf).min(axis=1)
        varies = (scored.sum(axis=1) >= 2) & (spread > TOLERANCE)
        mean = np.where(scored, total, 0.0).sum(axis=1, keepdims=True) / np.maximum(scored.sum(axis=1), 1)[:, None]
        # Some row of a group that spreads over more than the tolerance is half of it away from the mean.
        differs = scored & (np.abs(total - mean) > TOLERANCE / 2)
        if aggregation == "sum_then_normalize" and scale_rewards != "none":
            # With "batch" the spread of one group is enough to make the batch's overflow.
            varies &= ~_overflows(np.where(scored, total - mean, 0.0)).any(axis=1)
    return np.asarray(differs & varies[:, None])


def _overflows(deviations: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the float32 standard deviation is not finite, so that everything divided by it is zero or not a number."""
    squares = deviations.astype(np.float32) ** 2
    return np.asarray(~np.isfinite(squares.sum(axis=1, keepdims=True)))


def _of_shape(name: str, values: ArrayLike, like: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != like.shape:
        raise ValueError(f"`{name}` must be of shape {like.shape}, got {array.shape}. Pass one value per rollout.")
    return array


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
    varies = (count >= 2) & (spread > TOLERANCE) & ~_overflows(centred)
    return np.where(varies, centred / (deviation + TRL_STD_EPSILON), 0.0)
