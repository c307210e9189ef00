"""Whether a task that holds a large share for long without getting better keeps that share."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .base import TaskVector, bounded_simplex


@dataclass(frozen=True, eq=False)
class GuardState:
    """
    What the guard remembers, shape `(K,)` each.

    Args:
        held (`numpy.ndarray` of `bool`): Tasks whose weight is bounded now.
        cap (`numpy.ndarray`): Largest weight of each task: below 1 while it is held, and growing after its release.
        age (`numpy.ndarray` of `int`): Steps since the task was first seen.
        streak (`numpy.ndarray` of `int`): Steps in a row with a large share and no gain.
        reward (`numpy.ndarray`): The task's last reward. NaN until it is first seen.
        smoothed (`numpy.ndarray`): Slow average of the reward. NaN until it is first seen.
        spread (`numpy.ndarray`): Slow average of half the squared difference of successive rewards.
        anchor (`numpy.ndarray`): The average that a gain is measured from. NaN until the reward is first seen.
        others (`numpy.ndarray`): Mean of the other tasks' averages when `anchor` was set, NaN until they are seen.
    """

    held: NDArray[np.bool_] = field(metadata={"new_task": False})
    cap: TaskVector = field(metadata={"new_task": 1.0})
    age: NDArray[np.int64] = field(metadata={"new_task": 0})
    streak: NDArray[np.int64] = field(metadata={"new_task": 0})
    reward: TaskVector = field(metadata={"new_task": np.nan})
    smoothed: TaskVector = field(metadata={"new_task": np.nan})
    spread: TaskVector = field(metadata={"new_task": 0.0})
    anchor: TaskVector = field(metadata={"new_task": np.nan})
    others: TaskVector = field(metadata={"new_task": np.nan})


@dataclass(frozen=True)
class PlateauGuard:
    """
    Keeps a task that cannot be learned from swallowing the run. Not part of the paper.

    A worst-task objective gives ever more weight to a task without latent skill. The guard watches the weights
    *before* it bounds them, and the slow average of each task's reward. Much is expected of a task with a large share,

    - `min_gain` for every `others_gain` that the other tasks gained on average, while it had at least `more_than_fair`
      times the uniform share,
    - `min_gain` for every `patience` steps in which it had at least `large_share`,

    and it is held when its gain is below that by more than noise explains: when the rise of its slow average and
    `errors` standard errors are less. A task that learns slowly is not held, nor is one that is only measured badly.
    The weight of a held task is at most `held_share`; the rest goes to the others in proportion. It is released when
    the noise leaves room for `release` times what is expected, or when its share would no longer be large, and its
    bound then grows by `growth` per step. A rise of `min_gain` and of `errors` standard errors is a gain beyond doubt,
    from which all counting starts anew.

    Args:
        large_share (`float`, *optional*, defaults to `0.5`):
            A weight of at least this counts as large. For two tasks use a larger value.
        patience (`int`, *optional*, defaults to `50`):
            Steps with a large share in which a task must gain `min_gain`, and before which none is held for it.
        more_than_fair (`float`, *optional*, defaults to `1.5`):
            Multiple of the uniform share 1/K from which on the others' gain counts against a task.
        others_gain (`float`, *optional*, defaults to `0.1`):
            Mean gain of the other tasks beside which a task must gain `min_gain`, and below which none is held for
            it, in units of the reward signal J.
        min_gain (`float`, *optional*, defaults to `0.02`):
            What a task must gain, in units of the reward signal J: a fifth of what the others gain.
        errors (`float`, *optional*, defaults to `7.0`):
            Standard errors of the slow average that noise may explain. They are computed as if the rewards of
            successive steps were independent; J is an average itself, and with its factor of 0.5 seven are three.
        release (`float`, *optional*, defaults to `1.5`):
            Multiple of the expected gain that must be possible again before a held task is released: more than 1, so
            that noise does not hold and release it in turn.
        held_share (`float`, *optional*):
            Share of a held task. Uniform, 1/K, when not given.
        growth (`float`, *optional*, defaults to `1.02`):
            Factor per step by which the bound of a released task grows until it is gone: twofold in 35 steps. By then
            a task that was released by chance has shown that it does not go on gaining.
        smoothing (`float`, *optional*, defaults to `0.9`):
            Factor of the slow average.

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
    more_than_fair: float = 1.5
    others_gain: float = 0.1
    min_gain: float = 0.02
    errors: float = 7.0
    release: float = 1.5
    held_share: float | None = None
    growth: float = 1.02
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.large_share < 1:
            raise ValueError(
                f"`large_share` must be in (0, 1), got {self.large_share}. Pass the share that counts as large."
            )
        if self.patience < 1:
            raise ValueError(f"`patience` must be at least 1, got {self.patience}. Pass a number of steps.")
        if not self.more_than_fair >= 1:
            raise ValueError(
                f"`more_than_fair` must be at least 1, got {self.more_than_fair}. Pass a multiple of 1/K."
            )
        for name in ("others_gain", "min_gain"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}. Pass a rise of the reward.")
        if not self.errors >= 0:
            raise ValueError(f"`errors` must be at least 0, got {self.errors}. Pass a number of standard errors.")
        if self.held_share is not None and not 0 < self.held_share <= 1:
            raise ValueError(
                f"`held_share` must be above 0 and at most 1, got {self.held_share}. Leave it out for a uniform share."
            )
        if not self.release >= 1:
            raise ValueError(
                f"`release` must be at least 1, got {self.release}. Pass a multiple of the expected gain."
            )
        if not self.growth > 1:
            raise ValueError(f"`growth` must be above 1, got {self.growth}. Pass a factor per step.")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"`smoothing` must be in [0, 1), got {self.smoothing}. Pass 0 for none.")

    def init(self, num_tasks: int) -> GuardState:
        """Nothing held, nothing seen."""
        unseen, none = np.full(num_tasks, np.nan), np.zeros(num_tasks)
        return GuardState(
            held=none.astype(bool),
            cap=np.ones(num_tasks),
            age=none.astype(np.int64),
            streak=none.astype(np.int64),
            reward=unseen,
            smoothed=unseen,
            spread=none,
            anchor=unseen,
            others=unseen,
        )

    def update(self, weights: TaskVector, rewards: TaskVector, state: GuardState) -> GuardState:
        """
        The state after one step.

        Args:
            weights (`numpy.ndarray` of shape `(K,)`):
                The strategy's weights, before [`PlateauGuard.bound`].
            rewards (`numpy.ndarray` of shape `(K,)`):
                J. NaN for a task never observed.
        """
        rewards = np.where(np.isnan(rewards), state.reward, rewards)
        first = np.isnan(state.smoothed)
        smoothed = np.where(first, rewards, self._mixed(state.smoothed, rewards))
        # Differences of successive rewards show the noise whatever the trend; no difference is no observation.
        spread = self._mixed(state.spread, (rewards - state.reward) ** 2 / 2)
        spread = np.where(first | (rewards == state.reward), state.spread, spread)
        others = _mean_of_others(smoothed)
        anchor = np.where(np.isnan(state.anchor), smoothed, state.anchor)
        # A held task may be forgotten meanwhile: it moves from where it is, not from where it was. The anchor follows
        # downward only, and slowly, so that no dip of the noise becomes the level to rise from.
        anchor = np.where(state.held, np.fmin(anchor, self._mixed(anchor, smoothed)), anchor)

        margin = self.errors * np.sqrt(spread * (1 - self.smoothing) / (1 + self.smoothing))
        rise = smoothed - anchor
        gained = rise >= np.maximum(self.min_gain, margin)
        more = weights >= self.more_than_fair / weights.size
        large = (weights >= self.large_share) & (weights.size > 1)
        above = more | large
        streak = np.where(above & ~gained, state.streak + 1, 0)
        # Units of `min_gain`; none before a whole one is due, since rewards that never differ have no noise.
        beside = np.where(more, np.nan_to_num(others - state.others) / self.others_gain, 0.0)
        due = np.maximum(beside, np.where(large, streak / self.patience, 0.0))
        expected = self.min_gain * np.where(due >= 1, due, 0.0) * np.where(state.held, self.release, 1.0)
        held = (streak > 0) & (rise + margin < expected)

        # Outside a streak both levels follow the averages, so that only gains during the streak count. They also do
        # while the averages are young: the first rewards and their noise are no level to rise from.
        age = np.where(np.isnan(smoothed), 0, state.age + 1)
        young = age * (1 - self.smoothing) < 1
        anew = gained | ~above | np.isnan(state.others) | young
        share = 1.0 / weights.size if self.held_share is None else self.held_share
        return GuardState(
            held=held,
            cap=np.where(held, share, np.minimum(state.cap * self.growth, 1.0)),
            age=age,
            streak=streak,
            reward=rewards,
            smoothed=smoothed,
            spread=spread,
            anchor=np.where(anew, smoothed, anchor),
            others=np.where(anew, others, state.others),
        )

    def bound(self, weights: TaskVector, state: GuardState) -> TaskVector:
        """`weights` within the caps, shape `(K,)`. Unchanged when no task is held or has just been released."""
        if np.all(weights <= state.cap) or float(state.cap.sum()) < 1.0:
            return weights
        return bounded_simplex(weights, cap=state.cap)

    def _mixed(self, old: TaskVector, new: TaskVector) -> TaskVector:
        return self.smoothing * old + (1 - self.smoothing) * new


def _mean_of_others(values: TaskVector) -> TaskVector:
    """For each task the mean over the other observed tasks, shape `(K,)`; NaN where there is none."""
    seen = ~np.isnan(values)
    number = seen.sum() - seen
    total = np.nansum(values) - np.where(seen, values, 0.0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
