"""What a reader sees while a run goes on: tables of steps and evaluations, and the ledger at the end."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny import contains_a, contains_digit, contains_lower, rows, three_tasks, tiny_trainer
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from trl_mtgrpo import Task
from trl_mtgrpo.report.display import TaskTableCallback, evaluation_table, host_line, task_table, total_line
from trl_mtgrpo.report.host_output import quieten
from trl_mtgrpo.report.ledger_table import format_ledger, ledger_table
from trl_mtgrpo.report.screen import Screen
from trl_mtgrpo.sampling.accounting import REASONS, RolloutLedger


LOGS = {
    "tasks/a/weight": 0.25,
    "tasks/a/accuracy": 0.5,
    "tasks/a/filtered_ratio": 0.125,
    "tasks/a/generated_groups": 8.0,
    "tasks/a/batch_share": 0.375,
    "tasks/a/stalled": 0.0,
    "tasks/b/weight": 0.75,
    "tasks/b/generated_groups": 0.0,
    "tasks/b/batch_share": 0.625,
    "tasks/b/stalled": 1.0,
    "sampling/generated_groups": 8.0,
    "sampling/accepted_groups": 7.0,
    "sampling/rounds": 1.0,
    "sampling/waste": 1.6,
    "sampling/unfilled_groups": 1.0,
    "sampling/total_generated_tokens": 12345.0,
    "loss": 0.0123,
    "learning_rate": 1e-6,
}

EVALUATION = {
    "eval_tasks/a/accuracy": 0.25,
    "eval_tasks/a/reward": 0.5,
    "eval_tasks/a/completions": 24.0,
    "eval_tasks/a/completion_length": 100.4,
    "eval_worst_task_accuracy": 0.25,
    "eval_average_accuracy": 0.25,
}

# Names that rich, HTML, Markdown, TeX or matplotlib would read as something else.
NAMES = ("math [hard]", "a$b$", "<b>", "a_b^c", "_x", "[/]", ":smile:", "a\\b", "größe")


def shown(table: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    Screen(console).show(table)
    return console.file.getvalue()


def callback(**options: Any) -> TaskTableCallback:
    return TaskTableCallback(["a", "b"], Console(file=io.StringIO(), width=120, **options))


def log(to: TaskTableCallback, logs: dict[str, Any], is_first: bool = True) -> str:
    state = TrainerState(global_step=7, is_world_process_zero=is_first)
    to.on_log(TrainingArguments("out", use_cpu=True, bf16=False), state, TrainerControl(), logs=logs)
    return to.console.file.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")[1:-1]]


def row(text: str, name: str) -> list[str]:
    return next(found for line in text.splitlines() if (found := cells(line)) and found[0] == name)


def ledger(**changes: list[Any]) -> RolloutLedger:
    filtered = [[1, 2, *[0] * (len(REASONS) - 2)], [0] * len(REASONS)]
    values = {
        "carried_in": [2, 0],
        "generated": [10, 4],
        "trained": [6, 4],
        "filtered": filtered,
        "expired": [1, 0],
        "carried_out": [2, 0],
    }
    return RolloutLedger(**{name: np.array(value) for name, value in (values | changes).items()})


def test_a_row_holds_what_is_known_of_a_task() -> None:
    text = shown(task_table(["a", "b"], LOGS, step=7))
    assert row(text, "a") == ["a", "25.0%", "50.0%", "-", "12.5%", "8", "37.5%"]


@pytest.mark.parametrize("unknown", [{}, {"tasks/b/accuracy": None, "tasks/b/filtered_ratio": None}])
def test_what_was_not_measured_is_a_dash_and_a_stalled_task_says_so(unknown: dict[str, None]) -> None:
    text = shown(task_table(["a", "b"], LOGS | unknown, step=7))
    assert row(text, "b (stalled)") == ["b (stalled)", "75.0%", "-", "-", "-", "0", "62.5%"]


def test_the_total_is_one_line() -> None:
    assert total_line(LOGS) == (
        "per step: 8.0 groups generated in 1.0 rounds, 7.0 accepted, 1.0 missing; 1.60 generated per trained; "
        "12,345 tokens so far"
    )


def test_the_hosts_own_numbers_stay_in_view() -> None:
    assert host_line(LOGS) == "loss 0.0123, learning rate 1e-06"
    assert host_line({"loss": None}) == ""


@pytest.mark.parametrize(("past", "trend"), [([0.4], "↑ +10.0"), ([0.6, 0.6], "↓ -10.0"), ([0.501], "→ -0.1")])
def test_the_trend_compares_with_earlier_accuracies(past: list[float], trend: str) -> None:
    assert trend in shown(task_table(["a", "b"], LOGS, 7, {"a": past}))


def test_an_evaluation_is_a_table_in_the_same_unit_with_the_worst_and_the_average() -> None:
    text = shown(evaluation_table(["a", "b"], EVALUATION, "eval_", 7))
    assert "step 7, evaluation" in text
    assert row(text, "a") == ["a", "25.0%", "0.500", "24", "100"]
    assert row(text, "b") == ["b", "-", "-", "-", "-"]
    assert row(text, "worst task")[1] == row(text, "average")[1] == "25.0%"


@pytest.mark.parametrize("prefix", ["eval_near_", "test_"])
def test_an_evaluation_of_another_set_is_shown_under_its_name(prefix: str) -> None:
    logs = {key.replace("eval_", prefix): value for key, value in EVALUATION.items()}
    text = log(callback(), logs)
    assert f"evaluation '{prefix.removeprefix('eval_').rstrip('_')}'" in text
    assert row(text, "a")[1] == "25.0%"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_written(name: str, width: int) -> None:
    logs = {key.replace("tasks/a/", f"tasks/{name}/"): value for key, value in (LOGS | EVALUATION).items()}
    assert row(shown(task_table([name, "b"], logs, 7), width), name)[1] == "25.0%"
    assert row(shown(evaluation_table([name, "b"], logs, "eval_", 7), width), name)[1] == "25.0%"
    assert name in shown(ledger_table([name, "b"], ledger(), ledger()), 120)
    assert name in shown(f"step 1: {name} 3", width)


@given(st.integers(1, 140), st.integers(0, 10**12))
def test_a_number_is_never_broken_however_narrow_the_terminal(width: int, tokens: int) -> None:
    text = shown(ledger_table(["a", "b" * 60], ledger(), ledger(generated=[tokens, 1])), width)
    assert f"{tokens:,}" in text


def test_an_output_that_cannot_spell_a_name_shows_a_mark_in_its_place() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=100)
    Screen(console).show(task_table(["größe"], {"tasks/größe/weight": 0.25}, 7), "größe ↑")
    assert b"gr??e" in raw.getvalue()
    assert b"25.0%" in raw.getvalue()


def test_a_file_gets_room_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert Screen().console.width == 120


def test_a_notebook_gets_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    display = pytest.importorskip("IPython.utils.capture")
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    interactive.InteractiveShell.instance()
    try:
        with display.capture_output() as captured:
            to = TaskTableCallback(["<b>", "b"], Console(force_jupyter=True))
            to.on_log(
                TrainingArguments("out", use_cpu=True, bf16=False),
                TrainerState(global_step=7),
                TrainerControl(),
                logs={"tasks/<b>/weight": 0.25},
            )
        html = captured.outputs[0].data["text/html"]
    finally:
        interactive.InteractiveShell.clear_instance()
    assert "&lt;b&gt;" in html
    assert "25.0%" in html


@pytest.mark.parametrize("is_terminal", [True, False])
def test_trends_are_shown_from_the_second_step_on(is_terminal: bool) -> None:
    to = callback(force_terminal=is_terminal)
    assert "step 7" in log(to, LOGS)
    assert "↑ +20.0" in log(to, LOGS | {"tasks/a/accuracy": 0.7})


@pytest.mark.parametrize("case", ["another process", "the end of training", "nothing"])
def test_nothing_is_shown_by_another_process_or_without_metrics_of_tasks(case: str) -> None:
    to = callback()
    logs = {"the end of training": {"train_runtime": 1.0}, "nothing": {}}.get(case, LOGS | EVALUATION)
    assert log(to, logs, is_first=case != "another process") == ""


def test_the_host_prints_only_what_no_table_shows(capsys: pytest.CaptureFixture[str]) -> None:
    callbacks: list[TrainerCallback] = [ProgressCallback(), PrinterCallback()]
    quieten(callbacks, callback().shows)
    args, state, control = TrainingArguments("out", use_cpu=True, bf16=False), TrainerState(), TrainerControl()
    for quiet in callbacks:
        quiet.on_train_begin(args, state, control)
        quiet.on_log(args, state, control, logs=dict(LOGS))
        quiet.on_log(args, state, control, logs=dict(EVALUATION))
        quiet.on_log(args, state, control, logs={"train_runtime": 1.5})
    printed = capsys.readouterr().out
    assert "tasks/a" not in printed
    assert printed.count("train_runtime") == 2


def test_the_hosts_callbacks_can_still_be_named_and_others_stay_as_they_are() -> None:
    class Mine(ProgressCallback):
        pass

    mine = Mine()
    callbacks: list[TrainerCallback] = [ProgressCallback(max_str_len=5), PrinterCallback(), mine]
    quieten(callbacks, callback().shows)
    assert isinstance(callbacks[0], ProgressCallback)
    assert callbacks[0].max_str_len == 5
    assert isinstance(callbacks[1], PrinterCallback)
    assert callbacks[2] is mine


def test_a_notebook_lists_no_metric_of_every_task_after_an_evaluation() -> None:
    pytest.importorskip("IPython")
    from transformers.utils.notebook import NotebookProgressCallback

    callbacks: list[TrainerCallback] = [NotebookProgressCallback()]
    quieten(callbacks, callback().shows)
    lines: list[dict[str, Any]] = []
    quiet: Any = callbacks[0]
    quiet.training_tracker = type(
        "Tracker", (), {"write_line": lambda self, values: lines.append(values), "remove_child": lambda self: None}
    )()
    quiet.on_evaluate(
        TrainingArguments("out", use_cpu=True, bf16=False, eval_strategy="steps", eval_steps=1),
        TrainerState(global_step=3),
        TrainerControl(),
        metrics=EVALUATION | {"eval_loss": 0.5},
    )
    assert lines[0]["Validation Loss"] == 0.5
    assert lines[0]["Worst Task Accuracy"] == 0.25
    assert not any("/" in key for key in lines[0])


def test_the_ledger_has_one_row_per_task_and_a_total() -> None:
    lines = format_ledger(("countdown", "zebra"), ledger(), ledger()).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[:3] == ["task", "generated", "trained"]
    assert lines[3].split()[:3] == ["countdown", "10", "6"]
    assert lines[-1].split()[:4] == ["all", "tasks", "14", "10"]


def test_a_reason_that_never_occurred_has_no_column() -> None:
    heading = format_ledger(("a", "b"), ledger(), ledger())
    assert "solved" in heading
    assert "unscored" not in heading
    assert "expired" in heading
    assert "expired" not in format_ledger(("a", "b"), ledger(expired=[0, 0]), ledger())


def test_large_numbers_are_grouped() -> None:
    assert "1,234,567" in format_ledger(("a", "b"), ledger(generated=[1234567, 1]), ledger())


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("bar", [True, False])
def test_a_run_shows_the_tables_and_the_ledger_unless_told_otherwise(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], wanted: bool, bar: bool
) -> None:
    tasks = [
        Task(name, rows(name[0]), function, eval_dataset=rows(name[0], size=4), success_threshold=1.0)
        for name, function in {"math [hard]": contains_lower, "a$b": contains_digit, "<b>": contains_a}.items()
    ]
    trainer = tiny_trainer(
        tmp_path, tasks, task_table=wanted, disable_tqdm=not bar, eval_strategy="steps", eval_steps=3
    )
    trainer.train()
    printed = capsys.readouterr().out
    for name in ("math [hard]", "a$b", "<b>"):
        assert (sum(cells(line)[:1] == [name] for line in printed.splitlines()) == 4) is wanted
    assert ("'tasks/a$b/weight'" in printed) is not wanted
    assert ("Where the rollouts of this run went" in printed) is wanted
    assert ("all tasks" in printed) is wanted


def test_a_real_step_fills_every_cell(tmp_path: Any) -> None:
    trainer = tiny_trainer(tmp_path, three_tasks())
    to = TaskTableCallback(trainer.mixture.names, Console(file=io.StringIO(), width=120, force_terminal=True))
    trainer.add_callback(to)
    trainer.train()
    text = to.console.file.getvalue()
    assert all(f"step {step}" in text for step in (1, 2, 3))
    assert text.count("hard") == 3
