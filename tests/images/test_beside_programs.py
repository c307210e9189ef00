"""Tasks with images beside a program in one run."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.images.world import KINDS, asked, mixed_tasks, seeing_trainer
from trl_mtgrpo import Task
from trl_mtgrpo.tasks.failures import RewardError


def twice(example: dict[str, Any], call: Any) -> str:
    first = call("draft", example["prompt"])
    return call("final", [{"role": "user", "content": f"f{first}"}])


def has_lower(outputs: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(c.islower() for c in output or "")) for output in outputs]


def program(size: int = 12) -> Task:
    rows = Dataset.from_dict({"prompt": asked("x", size)})
    held_out = Dataset.from_dict({"prompt": asked("y", 3)})
    return Task("prog", rows, has_lower, program=twice, success_threshold=1.0, eval_dataset=held_out)


@pytest.mark.parametrize("model", KINDS)
def test_images_and_programs_train_and_are_evaluated_together(model: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    tasks = mixed_tasks(seen, with_eval=True)
    trainer = seeing_trainer(tmp_path, [tasks[0], program(), tasks[3]], model, max_steps=3)
    trainer.train()
    state = trainer.multi_task_state
    assert (state.groups.trained > 0).all()
    assert state.groups.imbalance.tolist() == state.tokens.imbalance.tolist() == [0, 0, 0]
    seen.clear()
    metrics = trainer.evaluate()
    for task in ("one", "prog", "text"):
        assert metrics[f"eval_tasks/{task}/completions"] == 3 * trainer.num_generations_eval
    assert metrics["eval_tasks/prog/calls_per_rollout"] == 2.0
    forms = {len(own): {type(p[-1]["content"]) for p in prompts} for _, prompts, own in seen}
    assert forms == {1: {list}, 0: {str}}


def test_a_program_that_sends_text_beside_images_is_told_so(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"prompt": asked("x", 12)})
    task = Task("prog", rows, has_lower, program=lambda example, call: call("ask", "text"))
    trainer = seeing_trainer(tmp_path, [mixed_tasks()[0], task], max_steps=1)
    with pytest.raises(RewardError, match="`program` of task 'prog' must send messages in a run in which tasks have"):
        trainer.train()
