"""Whether a task that holds a large share for long without getting better keeps that share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import TaskVector, bounded_simplex, check_fields


@dataclass(frozen=True, eq=False)
class GuardState:
    """
    What the guard remembers, shape `(K,)` each.

    Args:
        held (`numpy.ndarray` of `bool`): Tasks whose weight is bounded now.
        streak (`numpy.ndarray` of `int`): Steps in a row with a large share and no gain.
        smoothed (`numpy.ndarray`): Slow average of the task's reward. NaN until it is first seen.
        anchor (`numpy.ndarray`): The average that a gain is measured from. NaN until the reward is first seen.
    """

    held: NDArray[np.bool_]
    streak: NDArray[np.int64]
    smoothed: TaskVector
    anchor: TaskVector

    def to_json(self) -> dict[str, Any]:
        """The state as lists; an unseen reward becomes `None`."""
        return {
            "held": self.held.tolist(),
            "streak": self.streak.tolist(),
            "smoothed": [None if np.isnan(value) else value for value in self.smoothed.tolist()],
            "anchor": [None if np.isnan(value) else value for value in self.anchor.tolist()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "GuardState":
        """The state written by [`GuardState.to_json`]. Raises `ValueError` on other fields."""
        check_fields("GuardState", data, [field.name for field in fields(cls)])
        return cls(
            held=np.array(data["held"], dtype=bool),
            streak=np.array(data["streak"], dtype=np.int64),
            smoothed=np.array(data["smoothed"], dtype=np.float64),
            anchor=np.array(data["anchor"], dtype=np.float64),
        )


@dataclass(frozen=True)
class PlateauGuard:
    """
    Keeps a task that cannot be learned from swallowing the run. Not part of the paper.

    A worst-task objective gives ever more weight to a task without latent skill. The guard watches the weights
    *before* it bounds them: a task that has held at least `large_share` for `patience` steps, while the slow average
    of its reward rose by less than `min_gain`, is held. Its share is bounded to `held_share` and the rest goes to the
    other tasks in proportion. It is released as soon as its average rises by `min_gain` above its lowest value since.

    Args:
        large_share (`float`, *optional*, defaults to `0.5`):
            A weight of at least this counts as large. For two tasks use a larger value.
        patience (`int`, *optional*, defaults to `50`):
            Steps with a large share and without a gain before the task is held.
        min_gain (`float`, *optional*, defaults to `0.02`):
            Rise of the slow average that counts as learning, in units of the reward signal J.
        held_share (`float`, *optional*):
            Share of a held task. Uniform, 1/K, when not given.
        smoothing (`float`, *optional*, defaults to `0.9`):
            Factor of the slow average; it keeps sampling noise from looking like learning.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.weighting import PlateauGuard
    >>> guard = PlateauGuard(patience=3)
    >>> state = guard.init(num_tasks=3)
    >>> weights = np.array([0.8, 0.1, 0.1])
    >>> for _ in range(4):
    ...     state = guard.update(weights, np.array([0.05, 0.6, 0.7]), state)
    >>> state.held.tolist(), guard.bound(weights, state).round(3).tolist()
    ([True, False, False], [0.333, 0.333, 0.333])

    ```
    """

    large_share: float = 0.5
    patience: int = 50
    min_gain: float = 0.02
    held_share: float | None = None
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.large_share < 1:
            raise ValueError(
                f"`large_share` must be in (0, 1), got {self.large_share}. Pass the share that counts as large."
            )
        if self.patience < 1:
            raise ValueError(f"`patience` must be at least 1, got {self.patience}. Pass a number of steps.")
        if not self.min_gain > 0:
            raise ValueError(f"`min_gain` must be positive, got {self.min_gain}. Pass a rise of the reward.")
        if self.held_share is not None and not 0 <= self.held_share <= 1:
            raise ValueError(
                f"`held_share` must be between 0 and 1, got {self.held_share}. Leave it out for a uniform share."
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"`smoothing` must be in [0, 1), got {self.smoothing}. Pass 0 for none.")

    def init(self, num_tasks: int) -> GuardState:
        """Nothing held, nothing seen."""
        unseen = np.full(num_tasks, np.nan)
        return GuardState(np.zeros(num_tasks, dtype=bool), np.zeros(num_tasks, dtype=np.int64), unseen, unseen)

    def update(self, weights: TaskVector, rewards: TaskVector, state: GuardState) -> GuardState:
        """
        The state after one step.

        Args:
            weights (`numpy.ndarray` of shape `(K,)`):
                The strategy's weights, before [`PlateauGuard.bound`].
            rewards (`numpy.ndarray` of shape `(K,)`):
                J. NaN for a task never observed.
        """
        mixed = self.smoothing * state.smoothed + (1 - self.smoothing) * rewards
        smoothed = np.where(np.isnan(state.smoothed), rewards, mixed)
        smoothed = np.where(np.isnan(smoothed), state.smoothed, smoothed)
        anchor = np.where(np.isnan(state.anchor), smoothed, state.anchor)
        # A held task may be forgotten meanwhile; it starts to move from where it is, not from where it was.
        anchor = np.where(state.held, np.fmin(anchor, smoothed), anchor)
        gained = smoothed >= anchor + self.min_gain
        large = (weights >= self.large_share) & (weights.size > 1)
        streak = np.where(large & ~gained, state.streak + 1, 0)
        held = (state.held | (streak >= self.patience)) & ~gained
        # Outside a streak the anchor follows the average, so that only a gain during the streak counts.
        anchor = np.where(gained | ~(large | held), smoothed, anchor)
        return GuardState(held, streak, smoothed, anchor)

    def bound(self, weights: TaskVector, state: GuardState) -> TaskVector:
        """`weights` with the held tasks at `held_share` at most, shape `(K,)`. Unchanged when nothing is held."""
        if not state.held.any() or state.held.all():
            return weights
        share = 1.0 / weights.size if self.held_share is None else self.held_share
        return bounded_simplex(weights, cap=np.where(state.held, share, 1.0))
