"""What is said at the start is about what the user did, and stands at the user's line."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.environments.world import add, agent_trainer, answered, chat_rows, guess_task
from trl_mtgrpo import Task


EXPERIMENTAL = "You are using 'environment_factory'"


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRL_EXPERIMENTAL_SILENCE", raising=False)


def test_the_hosts_word_about_environments_stands_once_at_the_users_line(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        agent_trainer(tmp_path, [guess_task(), Task("sum", chat_rows("s"), answered, tools=[add])])
    said = [warning for warning in found if EXPERIMENTAL in str(warning.message)]
    assert len(said) == 1
    assert Path(said[0].filename).name == "world.py"  # which builds the trainer


def test_tools_alone_are_no_environment(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        agent_trainer(tmp_path, [Task("sum", chat_rows("s"), answered, tools=[add])])
    assert not [warning for warning in found if EXPERIMENTAL in str(warning.message)]


def test_warnings_survive_an_error_of_the_host(tmp_path: Path) -> None:
    from trl_mtgrpo.tasks.said import at_users_line

    def failing() -> Any:
        with at_users_line():
            warnings.warn("first", stacklevel=1)
            raise ValueError("then")

    with pytest.warns(UserWarning, match="first"), pytest.raises(ValueError, match="then"):
        failing()


def test_a_command_says_nothing_that_its_user_cannot_change(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent / "commands"))
    from desks import sum_task, sums, write_file, write_model, write_rows

    write_model(tmp_path / "model")
    write_rows(tmp_path / "sums.jsonl", sums())
    path = write_file(tmp_path, [sum_task()], {"max_steps": 1})
    command = [sys.executable, "-m", "trl_mtgrpo", "train", "--config", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
