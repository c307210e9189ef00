"""Forms of tools and environments: what the model can call works, what it cannot is refused before the first step."""

import functools
import sys
from pathlib import Path
from typing import Any, Optional, Union

import pytest

from tests.environments.world import add, agent_trainer, answered, chat_rows, guess_rows
from trl_mtgrpo import Task
from trl_mtgrpo.tasks.failures import RewardError


def described(tool: Any) -> Any:
    tool.__doc__ = "Guesses.\n\nArgs:\n    n: The number.\n    m: More.\n    k: Kind.\n"
    return tool


@described
def guess(self, n: int) -> str:
    return f"{n}"


class Plain:
    """Rewards everything."""

    guess = guess

    def reset(self, **row: Any) -> None: ...

    def get_reward(self) -> float:
        return 1.0


def kind(**members: Any) -> type:
    return type("Made", (Plain,), members)


def played(folder: Path, factory: Any) -> list[str]:
    """Answers of tools in one step of one environment task."""
    task = Task("g", guess_rows(), environment_factory=factory)
    trainer = agent_trainer(folder, [task], max_steps=1, method="grpo")
    trainer.train()
    return [str(message["content"]) for c in trainer._logs["completion"] for message in c if message["role"] == "tool"]


@described
def with_defaults(self, n: int, m: Optional[int] = None, k: Union[int, str] = 3) -> str:  # noqa: UP007, UP045
    return f"{n}{m}{k}"


@described
def by_keyword(self, *, n: int) -> str:
    return "keyword"


@described
async def later(self, n: int) -> str:
    return "later"


@described
def of_class(n: int) -> str:
    return "static"


@pytest.mark.parametrize(
    ("member", "answer"),
    [
        (with_defaults, "None3"),
        (by_keyword, "keyword"),
        (later, "later"),
        (staticmethod(of_class), "static"),
        (described(lambda self, n: {"a": n}), None),
    ],
)
def test_a_tool_may_have_any_parameters_with_names(tmp_path: Path, member: Any, answer: str | None) -> None:
    if answer is None:
        member.__name__, member.__annotations__, answer = "guess", {"n": int, "return": dict}, "{'a': "
    assert any(answer in text for text in played(tmp_path, kind(guess=member)))


@pytest.mark.parametrize("value", [None, 3, {"a": 1}, b"x"])
def test_what_a_tool_returns_is_shown_as_text(tmp_path: Path, value: Any) -> None:
    @described
    def tool(self, n: int) -> Any:
        return value

    assert str(value) in played(tmp_path, kind(guess=tool))


def test_a_tool_that_leaves_the_process_is_a_failed_call(tmp_path: Path) -> None:
    @described
    def tool(self, n: int) -> str:
        sys.exit(2)

    task = Task("g", guess_rows(), environment_factory=kind(guess=tool))
    trainer = agent_trainer(tmp_path, [task], max_steps=1, method="grpo")
    trainer.train()
    line = trainer.state.log_history[0]
    assert line["tasks/g/tool_failures"] == line["tasks/g/tool_calls"] > 0


@described
def of_many(self, *n: int) -> str:
    return ""


@described
def by_position(self, n: int, /) -> str:
    return ""


@described
def of_all(self, **n: int) -> str:
    return ""


@described
def of_unknown_type(self, n: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
    return ""


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (of_many, r"must take arguments by their names, got \['\*n: int'\]"),
        (by_position, r"must take arguments by their names, got \['n: int'\]"),
        (of_all, r"must take arguments by their names, got \['\*\*n: int'\]"),
        (of_unknown_type, "must have types that can be looked up, got NameError: name 'Nowhere' is not defined"),
    ],
)
def test_a_tool_that_no_call_reaches_is_refused_with_the_task(tool: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"`guess`, a tool of task 'g', {text}"):
        Task("g", guess_rows(), environment_factory=kind(guess=tool))


@pytest.mark.parametrize("tool", [functools.partial(add, 1), type("Adder", (), {"__call__": lambda self, a: a})()])
def test_a_tool_needs_a_name(tool: Any) -> None:
    with pytest.raises(ValueError, match="`tools` of task 'a' must be functions with names of their own"):
        Task("a", chat_rows("p"), answered, tools=[tool])


@pytest.mark.parametrize(
    ("reset", "text"),
    [
        (
            lambda self: None,
            r"takes every column of `train_dataset`, got no parameter for \['prompt', 'number'\]. Add",
        ),
        (lambda self, number: None, r"got no parameter for \['prompt'\]. Add `\*\*row`"),
        (lambda self, goal, **row: None, r"asks for columns of `train_dataset`, got \['goal'\] beside the columns"),
    ],
)
def test_a_reset_takes_the_columns_of_its_rows(reset: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Task("g", guess_rows(), environment_factory=kind(reset=reset))


def test_columns_of_evaluation_rows_count_too() -> None:
    with pytest.raises(ValueError, match=r"asks for columns of `eval_dataset`, got \['number'\] beside"):
        Task(
            "g",
            guess_rows(),
            environment_factory=kind(reset=lambda self, number, **row: None),
            eval_dataset=chat_rows("e"),
        )


@pytest.mark.parametrize("reset", [lambda self, prompt, number: "x", lambda self, number, goal=1, **row: "x"])
def test_a_reset_may_name_what_it_gets(tmp_path: Path, reset: Any) -> None:
    played(tmp_path, kind(reset=reset))


@pytest.mark.parametrize("value", [[{"role": "user", "content": "hi"}], ["a"], [1], {"a": 1}, ("a", {}), 3])
def test_an_observation_in_another_form_is_an_error(tmp_path: Path, value: Any) -> None:
    with pytest.raises(RewardError, match="an observation must be text, a list of content parts or None, got"):
        played(tmp_path, kind(reset=lambda self, **row: value))


@pytest.mark.parametrize("value", [None, "", "text", [], [{"type": "text", "text": "part"}]])
def test_an_observation_is_text_parts_or_nothing(tmp_path: Path, value: Any) -> None:
    played(tmp_path, kind(reset=lambda self, **row: value))


def test_one_object_for_all_rollouts_is_an_error(tmp_path: Path) -> None:
    shared = Plain()
    with pytest.raises(RewardError, match="must make a new environment at each call, got the same Plain again"):
        played(tmp_path, lambda: shared)


def test_an_object_in_place_of_its_class_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"got <.*Plain object.*pass the class itself: one is made per rollout"):
        Task("g", guess_rows(), environment_factory=Plain())


def test_environments_that_fail_to_close_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def close(self: Any) -> None:
        raise ConnectionError("gone")

    played(tmp_path, kind(close=close))
    said = [record.getMessage() for record in caplog.records if "`close`" in record.getMessage()]
    assert len(said) == 1
    assert "An environment of task 'g' failed in `close`: ConnectionError: gone (and 15 more of the task)" in said[0]
