"""The rules that are compared: how many groups each generates, and which of them it trains."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trl_mtgrpo.rollouts import BatchSampler
from trl_mtgrpo.sampling import AcceptanceEstimate, BatchLedger, RatioPreservingSampler


@dataclass
class ReleasedRule:
    """
    The sampler of the paper's released code in its 3-task scripts, as far as it moves cost.

    Every round generates three batches; targets are rounded shares of the first round, so that they need not add up to
    B; acceptance is not allowed for; deficits count only when B groups are accepted; the limit on rounds includes the
    first and is not looked at after a round without an accepted group; all surplus is thrown away.

    Args:
        num_groups (`int`): Groups per training step.
        max_rounds (`int`, *optional*, defaults to `10`): Rounds per step, the first included.
    """

    num_groups: int
    max_rounds: int = 10

    def open(self, task_weights: ArrayLike, rng: np.random.Generator, carried: ArrayLike | None = None) -> BatchLedger:
        weights = np.asarray(task_weights, dtype=np.float64)
        self._first = rng.multinomial(3 * self.num_groups, weights).astype(np.int64)
        self._accepted_before = 0
        return BatchLedger.start(weights, np.rint(self._first / 3).astype(np.int64))

    def plan(
        self, ledger: BatchLedger, acceptance: AcceptanceEstimate | ArrayLike, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        if ledger.rounds == 0:
            return self._first
        accepted = int(ledger.accepted.sum())
        nothing, self._accepted_before = accepted == self._accepted_before, accepted
        if ledger.rounds >= self.max_rounds and not nothing:
            return None
        shares = ledger.weights
        if accepted >= self.num_groups:
            deficits = ledger.deficits
            if not deficits.any():
                return None
            shares = deficits / deficits.sum()
        return rng.multinomial(3 * self.num_groups, shares).astype(np.int64)

    def select(self, task_ids: ArrayLike, ledger: BatchLedger, rng: np.random.Generator) -> NDArray[np.int64]:
        ids = np.asarray(task_ids, dtype=np.int64)
        if ids.size <= self.num_groups:
            return np.arange(ids.size)
        order = rng.permutation(ids.size)
        quota, keep, rest = ledger.desired.copy(), [], []
        for i in order:
            if quota[ids[i]] > 0:
                quota[ids[i]] -= 1
                keep.append(i)
            else:
                rest.append(i)
        return np.sort(np.array((keep + rest)[: self.num_groups], dtype=np.int64))


class Rule(NamedTuple):
    """
    One row of the table.

    Args:
        build (`Callable`): From B to the sampler.
        max_surplus_age (`int`): For how many steps surplus is kept.
        filters (`bool`): Whether groups without a gradient are kept out of the batch.
    """

    build: Callable[[int], BatchSampler]
    max_surplus_age: int = 0
    filters: bool = True


RULES = {
    "no filter (GRPO)": Rule(lambda b: RatioPreservingSampler(b, oversampling=1.0, max_rounds=0), filters=False),
    "DAPO refill, 3B a round": Rule(lambda b: RatioPreservingSampler(b, oversampling=3.0, preserve_ratio=False)),
    "DAPO refill, sized by acceptance": Rule(lambda b: RatioPreservingSampler(b, preserve_ratio=False)),
    "DAPO refill, sized, surplus carried": Rule(lambda b: RatioPreservingSampler(b, preserve_ratio=False), 2),
    "MT-GRPO, released code": Rule(ReleasedRule),
    "MT-GRPO, Algorithm 2, not acceptance-aware": Rule(
        lambda b: RatioPreservingSampler(b, oversampling=3.0, acceptance_aware=False)
    ),
    "MT-GRPO, Algorithm 2": Rule(lambda b: RatioPreservingSampler(b, oversampling=3.0)),
    "this library, nothing carried": Rule(RatioPreservingSampler),
    "this library, carried for one step": Rule(RatioPreservingSampler, 1),
    "this library": Rule(RatioPreservingSampler, 2),
}
