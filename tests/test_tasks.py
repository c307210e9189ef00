"""What a task is, and what it refuses before the first step."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from trl_mtgrpo.tasks.task import Task


NAN = math.nan


def one(prompts, **kwargs):
    return [1.0] * len(prompts)


def two(prompts, **kwargs):
    return [2.0] * len(prompts)


def solved(prompts, **kwargs):
    return [True] * len(prompts)


def data(num_rows=3, **columns):
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(num_rows)], **columns})


def chat(num_rows=2):
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": "hi"}]] * num_rows})


@pytest.mark.parametrize("name", ["", "  ", "a/b", None, 3])
def test_a_task_needs_a_name_without_a_slash(name):
    with pytest.raises(ValueError, match=r"`name` must be text without a slash, got .* rename the task, to '"):
        Task(name, data(), one)


def test_a_name_with_a_slash_gets_one_without() -> None:
    with pytest.raises(ValueError, match="rename the task, to 'deepmind-math' for example"):
        Task("deepmind/math", data(), one)


@pytest.mark.parametrize("argument", ["train_dataset", "eval_dataset"])
@pytest.mark.parametrize(
    ("dataset", "error", "match"),
    [
        (data(0), ValueError, "must have at least one row, got 0. Check the filter"),
        (
            Dataset.from_dict({"question": ["a"]}),
            ValueError,
            r"must have a column 'prompt', got \['question'\]. Rename",
        ),
        (Dataset.from_dict({"prompt": ["a", None]}), ValueError, "a prompt in every row, got None in row 1. Filter"),
        (Dataset.from_dict({"prompt": ["a", "b", ""]}), ValueError, "a prompt in every row, got '' in row 2. Filter"),
        (
            Dataset.from_dict({"prompt": [[{"role": "user", "content": "a"}], []]}),
            ValueError,
            r"a prompt in every row, got \[\] in row 1. Filter",
        ),
        (
            Dataset.from_dict({"prompt": [1, 2]}),
            ValueError,
            "must have prompts that are text or lists of messages, got",
        ),
        (
            Dataset.from_dict({"prompt": [[1, 2]]}),
            ValueError,
            r"text or lists of messages, got \[1, 2\] in row 0. A mess",
        ),
        (Dataset.from_dict({"prompt": ["a"], "log_extra": [1]}), ValueError, r"itself, got \['log_extra'\]. Rename"),
        (Dataset.from_dict({"prompt": ["a"], "completions": [1]}), ValueError, r"itself, got \['completions'\]"),
        (data().to_iterable_dataset(), TypeError, "must be a `datasets.Dataset`, got IterableDataset. Rows are drawn"),
        ([{"prompt": "a"}], TypeError, "must be a `datasets.Dataset`, got list"),
        ({"x": data()}, TypeError, r"got dict with the splits \['x'\]. Name one of them: `dataset\['x'\]`"),
        (
            DatasetDict(train=data(), test=data()),
            TypeError,
            r"got DatasetDict with the splits \['train', 'test'\]. Name",
        ),
        (data(a=[1, 2, 3]).with_format("torch", columns=["a"]), ValueError, r"a column 'prompt', got \['a'\]"),
        (chat().with_format("pandas"), ValueError, "in the format 'pandas' must have prompts that are text or lists"),
    ],
)
def test_datasets_that_cannot_be_trained_on_are_refused(argument, dataset, error, match):
    arguments = {"train_dataset": data(), argument: dataset}
    with pytest.raises(error, match=rf"`{argument}` of task 'a' .*{match}"):
        Task("a", reward_funcs=one, **arguments)


def test_a_missing_prompt_is_found_behind_a_filter_and_many_rows():
    dataset = Dataset.from_dict({"prompt": ["x"] * 25_000 + [None], "keep": [i % 2 == 0 for i in range(25_001)]})
    kept = dataset.filter(lambda keep: keep, input_columns="keep")
    with pytest.raises(ValueError, match="got None in row 12500"):
        Task("a", kept, one)


def test_prompts_of_two_kinds_between_training_and_evaluation_are_refused():
    with pytest.raises(
        ValueError, match=r"`eval_dataset` of task 'a' must have prompts like .* got lists of messages against"
    ):
        Task("a", data(), one, eval_dataset=chat())


@pytest.mark.parametrize("functions", [[], [one, 3], None, 7])
def test_rewards_must_be_functions_or_models(functions):
    with pytest.raises(TypeError, match="`reward_funcs` of task 'a' must be functions or reward models, got "):
        Task("a", data(), functions)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [1.0, 2.0, 3.0],
        [1.0, NAN],
        "12",
        2.0,
        [1.0, None],
        [True, 1.0],
        ["1", 2.0],
        {1.0: 2, 2.0: 3},
        [[1.0], 2],
    ],
)
def test_reward_weights_must_fit_the_functions(weights):
    with pytest.raises(ValueError, match="`reward_weights` of task 'a' must hold one finite number per function"):
        Task("a", data(), [one, two], reward_weights=weights)


@pytest.mark.parametrize(
    "bounds",
    [
        (1.0, 0.0),
        (0.0, 0.0),
        (0.0, math.inf),
        (NAN, 1.0),
        (0.0,),
        (0.0, 1.0, 2.0),
        None,
        1.0,
        "01",
        (0.0, None),
        {0.0, 1.0},
        (False, True),
        ("0", "1"),
        {"low": 0, "high": 1},
    ],
)
def test_the_reward_range_must_be_two_increasing_numbers(bounds):
    with pytest.raises(ValueError, match="`reward_range` of task 'a' must be two finite numbers in increasing order"):
        Task("a", data(), one, reward_range=bounds)


@pytest.mark.parametrize("threshold", [NAN, math.inf, "1.0", [1.0], True, (1.0, None), {"a": 1.0}, np.array([1.0])])
def test_the_threshold_must_be_a_finite_number(threshold):
    with pytest.raises(ValueError, match="`success_threshold` of task 'a' must be a finite number, got "):
        Task("a", data(), one, success_threshold=threshold)


def test_a_threshold_and_an_outcome_function_exclude_each_other():
    with pytest.raises(ValueError, match="`success_threshold` of task 'a' must be left out together with"):
        Task("a", data(), one, success_threshold=1.0, outcome_func=solved)


@pytest.mark.parametrize("outcome", ["model", torch.nn.Linear(1, 1)])
def test_the_outcome_function_must_be_a_function(outcome):
    with pytest.raises(TypeError, match="`outcome_func` of task 'a' must be a function, got "):
        Task("a", data(), one, outcome_func=outcome)


def test_numbers_of_numpy_are_numbers():
    weights = np.array([1.0, 0.5], dtype=np.float32)
    task = Task(
        "a", data(), [one, two], reward_weights=weights, success_threshold=np.float64(0.5), reward_range=[0, 2]
    )
    assert task.reward_weights == (1.0, 0.5)
    assert (task.success_threshold, task.reward_range) == (0.5, (0.0, 2.0))


def test_what_the_user_gave_is_copied():
    functions, weights, bounds = [one, two], [1.0, 2.0], [0.0, 1.0]
    task = Task("a", data(), functions, reward_weights=weights, reward_range=bounds)
    functions.append(one)
    weights.append(3.0)
    bounds[0] = -9.0
    assert (task.reward_funcs, task.reward_weights, task.reward_range) == ((one, two), (1.0, 2.0), (0.0, 1.0))
    assert functions == [one, two, one]


class Env:
    def reset(self, **row):
        return None

    def get_reward(self):
        return 1.0


class Judged:
    def reset(self, **row):
        return None


def program(example, call):
    return call("solve", example["prompt"])


@pytest.mark.parametrize("factory", [Env, lambda: Env()])
def test_an_environment_may_give_the_reward(factory):
    assert Task("a", chat(), environment_factory=factory).reward_funcs == ()


@pytest.mark.parametrize("options", [{}, {"environment_factory": Judged}, {"tools": [one]}])
def test_without_one_a_task_needs_a_reward(options):
    with pytest.raises(TypeError, match="`reward_funcs` of task 'a' must be functions or reward models, got None"):
        Task("a", chat(), **options)


def test_an_environment_may_own_its_data():
    task = Task("a", None, environment_factory=Env, num_rows=100)
    assert task.train_dataset.column_names == ["prompt", "seed"]
    assert len(task.train_dataset) == 100
    assert task.is_conversational


def test_without_data_somebody_must_say_how_many_rows_there_are():
    with pytest.raises(TypeError, match=r"`train_dataset` of task 'a' must be a `datasets.Dataset`, got NoneType"):
        Task("a", None, environment_factory=Env)


def test_rows_are_counted_once():
    with pytest.raises(ValueError, match="`num_rows` of task 'a' must be left out beside `train_dataset`, got 4"):
        Task("a", chat(), environment_factory=Env, num_rows=4)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"max_completion_length": 0}, "a positive whole number"),
        ({"max_completion_length": True}, "a positive whole number"),
        ({"max_completion_length": 2.5}, "a positive whole number"),
        ({"environment_factory": Env, "max_environments": -1}, "a positive whole number"),
        ({"environment_factory": Env, "num_rows": "3"}, "a positive whole number"),
        ({"tools": [one], "tool_timeout": 0}, "a positive number of seconds"),
        ({"tools": [one], "tool_timeout": "5"}, "a positive number of seconds"),
        ({"tools": one}, "a list of functions"),
        ({"tools": ["add"]}, "a list of functions"),
        ({"environment_factory": "web"}, "a class, or a function that makes an environment"),
        ({"program": "solve"}, "a function `program"),
        ({"program": program, "module_rewards": [one]}, "a dict from module name to reward function"),
        ({"program": program, "module_rewards": {"solve": 1.0}}, "a dict from module name to reward function"),
        ({"program": program, "trainable_modules": "solve"}, "a list of module names"),
        ({"program": program, "failure_reward": NAN}, "a finite number"),
        ({"program": program, "format_failure_reward": None}, "a finite number"),
        ({"program": program, "failure_exceptions": ValueError}, "a tuple of exception classes"),
    ],
)
def test_an_option_must_be_of_its_kind(options, kind):
    with pytest.raises(
        TypeError, match=rf"`{list(options)[-1]}` of task 'a' must be {kind}.*Leave it out for the default"
    ):
        Task("a", chat(), one, **options)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"max_environments": 2}, "`environment_factory`"),
        ({"num_rows": 2}, "`environment_factory`"),
        ({"tool_timeout": 2.0}, "`tools` or `environment_factory`"),
        ({"module_rewards": {"solve": one}}, "`program`"),
        ({"trainable_modules": ["solve"]}, "`program`"),
    ],
)
def test_an_option_without_effect_is_refused(options, needed):
    with pytest.raises(ValueError, match=f"must be left out without {needed}, got .* It would have no effect"):
        Task("a", chat(), one, **options)


@pytest.mark.parametrize("options", [{"tools": [one]}, {"environment_factory": Env}])
def test_a_program_calls_its_tools_itself(options):
    with pytest.raises(ValueError, match="`program` of task 'a' must stand without `tools` and `environment_factory`"):
        Task("a", chat(), one, program=program, **options)
