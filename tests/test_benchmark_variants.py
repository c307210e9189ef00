"""The two ideas from elsewhere that the benchmark compares do what they are named for."""

from pathlib import Path

import torch

from benchmarks.learning_variants import OneTaskStepsTrainer, ZeroVarianceTrainer, by_task
from tests.tiny import rows, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.improvement.loss_inputs import TASK_IDS


def trained(kind: type[MultiTaskGRPOTrainer], folder: Path, reward: float = 1.0) -> MultiTaskGRPOTrainer:
    """One step on two tasks whose answers are all right, or all wrong; nothing is filtered."""

    def constant(completions: list[str], **kwargs: object) -> list[float]:
        return [reward] * len(completions)

    trainer = kind(
        model=tiny_model(),
        tasks=[Task(name, rows(name), constant, success_threshold=1.0) for name in "ab"],
        args=tiny_config(folder, max_steps=1, group_filter="none", weight_decay=0.0, method="grpo"),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    return trainer


def moved(trainer: MultiTaskGRPOTrainer) -> bool:
    before = tiny_model().parameters()
    return any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))


def test_groups_that_are_alike_train_with_the_advantage_of_rl_zvp(tmp_path: Path) -> None:
    assert not moved(trained(MultiTaskGRPOTrainer, tmp_path))
    assert moved(trained(ZeroVarianceTrainer, tmp_path))
    assert moved(trained(ZeroVarianceTrainer, tmp_path, reward=0.0))


def test_rows_of_a_task_lie_side_by_side() -> None:
    tasks = torch.tensor([1, 0, 2, 1, -1, 0, 2, 1])
    batch = by_task({TASK_IDS: tasks, "row": torch.arange(8), "text": list("abcdefgh"), "count": torch.tensor(8)})
    assert len(torch.unique_consecutive(batch[TASK_IDS])) == 4
    assert torch.equal(tasks[batch["row"]], batch[TASK_IDS])
    assert batch["text"] == ["abcdefgh"[i] for i in batch["row"].tolist()]


def test_a_batch_is_split_into_steps_of_one_task(tmp_path: Path) -> None:
    seen: list[set[int]] = []

    class Watched(OneTaskStepsTrainer):
        def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            seen.append(set(inputs[TASK_IDS].tolist()))
            return super()._compute_loss(model, inputs)

    def by_length(completions: list[str], **kwargs: object) -> list[float]:
        return [float(len(text) % 2) for text in completions]

    trainer = Watched(
        model=tiny_model(),
        tasks=[Task(name, rows(name), by_length) for name in "ab"],
        args=tiny_config(tmp_path, method="grpo", max_steps=4, per_device_train_batch_size=8, steps_per_generation=2),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    assert len(seen) == 4
    assert any(len(tasks) == 1 for tasks in seen)
