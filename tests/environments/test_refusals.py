"""What cannot work is refused before the first step, with what to do."""

from pathlib import Path
from typing import Any

import pytest

from tests.environments.world import (
    Guess,
    add,
    agent_trainer,
    answered,
    chat_rows,
    four_tasks,
    guess_rows,
    guess_task,
    has_a_letter,
    mul,
    tool_tokenizer,
)
from tests.tiny import rows, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.host.agent_checks import check_agents, check_host_options
from trl_mtgrpo.tasks.mixture import TaskMixture


@pytest.mark.parametrize("options", [{"tools": [add]}, {"environment_factory": Guess}])
def test_text_prompts_cannot_show_tools(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`train_dataset` of task 'a' must have prompts that are lists of messages"):
        Task("a", rows("p"), has_a_letter, **options)


def test_a_template_must_show_tools(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`processing_class` must have a chat template .* for task 'guess'.*Qwen3"):
        agent_trainer(tmp_path, [guess_task()], tokenizer=tiny_tokenizer(chat=True))


def test_a_rollout_func_stands_without_tools(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`rollout_func` must be left out beside tasks with tools or environments"):
        check_agents(TaskMixture([guess_task()]), config(tmp_path), {"rollout_func": lambda prompts, trainer: {}})


def test_a_column_environment_has_no_meaning() -> None:
    data = chat_rows("p", environment=["a"] * 24)
    with pytest.raises(ValueError, match="`train_dataset` of task 'a' must not have a column 'environment', got one"):
        Task("a", data, environment_factory=Guess)
    assert Task("a", data, has_a_letter).name == "a"


def undocumented(a: int) -> int:
    return a


def untyped(a):  # type: ignore[no-untyped-def]
    """
    Doubles.

    Args:
        a: A number.
    """
    return a


@pytest.mark.parametrize("tool", [undocumented, untyped])
def test_a_tool_must_say_what_it_takes(tool: Any, tmp_path: Path) -> None:
    tasks = [Task("a", chat_rows("p"), answered, tools=[tool])]
    with pytest.raises(ValueError, match=f"`{tool.__name__}`, a tool of task 'a', must have types and a docstring"):
        agent_trainer(tmp_path, tasks)


class Undocumented:
    def reset(self, **row: Any) -> None: ...

    def look(self, at: str) -> str:
        return at

    def get_reward(self) -> float:
        return 0.0


def test_a_method_of_an_environment_must_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`look`, a tool of task 'a', must have types and a docstring"):
        agent_trainer(tmp_path, [Task("a", chat_rows("p"), environment_factory=Undocumented)])


def reset() -> str:
    """Resets."""
    return ""


def _hidden() -> str:
    """Hides."""
    return ""


@pytest.mark.parametrize("tools", [[add, add], [reset], [_hidden]])
def test_names_of_tools_must_be_usable(tools: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`tools` of task 'a' must be functions with names of their own"):
        agent_trainer(tmp_path, [Task("a", chat_rows("p"), answered, tools=tools)])


def test_tools_of_two_tasks_may_share_a_name(tmp_path: Path) -> None:
    def other_add(a: int, b: int) -> int:
        """
        Adds more.

        Args:
            a: One.
            b: Other.
        """
        return a + b + 1

    other_add.__name__ = "add"
    tasks = [
        Task("one", chat_rows("p"), answered, tools=[add]),
        Task("two", chat_rows("q"), answered, tools=[other_add]),
    ]
    trainer = agent_trainer(tmp_path, tasks)
    one, two = (trainer.environment_factories[name]() for name in ("one", "two"))
    assert (one.add(1, 2), two.add(1, 2)) == (3, 4)


class Broken:
    def __init__(self) -> None:
        raise ConnectionError("no server")

    def reset(self, **row: Any) -> None: ...


def test_an_environment_must_come_up() -> None:
    with pytest.raises(
        ValueError, match=r"`environment_factory` of task 'a' must make an environment.*ConnectionError: no server"
    ):
        Task("a", chat_rows("p"), environment_factory=Broken)


class AsyncReset:
    async def reset(self, **row: Any) -> None: ...


@pytest.mark.parametrize("factory", [object, AsyncReset])
def test_an_environment_must_be_resettable(factory: Any) -> None:
    with pytest.raises(ValueError, match=r"must make objects whose class has a method `reset\(\*\*row\)`"):
        Task("a", chat_rows("p"), has_a_letter, environment_factory=factory)


class Door:
    def reset(self, **row: Any) -> None: ...

    def close(self, number: int) -> str:
        """
        Closes a door.

        Args:
            number: Which.
        """
        return ""


def test_close_is_no_tool() -> None:
    with pytest.raises(ValueError, match=r"whose `close` takes nothing, got `close\(number: int\) -> str`"):
        Task("a", chat_rows("p"), has_a_letter, environment_factory=Door)


@pytest.mark.parametrize(
    "options", [{"tools": [add]}, {"environment_factory": Guess}, {"environment_factory": {"a": Guess}}]
)
def test_tools_must_say_their_task(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must say which task it belongs to, got .* Write `Task\(..., "):
        check_host_options(options, by_name=False)


def test_a_single_factory_is_refused_beside_a_dict_of_rewards(tmp_path: Path) -> None:
    data = guess_rows().add_column("task", ["guess"] * 24)
    with pytest.raises(ValueError, match="`environment_factory` must say which task it belongs to"):
        agent_trainer(tmp_path, None, reward_funcs={"guess": []}, train_dataset=data, environment_factory=Guess)


def test_unknown_names_in_dicts_are_named(tmp_path: Path) -> None:
    data = chat_rows("s").add_column("task", ["sum"] * 24)
    with pytest.raises(ValueError, match=r"`tools` must have names of tasks as its keys, got .'sums'.*Did you mean"):
        agent_trainer(tmp_path, None, reward_funcs={"sum": answered}, train_dataset=data, tools={"sums": [add]})


@pytest.mark.parametrize("with_rewards", [True, False])
def test_dicts_by_name_are_tasks(with_rewards: bool, tmp_path: Path) -> None:
    names = ["guess"] * 24
    data = guess_rows().add_column("task", names)
    options: dict[str, Any] = {"environment_factory": {"guess": Guess}}
    if with_rewards:
        options |= {"reward_funcs": {"guess": []}, "tools": {"guess": [mul, add]}}
    trainer: MultiTaskGRPOTrainer = agent_trainer(tmp_path, None, train_dataset=data, max_steps=1, **options)
    assert trainer.mixture.function_names == ("guess/Guess",)
    assert trainer.mixture.environments.tools["guess"] == (
        ("mul", "add", "fail", "guess") if with_rewards else ("fail", "guess")
    )
    trainer.train()
    assert trainer.state.log_history[0]["tasks/guess/turns"] > 1


@pytest.mark.parametrize("bound", [1, 3])
def test_a_group_must_have_its_environments(bound: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`max_environments` of task 'guess' must be at least the 4 that a group"):
        agent_trainer(tmp_path, [guess_task(max_environments=bound)])


def test_an_evaluation_must_have_its_environments(tmp_path: Path) -> None:
    task = guess_task(max_environments=4, eval_dataset=guess_rows(8))
    with pytest.raises(ValueError, match="must be at least the 8 that a batch of an evaluation needs at once, got 4"):
        agent_trainer(tmp_path, [task])


def test_a_task_is_no_longer_than_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`max_completion_length` of task 'guess' must be at most the run's, 40"):
        agent_trainer(tmp_path, [guess_task(max_completion_length=41)])


@pytest.mark.parametrize(
    ("settings", "options"),
    [({"generation_kwargs": {"max_new_tokens": 3}}, {}), ({}, {"rollout_func": lambda prompts, trainer: {}})],
)
def test_a_length_of_a_task_acts_or_is_refused(
    settings: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    mixture = TaskMixture([Task("a", chat_rows("p"), has_a_letter, max_completion_length=5)])
    with pytest.raises(ValueError, match="`max_completion_length` of task 'a' must be left out where"):
        check_agents(mixture, config(tmp_path, **settings), options)


def config(folder: Path, **settings: Any) -> Any:
    from tests.tiny import tiny_config

    return tiny_config(folder, max_completion_length=40, **settings)


def test_four_tasks_are_accepted(tmp_path: Path) -> None:
    check_agents(TaskMixture(four_tasks()), config(tmp_path), {"processing_class": tool_tokenizer()})
