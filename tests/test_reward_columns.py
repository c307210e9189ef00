"""Functions of several tasks as one list, reward models that tasks share, and what scores become."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.small_tasks import HOST, Spy, call, data, mixture, one, solved, two, waiting
from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.rewards import AsyncTaskReward
from trl_mtgrpo.tasks.task import Task


NAN = math.nan


# Functions


def test_functions_come_in_task_order_with_their_weights_and_outcomes_at_zero():
    tasks = mixture()
    assert tasks.function_names == ("a/one", "b/one", "b/two", "c/one", "c/solved")
    assert [function.__name__ for function in tasks.functions] == list(tasks.function_names)
    assert tasks.weights == [1.0, 1.0, 0.5, 1.0, 0.0]
    assert [task.columns for task in tasks.scoring.tasks] == [(0,), (1, 2), (3, 4)]
    assert [task.outcome for task in tasks.scoring.tasks] == [None, None, 1]
    assert tasks.scoring.has_outcome.tolist() == [True, False, True]


def test_the_list_of_functions_is_the_caller_s_own():
    tasks = mixture()
    tasks.functions.append(one)
    assert len(tasks.functions) == 5


def test_names_of_functions_are_unique():
    assert TaskMixture([Task("a", data(), [one, one, one])]).function_names == ("a/one", "a/one_2", "a/one_3")


def test_names_can_be_those_of_the_functions():
    assert TaskMixture([Task("a", data(), [one, two])], qualified_names=False).function_names == ("one", "two")


def test_async_functions_stay_async():
    tasks = TaskMixture([Task("a", data(), [one, waiting])])
    assert [isinstance(function, AsyncTaskReward) for function in tasks.functions] == [False, True]


def test_a_function_gets_the_columns_of_its_own_task_only():
    first, second = Spy(), Spy()
    tasks = TaskMixture([Task("a", data(x=[1, 2, 3]), first), Task("b", data(x=[4, 5, 6], y=[7, 8, 9]), second)])
    rows = [tasks.row(1, 0), tasks.row(0, 0), tasks.row(1, 2)]
    assert call(tasks.functions[0], rows) == [None, 0.0, None]
    assert call(tasks.functions[1], rows) == [0.0, None, 0.0]
    assert set(first.seen[0]) == {*HOST, "x"}
    assert set(second.seen[0]) == {*HOST, "x", "y"}
    assert (first.seen[0]["x"], second.seen[0]["x"], second.seen[0]["y"]) == ([1], [4, 6], [7, 9])
    assert second.seen[0]["completions"] == ["c0", "c2"]


def test_a_column_that_a_split_lacks_is_absent_and_not_none():
    seen = []

    def scores(prompts, answer="the default", **kwargs):
        seen.append(answer)
        return [1.0] * len(prompts)

    tasks = TaskMixture([Task("a", data(answer=[1, 2, 3]), scores, eval_dataset=data()), Task("b", data(), one)])
    call(tasks.functions[0], [tasks.row(0, 0)])
    call(tasks.functions[0], [tasks.row(0, 0, "eval")])
    assert seen == [[1], "the default"]


# Reward models


class Model(torch.nn.Module):
    def __init__(self, name="org/judge"):
        super().__init__()
        self.config = SimpleNamespace(_name_or_path=name)
        self.seen = []

    def forward(self, input_ids, attention_mask):
        self.seen.append((input_ids.tolist(), attention_mask.tolist()))
        return SimpleNamespace(logits=(input_ids * attention_mask).sum(dim=1, keepdim=True).float())


INPUTS = {
    "input_ids": torch.tensor([[1, 2, 9], [3, 9, 9], [4, 5, 6]]),
    "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]),
}


@pytest.mark.parametrize("model", ["org/judge", Model()])
def test_a_model_that_tasks_share_is_one_column(model):
    tasks = TaskMixture([Task("a", data(), [one, model]), Task("b", data(), model), Task("c", data(), [two, model])])
    assert tasks.functions[1] is model
    assert tasks.function_names == ("a/one", "judge", "c/two")
    assert [task.columns for task in tasks.scoring.tasks] == [(0, 1), (1,), (2, 1)]
    assert tasks.weights == [1.0, 1.0, 1.0]


def test_different_models_of_one_name_are_told_apart():
    tasks = TaskMixture([Task("a", data(), "x/judge"), Task("b", data(), ["y/judge", Model(), Model("")])])
    assert tasks.function_names == ("judge", "judge_2", "judge_3", "Model")


def test_a_model_that_one_task_lists_twice_is_two_columns_as_in_trl():
    model = Model()
    tasks = TaskMixture([Task("a", data(), [model, model], reward_weights=[1.0, 3.0]), Task("b", data(), model)])
    assert tasks.functions == [model, model]
    assert [task.columns for task in tasks.scoring.tasks] == [(0, 1), (0,)]


def test_tasks_cannot_weight_a_shared_model_differently():
    with pytest.raises(
        ValueError,
        match=r"`reward_weights` must give a reward model that tasks share one weight, got 1.0 in task 'a' and 0.5",
    ):
        TaskMixture([Task("a", data(), "judge"), Task("b", data(), "judge", reward_weights=[0.5])])


def test_a_shared_model_scores_its_own_tasks_rows_as_it_would_alone():
    model = Model()
    tasks = TaskMixture([Task("a", data(), model), Task("b", data(), one), Task("c", data(), model)])
    functions = tasks.functions
    tasks.wrap_models(functions)
    tasks.bind([tasks.row(0, 0), tasks.row(2, 0), tasks.row(1, 0)])
    logits = functions[0](**INPUTS).logits
    assert logits[:2].tolist() == [[3.0], [3.0]]
    assert logits[2].isnan().all()
    # Cut to the longer of the two own rows, as if the third one were not there.
    assert model.seen == [([[1, 2], [3, 9]], [[1, 1], [1, 0]])]
    assert functions[0].config is model.config
    assert isinstance(functions[1], type(tasks.functions[1]))


def test_a_model_without_a_row_is_called_all_the_same():
    model = Model()
    tasks = TaskMixture([Task("a", data(), model), Task("b", data(), one)])
    functions = tasks.functions
    tasks.wrap_models(functions)
    tasks.bind([tasks.row(1, 0)] * 3)
    assert functions[0](**INPUTS).logits.isnan().all()
    assert len(model.seen) == 1


def test_models_are_wrapped_once_and_not_for_a_single_task():
    model = Model()
    several = TaskMixture([Task("a", data(), model), Task("b", data(), one)])
    functions = several.functions
    several.wrap_models(functions)
    wrapped = functions[0]
    several.wrap_models(functions)
    assert functions[0] is wrapped
    alone = TaskMixture([Task("a", data(), model)])
    functions = alone.functions
    alone.wrap_models(functions)
    assert functions == [model]


def test_a_model_that_does_not_know_the_batch_refuses_it():
    tasks = TaskMixture([Task("a", data(), Model()), Task("b", data(), one)])
    functions = tasks.functions
    tasks.wrap_models(functions)
    with pytest.raises(
        RuntimeError, match="`bind` must get the 3 rows of the batch before rewards are calculated, got 0"
    ):
        functions[0](**INPUTS)


def test_processing_classes_follow_the_user_s_functions():
    tasks = TaskMixture(
        [
            Task("a", data(), [one, "judge"], outcome_func=solved),
            Task("b", data(), ["judge", "other"]),
            Task("c", data(), two),
        ]
    )
    assert tasks.function_names == ("a/one", "judge", "a/solved", "other", "c/two")
    assert tasks.processing_classes([None, "J", None, "O", None]) == [None, "J", None, "O", None]
    assert tasks.processing_classes((None, None, "J", "O", None)) == [None, "J", None, "O", None]
    assert tasks.processing_classes(None) is None
    for entries in ([None, "J"], [None, "J", None, "J", "O", None]):
        with pytest.raises(
            ValueError, match=r"must have one entry per function of `reward_funcs`, got . for 5. The func"
        ):
            tasks.processing_classes(entries)
    with pytest.raises(ValueError, match="that tasks share one processing class, got two for 'judge'"):
        tasks.processing_classes([None, "J", "K", "O", None])
    with pytest.raises(
        ValueError, match="`reward_processing_classes` must be a list with one entry per function, got one"
    ):
        tasks.processing_classes("J")


def test_a_single_processing_class_is_for_the_only_model():
    tasks = TaskMixture([Task("a", data(), one), Task("b", data(), "judge"), Task("c", data(), "judge")])
    assert tasks.processing_classes("J") == [None, "J"]


# Scoring


def test_rewards_are_weighted_sums_of_the_own_columns():
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
    result = mixture().scoring.score(rewards, np.array([0, 1, 1, 1, 2, 2])).reward
    np.testing.assert_allclose(result, [0.5, 3.0, 2.0, NAN, 0.7, NAN])


def test_success_is_threshold_outcome_or_scaled_reward():
    tasks = TaskMixture(
        [
            Task("threshold", data(), one, success_threshold=0.9),
            Task("outcome", data(), one, outcome_func=solved),
            Task("range", data(), one, reward_range=(-1.0, 3.0)),
        ]
    )
    rewards = np.full((9, 4), NAN, dtype=np.float32)
    rewards[0, 0], rewards[1, 0] = 0.9, 0.89
    rewards[3, 1:3], rewards[4, 1:3], rewards[5, 1] = (0.1, 1.0), (5.0, 0.0), 1.0
    rewards[6, 3], rewards[7, 3] = 0.0, 3.0
    result = tasks.scoring.score(rewards, np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])).success
    # Row 5 has a reward and an outcome that is not known: it is not wrong.
    np.testing.assert_allclose(result, [1.0, 0.0, NAN, 1.0, 0.0, NAN, 0.25, 1.0, NAN])


def test_what_the_host_aggregates_is_what_was_given_and_nothing_for_rows_without_reward():
    tasks = mixture()
    ids = np.array([0, 1, 2, 2])
    values = np.array([[0.5, 9, 9, 9, 9], [9, 1, NAN, 9, 9], [9, 9, 9, 0.7, 1], [9, 9, 9, NAN, 1]], dtype=np.float32)
    expected = [
        [0.5, NAN, NAN, NAN, NAN],
        [NAN, 1.0, NAN, NAN, NAN],
        [NAN, NAN, NAN, 0.7, 1.0],
        [NAN] * 5,
    ]
    scores = tasks.scoring.score(values, ids)
    found = tasks.scoring.host_values(scores.parts, np.asarray(ids), scores.reward)
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


def test_rewards_outside_the_range_are_cut_with_a_warning_that_says_how_to_end_it():
    tasks = TaskMixture([Task("a", data(), one), Task("b", data(), one)])
    with pytest.warns(UserWarning, match=r"task 'a' leave its `reward_range` \(0.0, 1.0\).*a `success_threshold`"):
        result = tasks.scoring.score(np.array([[5.0, NAN], [-1.0, NAN]]), np.array([0, 0])).success
    assert result.tolist() == [1.0, 0.0]


def test_a_single_task_is_not_told_to_give_its_range(recwarn):
    tasks = TaskMixture([Task("a", data(), one)])
    assert tasks.scoring.score(np.array([[5.0], [-1.0]]), np.array([0, 0])).success.tolist() == [1.0, 0.0]
    assert not recwarn.list


SCORING = mixture().scoring
scores = st.lists(st.floats(0, 1), min_size=5, max_size=5)


@given(st.lists(st.tuples(st.integers(0, 2), scores), min_size=1, max_size=12))
def test_other_tasks_columns_never_matter(rows):
    scoring = SCORING
    task_ids = np.array([task_id for task_id, _ in rows])
    rewards = np.array([values for _, values in rows])
    hidden = np.full_like(rewards, NAN)
    for i, task_id in enumerate(task_ids):
        hidden[i, list(scoring.tasks[task_id].columns)] = rewards[i, list(scoring.tasks[task_id].columns)]
    for first, second in zip(scoring.score(rewards, task_ids), scoring.score(hidden, task_ids), strict=True):
        np.testing.assert_array_equal(first, second)
