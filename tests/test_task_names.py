"""Tasks by name in one dataset, and dicts by task name."""

import math

import numpy as np
import pytest
from datasets import DatasetDict, IterableDataset

from tests.small_tasks import Spy, call, data, labelled, one, solved, two
from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.names import check_baseline


NAN = math.nan


# One dataset with a column `task`


def test_a_dataset_with_a_task_column_becomes_one_task_per_name():
    tasks = TaskMixture.from_dataset(
        labelled(["b", "a", "b"]),
        {"a": one, "b": [one, two]},
        eval_dataset=labelled(["b"]),
        success_threshold={"a": 1.0, "b": None},
        reward_range={"a": None, "b": (0.0, 3.0)},
    )
    assert tasks.names == ("a", "b")
    assert [tasks.row(1, i).columns["prompt"] for i in (0, 1)] == ["p0", "p2"]
    assert tasks.num_rows("eval").tolist() == [0, 1]
    assert [task.success_threshold for task in tasks.tasks] == [1.0, None]
    assert [task.reward_range for task in tasks.tasks] == [(0.0, 1.0), (0.0, 3.0)]


def test_the_task_column_stays_the_user_s():
    spy = Spy()
    tasks = TaskMixture.from_dataset(labelled(["a", "b"], task_id=[8, 9]), {"a": spy, "b": one})
    call(tasks.functions[0], [tasks.row(0, 0)])
    assert spy.seen[0]["task"] == ["a"]
    assert spy.seen[0]["task_id"] == [8]


def test_one_value_serves_all_tasks():
    tasks = TaskMixture.from_dataset(
        labelled(["a", "b"]), {"a": one, "b": two}, outcome_func=solved, reward_range=(0, 2)
    )
    assert [task.outcome_func for task in tasks.tasks] == [solved, solved]
    assert tasks.tasks[1].reward_range == (0.0, 2.0)


def test_each_task_may_say_in_its_own_way_what_correct_means():
    tasks = TaskMixture.from_dataset(
        labelled(["a", "b", "c"]),
        {"a": one, "b": two, "c": two},
        success_threshold={"a": 1.0, "b": None, "c": None},
        outcome_func={"a": None, "b": solved, "c": None},
    )
    assert tasks.scoring.has_outcome.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("argument", "value"), [("success_threshold", 1.0), ("reward_range", (0.0, 1.0)), ("outcome_func", solved)]
)
@pytest.mark.parametrize("names", [["Math"], ["math"], ["math", "code", "codes"], ["math", "cod"], []])
def test_a_dict_by_name_names_exactly_the_tasks(argument, value, names):
    with pytest.raises(
        ValueError,
        match=rf"`{argument}` must name exactly the tasks \['math', 'code'\], got .*Give one entry per task",
    ):
        TaskMixture.from_dataset(
            labelled(["math", "code"]), {"math": one, "code": one}, **{argument: dict.fromkeys(names, value)}
        )


@pytest.mark.parametrize(
    ("wrong", "right"), [("Math", "math"), ("mat", "math"), ("math ", "math"), ("CODE", "code"), ("kode", "code")]
)
def test_a_near_miss_is_shown(wrong, right):
    match = f"Did you mean '{right}' where it says '{wrong}'"
    names = [wrong if name == right else name for name in ("math", "code")]
    data_, functions = labelled(["math", "code"]), {"math": one, "code": one}
    with pytest.raises(ValueError, match=match):
        TaskMixture.from_dataset(data_, functions, success_threshold=dict.fromkeys(names, 1.0))
    with pytest.raises(ValueError, match=match):
        check_baseline(dict.fromkeys(names, 0.5), ("math", "code"))
    with pytest.raises(
        ValueError,
        match=rf"`reward_funcs` must have exactly the task names .* got \['{wrong}'\] without rows.*{match}",
    ):
        TaskMixture.from_dataset(data_, dict.fromkeys(names, one))


@pytest.mark.parametrize("value", ["1.0", [1.0, None], True, NAN, (1.0,)])
def test_a_threshold_of_the_wrong_type_is_named_by_its_task(value):
    with pytest.raises(ValueError, match="`success_threshold` of task 'b' must be a finite number, got "):
        TaskMixture.from_dataset(labelled(["a", "b"]), {"a": one, "b": one}, success_threshold={"a": 1.0, "b": value})


def test_a_misspelt_task_in_the_data_is_shown_there():
    match = (
        r"`train_dataset` must have names of tasks in its column 'task', got \['countdwn'\] beside the tasks "
        r"\['countdown', 'zebra'\]. Did you mean 'countdown' where it says 'countdwn'\?"
    )
    with pytest.raises(ValueError, match=match):
        TaskMixture.from_dataset(labelled(["countdwn", "zebra", "countdown"]), {"countdown": one, "zebra": one})


def test_a_function_without_rows_is_an_error():
    with pytest.raises(ValueError, match=r"got \['b'\] without rows beside rows for \['a'\]"):
        TaskMixture.from_dataset(labelled(["a"]), {"a": one, "b": one})


def test_an_unknown_task_in_the_evaluation_rows_is_an_error():
    with pytest.raises(
        ValueError, match=r"`eval_dataset` must have names of tasks .*, got \['z'\] beside the tasks \['a'\]"
    ):
        TaskMixture.from_dataset(labelled(["a"]), {"a": one}, eval_dataset=labelled(["z"]))


@pytest.mark.parametrize("functions", [[one], one, None, {}, "judge"])
def test_a_dataset_of_several_tasks_wants_a_dict(functions):
    with pytest.raises(TypeError, match="`reward_funcs` must be a dict from task name to reward function"):
        TaskMixture.from_dataset(labelled(["a"]), functions)


def test_a_dict_of_functions_needs_a_task_column():
    with pytest.raises(ValueError, match=r"`train_dataset` must have a column 'task' .*, got \['prompt'\]"):
        TaskMixture.from_dataset(data(), {"a": one})
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": "a", "task": "a"}]))
    with pytest.raises(TypeError, match=r"`train_dataset` must be a `datasets.Dataset`, got IterableDataset"):
        TaskMixture.from_dataset(stream, {"a": one})
    with pytest.raises(TypeError, match=r"got DatasetDict with the splits \['train'\]. Name one of them"):
        TaskMixture.from_dataset(DatasetDict(train=labelled(["a"])), {"a": one})


def test_a_transform_may_make_the_task_column():
    def transform(batch):
        return {"prompt": batch["prompt"], "task": ["a" if p == "p0" else "b" for p in batch["prompt"]]}

    tasks = TaskMixture.from_dataset(data().with_transform(transform), {"a": one, "b": one})
    assert tasks.num_rows().tolist() == [1, 2]
    assert tasks.row(1, 0).columns == {"prompt": "p1", "task": "b"}


# Baselines


def test_a_baseline_is_checked():
    assert check_baseline(None, ("a",)) is None
    assert check_baseline({"a": 0.5, "b": None}, ("a", "b")) == {"a": 0.5}
    assert check_baseline({"b": np.float32(0.5), "a": 1}, ("a", "b")) == {"a": 1.0, "b": 0.5}
    with pytest.raises(TypeError, match=r"`baseline_accuracy` must be a dict from task name to accuracy, got 0.5"):
        check_baseline(0.5, ("a",))
    for value in (50.0, -0.1, "0.5", NAN, True):
        with pytest.raises(ValueError, match="`baseline_accuracy` of task 'a' must be a number from 0 to 1, got "):
            check_baseline({"a": value}, ("a",))
