"""
One generation batch: open, plan, draw, produce, record until the planner is done, then select.

Trainer and simulator run this loop with other sources of groups. Every decision is made from facts that all ranks
share, so that each rank makes the same calls with the same row counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sampling import (
    AcceptanceEstimate,
    BatchLedger,
    ForgettingAlarm,
    ForgettingState,
    StallDoctor,
    StallState,
    batch_shares,
    count_unsolved,
)
from ..sampling.accounting import RolloutLedger
from ..sampling.pilots import PilotEstimate
from .batch import CollectedBatch, filled, sums, tally, tally_reasons
from .facts import GroupFacts, IntVector
from .pilot import PilotRule
from .programs import BundleLimits, ProgramMemory, balanced, matched
from .prompts import CorrectingSource, Prompts, PromptSource


class RolloutSource(Protocol):
    """Makes the rollouts of prompts. Facts come out; the payload stays with the source."""

    def produce(self, prompts: Prompts, episodes: int, rng: np.random.Generator) -> GroupFacts:
        """
        Generates and scores.

        Args:
            prompts ([`Prompts`]):
                What was drawn, the same on every rank.
            episodes (`int`):
                Rollouts of each prompt (G).
            rng (`numpy.random.Generator`):
                For a source that needs randomness which all ranks share.

        Returns:
            [`GroupFacts`]: at least one group of each prompt, in the order of `prompts`.
        """
        ...


class BatchSampler(Protocol):
    """Plans how many groups to generate and chooses those that train; [`RatioPreservingSampler`] is one."""

    def open(self, z: NDArray[np.float64], rng: np.random.Generator, carried: ArrayLike | None = None) -> BatchLedger:
        """The ledger of a new step, given the shares z of the batch."""
        ...

    def plan(
        self, ledger: BatchLedger, acceptance: AcceptanceEstimate | ArrayLike, rng: np.random.Generator
    ) -> IntVector | None:
        """Groups to generate next per task, or `None` when the step is done."""
        ...

    def select(self, task_ids: ArrayLike, ledger: BatchLedger, rng: np.random.Generator) -> IntVector:
        """Positions of the groups that train."""
        ...


class LoopState(Protocol):
    """What the loop remembers between steps, as fields of a frozen dataclass."""

    @property
    def generation(self) -> int: ...
    @property
    def acceptance(self) -> AcceptanceEstimate: ...
    @property
    def unsolved(self) -> AcceptanceEstimate: ...
    @property
    def stalls(self) -> StallState: ...
    @property
    def draws(self) -> Any: ...
    @property
    def forgetting(self) -> ForgettingState: ...
    @property
    def carried(self) -> GroupFacts: ...
    @property
    def groups(self) -> RolloutLedger: ...
    @property
    def tokens(self) -> RolloutLedger: ...
    @property
    def rollouts(self) -> RolloutLedger: ...
    @property
    def pilots(self) -> PilotEstimate: ...
    @property
    def empty_steps(self) -> int: ...
    @property
    def programs(self) -> ProgramMemory: ...


S = TypeVar("S", bound=LoopState)
# Hears of each round: the ledger after it, the step's groups so far per task and outcome, and how many of their
# completions got a reward. What it raises ends the run, on every rank alike.
OnRound = Callable[[BatchLedger, NDArray[np.int64], int], None]


@dataclass(frozen=True)
class BatchLoop:
    """
    Collects generation batches whose task mix holds after filtering.

    Args:
        sampler ([`BatchSampler`]):
            Plans how many groups to generate and selects those to train.
        prompts ([`PromptSource`]):
            Chooses the prompts.
        num_generations (`int`):
            Rollouts per prompt (G).
        num_groups (`int`, *optional*):
            Groups per batch (B); by default as many as the sampler desires.
        alarm ([`ForgettingAlarm`], *optional*):
            Finds tasks that have forgotten, whose solved groups then do not shrink their share.
        doctor ([`StallDoctor`], *optional*):
            Takes away the share of tasks that yield nothing; `None` where nothing is filtered.
        solved_discount (`float`, *optional*, defaults to `0.0`):
            How far solved groups shrink a task's share, see [`unsolved_shares`].
        max_surplus_age (`int`, *optional*, defaults to `0`):
            For how many steps an accepted group is kept.
        unknown_tokens (`float`, *optional*, defaults to NaN):
            What a group of a task is taken to cost before one was generated; NaN for what the others cost.
        seed (`int`, *optional*, defaults to `0`):
            Seed shared by all ranks.
        balances (`numpy.ndarray` of `bool`, *optional*):
            Tasks whose modules train equally many groups each, shape `(K,)`.
        bundle_limits ([`BundleLimits`], *optional*):
            What bounds the bundles of a step, where some task is a program.
        pilots ([`PilotRule`], *optional*):
            Begins groups with a few rollouts; `None` makes all of them at once.
    """

    sampler: BatchSampler
    prompts: PromptSource
    num_generations: int
    num_groups: int | None = None
    alarm: ForgettingAlarm = field(default_factory=ForgettingAlarm)
    doctor: StallDoctor | None = None
    solved_discount: float = 0.0
    max_surplus_age: int = 0
    unknown_tokens: float = float("nan")
    seed: int = 0
    balances: NDArray[np.bool_] | None = None
    bundle_limits: BundleLimits | None = None
    pilots: PilotRule | None = None

    def collect(
        self,
        state: S,
        weights: NDArray[np.float64],
        source: RolloutSource,
        held: NDArray[np.bool_] | None = None,
        on_round: OnRound | None = None,
    ) -> tuple[CollectedBatch, S]:
        """
        Collects one generation batch.

        Args:
            state ([`LoopState`]):
                What is remembered after the step before.
            weights (`numpy.ndarray`):
                The task weights that this batch follows, shape `(K,)`.
            source ([`RolloutSource`]):
                Makes the rollouts.
            held (`numpy.ndarray`, *optional*):
                Tasks that the plateau guard holds, shape `(K,)`.
            on_round (`Callable`, *optional*):
                Hears of each round.

        Returns:
            `tuple`: the batch, and the state that follows from it.
        """
        rng = np.random.default_rng([self.seed, state.generation])
        ledger = self._open(state, weights, held, rng)
        acceptance, draws, programs, rounds, first_bundle = state.acceptance, state.draws, state.programs, [], 0
        while (request := self.sampler.plan(ledger, self._planned(acceptance, state), rng)) is not None:
            if not (bundles := programs.bundles(request, ledger, self.bundle_limits)).any():
                break
            prompts, draws = self.prompts.draw(bundles, draws)
            if self.pilots is not None:
                prompts = self.pilots.mark(prompts, state.pilots)
            found = source.produce(prompts, self.num_generations, rng)
            found = replace(found, bundle=found.bundle + first_bundle)
            first_bundle = int(found.bundle.max(initial=first_bundle - 1)) + 1
            programs = programs.update(found, self.balances)
            generated = found.counts(request.size)
            accepted = np.bincount(found.task[found.accepted], minlength=request.size)
            spared = float((self.num_generations - found.pilot)[found.stopped].sum()) / self.num_generations
            ledger = ledger.record(generated, accepted, found.token_counts(request.size), spared)
            whole = accepted if self.pilots is None else self.pilots.whole(accepted, generated, state.pilots)
            acceptance = acceptance.update(generated, whole)
            rounds.append(found)
            if on_round is not None:
                so_far = GroupFacts.join(rounds)
                scored = int((~np.isnan(so_far.reward)).sum())
                on_round(ledger, tally(so_far.task, so_far.outcome, None, request.size), scored)
        batch = self._select(state, ledger, rounds, rng)
        correcting = self.prompts if isinstance(self.prompts, CorrectingSource) else None
        if correcting is not None:
            batch = replace(batch, corrected=correcting.correct(batch.generated, draws))
        forgetting = self.alarm.update(batch.accuracy, *batch.groups_apart, state.forgetting)
        draws = self.prompts.observe(batch.generated, draws)
        if correcting is not None:
            draws = correcting.release(forgetting.regressed, draws)
        stalls = state.stalls if self.doctor is None else self.doctor.update(batch.outcomes, state.stalls)
        return batch, replace(  # type: ignore[type-var]
            state,
            generation=state.generation + 1,
            acceptance=acceptance,
            unsolved=count_unsolved(state.unsolved, batch.outcomes, self._solved_share(batch, state)),
            stalls=stalls,
            draws=draws,
            forgetting=forgetting,
            carried=batch.surplus,
            groups=state.groups.then(batch.group_ledger),
            tokens=state.tokens.then(batch.token_ledger),
            rollouts=state.rollouts.then(batch.rollout_ledger),
            pilots=state.pilots if self.pilots is None else self.pilots.update(batch.generated, state.pilots),
            empty_steps=0 if batch.group_ledger.trained.any() else state.empty_steps + 1,
            # The names of modules come from the source.
            programs=replace(state.programs, groups_per_bundle=programs.groups_per_bundle),
        )

    def _planned(self, acceptance: AcceptanceEstimate, state: LoopState) -> AcceptanceEstimate:
        return acceptance if self.pilots is None else self.pilots.planned(acceptance, state.pilots)

    def _solved_share(self, batch: CollectedBatch, state: LoopState) -> NDArray[np.float64] | None:
        """What whole groups of uniform draws would have shown; `None` where they were just that."""
        if self.pilots is not None:
            return self.pilots.solved_share(batch.generated, state.pilots)
        return None if batch.corrected is None else batch.corrected.solved

    def _open(
        self, state: S, weights: NDArray[np.float64], held: NDArray[np.bool_] | None, rng: np.random.Generator
    ) -> BatchLedger:
        shares = batch_shares(
            weights,
            unsolved=state.unsolved,
            acceptance=state.acceptance,
            held=held,
            regressed=state.forgetting.regressed,
            stalls=state.stalls,
            doctor=self.doctor,
            discount=self.solved_discount,
        )
        seen = state.groups.generated
        cost = state.tokens.generated / np.maximum(seen, 1)
        ledger = self.sampler.open(shares, rng, carried=state.carried.counts(weights.size))
        return ledger.with_context(
            probes=None if self.doctor is None else self.doctor.probes(state.stalls),
            tokens_per_group=np.where(seen > 0, cost, self.unknown_tokens),
            patience=None if self.doctor is None else self.doctor.patience_left(state.stalls),
        )

    def _select(
        self, state: S, ledger: BatchLedger, rounds: list[GroupFacts], rng: np.random.Generator
    ) -> CollectedBatch:
        """Chooses what trains, what fills the shape and what is kept."""
        num_tasks, carried = ledger.desired.size, state.carried
        generated = GroupFacts.join(rounds) if rounds else carried.select(np.zeros(0, dtype=np.int64))
        stock = GroupFacts.join([carried, generated.select(generated.accepted)])
        chosen = np.sort(np.asarray(self.sampler.select(stock.task, ledger, rng), dtype=np.int64))
        num_groups = int(ledger.desired.sum()) if self.num_groups is None else self.num_groups
        if len(chosen) > num_groups or len(np.unique(chosen)) < len(chosen):
            raise ValueError(
                f"`sampler.select` must return at most {num_groups} positions, each once, got {chosen.tolist()}. "
                "Leave the others out: they are carried or expire."
            )
        chosen = balanced(stock, chosen, self.balances)
        trained = stock.select(chosen)
        left = np.ones(len(stock), dtype=bool)
        left[chosen] = False
        young = left & (state.generation + 1 - stock.generation <= self.max_surplus_age)
        young &= matched(stock, young, self.balances)
        surplus = stock.select(young)
        batch = filled(trained, generated, num_groups - len(trained), rng)
        rejected = ~generated.accepted

        def books(of: Callable[[GroupFacts], NDArray[Any] | None]) -> RolloutLedger:
            """The step in units of `of`, per task."""
            made, kept = of(generated), of(stock)
            lost = made if made is None else made[rejected]
            return RolloutLedger(
                carried_in=sums(carried.task, of(carried), num_tasks),
                generated=sums(generated.task, made, num_tasks),
                trained=sums(trained.task, of(trained), num_tasks),
                filtered=tally_reasons(generated.select(rejected), lost, num_tasks),
                expired=sums(stock.task[left & ~young], kept if kept is None else kept[left & ~young], num_tasks),
                carried_out=sums(surplus.task, of(surplus), num_tasks),
            )

        return CollectedBatch(
            groups=batch,
            is_filler=np.arange(num_groups) >= len(trained),
            surplus=surplus,
            plan=ledger,
            group_ledger=books(lambda facts: None),
            token_ledger=books(lambda facts: facts.tokens),
            rollout_ledger=books(lambda facts: facts.members),
            generated=generated,
            outcomes=tally(generated.task, generated.outcome, None, num_tasks),
        )
