"""A collector whose rollouts are made up, so that hundreds of steps take a second."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from tests.tiny import contains_digit
from trl_mtgrpo import RatioPreservingSampler, Task, TaskAwareSampler
from trl_mtgrpo.rollouts.collector import BatchCollector, CollectedBatch, Generated
from trl_mtgrpo.rollouts.groups import Rollout
from trl_mtgrpo.sampling import StallDoctor, group_outcomes
from trl_mtgrpo.state.run_state import MultiTaskState
from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.rows import KEY


NUM_GENERATIONS = 2


@dataclass
class OneRank:
    """Stands for `Ranks` in a single process."""

    size: int = 1
    accelerator: Any = field(default_factory=lambda: SimpleNamespace(process_index=0))

    def local(self, rows: Sequence[Any]) -> list[Any]:
        return list(rows)

    def gather_objects(self, values: list[Any]) -> list[Any]:
        return list(values)


def mixture(sizes: Sequence[int]) -> TaskMixture:
    return TaskMixture(
        [
            Task(
                f"task{k}",
                Dataset.from_dict({"prompt": [f"{k}:{i}" for i in range(size)]}),
                contains_digit,
                success_threshold=1.0,
            )
            for k, size in enumerate(sizes)
        ]
    )


def judge(rewards: NDArray[np.float32], task_ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    own = np.take_along_axis(rewards, task_ids[:, None, None].repeat(rewards.shape[1], axis=1), axis=2)[..., 0]
    outcomes = group_outcomes(own, correct=own >= 1.0)
    return outcomes == 0, outcomes


def collector(
    tasks: TaskMixture, sampler: RatioPreservingSampler, seed: int = 0, doctor: bool = True
) -> BatchCollector:
    return BatchCollector(
        mixture=tasks,
        task_sampler=TaskAwareSampler(
            tasks.num_rows().tolist(), num_groups=sampler.num_groups, num_generations=NUM_GENERATIONS, seed=seed
        ),
        sampler=sampler,
        doctor=StallDoctor() if doctor else None,
        judge=judge,
        ranks=OneRank(),
        num_generations=NUM_GENERATIONS,
        max_surplus_age=sampler.max_surplus_age,
        reward_ema=0.5,
        solved_discount=0.0,
        seed=seed,
        groups_per_call=7,
        max_group_tokens=1_000,
    )


@dataclass
class FakePolicy:
    """
    Answers that make a group of task k informative with probability `acceptance[k]`, and otherwise solved, failed or
    unscored. What it answers depends on the state and the number of the call alone.
    """

    acceptance: Sequence[float]
    requests: list[list[tuple[int, str]]] = field(default_factory=list)

    def answer(self, generation: int) -> Any:
        rng = np.random.default_rng([17, generation])
        num_tasks = len(self.acceptance)

        def generate(rows: list[dict[str, Any]]) -> Generated:
            groups = rows[::NUM_GENERATIONS]
            self.requests.append([(row[KEY].task_id, row["prompt"]) for row in groups])
            rewards = np.full((len(rows), num_tasks), np.nan, dtype=np.float32)
            lengths = rng.integers(1, 9, size=len(rows))
            for i, row in enumerate(groups):
                first, task = i * NUM_GENERATIONS, row[KEY].task_id
                if rng.random() < self.acceptance[task]:
                    values = [1.0, 0.0]
                else:
                    values = [[1.0, 1.0], [0.0, 0.0], [np.nan, np.nan]][rng.integers(3)]
                rewards[first : first + NUM_GENERATIONS, task] = values
            rollouts = [
                Rollout(
                    row,
                    ([1], [int(token) for token in rng.integers(2, 90, size=length)], None, f"answer {i}", None),
                    {},
                )
                for i, (row, length) in enumerate(zip(rows, lengths, strict=True))
            ]
            return Generated(rollouts, rewards, lengths.astype(np.int64))

        return generate


def step(
    collect: BatchCollector, state: MultiTaskState, weights: NDArray[np.float64], policy: FakePolicy
) -> tuple[CollectedBatch, MultiTaskState]:
    """One step; carried groups get made-up log-probabilities."""
    batch, after = collect.collect(state, weights, policy.answer(state.generation))
    carried = [
        group if group.logps else group.with_logps([[-1.5] * r.num_tokens for r in group.rollouts])
        for group in after.carried
    ]
    return batch, replace(after, carried=tuple(carried))
