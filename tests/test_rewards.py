"""The reward router: own rows only, results checked, failures recorded, time limited."""

import asyncio
import functools
import inspect
import math
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.tasks.failures import RewardError, RewardFailures, describe_failures
from trl_mtgrpo.tasks.rewards import AsyncTaskReward, TaskReward, function_name, is_async, merge_rows
from trl_mtgrpo.tasks.time_limit import RewardTimeout, call_within


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
        "task_id": list(task_ids),
        "bonus": [10.0 * i for i in range(n)],
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
    environments = list("abcde")
    router(inner)(**batch(environments=environments))
    (call,) = inner.calls
    assert call["prompts"] == ["p1", "p3", "p4"]
    assert call["completions"] == ["x", "xxx", "xxxx"]
    assert call["completion_ids"] == [[1], [3], [4]]
    assert call["bonus"] == [10.0, 30.0, 40.0]
    assert call["environments"] == ["b", "d", "e"]
    assert call["task_id"] == [1, 1, 1]
    assert call["trainer_state"] == "state"


def test_rows_of_other_tasks_get_none():
    assert router(lengths)(**batch()) == [None, 11.0, None, 33.0, 44.0]


def test_a_function_without_a_row_is_not_called():
    inner = CountingReward()
    assert router(inner, task_id=7)(**batch()) == [None] * 5
    assert inner.calls == []


def test_columns_of_other_tasks_are_kept_away():
    inner = CountingReward()
    router(inner, foreign_columns=frozenset({"bonus"}))(**batch())
    assert "bonus" not in inner.calls[0]


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


def test_two_columns_of_the_same_name_merge():
    assert merge_rows([None, 1, None], [2, None, None]) == [2, 1, None]


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


def endless(**kwargs):
    while True:
        pass


def swallowing(**kwargs):
    while True:
        try:
            sum(range(1000))
        except Exception:
            continue


def stubborn(**kwargs):
    for _ in range(2):
        try:
            while True:
                sum(range(1000))
        except:  # noqa: E722
            pass
    return [1.0] * 3


@pytest.mark.parametrize("func", [endless, swallowing, lambda **kwargs: time.sleep(60)])
def test_a_function_that_never_returns_is_interrupted(func):
    started = time.monotonic()
    result, (failure,) = recorded(func, timeout=0.2)
    assert time.monotonic() - started < 10
    assert result == [None] * 5
    assert failure.reason == "timeout"
    assert failure.message.startswith("`reward_funcs` of task 'b' must return within 0.2 seconds, got no result from ")


def test_a_function_that_swallows_one_interruption_gets_another():
    result, failures = recorded(stubborn, timeout=0.1)
    assert (result, failures) == ([None, 1.0, None, 1.0, 1.0], [])


def test_an_async_function_that_waits_forever_is_interrupted():
    async def waits(**kwargs):
        await asyncio.sleep(60)

    failures = RewardFailures()
    assert asyncio.run(router(waits, failures, timeout=0.1)(**batch())) == [None] * 5
    assert failures.take()[0].reason == "timeout"


def test_an_own_timeout_error_is_an_ordinary_exception():
    async def fails(**kwargs):
        raise TimeoutError("upstream")

    failures = RewardFailures()
    asyncio.run(router(fails, failures, timeout=30)(**batch()))
    assert failures.take()[0].reason == "exception"


def test_the_time_limit_restores_the_handler_and_timer_it_found():
    def handler(signum, frame):
        raise AssertionError("not ours")

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        assert call_within(5.0, lambda: "done") == "done"
        assert signal.getsignal(signal.SIGALRM) is handler
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
        with pytest.raises(RewardTimeout):
            call_within(0.05, endless)
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_nothing_fires_after_a_call_that_was_in_time():
    call_within(0.05, lambda: None)
    time.sleep(0.15)  # an armed timer would kill the process here
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outside_the_main_thread_a_call_runs_without_a_limit():
    results = []
    thread = threading.Thread(target=lambda: results.append(call_within(0.05, lambda: time.sleep(0.2) or "done")))
    thread.start()
    thread.join()
    assert results == ["done"]
