"""Groups that are begun with a few rollouts: the chance to complete them, and what that saves after its correction."""

from dataclasses import dataclass, field
from math import comb

import numpy as np
from numpy.typing import NDArray


Floats = NDArray[np.float64]

# Chance that a group is completed although its pilot is all alike. It bounds the weights, and says of how many such
# groups the rest would have been alike too. On the paper's series 0.05 to 0.2 cost the same within three points.
COMPLETION = 0.1
# Memory in generated groups of a task.
WINDOW = 480.0
# Groups, and informative ones among them, from which on an estimate is believed.
ENOUGH, ENOUGH_INFORMATIVE = 60.0, 20.0
# A task begins to use pilots where they are expected to save this share, and ends where they save nothing.
WORTHWHILE = 0.05


def completion_chance(classes: NDArray[np.int64], size: int, chance: float = COMPLETION) -> Floats:
    r"""
    Probability that a group is completed, given all of its rollouts.

    A pilot is all alike when its \(m\) rollouts are of one class, such as "correct". Which \(m\) of the \(G\) rollouts
    come first is chance, so \(\pi = 1 - (1 - c) \sum_v \binom{n_v}{m} / \binom{G}{m}\) with \(n_v\) the rollouts of
    class \(v\) in the whole group. It is positive for every group where \(c\) is.

    Args:
        classes (`numpy.ndarray` of `int`, shape `(N, G)`):
            Class of each rollout.
        size (`int`):
            Rollouts of a pilot (m), at most G.
        chance (`float`, *optional*, defaults to `0.1`):
            Chance to complete a group whose pilot is all alike (c).

    Returns:
        `numpy.ndarray` of shape `(N,)`, in (0, 1].

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling.pilots import completion_chance
    >>> completion_chance(np.array([[0, 1, 1, 1], [0, 0, 1, 1]]), size=2, chance=0.0).round(3).tolist()
    [0.5, 0.667]

    ```
    """
    num_rollouts = classes.shape[1]
    alike = chance_of_only(num_rollouts, size)
    ordered = np.sort(classes, axis=1)
    starts = np.ones(classes.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    # Each class is counted where its run begins: to the next beginning, or the end.
    place = np.where(starts, np.arange(num_rollouts), num_rollouts)
    after = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    following = np.concatenate([after[:, 1:], np.full((len(classes), 1), num_rollouts)], axis=1)
    runs = np.where(starts, following - np.arange(num_rollouts), 0)
    stopped: Floats = np.where(starts, alike[runs], 0.0).sum(axis=1)
    return 1.0 - (1.0 - chance) * stopped


def chance_of_only(num_rollouts: int, size: int) -> Floats:
    """Probability that a pilot holds nothing but members of a class of n, for n = 0 .. G, shape `(G + 1,)`."""
    return np.array([comb(n, size) / comb(num_rollouts, size) for n in range(num_rollouts + 1)])


@dataclass(frozen=True, eq=False)
class PilotEstimate:
    r"""
    What pilots of one size cost and save per task, from whole groups or from pilots.

    A whole group tells what a pilot of it would have done, in the mean over which rollouts come first; a completed one
    stands for \(1 / \pi\) groups. So the estimate is of the same quantity whether a task uses pilots or not.

    Args:
        size (`int`):
            Rollouts of a pilot that it is about; 0 for none.
        sums (`numpy.ndarray`, shape `(K, 7)`):
            Decayed sums over groups: how many; their cost in groups; informative ones, if all were whole; those that
            pilots let through; Σ 1 / π over informative ones; pilots of correct rollouts only, and those whose group
            would have been solved.
        active (`numpy.ndarray` of `bool`, shape `(K,)`):
            Tasks whose next groups begin with a pilot.
    """

    size: int
    sums: Floats = field(metadata={"new_task": 0.0})
    active: NDArray[np.bool_] = field(metadata={"new_task": False})

    @classmethod
    def start(cls, num_tasks: int, size: int = 0) -> "PilotEstimate":
        """Nothing seen."""
        return cls(size, np.zeros((num_tasks, 7)), np.zeros(num_tasks, dtype=np.bool_))

    @property
    def mean_weight(self) -> Floats:
        r"""
        Mean \(1 / \pi\) of the groups that pilots let through, shape `(K,)`, at least 1: the acceptance of whole
        groups over that of pilots. 1 where nothing is known.
        """
        _, _, informative, kept, *_ = self.sums.T
        return np.maximum(np.divide(informative, kept, out=np.ones_like(kept), where=kept > 0), 1.0)

    @property
    def saving(self) -> Floats:
        r"""
        Share of rollouts that pilots save for equally certain gradients, shape `(K,)`, negative where they cost more;
        NaN while too little is known. Weights of mean \(E[w]\) make \(n\) groups worth \(n E[w]^2 / E[w^2]\) equal
        ones, so a group of rollouts buys \(1 / (\kappa\,E[1/\pi])\) of what it does whole, with \(\kappa\) the mean
        cost of a group and the second mean over informative ones.
        """
        drawn, cost, informative, _, inverse, *_ = self.sums.T
        known = (drawn >= ENOUGH) & (informative >= ENOUGH_INFORMATIVE)
        relative = cost * inverse / np.maximum(drawn * informative, 1e-9)
        return np.where(known, 1.0 - relative, np.nan)

    @property
    def solved_after_pilot(self) -> Floats:
        """Believed chance that a group is solved whose pilot is correct throughout, shape `(K,)`."""
        *_, right, solved = self.sums.T
        return (solved + 0.5) / (right + 1.0)

    def add(self, new: Floats, always: bool) -> "PilotEstimate":
        """
        The estimate after a step.

        Args:
            new (`numpy.ndarray`, shape `(K, 7)`):
                The step's sums.
            always (`bool`):
                Whether every task uses pilots, worthwhile or not.
        """
        sums = self.sums * np.exp(-new[:, :1] / WINDOW) + new
        after = PilotEstimate(self.size, sums, self.active)
        saving = after.saving
        least = np.where(self.active, 0.0, WORTHWHILE)
        active = np.ones_like(self.active) if always else np.where(np.isnan(saving), self.active, saving > least)
        return PilotEstimate(self.size, after.sums, active)
