"""What is believed about each task's share of informative groups, and how sure that belief is."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray


# How firmly a bare rate is believed, in groups.
KNOWN_RATE = 1e6


@dataclass(frozen=True, eq=False)
class AcceptanceEstimate:
    """
    Acceptance 1 - ρ per task as a Beta distribution: decayed counts plus one pseudo-accept and one pseudo-reject.

    The counts reach back over about `window` generated groups of the task. When new counts contradict the old ones
    (more than `surprise` standard deviations apart), the old ones are forgotten as far as it takes to agree, so that a
    collapse shows within one or two rounds. The paper keeps a moving average of ρ with factor 0.9 per round, started
    at 0, which knows nothing of how many groups stand behind it.

    Args:
        accepted (`numpy.ndarray` of shape `(K,)`):
            Decayed number of accepted groups.
        filtered (`numpy.ndarray` of shape `(K,)`):
            Decayed number of filtered groups.
        window (`float`, *optional*, defaults to `240.0`):
            Memory in generated groups of the task. Noise falls and lag grows with it; at the drift of the paper's
            series the two balance at about a thousand groups, in runs of a few groups per step at about this value.
        surprise (`float`, *optional*, defaults to `3.0`):
            Standard deviations that count as a contradiction.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import AcceptanceEstimate
    >>> estimate = AcceptanceEstimate.init(num_tasks=2)
    >>> estimate = estimate.update(generated=np.array([10, 0]), accepted=np.array([2, 0]))
    >>> estimate.rates.tolist()
    [0.25, 0.5]

    ```
    """

    accepted: NDArray[np.float64] = field(metadata={"new_task": 0.0})
    filtered: NDArray[np.float64] = field(metadata={"new_task": 0.0})
    window: float = 240.0
    surprise: float = 3.0

    @classmethod
    def init(cls, num_tasks: int, window: float = 240.0, surprise: float = 3.0) -> "AcceptanceEstimate":
        """Nothing observed: every rate between 0 and 1 is as likely."""
        if not window > 0:
            raise ValueError(f"`window` must be positive, got {window}. Pass a number of groups.")
        if not surprise > 0:
            raise ValueError(f"`surprise` must be positive, got {surprise}. Pass a number of standard deviations.")
        return cls(np.zeros(num_tasks), np.zeros(num_tasks), window, surprise)

    @property
    def alpha(self) -> NDArray[np.float64]:
        """First parameter of the Beta distribution, shape `(K,)`."""
        return self.accepted + 1.0

    @property
    def beta(self) -> NDArray[np.float64]:
        """Second parameter of the Beta distribution, shape `(K,)`."""
        return self.filtered + 1.0

    @property
    def rates(self) -> NDArray[np.float64]:
        """Mean acceptance, shape `(K,)`, strictly between 0 and 1."""
        return self.alpha / (self.alpha + self.beta)

    def update(
        self, generated: NDArray[np.int64], accepted: NDArray[np.int64] | NDArray[np.float64]
    ) -> "AcceptanceEstimate":
        """
        The estimate after a round.

        Args:
            generated (`numpy.ndarray` of shape `(K,)`):
                Groups generated in the round.
            accepted (`numpy.ndarray` of shape `(K,)`):
                How many of them were accepted.
        """
        new = np.asarray(generated, dtype=np.float64)
        hits = np.asarray(accepted, dtype=np.float64)
        keep = self.fade(new, hits)
        return AcceptanceEstimate(
            accepted=keep * self.accepted + hits,
            filtered=keep * self.filtered + (new - hits),
            window=self.window,
            surprise=self.surprise,
        )

    def fade(self, new: NDArray[np.float64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor in (0, 1] on the old counts when `new` groups with `hits` accepted ones come, shape `(K,)`."""
        return np.exp(-new / self.window) * self._agreement(new, hits)

    def _agreement(self, new: NDArray[np.float64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor in (0, 1] on the old counts that brings the gap to `surprise` standard deviations, shape `(K,)`."""
        total = self.alpha + self.beta
        size = np.maximum(new, 1.0)
        gap = (hits / size - self.rates) ** 2
        # Under one common rate the gap has variance r (1 - r) (1/new + 1/old); r is pooled so that it is never 0.
        pooled = (self.alpha + hits) / (total + new)
        spread = pooled * (1.0 - pooled)
        largest = 1.0 / np.maximum(gap / (self.surprise**2 * spread) - 1.0 / size, 1e-12)
        return np.where(new > 0, np.minimum(1.0, largest / total), 1.0)


def beta_parameters(
    acceptance: AcceptanceEstimate | ArrayLike, num_tasks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both parameters of each task's Beta distribution: the estimate's, or those of rates taken for certain."""
    if isinstance(acceptance, AcceptanceEstimate):
        alpha, beta = acceptance.alpha, acceptance.beta
    else:
        rates = np.asarray(acceptance, dtype=np.float64)
        if not ((rates >= 0) & (rates <= 1)).all():
            raise ValueError(f"`acceptance` must be between 0 and 1, got {rates.tolist()}. Pass 1 - filtered ratio.")
        rates = np.clip(rates, 1.0 / KNOWN_RATE, 1.0 - 1.0 / KNOWN_RATE)
        alpha, beta = KNOWN_RATE * rates, KNOWN_RATE * (1.0 - rates)
    if alpha.shape != (num_tasks,):
        raise ValueError(f"`acceptance` must be of shape ({num_tasks},), got {alpha.shape}. Pass one rate per task.")
    return alpha, beta
