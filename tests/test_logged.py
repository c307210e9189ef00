"""Columns that reward functions log stand beside the rows that they were logged for."""

from collections import defaultdict, deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.small_tasks import data
from trl_mtgrpo.tasks.logged import LoggedValues, align_logged, complete_logged, merge_logged
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


class Host:
    """The host's table of completions, filled batch by batch as the host does it."""

    def __init__(self, mixture: TaskMixture, size: int) -> None:
        self.mixture = mixture
        self.prompts: deque[str] = deque(maxlen=size)
        self.columns: defaultdict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=size))
        self.pending: dict[str, list[Any]] = {}

    def log(self, column: str, values: list[Any]) -> None:
        self.pending[column] = merge_logged(self.pending.get(column), values)

    def batch(self, places: list[tuple[int, int]]) -> None:
        rows = self.mixture.rows(places)
        prompts = [f"{row.task_id}:{row.row}" for row in rows]
        for function in self.mixture.functions:
            function(prompts=prompts, completions=prompts, log_extra=self.log, **{KEY: rows})
        complete_logged(self.pending, self.columns, len(rows))
        self.prompts.extend(prompts)
        for column, values in self.pending.items():
            self.columns[column].extend(values)
        self.pending.clear()
        align_logged(self.columns, len(self.prompts))


def mixture(*functions: Any) -> TaskMixture:
    return TaskMixture([Task(f"t{k}", data(), function) for k, function in enumerate(functions)])


def test_a_column_of_one_task_is_none_for_the_others() -> None:
    host = Host(mixture(logs("x"), logs()), 8)
    host.batch([(1, 0), (0, 1), (1, 1), (0, 0)])
    assert list(host.columns["x"]) == [None, "0:1", None, "0:0"]


def test_a_column_of_several_tasks_is_one_column() -> None:
    host = Host(mixture(logs("x", "y"), logs("x")), 8)
    host.batch([(1, 0), (0, 1), (1, 1)])
    assert list(host.columns["x"]) == ["1:0", "0:1", "1:1"]
    assert list(host.columns["y"]) == [None, "0:1", None]


def test_a_batch_without_the_task_shows_nothing_of_the_batch_before() -> None:
    host = Host(mixture(logs("x"), logs()), 2)
    host.batch([(0, 0), (0, 1)])
    host.batch([(1, 0), (1, 1)])
    assert list(host.columns["x"]) == [None, None]


def test_a_column_that_starts_late_is_none_before() -> None:
    host = Host(mixture(logs(), logs("x")), 8)
    host.batch([(0, 0), (0, 1)])
    host.batch([(1, 0), (0, 1)])
    assert list(host.columns["x"]) == [None, None, "1:0", None]


def test_of_two_functions_of_a_task_the_last_one_counts() -> None:
    host = Host(mixture([logs("x", value="first "), logs("x", value="second ")], logs("x")), 8)
    host.batch([(0, 0), (1, 1)])
    assert list(host.columns["x"]) == ["second 0:0", "1:1"]


def test_none_that_was_logged_last_counts() -> None:
    assert merge_logged([1, 2, 3], LoggedValues([0, 2], [None, 9], 3)) == [None, 2, 9]
    assert merge_logged(None, [1, 2]) == [1, 2]
    assert merge_logged([1, 2], [3, None]) == [3, None]


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6), min_size=1, max_size=4
)


@given(batches, st.integers(6, 12))
def test_every_value_stands_beside_its_own_prompt(given_batches: list[list[tuple[int, int]]], size: int) -> None:
    host = Host(MIXTURE, size)
    for places in given_batches:
        host.batch(places)
    for column, values in host.columns.items():
        owners = {"x": "02", "y": "12"}[column]
        assert list(values) == [prompt if prompt[0] in owners else None for prompt in host.prompts]


MIXTURE = mixture(logs("x"), logs("y"), logs("y", "x"), logs())
