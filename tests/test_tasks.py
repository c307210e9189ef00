"""Tasks and mixtures: what is refused before the first step, and what rows, rewards and measures come out."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.rewards import AsyncTaskReward
from trl_mtgrpo.tasks.task import Task


NAN = math.nan


def one(prompts, **kwargs):
    return [1.0] * len(prompts)


def two(prompts, **kwargs):
    return [2.0] * len(prompts)


async def waiting(prompts, **kwargs):
    return [3.0] * len(prompts)


def solved(prompts, **kwargs):
    return [True] * len(prompts)


def data(num_rows=3, **columns):
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(num_rows)], **columns})


def chat(num_rows=2):
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": "hi"}]] * num_rows})


def mixture():
    return TaskMixture(
        [
            Task("a", data(number=[1, 2, 3]), one, success_threshold=0.9),
            Task("b", data(number=["x", "y", "z"], grid=[[1], [2], [3]]), [one, two], reward_weights=(1.0, 0.5)),
            Task("c", data(1), one, outcome_func=solved, eval_dataset=data(2)),
        ]
    )


@pytest.mark.parametrize("name", ["", "  ", "a/b", None, 3])
def test_a_task_needs_a_name_without_a_slash(name):
    with pytest.raises(ValueError, match=r"`name` must be text without a slash, got .* use something like"):
        Task(name, data(), one)


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
        (Dataset.from_dict({"prompt": ["a"], "task_id": [1]}), ValueError, r"itself, got \['task_id'\]. Rename them"),
        (Dataset.from_dict({"prompt": ["a"], "completions": [1]}), ValueError, r"itself, got \['completions'\]"),
        (data().to_iterable_dataset(), TypeError, "must be a `datasets.Dataset`, got IterableDataset. Rows are drawn"),
        ([{"prompt": "a"}], TypeError, "must be a `datasets.Dataset`, got list"),
        ({"x": data()}, TypeError, "must be a `datasets.Dataset`, got dict"),
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


def test_prompts_of_two_kinds_between_tasks_are_refused():
    with pytest.raises(
        ValueError, match=r"`tasks` must all have prompts of one kind, got text in 'a', lists of .* in 'b'"
    ):
        TaskMixture([Task("a", data(), one), Task("b", chat(), one)])


@pytest.mark.parametrize("functions", [[], [one, 3], None, 7])
def test_rewards_must_be_functions_or_models(functions):
    with pytest.raises(TypeError, match="`reward_funcs` of task 'a' must be functions or reward models, got "):
        Task("a", data(), functions)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0], [1.0, NAN]])
def test_reward_weights_must_fit_the_functions(weights):
    with pytest.raises(ValueError, match="`reward_weights` of task 'a' must hold one finite number per function"):
        Task("a", data(), [one, two], reward_weights=weights)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0, 0.0), (0.0, math.inf), (NAN, 1.0), (0.0,), (0.0, 1.0, 2.0)])
def test_the_reward_range_must_be_two_increasing_numbers(bounds):
    with pytest.raises(ValueError, match="`reward_range` of task 'a' must be two finite numbers in increasing order"):
        Task("a", data(), one, reward_range=bounds)


@pytest.mark.parametrize("threshold", [NAN, math.inf])
def test_the_threshold_must_be_finite(threshold):
    with pytest.raises(ValueError, match="`success_threshold` of task 'a' must be a finite number, got "):
        Task("a", data(), one, success_threshold=threshold)


def test_a_threshold_and_an_outcome_function_exclude_each_other():
    with pytest.raises(ValueError, match="`success_threshold` of task 'a' must be left out together with"):
        Task("a", data(), one, success_threshold=1.0, outcome_func=solved)


@pytest.mark.parametrize("outcome", ["model", torch.nn.Linear(1, 1)])
def test_the_outcome_function_must_be_a_function(outcome):
    with pytest.raises(TypeError, match="`outcome_func` of task 'a' must be a function, got "):
        Task("a", data(), one, outcome_func=outcome)


@pytest.mark.parametrize("tasks", [[], ["a"]])
def test_a_mixture_needs_tasks(tasks):
    with pytest.raises(ValueError, match="`tasks` must be a list of at least one `Task`, got "):
        TaskMixture(tasks)


def test_names_must_be_distinct():
    with pytest.raises(ValueError, match=r"`tasks` must have distinct names, got \['a'\] more than once"):
        TaskMixture([Task("a", data(), one), Task("b", data(), one), Task("a", data(), one)])


def test_options_of_a_mixture_are_checked():
    tasks = [Task("a", data(), one)]
    with pytest.raises(ValueError, match="`reward_on_error` must be 'raise' or 'drop', got 'ignore'"):
        TaskMixture(tasks, on_error="ignore")
    with pytest.raises(ValueError, match="`reward_timeout` must be a positive number of seconds, got 0"):
        TaskMixture(tasks, timeout=0)


def test_a_row_has_every_column_with_its_original_value_and_type():
    tasks = mixture()
    assert tasks.columns == ("prompt", "number", "grid")
    assert tasks.row(0, 1) == {"prompt": "p1", "number": 2, "grid": None, "task": "a", "task_id": 0}
    assert tasks.row(1, np.int64(1)) == {"prompt": "p1", "number": "y", "grid": [2], "task": "b", "task_id": 1}
    assert tasks.row(2, 1, "eval") == {"prompt": "p1", "number": None, "grid": None, "task": "c", "task_id": 2}


def test_evaluation_rows_of_a_task_without_any_are_an_error():
    with pytest.raises(ValueError, match="`split` must be 'train' for task 'a', got 'eval'"):
        mixture().row(0, 0, "eval")


@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_index_names_every_row_once_in_the_order_of_the_tasks(split):
    tasks = mixture()
    index = tasks.index_dataset(split)
    assert index.column_names == ["prompt", "task_id", "row"]
    expected = [(k, i) for k, n in enumerate(tasks.num_rows(split)) for i in range(n)]
    assert list(zip(index["task_id"], index["row"], strict=True)) == expected
    assert all(tasks.row(k, i, split)["prompt"] == f"p{i}" for k, i in expected)


def test_without_evaluation_rows_there_is_no_index():
    assert TaskMixture([Task("a", data(), one)]).index_dataset("eval") is None


def test_the_index_of_conversations_has_conversational_prompts():
    tasks = TaskMixture([Task("a", chat(), one)])
    assert tasks.prompt_is_conversational
    assert tasks.index_dataset()[0]["prompt"] == [{"role": "user", "content": ""}]


def test_rewards_come_in_task_order_with_their_weights_and_outcomes_at_zero():
    tasks = mixture()
    assert [reward.__name__ for reward in tasks.reward_funcs] == ["a/one", "b/one", "b/two", "c/one", "c/solved"]
    assert tasks.reward_weights == [1.0, 1.0, 0.5, 1.0, 0.0]
    assert tasks.column_task.tolist() == [0, 1, 1, 2, 2]
    assert tasks.outcome_column.tolist() == [-1, -1, 4]
    assert tasks.has_outcome().tolist() == [True, False, True]


def test_names_of_rewards_are_unique():
    tasks = TaskMixture([Task("a", data(), [one, one, one])])
    assert [reward.__name__ for reward in tasks.reward_funcs] == ["a/one", "a/one_2", "a/one_3"]


def test_names_of_rewards_can_be_those_of_the_functions():
    tasks = TaskMixture([Task("a", data(), [one, two])], qualified_names=False)
    assert [reward.__name__ for reward in tasks.reward_funcs] == ["one", "two"]


def test_reward_models_are_passed_through_as_they_are():
    model = torch.nn.Linear(1, 1)
    tasks = TaskMixture([Task("a", data(), one), Task("b", data(), ["some/model", model])])
    assert tasks.reward_funcs[1:] == ["some/model", model]
    assert tasks.column_task.tolist() == [0, 1, 1]


def test_async_functions_get_async_routers():
    tasks = TaskMixture([Task("a", data(), [one, waiting])])
    assert [isinstance(reward, AsyncTaskReward) for reward in tasks.reward_funcs] == [False, True]


def test_a_function_gets_the_columns_of_its_own_task_only():
    seen = []

    def spy(prompts, **kwargs):
        seen.append(sorted(kwargs))
        return [0.0] * len(prompts)

    tasks = TaskMixture([Task("a", data(x=[1, 2, 3]), spy), Task("b", data(y=[1, 2, 3]), one)])
    rows = [tasks.row(0, 0), tasks.row(1, 0)]
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"}
    tasks.reward_funcs[0](prompts=["p", "q"], completions=["", ""], completion_ids=[[], []], **columns)
    assert seen == [["completion_ids", "completions", "task", "task_id", "x"]]


def test_a_task_column_of_the_data_is_replaced_by_the_task_s_name_for_all_tasks():
    tasks = TaskMixture([Task("a", data(task=["old"] * 3), one), Task("b", data(), one)])
    assert [tasks.row(k, 0)["task"] for k in (0, 1)] == ["a", "b"]
    assert "task" not in tasks.reward_funcs[1].foreign_columns


def test_task_rewards_are_weighted_sums_of_the_own_columns():
    rewards = np.array(
        [
            [0.5, 9.0, 9.0, 9.0, 9.0],  # a: 0.5
            [9.0, 1.0, 4.0, 9.0, 9.0],  # b: 1 * 1 + 0.5 * 4 = 3
            [9.0, NAN, 4.0, 9.0, 9.0],  # b: 0.5 * 4 = 2
            [9.0, NAN, NAN, 9.0, 9.0],  # b: nothing scored it
            [9.0, 9.0, 9.0, 0.7, 1.0],  # c: 0.7, the outcome does not count
            [9.0, 9.0, 9.0, NAN, 1.0],  # c: an outcome alone is no reward
        ]
    )
    result = mixture().task_rewards(rewards, np.array([0, 1, 1, 1, 2, 2]))
    np.testing.assert_allclose(result, [0.5, 3.0, 2.0, NAN, 0.7, NAN])


def test_correctness_is_threshold_outcome_or_scaled_reward():
    tasks = TaskMixture(
        [
            Task("threshold", data(), one, success_threshold=0.9),
            Task("outcome", data(), one, outcome_func=solved),
            Task("range", data(), one, reward_range=(-1.0, 3.0)),
        ]
    )
    rewards = np.full((8, 4), NAN, dtype=np.float32)
    rewards[0, 0], rewards[1, 0] = 0.9, 0.89
    rewards[3, 1:3], rewards[4, 1:3] = (0.1, 1.0), (5.0, 0.0)
    rewards[5, 3], rewards[6, 3] = 0.0, 3.0
    result = tasks.correctness(rewards, np.array([0, 0, 0, 1, 1, 2, 2, 2]))
    np.testing.assert_allclose(result, [1.0, 0.0, NAN, 1.0, 0.0, 0.25, 1.0, NAN])


def test_rewards_outside_the_range_are_cut_with_a_warning_that_says_how_to_end_it():
    tasks = TaskMixture([Task("a", data(), one), Task("b", data(), one)])
    with pytest.warns(UserWarning, match=r"task 'a' leave its `reward_range` \(0.0, 1.0\).*a `success_threshold`"):
        result = tasks.correctness(np.array([[5.0, NAN], [-1.0, NAN]]), np.array([0, 0]))
    assert result.tolist() == [1.0, 0.0]


def test_a_single_task_is_not_told_to_give_its_range(recwarn):
    tasks = TaskMixture([Task("a", data(), one)])
    assert tasks.correctness(np.array([[5.0], [-1.0]]), np.array([0, 0])).tolist() == [1.0, 0.0]
    assert not recwarn.list


scores = st.lists(st.floats(0, 1), min_size=5, max_size=5)


@given(st.lists(st.tuples(st.integers(0, 2), scores), min_size=1, max_size=12))
def test_other_tasks_columns_never_matter(rows):
    tasks = mixture()
    task_ids = np.array([task_id for task_id, _ in rows])
    rewards = np.array([values for _, values in rows])
    rewards[:, 4] = rewards[:, 4].round()
    hidden = np.where(tasks.column_task[None, :] == task_ids[:, None], rewards, NAN)
    np.testing.assert_array_equal(tasks.task_rewards(rewards, task_ids), tasks.task_rewards(hidden, task_ids))


def labelled(names):
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(len(names))], "task": names})


def test_a_dataset_with_a_task_column_becomes_one_task_per_name():
    tasks = TaskMixture.from_dataset(
        labelled(["b", "a", "b"]),
        {"a": one, "b": [one, two]},
        eval_dataset=labelled(["b"]),
        success_threshold={"a": 1.0},
        reward_range={"a": (0.0, 1.0), "b": (0.0, 3.0)},
    )
    assert tasks.names == ("a", "b")
    assert [tasks.row(1, i)["prompt"] for i in (0, 1)] == ["p0", "p2"]
    assert tasks.num_rows("eval").tolist() == [0, 1]
    assert [task.success_threshold for task in tasks.tasks] == [1.0, None]
    assert tasks.tasks[1].reward_range == (0.0, 3.0)


def test_an_unknown_task_name_shows_both_lists_and_a_suggestion():
    match = (
        r"`reward_funcs` must have exactly the task names of `train_dataset`, got functions for "
        r"\['countdown', 'zebra'\] "
        r"and rows for \['countdwn', 'zebra'\]. Did you mean 'countdown' where it says 'countdwn'\?"
    )
    with pytest.raises(ValueError, match=match):
        TaskMixture.from_dataset(labelled(["countdwn", "zebra"]), {"countdown": one, "zebra": one})


def test_a_function_without_rows_is_an_error():
    with pytest.raises(ValueError, match=r"got functions for \['a', 'b'\] and rows for \['a'\]"):
        TaskMixture.from_dataset(labelled(["a"]), {"a": one, "b": one})


def test_an_unknown_task_in_the_evaluation_rows_is_an_error():
    with pytest.raises(ValueError, match=r"names of `eval_dataset`, got functions for \['a'\] and rows for \['z'\]"):
        TaskMixture.from_dataset(labelled(["a"]), {"a": one}, eval_dataset=labelled(["z"]))


def test_a_dict_of_functions_needs_a_task_column():
    with pytest.raises(ValueError, match=r"must be a `datasets.Dataset` with a column 'task' .*, got \['prompt'\]"):
        TaskMixture.from_dataset(data(), {"a": one})
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": "a", "task": "a"}]))
    with pytest.raises(ValueError, match=r"with a column 'task' .*, got IterableDataset"):
        TaskMixture.from_dataset(stream, {"a": one})
