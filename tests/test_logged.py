"""Columns that reward functions log stand beside the rows that they were logged for."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.small_tasks import data
from trl_mtgrpo.tasks.logged import LoggedValues, merge_logged
from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.rows import KEY
from trl_mtgrpo.tasks.task import Task


def logs(*columns: str, value: str = "") -> Any:
    """A reward that logs its prompts under each name."""

    def reward(prompts: list[str], log_extra: Any, **kwargs: Any) -> list[float]:
        for column in columns:
            log_extra(column, [value + prompt for prompt in prompts])
        return [1.0] * len(prompts)

    return reward


def logged(mixture: TaskMixture, places: list[tuple[int, int]]) -> dict[str, list[Any]]:
    """The columns of one batch whose prompts are "task:row"."""
    rows, columns = mixture.rows(places), dict[str, list[Any]]()
    prompts = [f"{row.task_id}:{row.row}" for row in rows]

    def log(column: str, values: list[Any]) -> None:
        columns[column] = merge_logged(columns.get(column), values)

    for function in mixture.functions:
        function(prompts=prompts, completions=prompts, log_extra=log, **{KEY: rows})
    return columns


def mixture(*functions: Any) -> TaskMixture:
    return TaskMixture([Task(f"t{k}", data(), function) for k, function in enumerate(functions)])


def test_a_column_of_one_task_is_none_for_the_others() -> None:
    found = logged(mixture(logs("x"), logs()), [(1, 0), (0, 1), (1, 1), (0, 0)])
    assert found == {"x": [None, "0:1", None, "0:0"]}


def test_a_column_of_several_tasks_is_one_column() -> None:
    found = logged(mixture(logs("x", "y"), logs("x")), [(1, 0), (0, 1), (1, 1)])
    assert found == {"x": ["1:0", "0:1", "1:1"], "y": [None, "0:1", None]}


def test_of_two_functions_of_a_task_the_last_one_counts() -> None:
    found = logged(mixture([logs("x", value="first "), logs("x", value="second ")], logs("x")), [(0, 0), (1, 1)])
    assert found == {"x": ["second 0:0", "1:1"]}


def test_none_that_was_logged_last_counts() -> None:
    assert merge_logged([1, 2, 3], LoggedValues([0, 2], [None, 9], 3)) == [None, 2, 9]
    assert merge_logged(None, [1, 2]) == [1, 2]
    assert merge_logged([1, 2], [3, None]) == [3, None]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12))
def test_every_value_stands_beside_its_own_prompt(places: list[tuple[int, int]]) -> None:
    for column, values in logged(MIXTURE, places).items():
        owners = {"x": (0, 2), "y": (1, 2)}[column]
        assert values == [f"{task}:{row}" if task in owners else None for task, row in places]


MIXTURE = mixture(logs("x"), logs("y"), logs("y", "x"), logs())
