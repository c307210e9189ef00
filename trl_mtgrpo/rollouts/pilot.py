"""Groups that are begun with a few rollouts, completed where these differ, and weighted for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..sampling import OUTCOMES, AcceptanceEstimate
from ..sampling.pilots import COMPLETION, PilotEstimate, chance_of_only, completion_chance
from .facts import NOWHERE, GroupFacts, IntVector
from .prompts import Prompts


# Rewards that differ by less are of one class, as they are equal to the filter.
_DECIMALS = 6
_SOLVED, _FAILED, _INFORMATIVE = (OUTCOMES.index(name) for name in ("solved", "failed", "informative"))


class Rollouts(NamedTuple):
    """
    Rollouts one after another.

    Args:
        tokens (`numpy.ndarray` of shape `(R,)`): Tokens that the model wrote.
        in_loss (`numpy.ndarray` of `bool`, shape `(R,)`): Rows with a token in the loss.
        reward (`numpy.ndarray` of shape `(R,)`): See [`GroupFacts`].
        success (`numpy.ndarray` of shape `(R,)`): See [`GroupFacts`].
        parts (`numpy.ndarray` of shape `(R, F)`): See [`GroupFacts`].
        place (`numpy.ndarray` of shape `(R, 2)`): See [`GroupFacts`].
    """

    tokens: NDArray[Any]
    in_loss: NDArray[np.bool_]
    reward: NDArray[np.float64]
    success: NDArray[np.float64]
    parts: NDArray[np.float32]
    place: IntVector

    @classmethod
    def join(cls, some: Sequence["Rollouts"]) -> "Rollouts":
        """The rollouts of several, one after another."""
        return cls(*(np.concatenate(column) for column in zip(*some, strict=True)))  # type: ignore[arg-type]

    def first(self, count: int) -> "Rollouts":
        """The first ones."""
        return Rollouts(*(column[:count] for column in self))  # type: ignore[arg-type]


# Rollouts of a task's row each, given both by rollout, shapes `(R,)`.
MakeRollouts = Callable[[IntVector, IntVector], Rollouts]
# See [`Judge`].
Judging = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class PilotRule:
    r"""
    Begins groups with a pilot of \(m\) rollouts. A group whose pilot has rollouts of two classes, such as a correct
    and a wrong one, is completed; another one with the probability `chance`. A completed group stands for
    \(1 / \pi\) groups, with \(\pi\) of [`completion_chance`].

    Args:
        size (`int`):
            Rollouts of a pilot (m); divides the group.
        strict (`bool`):
            Whether groups need a correct and a wrong member, in tasks with an outcome: then correctness is the class
            of a rollout. Otherwise it is its reward.
        has_outcome (`numpy.ndarray` of `bool`, shape `(K,)`):
            Tasks that say of each completion whether it is correct.
        tasks (`str`, *optional*, defaults to `"auto"`):
            Which tasks use pilots: those for which it pays, or `"all"`.
        chance (`float`, *optional*, defaults to `0.1`):
            Probability of completing a group whose pilot is all alike (c).
    """

    size: int
    strict: bool
    has_outcome: NDArray[np.bool_]
    tasks: Literal["auto", "all"] = "auto"
    chance: float = COMPLETION

    # What the loop asks

    def active(self, estimate: PilotEstimate) -> NDArray[np.bool_]:
        """Tasks whose next groups begin with a pilot, shape `(K,)`."""
        if self.tasks == "all":
            return np.ones(len(self.has_outcome), dtype=bool)
        return estimate.active if estimate.size == self.size else np.zeros_like(estimate.active)

    def mark(self, prompts: Prompts, estimate: PilotEstimate) -> Prompts:
        """`prompts` with the size of their pilots."""
        return prompts._replace(pilot=np.where(self.active(estimate)[prompts.task], self.size, 0))

    def whole(
        self, accepted: IntVector, generated: IntVector, estimate: PilotEstimate
    ) -> NDArray[np.float64] | IntVector:
        """How many of `generated` groups would have been accepted if all were whole, shape `(K,)`."""
        active = self.active(estimate)
        return (
            np.minimum(accepted * np.where(active, estimate.mean_weight, 1.0), generated) if active.any() else accepted
        )

    def planned(self, acceptance: AcceptanceEstimate, estimate: PilotEstimate) -> AcceptanceEstimate:
        """The acceptance of groups as they are made, from that of whole ones."""
        active = self.active(estimate)
        if not active.any():
            return acceptance
        accepted = acceptance.accepted / np.where(active, estimate.mean_weight, 1.0)
        return replace(acceptance, accepted=accepted, filtered=acceptance.filtered + acceptance.accepted - accepted)

    def solved_share(self, facts: GroupFacts, estimate: PilotEstimate) -> NDArray[np.float64] | None:
        """
        Share of each task's groups that would be solved if all were whole, shape `(K,)`, NaN for tasks without pilots.

        Augmented inverse propensity: a group with a correct pilot counts as what is believed of such groups, and a
        completed one corrects this by 1 / c of what it differs. It is right in the mean, whatever is believed.
        """
        if not facts.pilot.any():
            return None
        num_tasks = len(self.has_outcome)
        belief = estimate.solved_after_pilot[facts.task]
        tells = np.isin(facts.outcome, (_INFORMATIVE, _SOLVED, _FAILED))
        solved = (facts.outcome == _SOLVED).astype(np.float64)
        value = np.where(facts.stopped, belief, belief + (solved - belief) / self.chance)
        value = np.where(self._right_pilots(facts), value, np.where(facts.pilot > 0, 0.0, solved))
        counts = np.bincount(facts.task[tells], minlength=num_tasks)
        share = np.bincount(facts.task[tells], value[tells], num_tasks) / np.maximum(counts, 1)
        piloted = np.bincount(facts.task, facts.pilot, num_tasks) > 0
        return np.where(piloted & (counts > 0), np.clip(share, 0.0, 1.0), np.nan)

    def update(self, facts: GroupFacts, estimate: PilotEstimate) -> PilotEstimate:
        """The estimate after a step."""
        if estimate.size != self.size:  # it was about others
            estimate = PilotEstimate.start(len(self.has_outcome), self.size)
        if not len(facts):
            return estimate
        whole, piloted = facts.pilot == 0, facts.pilot > 0
        if_whole = completion_chance(self.classes(facts.task, facts.reward, facts.success), self.size, self.chance)
        chance = np.where(whole, if_whole, 1.0 / facts.weight)
        # A pilot that is all alike goes on by chance, which is known: it counts with its mean.
        alike = piloted & (facts.stopped | self._alike_pilots(facts))
        goes_on = np.where(whole, chance, np.where(alike, self.chance, 1.0))
        share, accepted = self.size / facts.reward.shape[1], facts.accepted
        right = self._right_pilots(facts)
        known = right & ~facts.stopped
        # Of those only the completed ones tell, one in 1 / c.
        told = np.where(whole, 1.0, known / self.chance)
        columns = [
            np.ones(len(facts)),
            share + (1.0 - share) * goes_on,
            np.where(whole, accepted, accepted * facts.weight),
            np.where(whole, accepted * chance, accepted),
            np.where(whole, accepted / chance, accepted * facts.weight**2),
            np.where(whole, self._all_right(facts), told),
            told * (facts.outcome == _SOLVED),
        ]
        num_tasks = len(self.has_outcome)
        new = np.stack([np.bincount(facts.task, column, num_tasks) for column in columns], axis=1)
        return estimate.add(new.astype(np.float64), always=self.tasks == "all")

    # What makes rollouts

    def produce(
        self,
        prompts: Prompts,
        episodes: int,
        rng: np.random.Generator,
        make: MakeRollouts,
        judge: Judging,
        judge_pilot: Judging,
        generation: int,
    ) -> GroupFacts:
        """
        The groups of `prompts`, each begun with its pilot, in two calls of `make`.

        Args:
            prompts ([`Prompts`]):
                What was drawn, with the sizes of pilots.
            episodes (`int`):
                Rollouts of a whole group (G).
            rng (`numpy.random.Generator`):
                Says which alike pilots go on; the same on every rank.
            make (`Callable`):
                Makes rollouts.
            judge ([`Judge`]):
                Says which whole groups may train.
            judge_pilot ([`Judge`]):
                Says what came of the others.
            generation (`int`):
                Index of the generation batch.
        """
        assert prompts.pilot is not None
        task, row, pilot = prompts.task, prompts.row, prompts.pilot
        size = len(task)
        first = np.where(pilot > 0, pilot, episodes)
        found = _Groups(size, episodes, make(task.repeat(first), row.repeat(first)), first)
        alike = self._alike(task, found.reward, found.success, first)
        done = np.where((pilot > 0) & alike & (rng.random(size) >= self.chance), first, episodes)
        more = done - first
        if more.any():
            found.add(make(task.repeat(more), row.repeat(more)), first, more)
        accepted, outcome = np.zeros(size, dtype=bool), np.zeros(size, dtype=np.int64)
        weight = np.ones(size)
        for length in np.unique(done).tolist():
            some = np.flatnonzero(done == length)
            part = [values[some, :length] for values in (found.reward, found.success, found.parts, found.in_loss)]
            verdict = (judge if length == episodes else judge_pilot)(task[some], *part)
            outcome[some], accepted[some] = verdict.outcome, verdict.accepted & (length == episodes)
        completed = np.flatnonzero((pilot > 0) & (done == episodes))
        classes = self.classes(task[completed], found.reward[completed], found.success[completed])
        weight[completed] = 1.0 / completion_chance(classes, self.size, self.chance)
        # What is said of the task is said by the first rollouts, which do not depend on what came of them.
        told = np.arange(episodes) < first[:, None]
        zeros = np.zeros(size, dtype=np.int64)
        return GroupFacts(
            task=task,
            prompt=row,
            role=zeros,
            occurrence=zeros,
            bundle=np.arange(size),
            members=done,
            generation=zeros + generation,
            tokens=found.tokens.sum(axis=1),
            outcome=outcome,
            accepted=accepted,
            reward=found.reward,
            success=np.where(told, found.success, np.nan),
            parts=found.parts,
            place=found.place,
            weight=weight,
            pilot=pilot,
        )

    def classes(self, task: IntVector, reward: NDArray[np.float64], success: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class of each rollout, shape `(N, G)`: its reward, or whether it is correct."""
        key = np.round(reward, _DECIMALS)
        if self.strict:
            known = self.has_outcome[task][:, None] & ~np.isnan(success)
            # Beyond any reward: those of which correctness is not known keep their reward.
            key = np.where(known, np.where(success >= 0.5, np.inf, -np.inf), key)
        found: NDArray[np.int64] = np.unique(key, return_inverse=True)[1].reshape(key.shape).astype(np.int64)
        return found

    def _alike(
        self, task: IntVector, reward: NDArray[np.float64], success: NDArray[np.float64], first: IntVector
    ) -> NDArray[np.bool_]:
        """Whether the first rollouts of each group are of one class, shape `(N,)`."""
        classes = self.classes(task, reward, success)
        outside = np.arange(classes.shape[1]) >= first[:, None]
        return np.asarray((outside | (classes == classes[:, :1])).all(axis=1))

    def _alike_pilots(self, facts: GroupFacts) -> NDArray[np.bool_]:
        return self._alike(facts.task, facts.reward, facts.success, np.maximum(facts.pilot, 1))

    def _right_pilots(self, facts: GroupFacts) -> NDArray[np.bool_]:
        """Which groups began with a pilot of correct rollouts only; those with an unknown one are none."""
        inside = np.arange(facts.success.shape[1]) < facts.pilot[:, None]
        right = (~inside | (facts.success >= 0.5)).all(axis=1)
        return np.asarray((facts.pilot > 0) & self.has_outcome[facts.task] & right)

    def _all_right(self, facts: GroupFacts) -> NDArray[np.float64]:
        """Of whole groups, the chance that a pilot would be correct throughout, shape `(N,)`."""
        only = chance_of_only(facts.success.shape[1], self.size)[(facts.success >= 0.5).sum(axis=1)]
        return np.where(self.has_outcome[facts.task], only, 0.0)


def loss_weights(groups: GroupFacts, estimate: PilotEstimate) -> NDArray[np.float64]:
    r"""
    Factors on the advantages of groups, shape `(N,)`: 1 of those that were begun whole, and \(1 / \pi\) over the
    task's mean of it of those that began with a pilot. Without the mean a task would move the model by more than its
    share of the batch, because a batch holds as many groups with pilots as without.
    """
    return np.where(groups.pilot > 0, groups.weight / estimate.mean_weight[groups.task], 1.0)


class _Groups:
    """Columns of N groups of G places, filled as rollouts come."""

    def __init__(self, size: int, width: int, first: Rollouts, counts: IntVector) -> None:
        self.tokens = np.zeros((size, width), dtype=first.tokens.dtype)
        self.in_loss = np.zeros((size, width), dtype=bool)
        self.reward, self.success = np.full((size, width), np.nan), np.full((size, width), np.nan)
        self.parts = np.full((size, width, first.parts.shape[1]), np.nan, dtype=np.float32)
        self.place = np.full((size, width, 2), NOWHERE, dtype=np.int64)
        self.add(first, np.zeros(size, dtype=np.int64), counts)

    def add(self, rollouts: Rollouts, start: IntVector, counts: IntVector) -> None:
        """Rollouts of each group, from place `start` on."""
        group = np.arange(len(counts)).repeat(counts)
        place = start.repeat(counts) + np.arange(len(group)) - (counts.cumsum() - counts).repeat(counts)
        for name in Rollouts._fields:
            getattr(self, name)[group, place] = getattr(rollouts, name)
