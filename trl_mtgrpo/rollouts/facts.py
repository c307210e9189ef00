"""What is known of groups: small columns, equal on every rank. Decisions are made from them and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray


IntVector = NDArray[np.int64]

# The place of a member that a group of fewer than G members does not have.
NOWHERE = -1


@dataclass(frozen=True, eq=False)
class GroupFacts:
    """
    N groups, one per entry. A group has at most G members: completions of one task, in one role, of one bundle. It is
    what is filtered, selected, trained and carried as a whole.

    Args:
        task (`numpy.ndarray` of `int`, shape `(N,)`):
            Position of the task in the mixture.
        prompt (`numpy.ndarray` of `int`, shape `(N,)`):
            Row of the task's train set; -1 where it is not known.
        role (`numpy.ndarray` of `int`, shape `(N,)`):
            Which of the task's calls the members are; 0 for a task of one call.
        occurrence (`numpy.ndarray` of `int`, shape `(N,)`):
            How often the role had come before in the same episode.
        bundle (`numpy.ndarray` of `int`, shape `(N,)`):
            The draw it came from: groups of one bundle share their prompt and their episodes.
        members (`numpy.ndarray` of `int`, shape `(N,)`):
            Completions in the group, at most G.
        generation (`numpy.ndarray` of `int`, shape `(N,)`):
            Index of the generation batch that made it.
        tokens (`numpy.ndarray`, shape `(N,)`):
            Tokens that the model wrote for it.
        outcome (`numpy.ndarray` of `int`, shape `(N,)`):
            Why it trains or not, a position in `OUTCOMES`.
        accepted (`numpy.ndarray` of `bool`, shape `(N,)`):
            Whether it may train.
        reward (`numpy.ndarray`, shape `(N, G)`):
            Reward of each member, NaN where there is none. With `group_baseline="rollouts"` those that are no members
            have the reward of their rollout.
        success (`numpy.ndarray`, shape `(N, G)`):
            Success of each member in 0..1, NaN where it is not known. Of a program it is that of all G rollouts,
            members or not; of a group that began with a pilot, that of the pilot alone.
        parts (`numpy.ndarray` of `float32`, shape `(N, G, F)`):
            Values of the task's own reward functions, see [`Scores`].
        place (`numpy.ndarray` of `int`, shape `(N, G, 2)`):
            Rank and slot of the store in which each member's row lies, `NOWHERE` for a member that does not exist.
        weight (`numpy.ndarray`, shape `(N,)`, *optional*, defaults to ones):
            How many groups it stands for: one over the probability with which a group of these rewards is completed.
        pilot (`numpy.ndarray` of `int`, shape `(N,)`, *optional*, defaults to zeros):
            Rollouts by which it was decided whether to complete it; 0 for a group that was begun whole.
    """

    task: IntVector
    prompt: IntVector
    role: IntVector
    occurrence: IntVector
    bundle: IntVector
    members: IntVector
    generation: IntVector
    tokens: NDArray[np.int64]  # of floats in a simulation
    outcome: IntVector
    accepted: NDArray[np.bool_]
    reward: NDArray[np.float64]
    success: NDArray[np.float64]
    parts: NDArray[np.float32]
    place: IntVector
    weight: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    pilot: IntVector = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.weight) != len(self.task):
            object.__setattr__(self, "weight", np.ones(len(self.task)))
        if len(self.pilot) != len(self.task):
            object.__setattr__(self, "pilot", np.zeros(len(self.task), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.task)

    @classmethod
    def empty(cls, num_generations: int = 0, num_parts: int = 0) -> "GroupFacts":
        """No groups of up to `num_generations` members with `num_parts` values each."""
        none = np.zeros(0, dtype=np.int64)
        matrix = np.zeros((0, num_generations))
        return cls(
            task=none,
            prompt=none,
            role=none,
            occurrence=none,
            bundle=none,
            members=none,
            generation=none,
            tokens=none,
            outcome=none,
            accepted=none.astype(bool),
            reward=matrix,
            success=matrix,
            parts=np.zeros((0, num_generations, num_parts), dtype=np.float32),
            place=np.zeros((0, num_generations, 2), dtype=np.int64),
        )

    @classmethod
    def join(cls, facts: "Sequence[GroupFacts]") -> "GroupFacts":
        """The groups of several, one after another; at least one is needed."""
        some = [part for part in facts if len(part)] or facts[:1]
        if len(some) == 1:
            return some[0]
        return cls(*(np.concatenate([getattr(part, name) for part in some]) for name in _NAMES))

    def select(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "GroupFacts":
        """The groups at `index`, in its order."""
        return GroupFacts(*(getattr(self, name)[index] for name in _NAMES))

    def counts(self, num_tasks: int) -> IntVector:
        """Groups per task, shape `(K,)`."""
        return np.bincount(self.task, minlength=num_tasks)

    @property
    def opens_bundle(self) -> NDArray[np.bool_]:
        """Which groups are the first ones of their bundle, shape `(N,)`."""
        opens = np.zeros(len(self), dtype=bool)
        opens[np.unique(self.bundle, return_index=True)[1]] = True
        return opens

    @property
    def stopped(self) -> NDArray[np.bool_]:
        """Which groups ended with their pilot, shape `(N,)`."""
        return (self.pilot > 0) & (self.members <= self.pilot)

    @property
    def told_reward(self) -> NDArray[np.float64]:
        """Rewards that speak for their task, shape `(N, G)`: of a group that began with a pilot, the pilot's alone."""
        if not self.pilot.any():
            return self.reward
        beyond = (self.pilot > 0)[:, None] & (np.arange(self.reward.shape[1]) >= self.pilot[:, None])
        return np.where(beyond, np.nan, self.reward)

    def token_counts(self, num_tasks: int) -> IntVector:
        """Tokens per task, shape `(K,)`."""
        return np.bincount(self.task, weights=self.tokens, minlength=num_tasks).astype(self.tokens.dtype)


_NAMES = tuple(field.name for field in fields(GroupFacts))
