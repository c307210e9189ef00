"""What came of one generation batch: the groups that train, what is kept, and where everything went."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling import OUTCOMES, BatchLedger, Corrected
from ..sampling.accounting import PILOT, REASONS, RolloutLedger
from .facts import GroupFacts, IntVector


@dataclass(frozen=True, eq=False)
class CollectedBatch:
    """
    The groups of one generation batch and how they came about.

    Args:
        groups ([`GroupFacts`]):
            Exactly B groups in training order.
        is_filler (`numpy.ndarray`):
            Which of them only fill the shape, shape `(B,)`.
        surplus ([`GroupFacts`]):
            Accepted groups kept for the next step.
        plan ([`BatchLedger`]):
            The planner's ledger: desired, generated, accepted, rounds.
        group_ledger ([`RolloutLedger`]):
            The step in groups.
        token_ledger ([`RolloutLedger`]):
            The step in tokens that the model wrote.
        rollout_ledger ([`RolloutLedger`]):
            The step in rollouts: of groups that ended with their pilot, the pilot's.
        generated ([`GroupFacts`]):
            Everything generated in the step.
        outcomes (`numpy.ndarray`):
            Generated groups per task and outcome, shape `(K, len(OUTCOMES))`.
        corrected ([`Corrected`], *optional*):
            What uniform draws would have shown, from a prompt source that passes over some prompts.
    """

    groups: GroupFacts
    is_filler: NDArray[np.bool_]
    surplus: GroupFacts
    plan: BatchLedger
    group_ledger: RolloutLedger
    token_ledger: RolloutLedger
    rollout_ledger: RolloutLedger
    generated: GroupFacts
    outcomes: NDArray[np.int64]
    corrected: Corrected | None = None

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """
        Mean success per task over every rollout, shape `(K,)`, NaN where nothing is known. Where prompts were passed
        over it is what uniform draws would have shown.
        """
        once = self.generated.select(self.generated.opens_bundle)
        plain = self._means(once.task, once.success)
        return plain if self.corrected is None else _instead(plain, self.corrected.accuracy)

    @property
    def groups_apart(self) -> tuple[IntVector, NDArray[np.float64]]:
        """Bundles per task whose success is known, and the variance between their means, shapes `(K,)`."""
        num_tasks = self.plan.desired.size
        once = self.generated.select(self.generated.opens_bundle)
        # Of no rollouts, as in a simulation, none is known.
        once = once.select(np.flatnonzero(~np.isnan(once.success).all(axis=1)))
        means = np.nanmean(once.success, axis=1)
        counts = once.counts(num_tasks)
        centre = np.bincount(once.task, means, minlength=num_tasks) / np.maximum(counts, 1)
        squares = np.bincount(once.task, (means - centre[once.task]) ** 2, minlength=num_tasks)
        return counts, np.divide(squares, counts - 1, out=np.full(num_tasks, np.nan), where=counts > 1)

    @property
    def reward(self) -> NDArray[np.float64]:
        """
        Mean reward per task over everything generated, shape `(K,)`, NaN where nothing is known. Of groups that began
        with a pilot it is the pilot's, whether they were completed or not.
        """
        return self._means(self.generated.task, self.generated.told_reward)

    def _means(self, task: IntVector, values: NDArray[np.float64]) -> NDArray[np.float64]:
        num_tasks = self.plan.desired.size
        rows = np.repeat(task, values.shape[1])
        flat = values.ravel()
        known = ~np.isnan(flat)
        counts = np.bincount(rows[known], minlength=num_tasks)
        sums = np.bincount(rows[known], weights=flat[known], minlength=num_tasks)
        return np.divide(sums, counts, out=np.full(num_tasks, np.nan), where=counts > 0)


def filled(trained: GroupFacts, generated: GroupFacts, missing: int, rng: np.random.Generator) -> GroupFacts:
    """`trained`, and rejected groups in the `missing` places; where those are too few they are repeated."""
    if missing <= 0:
        return trained
    rejected = np.flatnonzero(~generated.accepted)
    filling = generated.select(rejected[rng.permutation(len(rejected))[:missing]])
    pool = filling if len(filling) else trained
    if not len(pool):
        raise ValueError(
            "`sampler` must ask for at least one group where none is carried, got no request. Let `plan` return "
            "counts in the first round."
        )
    repeats = np.arange(len(filling), missing) % max(len(pool), 1)
    return GroupFacts.join([trained, filling, pool.select(repeats)])


# Outcomes and the one reason that is none, and where in these the ledger's reasons are.
_FATES = (*OUTCOMES, PILOT)
_REASONS = [_FATES.index(reason) for reason in REASONS]


def sums(task: NDArray[np.int64], values: NDArray[Any] | None, num_tasks: int) -> NDArray[np.int64]:
    """Sum of `values` per task, or the number of entries, shape `(K,)`."""
    total = np.bincount(task, weights=values, minlength=num_tasks)
    return total if values is None else total.astype(values.dtype)


def _instead(plain: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """`plain`, and `other` where that is known."""
    return np.where(np.isnan(other), plain, other)


def tally(
    task: NDArray[np.int64], outcome: NDArray[np.int64], values: NDArray[Any] | None, num_tasks: int
) -> NDArray[np.int64]:
    """Sums of `values`, or entries, per task and outcome, shape `(K, len(OUTCOMES))`."""
    return _tally(task, outcome, values, num_tasks, len(OUTCOMES))


def tally_reasons(rejected: GroupFacts, values: NDArray[Any] | None, num_tasks: int) -> NDArray[np.int64]:
    """Sums of `values`, or entries, per task and reason, shape `(K, len(REASONS))`."""
    fate = np.where(rejected.stopped, _FATES.index(PILOT), rejected.outcome)
    return _tally(rejected.task, fate, values, num_tasks, len(_FATES))[:, _REASONS]


def _tally(
    task: NDArray[np.int64], code: NDArray[np.int64], values: NDArray[Any] | None, num_tasks: int, size: int
) -> NDArray[np.int64]:
    return sums(task * size + code, values, num_tasks * size).reshape(num_tasks, size)
