"""In the trainer, what a task has solved makes room for the others, and what it fails does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def test_shares_that_the_user_fixed_stay_as_they_are(tmp_path: Path) -> None:
    trainer = train(tmp_path)
    assert trainer.args.solved_discount == 0.0
    assert last_half(trainer, "target_share") == last_half(trainer, "weight")
