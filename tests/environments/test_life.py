"""Environments are bounded in number, closed at the end, evaluated per task, and groups that wait are resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.environments.world import (
    Count,
    Guess,
    agent_trainer,
    chat_rows,
    four_tasks,
    guess_rows,
    guess_task,
    has_a_letter,
    tool_tokenizer,
)
from tests.host_runs import parameters_of
from trl_mtgrpo import Task
from trl_mtgrpo.host.collecting import split_calls
from trl_mtgrpo.tasks.rewards import RewardError


@pytest.fixture(autouse=True)
def counted_anew() -> None:
    Guess.made = Guess.resets = Guess.closed = 0


def test_no_more_environments_than_allowed_exist(tmp_path: Path) -> None:
    trainer = agent_trainer(
        tmp_path, [guess_task(max_environments=8), Task("plain", chat_rows("p"), has_a_letter)], max_steps=2
    )
    trainer.train()
    assert Guess.made == Guess.closed == 8
    assert Guess.resets == 2 + 4 * int(trainer.multi_task_state.groups.generated[0])  # two of a first look


def test_one_task_may_be_bounded_too(tmp_path: Path) -> None:
    trainer = agent_trainer(tmp_path, [guess_task(max_environments=4)], method="grpo", max_steps=2)
    trainer.train()
    assert Guess.made == 4
    assert Guess.resets == 2 + 2 * 16


def test_a_round_is_cut_into_calls_that_keep_every_bound() -> None:
    task = np.repeat([0, 1, 2], [5, 7, 3])
    calls = split_calls(task, 6, np.array([np.inf, 2, np.inf]), 1)
    assert [first for first, _ in calls] == [0, *(end for _, end in calls[:-1])]
    assert calls[-1][1] == 15
    for first, end in calls:
        assert end - first <= 6
        assert (task[first:end] == 1).sum() <= 2
    assert split_calls(task, 4, None, 1) == [(0, 4), (4, 8), (8, 12), (12, 15)]
    for first, _ in split_calls(task[:14], 6, np.array([np.inf, 4, np.inf]), 2):
        assert first % 2 == 0


def fails(environments: list[Any], **kwargs: Any) -> list[float]:
    raise ArithmeticError("no score")


def test_environments_are_closed_after_an_error(tmp_path: Path) -> None:
    trainer = agent_trainer(tmp_path, [guess_task(reward_funcs=fails)])
    with pytest.raises(RewardError, match="ArithmeticError: no score"):
        trainer.train()
    assert Guess.closed == Guess.made > 0


class Stubborn(Guess):
    def close(self) -> None:
        raise OSError("busy")


def test_an_environment_that_cannot_be_closed_does_not_hide_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent_trainer(tmp_path, [guess_task(environment_factory=Stubborn)], max_steps=1).train()
    assert "An environment of task 'guess' failed in `close`: OSError: busy" in caplog.text


class Forgetful(Guess):
    def reset(self, number: int, **row: Any) -> str:
        raise LookupError("no such room")


def test_a_reset_that_fails_stops_the_run_before_anything_is_generated(tmp_path: Path) -> None:
    trainer = agent_trainer(tmp_path, [guess_task(environment_factory=Forgetful)])
    with pytest.raises(RewardError, match=r"task 'guess' must make environments that can be reset.*no such room"):
        trainer.train()
    assert trainer.state.num_input_tokens_seen == 0


class Odd(Guess):
    def reset(self, number: int, **row: Any) -> Any:
        return number


def test_an_observation_is_text(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="an observation must be text, a list of content parts or None"):
        agent_trainer(tmp_path, [guess_task(environment_factory=Odd)]).train()


class Camera(Guess):
    def guess(self, n: int) -> Any:
        """
        Looks.

        Args:
            n: Where.
        """
        return [{"type": "image", "image": object()}]


def test_an_image_of_a_tool_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="Tools of task 'guess' must return text, got an image from 'guess'"):
        agent_trainer(tmp_path, [guess_task(environment_factory=Camera)]).train()


class Slow(Guess):
    def guess(self, n: int) -> str:
        """
        Never ends.

        Args:
            n: The number.
        """
        while True:
            pass


class Waits(Count):
    async def step(self, n: int) -> int:
        """
        Never ends.

        Args:
            n: How far.
        """
        import asyncio

        await asyncio.sleep(1000)
        return n


@pytest.mark.parametrize(("kind", "tool"), [(Slow, "guess"), (Waits, "step")])
def test_a_tool_that_hangs_is_ended_and_the_model_is_told(kind: Any, tool: str, tmp_path: Path) -> None:
    said: list[str] = []

    def listen(completions: list[Any], **kwargs: Any) -> list[float]:
        said.extend(m["content"] for c in completions for m in c if m["role"] == "tool" and m["name"] == tool)
        return [0.0 if len(c) == 1 else 1.0 for c in completions]

    rows = {"train_dataset": guess_rows()} if kind is Slow else {"train_dataset": None, "num_rows": 8}
    task = Task("a", reward_funcs=listen, environment_factory=kind, tool_timeout=0.05, **rows)
    trainer = agent_trainer(
        tmp_path, [task], max_steps=1, max_tool_calling_iterations=1, max_completion_length=100, method="grpo"
    )
    trainer.train()
    assert said
    assert set(said) == {f"{{'error': '{tool} took longer than 0.05 seconds.'}}"}
    assert trainer.state.log_history[0]["tasks/a/tool_failures"] > 0


def test_functions_see_the_users_environments_and_plain_ones_see_none(tmp_path: Path) -> None:
    seen: dict[str, list[Any]] = {"guess": [], "plain": []}

    def watch(name: str) -> Any:
        def reward(completions: list[Any], **kwargs: Any) -> list[float]:
            seen[name].append((kwargs.get("environments"), len(completions), sorted(kwargs)))
            return [float(i % 2) for i, _ in enumerate(completions)]

        return reward

    def won(environments: list[Any], number: list[int], **kwargs: Any) -> list[bool]:
        assert [environment.number for environment in environments] == number
        return [environment.found for environment in environments]

    tasks = [
        guess_task(reward_funcs=watch("guess"), success_threshold=None, outcome_func=won),
        Task("plain", chat_rows("p"), watch("plain")),
    ]
    agent_trainer(tmp_path, tasks, max_steps=1).train()
    for environments, num_rows, columns in seen["guess"]:
        assert [type(environment) for environment in environments] == [Guess] * num_rows
        assert "number" in columns
    for environments, _, columns in seen["plain"]:
        assert environments is None
        assert not {"environment", "environments", "number"} & set(columns)


def test_tasks_are_evaluated_each_with_its_environment(tmp_path: Path) -> None:
    plain = Task("plain", chat_rows("p"), has_a_letter, eval_dataset=chat_rows("e", 3), success_threshold=1.0)
    trainer = agent_trainer(tmp_path, [plain, guess_task(eval_dataset=guess_rows(5))])
    metrics = trainer.evaluate()
    assert metrics["eval_tasks/guess/completions"] == 20
    assert metrics["eval_tasks/plain/completions"] == 12
    assert metrics["eval_tasks/guess/tool_calls"] > metrics["eval_tasks/plain/tool_calls"] == 0
    assert metrics["eval_tasks/plain/turns"] == 1
    assert metrics["eval_worst_task_accuracy"] == min(
        metrics["eval_tasks/guess/accuracy"], metrics["eval_tasks/plain/accuracy"]
    )
    assert Guess.closed == Guess.made > 0


@pytest.mark.slow
def test_a_run_with_waiting_groups_of_environments_resumes_exactly(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole = agent_trainer(tmp_path, four_tasks(), **options)
    torch.manual_seed(0)
    whole.train()
    carried = 0
    for step in (2, 4):
        resumed = agent_trainer(tmp_path, four_tasks(), **options)
        torch.manual_seed(1)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        carried += int(resumed.multi_task_state.groups.carried_out.sum())
        assert torch.equal(parameters_of(whole), parameters_of(resumed))
        assert np.array_equal(whole.multi_task_state.tokens.generated, resumed.multi_task_state.tokens.generated)
        assert whole.task_weights == resumed.task_weights
    waiting = [line.get("sampling/carried_groups", 0) for line in whole.state.log_history]
    assert max(waiting[1], waiting[3]) > 0, "no group waited at a checkpoint"


def test_an_environment_that_owns_its_data_gets_a_number_per_row() -> None:
    task = Task("count", None, environment_factory=Count, num_rows=12)
    assert task.train_dataset["seed"][:3] == [0, 1, 2]
    assert len(task.train_dataset) == 12
    assert task.train_dataset["prompt"][0] == [{"role": "user", "content": ""}]
    assert tool_tokenizer().chat_template
