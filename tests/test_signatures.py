"""A reward function that cannot be called with its task's rows is an error before the first step."""

import functools
from typing import Any

import pytest
from datasets import Dataset

from tests.small_tasks import data, one
from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.task import Task


def asks(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


async def waits(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


class Asking:
    def __call__(self, completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
        return [1.0] * len(completions)


def keyword_only(*, completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


def exact(prompts, completions, completion_ids, answer, trainer_state, log_extra, log_metric):
    return [1.0] * len(completions)


ANSWERED = data(answer=["x", "y", "z"])


def checked(task: Task, **options: Any) -> None:
    TaskMixture([Task("other", data(answer=[1, 2, 3]), one), task]).check_signatures(**options)


@pytest.mark.parametrize("function", [asks, waits, Asking(), keyword_only, functools.partial(asks, extra=1), exact])
def test_columns_of_both_splits_are_enough(function: Any) -> None:
    checked(Task("a", ANSWERED, function, eval_dataset=ANSWERED))


@pytest.mark.parametrize("function", [asks, waits, Asking(), keyword_only, functools.partial(asks, extra=1)])
@pytest.mark.parametrize("split", ["train_dataset", "eval_dataset"])
def test_a_column_that_a_split_lacks_is_an_error_though_another_task_has_it(function: Any, split: str) -> None:
    splits = {"train_dataset": ANSWERED, "eval_dataset": ANSWERED, split: data(number=[1, 2, 3])}
    match = (
        rf"`reward_funcs` of task 'a' must ask for columns of `{split}`, got \['answer'\] asked for by '.*' beside "
        r"the columns \['number'\]. Add the column to"
    )
    with pytest.raises(ValueError, match=match):
        checked(Task("a", reward_funcs=function, **splits))


def test_outcome_functions_are_checked_too() -> None:
    with pytest.raises(ValueError, match=r"`outcome_func` of task 'a' must ask for columns of `train_dataset`"):
        checked(Task("a", data(), one, outcome_func=asks))


def test_a_misspelt_column_is_shown() -> None:
    with pytest.raises(ValueError, match="Did you mean 'answers' where it says 'answer'"):
        checked(Task("a", data(answers=[1, 2, 3]), asks))


def test_a_format_that_hides_a_column_hides_it_here_too() -> None:
    hidden = data(answer=[1, 2, 3], x=[1, 2, 3]).with_format("numpy", columns=["prompt", "x"])
    with pytest.raises(ValueError, match=r"got \['answer'\] asked for by 'asks' beside the columns \['x'\]"):
        checked(Task("a", hidden, asks))
    checked(Task("a", ANSWERED.with_format("numpy", columns=["prompt"], output_all_columns=True), asks))


@pytest.mark.parametrize("column", ["prompt", "completion", "completion_ids"])
def test_a_column_that_trl_leaves_out_is_not_there(column: str) -> None:
    dataset = Dataset.from_dict({"prompt": ["p"], "completion": ["c"], "completion_ids": [[1]]})
    namespace: dict[str, Any] = {}
    exec(f"def asks({column}, **kwargs): return [1.0]", namespace)
    task = Task("a", dataset, namespace["asks"])
    if column == "completion_ids":  # which TRL passes itself
        checked(task)
    else:
        with pytest.raises(ValueError, match=rf"got \['{column}'\] asked for by 'asks' beside the columns \[\]"):
            checked(task)


def with_default(completions: list[str], answer: Any = None, **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


def looks_up(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> list[float]:
        return function(*args, answer=["known"] * len(kwargs["completions"]), **kwargs)

    return inner


@pytest.mark.parametrize(
    "function", [with_default, looks_up(asks), functools.partial(asks, answer="bound"), lambda **kwargs: [1.0]]
)
def test_defaults_decorators_and_bound_values_count_as_present(function: Any) -> None:
    checked(Task("a", data(), function))


def test_what_may_be_added_is_not_missed() -> None:
    checked(Task("a", data(), asks), may_add_columns=True)
    made = data().with_transform(lambda batch: {"prompt": batch["prompt"], "answer": batch["prompt"]})
    checked(Task("a", made, asks))
    checked(Task("a", made, exact))


class Env:
    def reset(self, **row: Any) -> None: ...


def on_environments(environments: list[Any], **kwargs: Any) -> list[float]:
    return [1.0] * len(environments)


def test_environments_are_there_with_an_environment_only() -> None:
    chat = Dataset.from_dict({"prompt": [[{"role": "user", "content": "hi"}]]})
    Task("a", chat, on_environments, environment_factory=Env).check_signatures()
    Task("a", chat, asks, environment_factory=Env).check_signatures()  # whose fields may hold an answer
    with pytest.raises(ValueError, match=r"got \['environments'\] asked for by 'on_environments'"):
        checked(Task("a", data(), on_environments))


def test_functions_of_a_program_have_other_arguments() -> None:
    Task("a", data(), lambda outputs, traces, **kwargs: [1.0], program=lambda example, call: "").check_signatures()


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        (lambda completions, answer: [1.0], "'prompts', 'completion_ids', 'trainer_state', 'log_extra', 'log_metric'"),
        (lambda prompts, completions, completion_ids, trainer_state, log_extra, log_metric: [1.0], "'answer'"),
        (lambda *args: [1.0], "'prompts', 'completions', .*"),
    ],
)
def test_a_function_that_does_not_take_what_it_is_given_is_told_the_cure(function: Any, missing: str) -> None:
    match = (
        rf"`reward_funcs` of task 'a' must take everything that it is called with, got no parameter for \[{missing}.*"
        r"\] in '<lambda>'. Add `\*\*kwargs` to its parameters"
    )
    with pytest.raises(ValueError, match=match):
        checked(Task("a", ANSWERED, function))
    with pytest.raises(
        ValueError, match=r"must take everything that it is called with, got no parameter for \['prompts'"
    ):
        checked(Task("a", ANSWERED, lambda completions, answer: [1.0]), may_add_columns=True)


def test_reward_models_have_nothing_to_check() -> None:
    checked(Task("a", data(), "org/judge"))
