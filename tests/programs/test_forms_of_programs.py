"""A program may be anything that can be called with an example and `call`; what cannot is refused at construction."""

import functools
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.programs.program_runs import lower_share, one_call, program_task, program_trainer
from trl_mtgrpo import Task
from trl_mtgrpo.tasks.failures import RewardError


class Program:
    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def __call__(self, example: dict[str, Any], call: Any) -> str:
        return call("answer", self.prefix + example["prompt"])

    def method(self, example: dict[str, Any], call: Any) -> str:
        return self(example, call)

    @staticmethod
    def static(example: dict[str, Any], call: Any) -> str:
        return one_call(example, call)


async def waits(example: dict[str, Any], call: Any) -> str:
    return call("answer", example["prompt"])


class Waits:
    async def __call__(self, example: dict[str, Any], call: Any) -> str:
        return call("answer", example["prompt"])


def yielding(example: dict[str, Any], call: Any) -> Any:
    yield call("answer", example["prompt"])


async def yielding_later(example: dict[str, Any], call: Any) -> Any:
    yield call("answer", example["prompt"])


class Yielding:
    def __call__(self, example: dict[str, Any], call: Any) -> Any:
        yield call("answer", example["prompt"])


def with_prefix(prefix: str, example: dict[str, Any], call: Any) -> str:
    return call("answer", prefix + example["prompt"])


def trained(folder: Path, program: Any, reward: Any = lower_share, **changes: Any) -> Any:
    trainer = program_trainer(folder, [program_task(program, reward)], **({"group_filter": "none"} | changes))
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "program",
    [
        Program(),
        Program().method,
        Program.static,
        lambda example, call: call("answer", example["prompt"]),
        lambda *both: one_call(*both),
        lambda example, call, again=1: one_call(example, call),
        functools.partial(with_prefix, ""),
    ],
)
def test_what_can_be_called_is_a_program_and_gives_the_same(tmp_path: Path, program: Any) -> None:
    expected = trained(tmp_path / "one", one_call, max_steps=1).state.log_history[0]
    found = trained(tmp_path / "other", program, max_steps=1).state.log_history[0]
    assert found["reward"] == expected["reward"]
    assert found["loss"] == expected["loss"]


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (Program, r"must be made before it is given, got the class Program. Write `program=Program\(...\)`"),
        (waits, "must be a plain function, got 'waits', which is async"),
        (Waits(), "must be a plain function, got 'Waits', which is async"),
        (functools.partial(waits), "must be a plain function, got 'waits', which is async"),
        (yielding, "must return its output, got 'yielding', which yields"),
        (yielding_later, "must return its output, got 'yielding_later', which yields"),
        (Yielding(), "must return its output, got 'Yielding', which yields"),
        (functools.partial(yielding), "must return its output, got 'yielding', which yields"),
        (lambda example: "x", r"must take an example and `call`, got '<lambda>\(example\)'"),
        (lambda: "x", r"must take an example and `call`, got '<lambda>\(\)'"),
        (with_prefix, r"must take an example and `call`, got 'with_prefix\(prefix"),
        (lambda example, *, call: "x", "must take an example and `call`"),
    ],
)
def test_what_cannot_be_called_so_is_refused_with_its_name(program: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"`program` of task 'prog' {text}"):
        program_task(program)


def test_a_coroutine_for_an_output_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="`program` of task 'prog' must return its output, got a coroutine"):
        trained(tmp_path, lambda example, call: waits(example, call))


@pytest.mark.parametrize("form", [yielding, lambda example, call: lambda: call("answer", "x")])
def test_the_model_cannot_be_called_when_the_program_has_ended(tmp_path: Path, form: Any) -> None:
    def reading(outputs: list[Any], **kwargs: Any) -> list[float]:
        return [float(len(output())) for output in outputs]

    def program(example: dict[str, Any], call: Any) -> Any:
        call("answer", "x")
        return form(example, call)

    text = "must return its output, got a generator" if form is yielding else "`call` must be used while its program"
    with pytest.raises(RewardError, match=text):
        trained(tmp_path, program, reading)


@pytest.mark.parametrize("module", ["a\nb", "x" * 101, "\t"])
def test_a_prompt_in_place_of_a_name_is_an_error(tmp_path: Path, module: str) -> None:
    with pytest.raises(RewardError, match="must name the module of a call"):
        trained(tmp_path, lambda example, call: call(module, "x"))


def test_modules_that_grow_with_the_rows_are_an_error(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"prompt": [f"p{i}" for i in range(200)]})
    task = Task("prog", rows, lower_share, program=lambda example, call: call(example["prompt"], "answer"))
    trainer = program_trainer(tmp_path, [task], max_steps=20, method="grpo")
    with pytest.raises(ValueError, match=r"must call at most 64 modules, got 68 names such as \['p.*`call\(module, p"):
        trainer.train()


@pytest.mark.parametrize("module", ["a.b", "über alles", "a b", "x" * 100])
def test_other_names_are_kept_as_they_are(tmp_path: Path, module: str) -> None:
    trainer = trained(tmp_path, lambda example, call: call(module, example["prompt"]), max_steps=1)
    assert f"modules/prog.{module}/calls" in trainer.state.log_history[0]


@pytest.mark.parametrize("value", [None, 3, {"a": {1, 2}}, object(), b"x", ("x", lambda: 1)])
def test_a_program_may_return_anything(tmp_path: Path, value: Any) -> None:
    def program(example: dict[str, Any], call: Any) -> Any:
        call("answer", example["prompt"])
        return value

    def reading(outputs: list[Any], **kwargs: Any) -> list[float]:
        assert all(output is value for output in outputs)
        return [1.0] * len(outputs)

    assert trained(tmp_path, program, reading, max_steps=1, log_completions=True).state.global_step == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_a_program_raises_ends_the_run_with_its_name(tmp_path: Path, error: type[BaseException]) -> None:
    def program(example: dict[str, Any], call: Any) -> str:
        call("answer", example["prompt"])
        raise error

    with pytest.raises(RewardError, match=f"must raise nothing but its `failure_exceptions`, got {error.__name__}"):
        trained(tmp_path, program)
