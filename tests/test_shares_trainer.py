"""What a task has solved makes room for the others, and what it fails does not, if it can be learned."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tiny import rows, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


NAMES = ("open", "solved", "failed")


def three_in_four(filtered: float) -> Callable[..., list[float]]:
    """Of four groups of two, three have both rollouts at `filtered` and one has one of each."""
    rng = np.random.default_rng(3)

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        mixed = rng.random(len(completions) // 2) < 0.25
        return [value for one in mixed for value in ((1.0, 0.0) if one else (filtered, filtered))]

    return reward


def one_of_two(completions: list[Any], **kwargs: Any) -> list[float]:
    return [float(i % 2) for i in range(len(completions))]


def train(folder: Path, **changes: Any) -> MultiTaskGRPOTrainer:
    rewards = (one_of_two, three_in_four(1.0), three_in_four(0.0))
    trainer = tiny_trainer(
        folder,
        tasks=[
            Task(name, rows(name[0], 60), f, success_threshold=1.0) for name, f in zip(NAMES, rewards, strict=True)
        ],
        num_generations=2,
        per_device_train_batch_size=24,
        max_completion_length=2,
        max_steps=160,
        **({"task_weighting": "fixed", "improvement_source": "none"} | changes),
    )
    trainer.train()
    return trainer


def last_half(trainer: MultiTaskGRPOTrainer, metric: str) -> list[float]:
    """Mean of a metric over the second half of the run, per task."""
    log = [line for line in trainer.state.log_history if "sampling/rounds" in line]
    return [float(np.mean([line[f"tasks/{name}/{metric}"] for line in log[len(log) // 2 :]])) for name in NAMES]


@pytest.mark.slow
def test_solved_prompts_give_up_their_place(tmp_path: Path) -> None:
    trainer = train(tmp_path, solved_discount=1.0)
    assert last_half(trainer, "weight") == pytest.approx([1 / 3] * 3)
    # 1, 1/4 and 1 of the prompts are not solved.
    assert last_half(trainer, "target_share") == pytest.approx([4 / 9, 1 / 9, 4 / 9], abs=0.06)
    assert last_half(trainer, "batch_share") == pytest.approx(last_half(trainer, "target_share"), abs=0.05)
    # A solved task is then generated about as often as one whose groups all train.
    opened, solved, failed = last_half(trainer, "generated_groups")
    assert solved < 1.6 * opened
    assert failed > 2.5 * opened


@pytest.mark.slow
def test_shares_that_the_user_fixed_stay_as_they_are(tmp_path: Path) -> None:
    trainer = train(tmp_path)
    assert trainer.settings.solved_discount == 0.0
    assert last_half(trainer, "target_share") == last_half(trainer, "weight")


def right_with(start: float, gain: float, seed: int) -> Callable[..., list[float]]:
    """Completions that are right with a probability that rises from call to call, whatever they say."""
    rng, calls = np.random.default_rng(seed), itertools.count()

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return (rng.random(len(completions)) < start + gain * next(calls)).astype(float).tolist()

    return reward


def learn(folder: Path, **changes: Any) -> MultiTaskGRPOTrainer:
    rewards = {"hopeless": (0.1, 0.0), "first": (0.2, 0.002), "second": (0.3, 0.002)}
    trainer = tiny_trainer(
        folder,
        tasks=[
            Task(name, rows(name[0], 60), right_with(*rising, seed), success_threshold=1.0)
            for seed, (name, rising) in enumerate(rewards.items())
        ],
        num_generations=4,
        per_device_train_batch_size=48,
        max_completion_length=2,
        max_steps=100,
        **({"task_weight_lr": 0.1, "improvement_source": "none"} | changes),
    )
    trainer.train()
    return trainer


def at_the_end(trainer: MultiTaskGRPOTrainer, metric: str) -> NDArray[np.float64]:
    log = [line for line in trainer.state.log_history if "sampling/rounds" in line][-20:]
    names = ("hopeless", "first", "second")
    return np.array([np.mean([line[f"tasks/{name}/{metric}"] for line in log]) for name in names])


@pytest.mark.slow
def test_a_task_that_cannot_be_learned_is_left_with_its_part_of_what_is_generated(tmp_path: Path) -> None:
    trainer = learn(tmp_path)
    held = at_the_end(trainer, "held")
    assert held[0] > 0.7
    assert held[1:].tolist() == [0.0, 0.0]
    generated = at_the_end(trainer, "generated_groups")
    assert generated[0] / generated.sum() < 0.4
    assert at_the_end(trainer, "batch_share")[0] < 0.3
    assert at_the_end(trainer, "weight")[0] == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.slow
def test_without_the_guard_a_task_that_cannot_be_learned_takes_the_batch(tmp_path: Path) -> None:
    trainer = learn(tmp_path, plateau_guard=False)
    assert not at_the_end(trainer, "held").any()
    assert at_the_end(trainer, "batch_share")[0] > 0.6
