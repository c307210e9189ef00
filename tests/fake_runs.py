"""A loop whose rollouts are made up, so that hundreds of steps take a second."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from tests.tiny import contains_digit
from trl_mtgrpo import RatioPreservingSampler, Task
from trl_mtgrpo.rollouts import BatchLoop, CollectedBatch, GroupFacts, IndexPrompts, Prompts
from trl_mtgrpo.sampling import StallDoctor, group_outcomes
from trl_mtgrpo.state.run_state import MultiTaskState
from trl_mtgrpo.tasks.mixture import TaskMixture


NUM_GENERATIONS = 2


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


def loop(
    sizes: Sequence[int], sampler: RatioPreservingSampler, seed: int = 0, doctor: bool = True, **changes: float
) -> BatchLoop:
    return BatchLoop(
        sampler=sampler,
        prompts=IndexPrompts(sizes, seed),
        num_generations=NUM_GENERATIONS,
        num_groups=sampler.num_groups,
        doctor=StallDoctor() if doctor else None,
        max_surplus_age=sampler.max_surplus_age,
        unknown_tokens=1_000,
        seed=seed,
        **changes,
    )


@dataclass
class FakePolicy:
    """
    A rollout source whose groups of task k are informative with probability `acceptance[k]`, and otherwise solved,
    failed or unscored. What comes depends on the step and on what was asked for in it alone.
    """

    acceptance: Sequence[float]
    requests: list[list[tuple[int, int]]] = field(default_factory=list)
    step: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng([17, 0]))

    def begin(self, step: int) -> None:
        self.step, self.random = step, np.random.default_rng([17, step])

    def produce(self, prompts: Prompts, episodes: int, rng: np.random.Generator) -> GroupFacts:
        self.requests.append(list(zip(prompts.task.tolist(), prompts.row.tolist(), strict=True)))
        size, draw = len(prompts.task), self.random
        lengths = draw.integers(1, 9, size=(size, episodes))
        kinds = np.array([[1.0, 1.0], [0.0, 0.0], [np.nan, np.nan]])
        mixed = draw.random(size) < np.asarray(self.acceptance)[prompts.task]
        reward = np.where(mixed[:, None], [1.0, 0.0], kinds[draw.integers(3, size=size)])
        outcome = group_outcomes(reward, correct=reward)
        zeros = np.zeros(size, dtype=np.int64)
        return GroupFacts(
            task=prompts.task,
            prompt=prompts.row,
            role=zeros,
            occurrence=zeros,
            bundle=np.arange(size),
            members=zeros + episodes,
            generation=zeros + self.step,
            tokens=lengths.sum(axis=1),
            outcome=outcome,
            accepted=outcome == 0,
            reward=reward,
            success=reward,
            parts=reward[:, :, None].astype(np.float32),
            place=np.zeros((size, episodes, 2), dtype=np.int64),
        )


def step(
    collect: BatchLoop, state: MultiTaskState, weights: NDArray[np.float64], policy: FakePolicy
) -> tuple[CollectedBatch, MultiTaskState]:
    """One step."""
    policy.begin(state.generation)
    return collect.collect(state, weights, policy, held=state.guard.held)
