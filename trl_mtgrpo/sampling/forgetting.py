"""Which tasks have lost what they could do."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ForgettingState:
    """
    What is known of each task's accuracy, now and at its best.

    Args:
        recent (`numpy.ndarray`, shape `(K, 2)`):
            Decayed groups and their summed accuracy, over about the last 40 groups.
        longer (`numpy.ndarray`, shape `(K, 3)`):
            The same over about the last 160 groups, and the summed variance between groups.
        best (`numpy.ndarray`, shape `(K,)`):
            Highest mean of the longer one, which fades towards the present one; 0 before there is any.
        regressed (`numpy.ndarray` of `bool`, shape `(K,)`):
            Tasks that have fallen and not come back.
    """

    recent: Floats = field(metadata={"new_task": 0.0})
    longer: Floats = field(metadata={"new_task": 0.0})
    best: Floats = field(metadata={"new_task": 0.0})
    regressed: NDArray[np.bool_] = field(metadata={"new_task": False})


@dataclass(frozen=True)
class ForgettingAlarm:
    """
    Finds tasks whose accuracy was high and has fallen by more than chance.

    The mean of the last groups is compared with the best mean that the task has had, and the difference with its
    noise, which comes from the variance between groups. The alarm ends when the task is back; what it can do without
    that becomes the usual after some hundred to a thousand groups.

    Args:
        high (`float`, *optional*, defaults to `0.7`):
            Accuracy from which a task has something to forget.
        least_fall (`float`, *optional*, defaults to `0.1`):
            Fall below which nothing is said, however small the noise.
        errors (`float`, *optional*, defaults to `4.5`):
            Standard errors that count as a fall: in a steady task the best and the worst of thousands of means lie
            less far apart. The alarm ends at two thirds of it.
        window (`float`, *optional*, defaults to `40.0`):
            Memory of the recent mean in groups; the longer one has four times as much.

    Raises:
        ValueError: If an argument is not positive.
    """

    high: float = 0.7
    least_fall: float = 0.1
    errors: float = 4.5
    window: float = 40.0

    def __post_init__(self) -> None:
        for name in ("high", "least_fall", "errors", "window"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}. Pass a number above 0.")

    def init(self, num_tasks: int) -> ForgettingState:
        """Nothing seen."""
        return ForgettingState(
            np.zeros((num_tasks, 2)),
            np.zeros((num_tasks, 3)),
            np.zeros(num_tasks),
            np.zeros(num_tasks, dtype=np.bool_),
        )

    def update(
        self, accuracy: Floats, groups: NDArray[np.int64], variance: Floats, state: ForgettingState
    ) -> ForgettingState:
        """
        The state after a step.

        Args:
            accuracy (`numpy.ndarray`, shape `(K,)`):
                Mean success of the step's rollouts, NaN where it is not known.
            groups (`numpy.ndarray` of `int`, shape `(K,)`):
                Groups that it is the mean of.
            variance (`numpy.ndarray`, shape `(K,)`):
                Variance between the mean successes of those groups, NaN where it is not known.
            state ([`ForgettingState`]):
                The state before it.
        """
        known = ~np.isnan(accuracy) & (groups > 0)
        size = np.where(known, groups, 0).astype(np.float64)
        mean = np.where(known, accuracy, 0.0)
        before = (state.longer[:, 1] + 0.5) / (state.longer[:, 0] + 1.0)
        # All right or all wrong is the most that groups can differ.
        spread = np.where(np.isnan(variance), before * (1.0 - before), variance)
        new = np.stack([size, size * mean, size * spread], axis=1)
        recent = np.exp(-size / self.window)[:, None] * state.recent + new[:, :2]
        longer = np.exp(-size / (4.0 * self.window))[:, None] * state.longer + new
        now, usual = (sums[:, 1] / np.maximum(sums[:, 0], 1e-9) for sums in (recent, longer))
        # The highest of many means is partly luck, which fades over 16 windows; a slower decline is not noticed.
        luck = np.exp(-size / (np.where(state.regressed, 64.0, 16.0) * self.window))
        best = np.maximum(usual + luck * (state.best - usual), usual)
        best = np.where(longer[:, 0] >= 2.0 * self.window, best, state.best)
        # Two more groups, one right and one wrong: a rate near 1 is not as sure as its own variance says.
        likely = (longer[:, 2] + 0.5) / (longer[:, 0] + 2.0)
        error = np.sqrt(likely / (recent[:, 0] + 2.0))
        margin = np.maximum(self.least_fall, self.errors * error)
        believed = known & (recent[:, 0] >= self.window / 2) & (best >= self.high)
        fell = believed & (best - now > margin)
        back = believed & (3.0 * (best - now) <= 2.0 * margin)
        return ForgettingState(recent, longer, best, (state.regressed | fell) & ~back)
