"""Several tasks as the trainer sees them: rows with their own columns, and rows that the user evaluates."""

import copy
import math

import numpy as np
import pytest

from tests.small_tasks import chat, data, labelled, mixture, one
from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.rows import KEY, TaskRow
from trl_mtgrpo.tasks.task import Task


NAN = math.nan


# What a mixture needs


def test_prompts_of_two_kinds_between_tasks_are_refused():
    with pytest.raises(
        ValueError, match=r"`tasks` must all have prompts of one kind, got text in 'a', lists of .* in 'b'"
    ):
        TaskMixture([Task("a", data(), one), Task("b", chat(), one)])


@pytest.mark.parametrize("tasks", [[], ["a"], None, {"a": one}])
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
    for timeout in (0, -1.0, math.inf, "5", True):
        with pytest.raises(ValueError, match="`reward_timeout` must be a positive number of seconds, got "):
            TaskMixture(tasks, timeout=timeout)


# Rows


def test_a_row_has_its_own_columns_and_nothing_else():
    tasks = mixture()
    assert tasks.row(0, 1) == TaskRow(0, 1, {"prompt": "p1", "number": 2})
    assert tasks.row(1, np.int64(1)) == TaskRow(1, 1, {"prompt": "p1", "number": "y", "grid": [2]})
    assert tasks.row(2, 1, "eval") == TaskRow(2, 1, {"prompt": "p1"})


@pytest.mark.parametrize("name", ["task", "task_id", "row", "self", "func", "completion", KEY, "index", "arguments"])
def test_a_column_of_any_name_stays_the_user_s(name):
    tasks = TaskMixture([Task("a", data(**{name: [7, 8, 9]}), one), Task("b", data(), one)])
    assert tasks.row(0, 2).columns[name] == 9
    assert tasks.host_dataset()[1][KEY] == tasks.row(0, 1)


def test_evaluation_rows_of_a_task_without_any_are_an_error():
    with pytest.raises(ValueError, match="`split` must be 'train' for task 'a', got 'eval'"):
        mixture().row(0, 0, "eval")


def test_rows_of_several_tasks_keep_their_order():
    places = [(1, 2), (0, 0), (1, 0), (0, 0)]
    rows = mixture().rows(places)
    assert [(row.task_id, row.row) for row in rows] == places
    assert [row.columns["number"] for row in rows] == ["z", 1, "x", 1]


def test_rows_of_one_task_are_read_as_one_batch():
    sizes = []

    def transform(batch):
        sizes.append(len(batch["prompt"]))
        return {"prompt": batch["prompt"], "size": [len(batch["prompt"])] * len(batch["prompt"])}

    tasks = TaskMixture([Task("a", data().with_transform(transform), one), Task("b", data(), one)])
    sizes.clear()
    rows = tasks.rows([(0, 0), (1, 0), (0, 2)])
    assert sizes == [2]
    assert [row.columns.get("size") for row in rows] == [2, None, 2]


@pytest.mark.parametrize("form", [None, "numpy", "torch", "pandas"])
def test_a_row_is_what_the_host_s_loader_reads(form):
    rows = data(number=[1, 2, 3], grid=[[1], [1, 2], []]).with_format(form)
    tasks = TaskMixture([Task("a", rows, one), Task("b", data(), one)])
    (expected,) = rows.__getitems__([1])
    found = tasks.row(0, 1).columns
    assert {name: type(value) for name, value in found.items()} == {name: type(v) for name, v in expected.items()}
    assert list(found["grid"]) == list(expected["grid"]) == [1, 2]


def test_rows_of_an_arrow_dataset_are_plain_values():
    tasks = TaskMixture([Task("a", data(number=[1, 2, 3]).with_format("arrow"), one)])
    assert tasks.row(0, 1).columns == {"prompt": "p1", "number": 2}


def test_a_format_that_hides_columns_hides_them():
    hidden = data(number=[1, 2, 3], other=[4, 5, 6]).with_format("numpy", columns=["prompt", "number"])
    shown = data(number=[1, 2, 3]).with_format("numpy", columns=["prompt"], output_all_columns=True)
    tasks = TaskMixture([Task("a", hidden, one), Task("b", shown, one)])
    assert set(tasks.row(0, 0).columns) == {"prompt", "number"}
    assert set(tasks.row(1, 0).columns) == {"prompt", "number"}


@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_host_s_dataset_has_every_row_once_in_the_order_of_the_tasks(split):
    tasks = mixture()
    dataset = tasks.host_dataset(split)
    places = [(k, i) for k, n in enumerate(tasks.num_rows(split)) for i in range(n)]
    assert len(dataset) == len(places)
    assert [dataset[i][KEY] for i in range(len(dataset))] == [tasks.row(k, i, split) for k, i in places]
    assert dataset.__getitems__([0, 1])[1] == tasks.row(*places[1], split).for_host()
    assert all(set(row) == {"prompt", KEY} for row in dataset)


def test_without_evaluation_rows_there_is_no_dataset():
    assert TaskMixture([Task("a", data(), one)]).host_dataset("eval") is None


def test_the_host_s_dataset_survives_what_the_host_does_to_datasets():
    dataset = mixture().host_dataset()
    assert dataset.remove_columns([name for name in dataset.column_names if name not in ("prompt", "image")])[3][KEY]
    assert copy.deepcopy(dataset)[3][KEY] == dataset[3][KEY]
    assert dataset.select([3])[0][KEY].task_id == 1


def test_functions_that_cannot_be_hashed_do_not_matter_to_the_dataset(recwarn):
    class Unhashable:
        def __call__(self, prompts, **kwargs):
            return [1.0] * len(prompts)

        def __reduce__(self):
            raise TypeError

    tasks = TaskMixture([Task("a", data(), Unhashable())])
    assert tasks.host_dataset()[0][KEY] == tasks.row(0, 0)
    assert not recwarn.list


def test_images_stand_where_the_host_looks_for_them():
    tasks = TaskMixture(
        [
            Task("a", data(1, image=["picture"], x=[1]), one),
            Task("b", data(1), one),
            Task("c", data(1, images=[None]), one),
        ]
    )
    copies = tasks.host_rows([tasks.row(k, 0) for k in (1, 0, 2)])
    assert all(set(copy) == {"prompt", "images", KEY} for copy in copies)  # the host looks at the first row alone
    assert [copy["images"] for copy in copies] == [[], ["picture"], []]
    assert tasks.row(0, 0).columns == {"prompt": tasks.row(0, 0).columns["prompt"], "image": "picture", "x": 1}
    assert tasks.row(0, 0).for_host(environment="a")["environment"] == "a"


def test_copies_say_nothing_of_images_where_no_task_has_any():
    tasks = mixture()
    assert all(set(copy) == {"prompt", KEY} for copy in tasks.host_rows([tasks.row(0, 0), tasks.row(1, 0)]))


# Rows to evaluate


def test_a_row_that_the_user_evaluates_goes_to_its_task_with_all_its_columns():
    row = {"prompt": "p", "task": "b", "task_id": 0, "row": 5}
    assert mixture().evaluation_row(row) == TaskRow(1, -1, row)


def test_the_host_s_own_copy_is_the_row_behind_it():
    tasks = mixture()
    row = tasks.row(2, 1, "eval")
    assert tasks.evaluation_row(row.for_host()) is row


def test_a_column_called_like_the_copy_s_key_is_a_column():
    row = {"prompt": "p", "task": "a", KEY: "mine"}
    assert mixture().evaluation_row(row) == TaskRow(0, -1, row)


def test_with_one_task_every_column_is_the_user_s():
    row = {"prompt": "p", "task": "anything", "task_id": 7, "row": 3}
    assert TaskMixture([Task("a", data(), one)]).evaluation_row(row) == TaskRow(0, -1, row)


@pytest.mark.parametrize("task", ["A", None, 0, "z"])
def test_a_row_of_an_unknown_task_is_an_error(task):
    with pytest.raises(
        ValueError, match=r"`eval_dataset` must have names of tasks in its column 'task', got .*\['a', 'b'"
    ):
        mixture().evaluation_row({"prompt": "p", "task": task})


def test_a_set_to_evaluate_is_checked_before_it_is_generated():
    tasks = mixture()
    tasks.check_evaluation(tasks.host_dataset("eval"))
    tasks.check_evaluation(labelled(["b", "a"]))
    tasks.check_evaluation(labelled(["b", "a"]).to_iterable_dataset())
    with pytest.raises(ValueError, match=r"`eval_dataset` must have a column 'task' that names the task of each row"):
        tasks.check_evaluation(data())
    with pytest.raises(
        ValueError, match=r"in its column 'task', got \['B'\] beside .* Did you mean 'b' where it says 'B'"
    ):
        tasks.check_evaluation(labelled(["a", "B"]))
    TaskMixture([Task("a", data(), one)]).check_evaluation(data())
