"""Rollouts in waves: batches that no timing changes, and an end for every program."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.machine import slowness
from trl_mtgrpo import FormatFailure, ProgramFailure
from trl_mtgrpo.rollouts.traces import Answer, Call, Job, Refusal, Trace
from trl_mtgrpo.rollouts.waves import STOP, Waves


class Model:
    """Answers with the prompt and its place in the batch, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def prepare(self, calls: Sequence[Call]) -> list[Any]:
        return [[1] for _ in calls]

    def generate(self, calls: Sequence[Call], prepared: Sequence[Any], rows: int) -> list[Answer]:
        self.batches.append([str(call.prompt) for call in calls])
        return [Answer(f"{call.prompt}/{i}", "", [1], [2]) for i, call in enumerate(calls)]


def run(
    programs: Sequence[Callable[[Any, Any], Any]],
    model: Model | None = None,
    agree: Callable[[int], int] = lambda number: number,
    max_calls: int = 16,
    timeout: float | None = None,
) -> tuple[list[Trace], bool]:
    model = Model() if model is None else model
    waves = Waves(model.prepare, model.generate, agree, max_calls, timeout)
    return waves.run([Job(p, {"n": i}, (ProgramFailure,), (FormatFailure,)) for i, p in enumerate(programs)])


def number_of_threads() -> int:
    return threading.active_count()


def test_calls_that_wait_together_are_one_batch_in_the_order_of_the_rollouts() -> None:
    def program(example: Any, call: Any) -> str:
        time.sleep(random.random() / 50)
        first = call("a", f"a{example['n']}")
        return call("b", f"b{first}")

    results = []
    for _ in range(5):
        model = Model()
        traces, bug = run([program] * 6, model)
        assert not bug
        results.append((model.batches, [trace.output for trace in traces]))
    assert all(result == results[0] for result in results)
    assert results[0][0][0] == [f"a{n}" for n in range(6)]
    assert len(results[0][0]) == 2


def test_a_rollout_with_fewer_calls_leaves_later_waves() -> None:
    model = Model()
    run([lambda e, call, n=n: [call("m", f"{n}.{i}") for i in range(n)][-1:] for n in range(4)], model)
    assert [len(batch) for batch in model.batches] == [3, 2, 1]


def test_a_rank_without_calls_takes_part_in_the_waves_of_others() -> None:
    others = iter([2, 2, 0])
    sizes: list[int] = []

    class Counting(Model):
        def generate(self, calls: Sequence[Call], prepared: Sequence[Any], rows: int) -> list[Answer]:
            sizes.append(rows)
            return super().generate(calls, prepared, rows)

    run([lambda e, call: "done"], Counting(), agree=lambda number: max(number, next(others)))
    assert sizes == [2, 2]


def test_a_bug_of_another_rank_ends_all_rollouts_at_the_next_wave() -> None:
    before = number_of_threads()
    traces, bug = run([lambda e, call: [call("m", "x") for _ in range(9)]] * 3, agree=lambda number: STOP)
    assert bug
    assert not any(trace.calls for trace in traces)
    assert number_of_threads() == before


def test_a_failure_keeps_the_calls_before_it() -> None:
    def program(example: Any, call: Any) -> None:
        call("m", "one")
        raise ProgramFailure("no way on")

    traces, bug = run([program])
    assert not bug
    assert (traces[0].ending, len(traces[0].calls), traces[0].output) == ("failed", 1, None)
    assert traces[0].message == "ProgramFailure: no way on"


def test_an_unreadable_answer_marks_the_last_call_only() -> None:
    def program(example: Any, call: Any) -> None:
        call("m", "one")
        call("m", "two")
        raise FormatFailure("no number")

    traces, _ = run([program])
    assert [call.unparsed for call in traces[0].calls] == [False, True]
    assert [call.occurrence for call in traces[0].calls] == [0, 1]


def test_any_other_exception_is_a_bug_with_its_traceback() -> None:
    def program(example: Any, call: Any) -> None:
        call("m", "x")
        raise KeyError("typo")

    traces, bug = run([lambda e, call: call("m", "y"), program])
    assert bug
    assert "got KeyError: 'typo'" in traces[1].bug
    assert "in program" in traces[1].details


def test_an_endless_program_stops_at_the_cap_although_it_catches_everything_that_is_an_exception() -> None:
    def program(example: Any, call: Any) -> None:
        while True:
            try:
                call("m", "again")
            except Exception:
                continue

    before = number_of_threads()
    traces, bug = run([program], max_calls=5)
    assert not bug
    assert (traces[0].ending, len(traces[0].calls)) == ("too many calls", 5)
    assert number_of_threads() == before


def test_a_program_that_catches_even_its_end_is_a_bug_and_nothing_hangs() -> None:
    def program(example: Any, call: Any) -> None:
        while True:
            try:
                call("m", "again")
            except BaseException:
                continue

    traces, bug = run([program], max_calls=3)
    assert bug
    assert "Catch `Exception` at most" in traces[0].bug


def test_a_call_from_another_thread_is_a_bug() -> None:
    def program(example: Any, call: Any) -> str:
        thread = threading.Thread(target=lambda: call("m", "x"))
        thread.start()
        thread.join()
        return "hidden"

    traces, bug = run([program])
    assert bug
    assert "from the thread that it runs in" in traces[0].bug


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tool_that_blocks_is_given_up_after_the_time_and_the_others_go_on() -> None:
    released = threading.Event()

    def stuck(example: Any, call: Any) -> None:
        call("m", "x")
        released.wait(60)
        call("m", "too late")

    start = time.monotonic()
    traces, bug = run([stuck, lambda e, call: call("m", "y") + call("m", "z")], timeout=0.2)
    assert not bug
    assert (traces[0].ending, len(traces[0].calls)) == ("timeout", 1)
    assert len(traces[1].calls) == 2
    assert time.monotonic() - start < 30
    released.set()


def test_a_prompt_that_is_too_long_ends_the_rollout_as_a_failure() -> None:
    class Short(Model):
        def prepare(self, calls: Sequence[Call]) -> list[Any]:
            return [Refusal("9 tokens in 8", False) if "long" in call.prompt else [1] for call in calls]

    traces, bug = run([lambda e, call: call("m", "long"), lambda e, call: call("m", "short")], Short())
    assert not bug
    assert (traces[0].ending, traces[0].calls) == ("too long", [])
    assert not traces[1].failed


def test_a_prompt_that_cannot_be_rendered_is_a_bug() -> None:
    class Strict(Model):
        def prepare(self, calls: Sequence[Call]) -> list[Any]:
            return [Refusal("must send prompts that the chat template renders", True) for _ in calls]

    traces, bug = run([lambda e, call: call("m", "x")], Strict())
    assert bug
    assert "chat template" in traces[0].bug


@pytest.mark.parametrize(
    ("module", "prompt", "message"),
    [
        ("", "x", "name the module"),
        ("a/b", "x", "name the module"),
        (3, "x", "name the module"),
        ("m", "", "text or a list of messages"),
        ("m", None, "text or a list of messages"),
        ("m", [{"role": "user"}], "text or a list of messages"),
        ("m", [{"role": "user", "content": [{"type": "image"}]}], "text or a list of messages"),
    ],
)
def test_a_call_that_cannot_be_made_is_a_bug_even_where_the_program_hides_it(
    module: Any, prompt: Any, message: str
) -> None:
    def program(example: Any, call: Any) -> str:
        try:
            return call(module, prompt)
        except Exception:
            return ""

    traces, bug = run([program])
    assert bug
    assert message in traces[0].bug


def test_a_program_changes_neither_its_example_for_others_nor_the_prompt_of_a_call_made() -> None:
    def program(example: Any, call: Any) -> str:
        messages = [{"role": "user", "content": "one"}]
        text = call("m", messages)
        messages.append({"role": "assistant", "content": text})
        example["n"] = "changed"
        return text

    jobs = [Job(program, row := {"n": 0})] * 2
    model = Model()
    traces, bug = Waves(model.prepare, model.generate, lambda n: n, 4).run(jobs)
    assert not bug
    assert row == {"n": 0}
    assert all(len(trace.calls[0].prompt) == 1 for trace in traces)


def hand_offs(rollouts: int, calls: int) -> float:
    """Seconds of a bare skeleton: as many threads, each woken and waited for as often."""
    start = time.perf_counter()
    wake = [threading.Semaphore(0) for _ in range(rollouts)]
    lock, done, running = threading.Lock(), threading.Event(), [rollouts]

    def rest() -> None:
        with lock:
            running[0] -= 1
            if running[0] == 0:
                done.set()

    def body(i: int) -> None:
        for _ in range(calls):
            rest()
            wake[i].acquire()
        rest()

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(rollouts)]
    for step in range(calls + 1):
        for i, thread in enumerate(threads):
            thread.start() if step == 0 else wake[i].release()
        done.wait()
        done.clear()
        running[0] = rollouts
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


@pytest.mark.slow
def test_scheduling_512_rollouts_of_three_calls_takes_less_than_a_second_of_processor_time() -> None:
    def program(example: Any, call: Any) -> str:
        return call("a", "x") + call("b", "y") + call("c", "z")

    start = time.process_time()
    traces, _ = run([program] * 512)
    assert time.process_time() - start < 1.0 * slowness()
    assert all(len(trace.calls) == 3 for trace in traces)


@pytest.mark.slow
def test_scheduling_4096_rollouts_takes_at_most_twice_a_bare_hand_off() -> None:
    def program(example: Any, call: Any) -> str:
        return call("a", "x") + call("b", "y") + call("c", "z")

    before, ratios = number_of_threads(), []
    for _ in range(3):
        bare = hand_offs(4096, 3)
        start = time.perf_counter()
        run([program] * 4096)
        ratios.append((time.perf_counter() - start) / bare)
    assert min(ratios) <= 2.0, ratios
    assert number_of_threads() <= before
