"""One generation batch: open, plan, draw, generate, score, filter, record until done, then select.

Every decision is made from values that all ranks share, so that each makes the same calls with the same row counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..host.distributed import Ranks
from ..host.task_sampler import TaskAwareSampler
from ..sampling import (
    OUTCOMES,
    BatchLedger,
    RatioPreservingSampler,
    StallDoctor,
    batch_shares,
)
from ..sampling.accounting import REASONS, RolloutLedger
from ..state.run_state import MultiTaskState
from ..tasks.mixture import TaskMixture
from ..weighting.signals import task_means
from .groups import Group, Rollout


class Generated(NamedTuple):
    """
    What one generate call brought.

    Args:
        rollouts (`list[Rollout]`):
            This rank's rows.
        rewards (`np.ndarray`):
            Rewards of every rank's rows in global order, shape `(N, F)`.
        lengths (`np.ndarray`):
            Completion tokens of every rank's rows in global order, shape `(N,)`.
    """

    rollouts: list[Rollout]
    rewards: NDArray[np.float32]
    lengths: NDArray[np.int64]


class Generate(Protocol):
    """Generates and scores this rank's rows."""

    def __call__(self, rows: list[dict[str, Any]]) -> Generated: ...


class Judge(Protocol):
    """Says of groups with rewards `(N, G, F)` which may train, and what came of each: a position in `OUTCOMES`."""

    def __call__(
        self, rewards: NDArray[np.float32], task_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]: ...


class _Candidate(NamedTuple):
    group: Group
    call: int  # which generate call made it
    position: int  # its place among that call's groups
    keep: bool
    outcome: int


@dataclass(frozen=True, eq=False)
class CollectedBatch:
    """
    The groups of one generation batch and how they came about.

    Args:
        groups (`tuple[Group, ...]`):
            Exactly B groups in training order.
        is_filler (`np.ndarray`):
            Which of them only fill the shape, shape `(B,)`.
        surplus (`tuple[Group, ...]`):
            Accepted groups kept for the next step.
        plan ([`BatchLedger`]):
            The planner's ledger: desired, generated, accepted, rounds.
        group_ledger ([`RolloutLedger`]):
            The step in groups.
        token_ledger ([`RolloutLedger`]):
            The step in completion tokens.
        accuracy (`np.ndarray`):
            Accuracy per task over everything generated, shape `(K,)`, NaN where nothing was.
        reward (`np.ndarray`):
            Mean reward per task over everything generated, shape `(K,)`, NaN where nothing was.
        outcomes (`np.ndarray`):
            Generated groups per task and outcome, shape `(K, len(OUTCOMES))`.
    """

    groups: tuple[Group, ...]
    is_filler: NDArray[np.bool_]
    surplus: tuple[Group, ...]
    plan: BatchLedger
    group_ledger: RolloutLedger
    token_ledger: RolloutLedger
    accuracy: NDArray[np.float64]
    reward: NDArray[np.float64]
    outcomes: NDArray[np.int64]

    @property
    def task_ids(self) -> NDArray[np.int64]:
        """Task of each group, shape `(B,)`."""
        return np.array([group.task_id for group in self.groups], dtype=np.int64)


@dataclass(frozen=True)
class BatchCollector:
    """
    Collects generation batches whose task mix holds after filtering.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        task_sampler ([`TaskAwareSampler`]):
            Draws the prompts.
        sampler ([`RatioPreservingSampler`]):
            Plans how many groups to generate and selects those to train.
        doctor ([`StallDoctor`], *optional*):
            Shrinks the share of tasks that yield nothing; `None` where nothing is filtered.
        judge (`Callable`):
            Says which groups carry a gradient, and why others do not.
        ranks ([`Ranks`]):
            The processes of the run.
        num_generations (`int`):
            Rollouts per prompt (G).
        max_surplus_age (`int`):
            For how many steps an accepted group is kept.
        reward_ema (`float`):
            Factor of the accuracy average.
        solved_discount (`float`):
            How far solved groups shrink a task's share of the batch, see [`batch_shares`].
        seed (`int`):
            Seed shared by all ranks.
        groups_per_call (`int`):
            Largest number of groups in one generate call.
        max_group_tokens (`int`):
            Completion tokens of a group whose rollouts are all cut off.
    """

    mixture: TaskMixture
    task_sampler: TaskAwareSampler
    sampler: RatioPreservingSampler
    doctor: StallDoctor | None
    judge: Judge
    ranks: Ranks
    num_generations: int
    max_surplus_age: int
    reward_ema: float
    solved_discount: float
    seed: int
    groups_per_call: int
    max_group_tokens: int

    def collect(
        self,
        state: MultiTaskState,
        weights: NDArray[np.float64],
        generate: Generate,
        host_rows: list[dict[str, Any]] | None = None,
    ) -> tuple[CollectedBatch, MultiTaskState]:
        """
        Collects one generation batch.

        Args:
            state ([`MultiTaskState`]):
                The state after the previous step.
            weights (`np.ndarray`):
                The task weights that this batch follows, shape `(K,)`.
            generate (`Callable`):
                Generates and scores this rank's rows.
            host_rows (`list[dict]`, *optional*):
                This rank's rows as the host's loader delivered them, for a run that trains exactly those.

        Returns:
            `tuple`: the batch, and the state that follows from it. The carried groups of that state still lack their
            log-probabilities.
        """
        rng = np.random.default_rng([self.seed, state.generation])
        num_tasks = self.mixture.num_tasks
        cost = state.tokens.generated / np.maximum(state.groups.generated, 1)
        shares = batch_shares(
            weights,
            unsolved=state.unsolved,
            acceptance=state.acceptance,
            held=state.guard.held,
            stalls=state.stalls,
            doctor=self.doctor,
            discount=self.solved_discount,
        )
        ledger = self.sampler.open(shares, rng, carried=_count(state.carried, num_tasks)).with_context(
            probes=self.doctor.probes(state.stalls) if self.doctor else None,
            patience=self.doctor.patience_left(state.stalls) if self.doctor else None,
            # Before a task was generated its groups are taken to be as long as they can be.
            tokens_per_group=np.where(state.groups.generated > 0, cost, self.max_group_tokens),
        )
        acceptance, cursors = state.acceptance, state.cursors
        calls: list[list[Rollout]] = []
        candidates: list[_Candidate] = []
        while (request := self.sampler.plan(ledger, acceptance, rng)) is not None:
            keys, cursors = self._draw(request, cursors, host_rows)
            found = self._generate(keys, generate, calls, state.generation, host_rows)
            kept = _count([c.group for c in found if c.keep], num_tasks)
            ledger = ledger.record(
                generated=request, accepted=kept, tokens=_count([c.group for c in found], num_tasks, tokens=True)
            )
            acceptance = acceptance.update(request, kept)
            candidates.extend(found)
        batch = self._select(state, ledger, candidates, calls, rng)
        judged = batch.outcomes.sum(axis=1)
        observed = ~np.isnan(batch.accuracy)
        return batch, replace(
            state,
            generation=state.generation + 1,
            acceptance=acceptance,
            unsolved=state.unsolved.update(judged, judged - batch.outcomes[:, OUTCOMES.index("solved")]),
            cursors=cursors,
            carried=batch.surplus,
            reward_average=state.reward_average.update(batch.accuracy, observed, self.reward_ema),
            stalls=self.doctor.update(batch.outcomes, state.stalls) if self.doctor else state.stalls,
            groups=state.groups.then(batch.group_ledger),
            tokens=state.tokens.then(batch.token_ledger),
            empty_steps=0 if batch.group_ledger.trained.any() else state.empty_steps + 1,
        )

    def _draw(
        self, request: NDArray[np.int64], cursors: tuple[int, ...], host_rows: list[dict[str, Any]] | None
    ) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
        if host_rows is None:
            return self.task_sampler.draw(request, cursors)
        return [(0, -1)] * int(request.sum()), cursors

    def _generate(
        self,
        keys: list[tuple[int, int]],
        generate: Generate,
        calls: list[list[Rollout]],
        generation: int,
        host_rows: list[dict[str, Any]] | None,
    ) -> list[_Candidate]:
        """Generates the groups of `keys` in calls of bounded size and judges them."""
        found: list[_Candidate] = []
        for start in range(0, len(keys), self.groups_per_call):
            part = keys[start : start + self.groups_per_call]
            places = self.ranks.local([key for key in part for _ in range(self.num_generations)])
            rows = [self.mixture.row(*place) for place in places] if host_rows is None else host_rows
            output = generate(rows)
            rewards = output.rewards.reshape(len(part), self.num_generations, -1)  # (groups, G, F)
            tokens = output.lengths.reshape(len(part), self.num_generations).sum(axis=1)
            keep, outcomes = self.judge(rewards, np.array([task_id for task_id, _ in part], dtype=np.int64))
            found.extend(
                _Candidate(
                    Group(task_id, row_index, generation, rewards[i], int(tokens[i])),
                    call=len(calls),
                    position=i,
                    keep=bool(keep[i]),
                    outcome=int(outcomes[i]),
                )
                for i, (task_id, row_index) in enumerate(part)
            )
            calls.append(output.rollouts)
        return found

    def _select(
        self,
        state: MultiTaskState,
        ledger: BatchLedger,
        candidates: list[_Candidate],
        calls: list[list[Rollout]],
        rng: np.random.Generator,
    ) -> CollectedBatch:
        """Selects B groups, keeps what may be carried, and fetches the rollouts of both."""
        num_tasks, carried = self.mixture.num_tasks, list(state.carried)
        kept = [c for c in candidates if c.keep]
        accepted = carried + [c.group for c in kept]
        chosen = sorted(self.sampler.select(np.array([g.task_id for g in accepted], dtype=np.int64), ledger, rng))
        left = sorted(set(range(len(accepted))) - set(chosen))
        young = [i for i in left if state.generation + 1 - accepted[i].generation <= self.max_surplus_age]
        rejected = [c for c in candidates if not c.keep]
        missing = self.sampler.num_groups - len(chosen)
        fillers = [rejected[i] for i in rng.permutation(len(rejected))[:missing]] if missing else []

        new = [i for i in (*chosen, *young) if i >= len(carried)]
        wanted = [kept[i - len(carried)] for i in new] + fillers
        fetched = self._fetch(wanted, calls)
        by_index = dict(zip(new, fetched[: len(new)], strict=True))
        trained = [by_index.get(i, accepted[i]) for i in chosen]
        surplus = [by_index.get(i, accepted[i]) for i in young]
        filling = fetched[len(new) :]
        pool = filling or trained
        while len(filling) < missing:  # fewer rejected groups than gaps: a masked repetition fills the shape
            filling.append(pool[len(filling) % len(pool)])

        def ledger_of(tokens: bool) -> RolloutLedger:
            def count(groups: Sequence[Group]) -> NDArray[np.int64]:
                return _count(groups, num_tasks, tokens=tokens)

            filtered = [count([c.group for c in rejected if OUTCOMES[c.outcome] == reason]) for reason in REASONS]
            return RolloutLedger(
                carried_in=count(carried),
                generated=count([c.group for c in candidates]),
                trained=count(trained),
                filtered=np.stack(filtered, axis=1),
                expired=count([accepted[i] for i in left if i not in set(young)]),
                carried_out=count(surplus),
            )

        outcomes = np.zeros((num_tasks, len(OUTCOMES)), dtype=np.int64)
        for c in candidates:
            outcomes[c.group.task_id, c.outcome] += 1
        rewards, task_ids = _rows([c.group for c in candidates], self.num_generations, len(self.mixture.column_task))
        return CollectedBatch(
            groups=tuple(trained + filling),
            is_filler=np.arange(self.sampler.num_groups) >= len(trained),
            surplus=tuple(surplus),
            plan=ledger,
            group_ledger=ledger_of(tokens=False),
            token_ledger=ledger_of(tokens=True),
            accuracy=task_means(self.mixture.correctness(rewards, task_ids), task_ids, num_tasks)[0],
            reward=task_means(self.mixture.task_rewards(rewards, task_ids), task_ids, num_tasks)[0],
            outcomes=outcomes,
        )

    def _fetch(self, wanted: list[_Candidate], calls: list[list[Rollout]]) -> list[Group]:
        """Brings the rollouts of some candidates to every rank: one gather of exactly those rows."""
        first = [self.ranks.accelerator.process_index * len(rollouts) for rollouts in calls]
        local = {}
        for index, candidate in enumerate(wanted):
            rollouts, start = calls[candidate.call], first[candidate.call]
            for member in range(self.num_generations):
                place = candidate.position * self.num_generations + member - start
                if 0 <= place < len(rollouts):
                    local[index, member] = rollouts[place]
        rows = dict(self.ranks.gather_objects(list(local.items())))
        return [
            candidate.group.with_rollouts([rows[index, member] for member in range(self.num_generations)])
            for index, candidate in enumerate(wanted)
        ]


def _count(groups: Sequence[Group], num_tasks: int, tokens: bool = False) -> NDArray[np.int64]:
    counts = np.zeros(num_tasks, dtype=np.int64)
    for group in groups:
        counts[group.task_id] += group.num_tokens if tokens else 1
    return counts


def _rows(
    groups: Sequence[Group], num_generations: int, num_columns: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rewards (N*G, F) and task ids (N*G,) of all rows of some groups."""
    if not groups:
        return np.zeros((0, num_columns), dtype=np.float32), np.zeros(0, dtype=np.int64)
    task_ids = np.repeat([group.task_id for group in groups], num_generations)
    return np.concatenate([group.rewards for group in groups]), task_ids.astype(np.int64)
