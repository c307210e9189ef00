"""The completions table holds the completions that train, and nothing that only fills the shape of a batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.programs.program_runs import program_task, program_trainer, ragged
from tests.tiny import contains_a, contains_digit, rows, tiny_trainer
from trl_mtgrpo import Task


def short_run(folder: Path, reward: Any, **changes: Any) -> Any:
    once = {"max_resampling_rounds": 0, "oversampling": 1.0, "solved_discount": 0.0, "max_surplus_age": 0}
    tasks = [Task("a", rows("a"), reward, success_threshold=1.0)]
    trainer = tiny_trainer(folder, tasks, log_completions=True, **(once | changes))
    trainer.train()
    return trainer


def tables(folder: Path) -> list[pd.DataFrame]:
    return [pd.read_parquet(path) for path in sorted((folder / "completions").glob("*.parquet"))]


@pytest.mark.parametrize("reward", [contains_a, contains_digit])
def test_rejected_groups_that_fill_a_batch_are_no_rows(tmp_path: Path, reward: Any) -> None:
    trainer = short_run(tmp_path, reward)
    unfilled = [line["sampling/unfilled_groups"] for line in trainer.state.log_history if "reward" in line]
    assert any(unfilled)
    found = tables(tmp_path)
    assert [len(table) for table in found] == [16 - 4 * int(groups) for groups in unfilled]
    assert not any(table.isna().any(axis=None) for table in found)


def test_a_batch_of_fillers_has_an_empty_table(tmp_path: Path) -> None:
    short_run(tmp_path, lambda completions, **kwargs: [1.0] * len(completions), max_empty_steps=20)
    assert [len(table) for table in tables(tmp_path)] == [0, 0, 0]


def test_every_row_of_a_program_is_a_call_that_was_made(tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, [program_task(ragged)], log_completions=True)
    trainer.train()
    fillers = [line["sampling/filler_rows"] for line in trainer.state.log_history if "reward" in line]
    assert any(fillers)
    found = tables(tmp_path)
    assert [len(table) for table in found] == [16 - int(count) for count in fillers]
    assert all(table[["module", "rollout", "prog/lower_share"]].notna().all(axis=None) for table in found)
    for column in (trainer._logs["prompt"], trainer._logs["advantages"], *trainer._logs["extra"].values()):
        assert len(column) == len(found[-1])


def test_columns_stay_beside_their_completions_when_rows_are_left_out(tmp_path: Path) -> None:
    def logging_reward(completions: list[str], log_extra: Any, **kwargs: Any) -> list[float]:
        log_extra("copy", list(completions))
        return contains_a(completions)

    short_run(tmp_path, logging_reward)
    for table in tables(tmp_path):
        assert table["copy"].tolist() == table["completion"].tolist()
        assert np.allclose(table["a/logging_reward"], contains_a(table["completion"].tolist()))
