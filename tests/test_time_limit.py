"""A reward function's time is over when it is over, whatever it does about signals, threads and exceptions."""

import asyncio
import functools
import signal
import subprocess
import sys
import threading
import time

import pytest

from trl_mtgrpo.tasks.failures import RewardFailures
from trl_mtgrpo.tasks.rewards import AsyncTaskReward, TaskReward, is_async
from trl_mtgrpo.tasks.rows import KEY, TaskRow
from trl_mtgrpo.tasks.time_limit import RewardTimeout, await_within, call_within


def recorded(func, timeout):
    """What three rows get, and the failures."""
    failures = RewardFailures()
    kind = AsyncTaskReward if is_async(func) else TaskReward
    reward = kind(func, "b", 1, "b/f", failures, timeout=timeout)
    result = reward(prompts=["p"] * 3, completions=[""] * 3, **{KEY: [TaskRow(1, i, {}) for i in range(3)]})
    return (asyncio.run(result) if is_async(func) else result), failures.take()


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


def alarmed(function):
    """As math-verify bounds its own work: an alarm before, none after."""

    @functools.wraps(function)
    def inner(**kwargs):
        def handler(signum, frame):
            raise TimeoutError("its own")

        previous = signal.signal(signal.SIGALRM, handler)
        signal.alarm(60)
        try:
            return function(**kwargs)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)

    return inner


def disarming(**kwargs):
    signal.alarm(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(60)


def waits_for_a_thread(**kwargs):
    threading.Event().wait(60)


def waits_for_a_process(**kwargs):
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=True)


async def sleeps(**kwargs):
    await asyncio.sleep(60)


async def blocks(**kwargs):
    time.sleep(3)


async def computes(**kwargs):
    while True:
        sum(range(1000))


async def ignores_cancelling(**kwargs):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


FUNCTIONS = [
    endless,
    swallowing,
    lambda **kwargs: time.sleep(60),
    alarmed(endless),
    alarmed(lambda **kwargs: time.sleep(60)),
    disarming,
    waits_for_a_thread,
    waits_for_a_process,
    sleeps,
    blocks,
    computes,
    ignores_cancelling,
]


@pytest.mark.parametrize("func", FUNCTIONS)
def test_a_function_that_never_returns_is_over_in_time(func):
    started = time.monotonic()
    result, (failure,) = recorded(func, timeout=0.2)
    assert time.monotonic() - started < 2.5
    assert result == [None] * 3
    assert failure.reason == "timeout"
    assert failure.message.startswith("`reward_funcs` of task 'b' must return within 0.2 seconds, got no result from ")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # one of them leaves another handler behind


@pytest.mark.parametrize("func", [endless, swallowing, waits_for_a_thread, lambda **kwargs: time.sleep(3)])
def test_the_limit_holds_outside_the_main_thread(func):
    found = []
    thread = threading.Thread(target=lambda: found.append(recorded(func, timeout=0.2)))
    started = time.monotonic()
    thread.start()
    thread.join()
    assert time.monotonic() - started < 2.5
    ((result, (failure,)),) = found
    assert (result, failure.reason) == ([None] * 3, "timeout")


def test_a_function_with_an_alarm_of_its_own_keeps_it():
    def own(**kwargs):
        def handler(signum, frame):
            raise ValueError("mine")

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            time.sleep(60)
        except ValueError:
            return [1.0] * 3
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    assert recorded(own, timeout=30.0) == ([1.0] * 3, [])


def test_a_function_that_swallows_one_interruption_gets_another():
    assert recorded(stubborn, timeout=0.1) == ([1.0] * 3, [])


def test_results_and_exceptions_come_through_from_everywhere():
    def outcomes():
        assert call_within(5.0, lambda: "done") == "done"
        with pytest.raises(KeyError, match="x"):
            call_within(5.0, lambda: {}["x"])

    outcomes()
    errors = []

    def guarded():
        try:
            outcomes()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert errors == []


def test_async_functions_run_at_the_same_time_in_one_loop():
    loops, inside = [], []

    async def nap():
        loops.append(asyncio.get_running_loop())
        inside.append("in")
        await asyncio.sleep(0.3)
        inside.append("out")
        return "done"

    async def both():
        return await asyncio.gather(await_within(5.0, nap), await_within(5.0, nap))

    assert asyncio.run(both()) == ["done", "done"]
    assert inside == ["in", "in", "out", "out"]
    assert asyncio.run(await_within(5.0, nap)) == "done"
    assert len(set(loops)) == 1


def test_after_a_function_that_blocked_the_next_one_works():
    async def fine(**kwargs):
        await asyncio.sleep(0.01)
        return [1.0] * 3

    assert recorded(blocks, timeout=0.1)[0] == [None] * 3
    assert recorded(fine, timeout=5.0) == ([1.0] * 3, [])


def test_without_a_limit_an_async_function_runs_in_the_caller_s_loop():
    async def same():
        async def loop():
            return asyncio.get_running_loop()

        return await await_within(None, loop) is asyncio.get_running_loop()

    assert asyncio.run(same())


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_an_own_timeout_error_is_an_ordinary_exception(timeout):
    async def fails(**kwargs):
        raise TimeoutError("upstream")

    def fails_at_once(**kwargs):
        raise TimeoutError("upstream")

    assert recorded(fails, timeout)[1][0].reason == "exception"
    assert recorded(fails_at_once, timeout)[1][0].reason == "exception"


def test_the_limit_leaves_handlers_and_timers_as_it_found_them():
    def handler(signum, frame):
        raise AssertionError("not ours")

    previous = signal.signal(signal.SIGALRM, handler), signal.signal(signal.SIGURG, handler)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        assert call_within(5.0, lambda: "done") == "done"
        with pytest.raises(RewardTimeout):
            call_within(0.05, endless)
        assert signal.getsignal(signal.SIGALRM) is signal.getsignal(signal.SIGURG) is handler
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous[0])
        signal.signal(signal.SIGURG, previous[1])


def test_nothing_fires_after_a_call_that_was_in_time():
    for _ in range(20):
        call_within(0.05, lambda: None)
    time.sleep(0.15)


def test_a_call_within_a_limit_costs_little():
    started = time.perf_counter()
    for _ in range(200):
        call_within(5.0, lambda: None)
    assert (time.perf_counter() - started) / 200 < 0.002  # measured: 0.0001, on a machine that does nothing else
