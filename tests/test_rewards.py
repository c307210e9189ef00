"""The reward router: own rows only, results checked, failures recorded, time limited."""

import asyncio
import functools
import inspect
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.tasks.failures import RewardError, RewardFailures, describe_failures
from trl_mtgrpo.tasks.rewards import AsyncTaskReward, TaskReward, function_name, is_async
from trl_mtgrpo.tasks.rows import KEY, TaskRow


TASK_IDS = [0, 1, 0, 1, 1]


def lengths(prompts, completions, completion_ids, bonus, **kwargs):
    return [len(c) + b for c, b in zip(completions, bonus, strict=True)]


async def async_lengths(prompts, completions, completion_ids, bonus, **kwargs):
    await asyncio.sleep(0)
    return lengths(prompts, completions, completion_ids, bonus)


class CountingReward:
    def __init__(self):
        self.calls = []

    def __call__(self, **kwargs):
        self.calls.append(kwargs)
        return [0.0] * len(kwargs["prompts"])


def batch(task_ids=TASK_IDS, **extra):
    n = len(task_ids)
    return {
        "prompts": [f"p{i}" for i in range(n)],
        "completions": ["x" * i for i in range(n)],
        "completion_ids": [[i] for i in range(n)],
        KEY: [TaskRow(k, i, {"prompt": f"p{i}", "bonus": 10.0 * i}) for i, k in enumerate(task_ids)],
        "trainer_state": "state",
        **extra,
    }


def router(func, failures=None, task_id=1, **options):
    kind = AsyncTaskReward if is_async(func) else TaskReward
    return kind(func, "b", task_id, "b/f", failures if failures is not None else RewardFailures(), **options)


def recorded(func, **options):
    failures = RewardFailures()
    result = router(func, failures, **options)(**batch())
    return result, failures.take()


def test_a_function_sees_only_rows_of_its_own_task():
    inner = CountingReward()
    router(inner)(**batch(environments=list("abcde")))
    assert inner.calls == [
        {
            "prompts": ["p1", "p3", "p4"],
            "completions": ["x", "xxx", "xxxx"],
            "completion_ids": [[1], [3], [4]],
            "bonus": [10.0, 30.0, 40.0],
            "environments": ["b", "d", "e"],
            "trainer_state": "state",
        }
    ]


def test_fields_of_a_rollout_func_reach_the_function_cut_to_its_rows():
    inner = CountingReward()
    router(inner)(**batch(turns=[5, 6, 7, 8, 9], bonus=list("abcde"), same="for all", short=[1, 2], task_id=[0] * 5))
    (call,) = inner.calls
    assert (call["turns"], call["same"], call["short"], call["task_id"]) == ([6, 8, 9], "for all", [1, 2], [0] * 3)
    assert call["bonus"] == ["b", "d", "e"]  # a field takes the place of a column, as in TRL


def test_what_the_host_reads_from_its_copy_is_no_field():
    inner = CountingReward()
    router(inner)(**batch(image=list("abcde"), images=list("abcde"), environment=list("abcde")))
    assert not {"image", "images", "environment", KEY} & set(inner.calls[0])


@pytest.mark.parametrize("name", ["self", "func", "task", "task_id", "row", "arguments", "seconds", "function", KEY])
def test_a_column_of_any_name_reaches_the_function(name):
    inner = CountingReward()
    rows = [TaskRow(k, i, {"prompt": "p", name: i}) for i, k in enumerate(TASK_IDS)]
    namespace = {}
    exec(f"def exact(prompts, completions, completion_ids, trainer_state, {name}): return {name}", namespace)
    for timeout in (None, 5.0):
        assert router(namespace["exact"], timeout=timeout)(**batch(**{KEY: rows})) == [None, 1.0, None, 3.0, 4.0]

    async def waits(**kwargs):
        return namespace["exact"](**kwargs)

    assert asyncio.run(router(waits)(**batch(**{KEY: rows}))) == [None, 1.0, None, 3.0, 4.0]
    assert inner.calls == []


@pytest.mark.parametrize("name", ["prompt", "completion", "completion_ids"])
def test_columns_that_trl_leaves_out_are_left_out(name):
    inner = CountingReward()
    rows = [TaskRow(k, i, {"prompt": "p", name: "of the data"}) for i, k in enumerate(TASK_IDS)]
    router(inner)(**batch(**{KEY: rows}))
    assert "of the data" not in str(inner.calls)
    assert inner.calls[0]["completion_ids"] == [[1], [3], [4]]


def test_the_first_own_row_says_which_columns_there_are():
    inner = CountingReward()
    columns = [{"a": 0}, {"b": 1}, {"c": 2}, {"b": 3, "d": 3}, {"b": 4}]
    rows = [TaskRow(k, i, columns[i]) for i, k in enumerate(TASK_IDS)]
    router(inner)(**batch(**{KEY: rows}))
    assert inner.calls[0]["b"] == [1, 3, 4]
    assert not {"a", "c", "d"} & set(inner.calls[0])


def test_a_row_without_a_column_of_the_first_one_is_a_failure_that_names_it():
    failures = RewardFailures()
    rows = [TaskRow(k, i, {"prompt": "p"} if i == 3 else {"prompt": "p", "x": i}) for i, k in enumerate(TASK_IDS)]
    for kind in (lengths, async_lengths):
        result = router(kind, failures)(**batch(**{KEY: rows}))
        assert (asyncio.run(result) if inspect.iscoroutine(result) else result) == [None] * 5
        (failure,) = failures.take()
        assert failure.message.startswith(
            "Rows of task 'b' must have the same columns within a batch, got no ['x'] in row 3"
        )


def test_rows_of_other_tasks_get_none():
    assert router(lengths)(**batch()) == [None, 11.0, None, 33.0, 44.0]


def test_a_function_without_a_row_is_not_called():
    inner = CountingReward()
    assert router(inner, task_id=7)(**batch()) == [None] * 5
    assert inner.calls == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_the_routers_of_all_tasks_together_score_each_row_once(task_ids):
    columns = [router(lengths, task_id=k)(**batch(task_ids)) for k in range(4)]
    scores = [[value for value in row if value is not None] for row in zip(*columns, strict=True)]
    assert scores == [[11.0 * i] for i in range(len(task_ids))]


def test_an_async_function_gives_a_router_that_trl_awaits():
    reward = router(async_lengths)
    assert inspect.iscoroutinefunction(reward.__call__)
    assert asyncio.run(reward(**batch())) == [None, 11.0, None, 33.0, 44.0]
    assert asyncio.run(router(async_lengths, task_id=7)(**batch())) == [None] * 5
    assert not inspect.iscoroutinefunction(router(lengths).__call__)


def test_async_functions_are_recognised_through_partials_and_classes():
    class Judge:
        async def __call__(self, **kwargs):
            return []

    assert is_async(functools.partial(async_lengths, x=1))
    assert is_async(Judge())
    assert not is_async(functools.partial(lengths, x=1))
    assert not is_async(CountingReward())


def test_names_are_those_trl_would_use():
    assert function_name(functools.partial(lengths, bonus=[])) == "lengths"
    assert function_name(CountingReward()) == "CountingReward"
    assert router(lengths).__name__ == "b/f"


def test_a_router_survives_pickling():
    copy = pickle.loads(pickle.dumps(router(lengths)))
    assert copy(**batch()) == [None, 11.0, None, 33.0, 44.0]
    assert copy.__name__ == "b/f"


def test_log_extra_is_spread_over_the_whole_batch():
    logged = {}

    def logs(prompts, log_extra, log_metric, **kwargs):
        log_extra("answer", [p.upper() for p in prompts])
        log_metric("count", len(prompts))
        return [1.0] * len(prompts)

    metrics = {}
    router(logs)(**batch(log_extra=logged.__setitem__, log_metric=metrics.__setitem__))
    assert logged == {"answer": [None, "P1", None, "P3", "P4"]}
    assert metrics == {"count": 3}


def test_log_extra_of_the_wrong_length_is_a_recorded_failure():
    def logs(prompts, log_extra, **kwargs):
        log_extra("answer", ["only one"])
        return [1.0] * len(prompts)

    failures = RewardFailures()
    router(logs, failures)(**batch(log_extra=lambda column, values: None))
    message = failures.take()[0].message
    assert "`log_extra` must get one value per completion, got 1 values of 'answer' for 3 rows" in message


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (1.5, 1.5),
        (True, 1.0),
        (np.float32(2.0), 2.0),
        (np.int64(3), 3.0),
        (np.bool_(True), 1.0),
        (np.array([4.0]), 4.0),
        (torch.tensor(5.0), 5.0),
        (torch.tensor([6], dtype=torch.bfloat16), 6.0),
    ],
)
def test_every_kind_of_number_is_a_reward(value, number):
    result, failures = recorded(lambda prompts, **kwargs: [value] * len(prompts))
    assert result == [None, number, None, number, number]
    assert type(result[1]) is float
    assert failures == []


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor, iter])
def test_every_kind_of_sequence_is_a_result(kind):
    result, failures = recorded(lambda prompts, **kwargs: kind([1.0, 2.0, 3.0]))
    assert (result, failures) == ([None, 1.0, None, 2.0, 3.0], [])


def test_none_leaves_a_row_unscored_without_a_failure():
    result, failures = recorded(lambda prompts, **kwargs: [None, 2.0, None])
    assert (result, failures) == ([None, None, None, 2.0, None], [])


@pytest.mark.parametrize(
    "value",
    ["1.0", math.nan, math.inf, -math.inf, 1j, [1.0], {}, object(), 10**400, 1e300, np.nan, torch.tensor([1.0, 2.0])],
)
def test_a_value_that_is_no_finite_number_names_task_function_and_row(value):
    result, failures = recorded(lambda prompts, **kwargs: [1.0, value, 3.0])
    assert result == [None, 1.0, None, None, 3.0]
    (failure,) = failures
    assert failure.message.startswith("`reward_funcs` of task 'b' must return a finite number or None per row, got ")
    assert "for row 3 from 'b/f' (prompt 'p3')" in failure.message
    assert (failure.rows, failure.reason, failure.fatal) == ((3,), "result", True)


@pytest.mark.parametrize(
    ("result", "got"),
    [([1.0], "1 values"), ([1.0] * 5, "5 values"), ([], "0 values"), (None, "None"), (1.0, "1.0"), ("abc", "'abc'")],
)
def test_a_result_of_the_wrong_length_or_kind_is_refused(result, got):
    rewards, (failure,) = recorded(lambda **kwargs: result)
    assert rewards == [None] * 5
    assert failure.message.startswith(
        f"`reward_funcs` of task 'b' must return one number or None per row, got {got} for 3 rows from 'b/f'."
    )


@pytest.mark.parametrize("value", [0.5, "yes", 2, math.nan])
def test_an_outcome_that_is_not_yes_or_no_is_refused(value):
    _, (failure,) = recorded(lambda **kwargs: [True, 0, value], source="outcome_func")
    assert failure.message.startswith("`outcome_func` of task 'b' must return True, False, 0, 1 or None per row, got ")


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), RecursionError(), MemoryError(), StopIteration()])
def test_an_exception_is_recorded_with_its_place_and_not_raised(error):
    def fails(**kwargs):
        raise error

    result, (failure,) = recorded(fails)
    assert result == [None] * 5
    assert failure.message.startswith(f"`reward_funcs` of task 'b' must not raise, got {type(error).__name__}")
    assert "'b/f' on 3 rows from row 1 to row 4 of the batch" in failure.message
    assert (failure.rows, failure.reason) == ((1, 3, 4), "exception")
    assert "in fails" in failure.details


def test_an_exception_in_an_async_function_is_recorded_too():
    async def fails(**kwargs):
        raise ValueError("boom")

    failures = RewardFailures()
    assert asyncio.run(router(fails, failures)(**batch())) == [None] * 5
    assert "got ValueError: boom" in failures.take()[0].message


def test_a_lazy_result_that_raises_is_recorded():
    _, (failure,) = recorded(lambda prompts, **kwargs: (1 / 0 for _ in prompts))
    assert "got ZeroDivisionError" in failure.message


def test_dropping_makes_failures_harmless():
    def fails(**kwargs):
        raise ValueError

    _, (failure,) = recorded(fails, on_error="drop")
    assert failure.fatal is False


def test_failures_are_handed_over_once():
    failures = RewardFailures()
    router(lambda **kwargs: None, failures)(**batch())
    assert len(failures) == 1
    assert len(failures.take()) == 1
    assert failures.take() == []


def test_the_error_tells_the_first_failure_and_counts_the_others():
    _, failures = recorded(lambda prompts, **kwargs: [math.nan] * len(prompts))
    with pytest.raises(RewardError, match=r"task 'b' must return a finite number .* for row 1 (.|\n)*2 more failures"):
        raise RewardError(describe_failures(failures))
