"""A task trains however few rows it has, and messages without a chat template are refused before they are sent."""

from pathlib import Path

import pytest

from tests.programs.program_runs import lower_share, one_call
from tests.tiny import contains_lower, rows, tiny_trainer
from trl_mtgrpo import Task


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("num_tasks", [1, 2])
def test_fewer_rows_than_a_batch_has_prompts_are_trained(tmp_path: Path, size: int, num_tasks: int) -> None:
    tasks = [Task(name, rows(name, size=size), contains_lower) for name in "ab"[:num_tasks]]
    trainer = tiny_trainer(tmp_path, tasks, max_steps=2, method="grpo")
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.state.log_history[0]["tasks/a/generated_groups"] > 0


def test_messages_without_a_chat_template_are_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`processing_class` must have a chat template for task 'a', whose prompts"):
        tiny_trainer(tmp_path, [Task("a", rows("a", chat=True), contains_lower)])


def test_a_program_sends_what_it_likes_from_rows_of_messages(tmp_path: Path) -> None:
    task = Task("p", rows("p", chat=True), lower_share, program=lambda example, call: one_call({"prompt": "x"}, call))
    trainer = tiny_trainer(tmp_path, [task], max_steps=1, method="grpo")
    trainer.train()
    assert trainer.state.global_step == 1
