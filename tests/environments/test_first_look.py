"""Before training each environment is looked at, so that a mistake in the wiring costs a minute."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.environments.world import Guess, agent_trainer, four_tasks, guess_task
from trl_mtgrpo.host.first_look import look_at_environments


def test_what_the_model_reads_first_is_shown(tmp_path: Path) -> None:
    trainer = agent_trainer(tmp_path, four_tasks())
    looks = {look.task: look for look in look_at_environments(trainer, trainer.mixture)}
    assert list(looks) == ["sum", "guess", "count"]
    assert looks["sum"].prompt == "mul;add;Us0A"
    assert looks["guess"].prompt == "fail;guess;Ug0?1A"
    assert looks["count"].prompt == "step;U1!A"
    assert all(look.repeats for look in looks.values())


class Random(Guess):
    def reset(self, number: int, **row: Any) -> str:
        super().reset(number, **row)
        return f"{type(self).resets}"


def test_a_reset_that_is_no_function_of_its_row_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        agent_trainer(tmp_path, [guess_task(environment_factory=Random)], max_steps=1).train()
    assert "`reset` of task 'guess' gave two observations for one row: " in caplog.text


def test_one_that_is_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="trl_mtgrpo"):
        agent_trainer(tmp_path, [guess_task()], max_steps=1).train()
    assert "two observations" not in caplog.text
    assert "Task 'guess' begins with:\nfail;guess;U" in caplog.text
