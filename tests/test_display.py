"""The table of a logging step."""

import io
from typing import Any

import pytest
from rich.console import Console
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer
from transformers import TrainerControl, TrainerState, TrainingArguments

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.report.display import TaskTableCallback, task_table, total_line


LOGS = {
    "tasks/a/weight": 0.25,
    "tasks/a/accuracy": 0.5,
    "tasks/a/filtered_ratio": 0.125,
    "tasks/a/generated_groups": 8.0,
    "tasks/a/batch_share": 0.375,
    "tasks/a/stalled": 0.0,
    "tasks/b/weight": 0.75,
    "tasks/b/accuracy": None,
    "tasks/b/filtered_ratio": None,
    "tasks/b/generated_groups": 0.0,
    "tasks/b/batch_share": 0.625,
    "tasks/b/stalled": 1.0,
    "sampling/generated_groups": 8.0,
    "sampling/accepted_groups": 7.0,
    "sampling/rounds": 1.0,
    "sampling/waste": 1.6,
    "sampling/unfilled_groups": 1.0,
    "sampling/total_generated_tokens": 12345.0,
}


def shown(table: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def callback(is_terminal: bool) -> TaskTableCallback:
    return TaskTableCallback(["a", "b"], Console(file=io.StringIO(), width=120, force_terminal=is_terminal))


def log(to: TaskTableCallback, logs: dict[str, Any], is_first: bool = True) -> str:
    state = TrainerState(global_step=7, is_world_process_zero=is_first)
    to.on_log(TrainingArguments("out", use_cpu=True, bf16=False), state, TrainerControl(), logs=logs)
    return to.console.file.getvalue()


def test_a_row_holds_what_is_known_of_a_task() -> None:
    lines = shown(task_table(["a", "b"], LOGS, step=7)).splitlines()
    row = next(line for line in lines if " a " in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["a", "25.0%", "50.0%", "-", "12.5%", "8", "37.5%"]


def test_what_was_not_measured_is_a_dash_and_a_stalled_task_says_so() -> None:
    row = next(line for line in shown(task_table(["a", "b"], LOGS, step=7)).splitlines() if "stalled" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["b (stalled)", "75.0%", "-", "-", "-", "0", "62.5%"]


def test_the_total_is_one_line() -> None:
    assert total_line(LOGS) == (
        "per step: 8.0 groups generated in 1.0 rounds, 7.0 accepted, 1.0 missing; 1.60 generated per trained; "
        "12,345 tokens so far"
    )


@pytest.mark.parametrize(("past", "trend"), [([0.4], "↑ +10.0"), ([0.6, 0.6], "↓ -10.0"), ([0.501], "→ -0.1")])
def test_the_trend_compares_with_earlier_accuracies(past: list[float], trend: str) -> None:
    assert trend in shown(task_table(["a", "b"], LOGS, 7, {"a": past}))


def test_a_terminal_gets_the_table_with_trends_from_the_second_step_on() -> None:
    to = callback(is_terminal=True)
    assert "step 7" in log(to, LOGS)
    assert "↑ +20.0" in log(to, LOGS | {"tasks/a/accuracy": 0.7})


@pytest.mark.parametrize("case", ["no terminal", "another process", "an evaluation", "the end of training"])
def test_nothing_is_shown_without_a_reader_or_without_training_metrics(case: str) -> None:
    to = callback(is_terminal=case != "no terminal")
    logs = {"an evaluation": {"eval_loss": 0.0}, "the end of training": {"train_runtime": 1.0}}.get(case, LOGS)
    assert log(to, logs, is_first=case != "another process") == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_the_trainer_installs_the_table_unless_told_otherwise(tmp_path: Any, wanted: bool) -> None:
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        tasks=three_tasks(),
        args=tiny_config(tmp_path, task_table=wanted),
    )
    installed = [c for c in trainer.callback_handler.callbacks if isinstance(c, TaskTableCallback)]
    assert len(installed) == int(wanted)


def test_a_real_step_fills_every_cell(tmp_path: Any) -> None:
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(), processing_class=tiny_tokenizer(), tasks=three_tasks(), args=tiny_config(tmp_path)
    )
    to = TaskTableCallback(trainer.mixture.names, Console(file=io.StringIO(), width=120, force_terminal=True))
    trainer.add_callback(to)
    trainer.train()
    text = to.console.file.getvalue()
    assert all(f"step {step}" in text for step in (1, 2, 3))
    assert text.count("hard") == 3
