"""The recipe of the docs against a real OpenEnv server: `make test-openenv`."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.environments.world import agent_trainer, chat_rows, has_a_letter
from trl_mtgrpo import Task


pytest.importorskip("openenv", reason="OpenEnv is installed by `make test-openenv` only")

from tests.environments.openenv_server import Guessing, serving


PAGE = Path(__file__).parents[2] / "docs" / "environments.md"


def task_of_the_docs(url: str) -> Task:
    block = next(code for code in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.S) if "openenv" in code)
    names: dict[str, Any] = {"Task": Task}
    exec(block.replace("http://127.0.0.1:8000", url), names)
    return names["task"]


@pytest.mark.slow
def test_the_recipe_trains_beside_a_plain_task_and_resets_what_it_generates(tmp_path: Path) -> None:
    with serving(sessions=64) as url:
        tasks = [Task("plain", chat_rows("p"), has_a_letter, success_threshold=1.0), task_of_the_docs(url)]
        trainer = agent_trainer(tmp_path, tasks, max_steps=3)
        before = Guessing.resets
        trainer.train()
        resets = Guessing.resets - before
    lines = [line for line in trainer.state.log_history if "tasks/guess/reward" in line]
    generated = trainer.multi_task_state.groups.generated[1] * trainer.args.num_generations
    assert any(line["tasks/guess/tool_calls"] > 0 for line in lines)
    assert any(0 < line["tasks/guess/reward"] < 1 for line in lines)
    assert generated <= resets <= generated + 2  # the first look takes one or two
