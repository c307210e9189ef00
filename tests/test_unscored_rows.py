"""What a user hears of rows without a reward, and of reward functions that answer in another form or leave."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.programs.program_runs import one_call, program_task, program_trainer
from tests.tiny import contains_lower, rows, tiny_trainer
from trl_mtgrpo import Task
from trl_mtgrpo.tasks.failures import RewardError


def every_other(completions: list[Any], **kwargs: Any) -> list[float | None]:
    return [None if i % 2 else 1.0 for i in range(len(completions))]


def trained(folder: Path, reward: Any, dataset: Dataset | None = None, **changes: Any) -> Any:
    tasks = [Task("a", dataset or rows("a"), reward), Task("b", rows("b"), contains_lower)]
    trainer = tiny_trainer(folder, tasks, **({"max_steps": 2, "method": "grpo"} | changes))
    trainer.train()
    return trainer


def test_rows_without_a_reward_are_named_once_by_task_and_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(tmp_path, every_other, max_steps=3)
    said = [record.getMessage() for record in caplog.records if "no reward" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("Completions of task 'a' got no reward (the first for row ")
    assert said[0].endswith("Return a number for them, or filter such rows out.")


@pytest.mark.parametrize("way", ["training", "evaluation", "program", "failure", "dropped"])
def test_nothing_internal_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str) -> None:
    def broken(completions: list[Any], **kwargs: Any) -> list[float]:
        raise ValueError("oops")

    if way == "program":
        program_trainer(
            tmp_path, [program_task(one_call, lambda outputs, **kwargs: every_other(outputs))], max_steps=1
        ).train()
    elif way == "failure":
        with pytest.raises(RewardError):
            trained(tmp_path, broken)
    elif way == "evaluation":
        tasks = [Task("a", rows("a"), every_other, eval_dataset=rows("e")), Task("b", rows("b"), contains_lower)]
        tiny_trainer(tmp_path, tasks).evaluate()
    else:
        trained(tmp_path, broken if way == "dropped" else every_other, reward_on_error="drop")
    for word in ("_task_row", "TaskRow", "All reward functions returned None"):
        assert word not in caplog.text


def test_the_host_speaks_for_itself_where_there_are_no_tasks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tests.tiny import tiny_config, tiny_model, tiny_tokenizer
    from trl_mtgrpo import MultiTaskGRPOTrainer

    MultiTaskGRPOTrainer(
        tiny_model(),
        every_other,
        tiny_config(tmp_path, max_steps=1),
        rows("a"),
        processing_class=tiny_tokenizer(),
    ).train()
    assert "All reward functions returned None" in caplog.text


@pytest.mark.parametrize("form", [lambda n: dict.fromkeys(range(n), 1.0), lambda n: set(range(n)), frozenset])
def test_rewards_without_an_order_are_refused(tmp_path: Path, form: Any) -> None:
    with pytest.raises(RewardError, match=r"must return one number or None per row, got .*Return a list as long as"):
        trained(tmp_path, lambda completions, **kwargs: form(range(99) if form is frozenset else len(completions)))


@pytest.mark.parametrize("limit", [None, 5.0])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_reward_function_cannot_end_the_process(tmp_path: Path, is_async: bool, limit: float | None) -> None:
    def leaving(completions: list[Any], **kwargs: Any) -> list[float]:
        sys.exit(3)

    async def leaving_later(completions: list[Any], **kwargs: Any) -> list[float]:
        sys.exit(3)

    with pytest.raises(RewardError, match="`reward_funcs` of task 'a' must not raise, got ExitError: it asked the"):
        trained(tmp_path, leaving_later if is_async else leaving, reward_timeout=limit)


def test_a_warning_about_rewards_stands_once_at_the_users_line(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trained(tmp_path, lambda completions, **kwargs: [5.0] * len(completions), max_steps=3)
    mine = [warning for warning in found if "reward_range" in str(warning.message)]
    assert len(mine) == 1
    assert mine[0].filename == __file__


def test_only_the_main_process_says_what_all_know(caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np

    from trl_mtgrpo.report.reporting import RunReporter

    for speaks in (False, True):
        reporter = RunReporter(("a",), np.array([3]), True, 5, speaks=speaks)
        with caplog.at_level(logging.WARNING):
            reporter.cut([1.0], 8)
        assert bool(caplog.records) is speaks
