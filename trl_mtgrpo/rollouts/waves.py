"""
Many programs at once, their calls generated together.

Every rollout is a thread that blocks in `call`. When all of them are blocked or done, what they ask for is generated
in one batch, a wave, and they go on. A wave starts only when nobody runs, and its calls stand in the order of the
rollouts, so that batches do not depend on the timing of threads. Only the thread that starts the waves generates.
"""

import copy
import inspect
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any

from .traces import Answer, Call, Ending, Job, Refusal, Trace


# More calls than any rank can have pending: what a rank brings to the agreement when a program of its own has a bug.
STOP = 2**31 - 1
# Times that a stopped program may go on calling, by catching what stops it, until that is taken for a bug.
_PATIENCE = 3
# Characters of the longest name of a module; what is longer is a prompt.
_LONGEST_NAME = 100
# Seconds in which the threads of a run that ends in an error may end on their own.
_FAREWELL = 5.0

# From the calls of this rank to the tokens of each prompt, or why a call cannot be made: `Refusal`.
Prepare = Callable[[Sequence[Call]], Sequence[Any]]
# From what was prepared and the number of rows, equal on all ranks, to one answer per call of this rank.
Generate = Callable[[Sequence[Call], Sequence[Any], int], Sequence[Answer]]
# The largest of every rank's number.
Agree = Callable[[int], int]


class _Stopped(BaseException):
    """Ends a rollout from inside. Not an `Exception`, because programs catch those and go on."""


class ProgramCall:
    """
    The way of one rollout to the model: `call(module, prompt) -> str`.

    Args:
        rollout (`_Rollout`):
            The rollout.
    """

    def __init__(self, rollout: "_Rollout") -> None:
        self._rollout = rollout

    def __call__(self, module: str, prompt: Any) -> str:
        """
        Asks the model.

        Args:
            module (`str`):
                The role of this call in the program. Calls of one role are compared with each other.
            prompt (`str` or `list[dict]`):
                Text, or messages with `role` and `content`.

        Returns:
            `str`: what the model wrote.
        """
        return self._rollout.ask(module, prompt).text

    def answer(self, module: str, prompt: Any) -> Answer:
        """The same with the sampled tokens."""
        return self._rollout.ask(module, prompt)

    def refuse(self, message: str) -> None:
        """Ends the run with an error: the program asks for what cannot be done."""
        self._rollout.found_bug(message)
        self._rollout.stop()
        raise _Stopped

    def mark_unparsed(self) -> None:
        """Says that the answer to the last call could not be read. That call gets the `format_failure_reward`."""
        calls = self._rollout.trace.calls
        if calls:
            calls[-1].unparsed = True


class _Rollout:
    """One program in one thread, seen from both sides."""

    def __init__(self, waves: "Waves", job: Job) -> None:
        self.waves, self.job, self.trace = waves, job, Trace()
        self.pending: Call | None = None
        self.done = False
        self._counts: Counter[str] = Counter()
        self._stopped, self._refused = False, 0
        self._go_on = threading.Semaphore(0)
        # What a program is allowed to do has no part in whether the process may end.
        context = copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def _run(self) -> None:
        trace = self.trace
        try:
            output = self.job.program(copy.deepcopy(dict(self.job.example)), ProgramCall(self))
            if not self._stopped:
                trace.output = output
            if inspect.isawaitable(output) or inspect.isgenerator(output):
                self.found_bug(
                    f"must return its output, got a {type(output).__name__}, of which nothing has run. Await or "
                    "exhaust it inside the program."
                )
                if inspect.iscoroutine(output):
                    output.close()
        except _Stopped:
            pass
        except BaseException as error:  # a thread that dies of it would leave all ranks waiting
            if not self._stopped:
                self._failed(error)
        if trace.ending == "unparsed" and trace.calls:
            trace.calls[-1].unparsed = True
        self.waves.rests(self, done=True)

    def _failed(self, error: BaseException) -> None:
        trace = self.trace
        trace.message = f"{type(error).__name__}: {str(error)[:200]}"
        if isinstance(error, self.job.unparsed):
            trace.ending = "unparsed"
        elif isinstance(error, self.job.failures):
            trace.ending = "failed"
        else:
            self.found_bug(
                f"must raise nothing but its `failure_exceptions`, got {trace.message}. Correct the program, or let "
                "it raise `ProgramFailure` where a rollout cannot go on.",
                "".join(traceback.format_exception(error, limit=-8)),
            )

    def found_bug(self, message: str, details: str = "") -> None:
        if not self.trace.bug:
            self.trace.bug, self.trace.details = message, details

    def ask(self, module: str, prompt: Any) -> Answer:
        """In the rollout's thread: waits for the answer."""
        if self.done and threading.current_thread() is not self.thread:
            raise RuntimeError(
                "`call` must be used while its program runs, got a call after the end. Call the model inside the "
                "program, and return what it answered."
            )
        if self._stopped:
            self._refuse_again()
        wrong = self._wrong_call(module, prompt)
        if wrong:
            self.found_bug(wrong)
            self.stop()
            raise _Stopped
        if len(self.trace.calls) >= self.waves.max_calls:
            self.stop("too many calls", f"more than {self.waves.max_calls} calls")
            raise _Stopped
        # What the program does with its messages later is no part of this call.
        self.pending = Call(module, self._counts[module], copy.deepcopy(prompt), self.job.task_id)
        self.waves.rests(self)
        self._go_on.acquire()
        if self._stopped:
            raise _Stopped
        answer = self.trace.calls[-1].answer
        assert answer is not None
        return answer

    def _wrong_call(self, module: Any, prompt: Any) -> str:
        if threading.current_thread() is not self.thread:
            return (
                "must call the model from the thread that it runs in, got a call from another one. Make its calls one "
                "after another: which of them comes first decides the group of each."
            )
        if not isinstance(module, str) or not module.strip() or "/" in module:
            return f"must name the module of a call with text without a slash, got {module!r}. Name it by its role."
        if len(module) > _LONGEST_NAME or not module.isprintable():
            return (
                f"must name the module of a call in one short line, got {module!r:.80}. Its name comes first, and is "
                "the same in each rollout: `call(module, prompt)`."
            )
        messages = isinstance(prompt, list | tuple) and all(
            isinstance(message, Mapping)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in prompt
        )
        if not prompt or not (isinstance(prompt, str) or messages):
            return (
                f"must call the model with text or a list of messages, got {repr(prompt)[:80]} for module {module!r}. "
                "A message is `{'role': 'user', 'content': '...'}`."
            )
        return ""

    def _refuse_again(self) -> None:
        """For a program that catches whatever ends it: after a few times the run ends with an error instead."""
        self._refused += 1
        if self._refused > _PATIENCE and threading.current_thread() is self.thread:
            self.found_bug(
                "must let an exception pass that is no `Exception`, got a program that went on calling after it was "
                "stopped. Catch `Exception` at most, never `BaseException`, and no bare `except:`."
            )
            self.waves.rests(self, done=True)
            while True:  # nothing else ends a loop that catches everything
                self._go_on.acquire()
        raise _Stopped

    @property
    def gave_trouble(self) -> bool:
        """Whether its thread may never end."""
        return self.trace.ending == "timeout" or self._refused > _PATIENCE

    def stop(self, ending: Ending | None = None, message: str = "") -> None:
        """Lets the program end at its next look at the model."""
        self._stopped = True
        if ending is not None:
            self.trace.ending, self.trace.message = ending, message

    def answered(self, answer: Answer) -> None:
        assert self.pending is not None
        call, self.pending = self.pending, None
        call.answer = answer
        self._counts[call.module] += 1
        self.trace.calls.append(call)

    def go_on(self) -> None:
        self.pending = None
        self._go_on.release()


class Waves:
    """
    Makes rollouts of programs.

    Args:
        prepare (`Callable`):
            From the calls of this rank to the tokens of each prompt, or a [`Refusal`].
        generate (`Callable`):
            From calls, what was prepared for them and the number of rows to one answer per call. It is called on every
            rank of a wave with the same number, also where no call is pending.
        agree (`Callable`):
            The largest of every rank's number.
        max_calls (`int`):
            Most calls of one rollout.
        timeout (`float`, *optional*):
            Seconds that programs may spend between two waves.
    """

    def __init__(
        self,
        prepare: Prepare,
        generate: Generate,
        agree: Agree,
        max_calls: int,
        timeout: float | None = None,
    ) -> None:
        self.prepare, self.generate, self.agree = prepare, generate, agree
        self.max_calls, self.timeout = max_calls, timeout
        self.num_waves = 0
        self._lock, self._all_rest = threading.Lock(), threading.Event()
        self._running = 0

    def rests(self, rollout: _Rollout, done: bool = False) -> None:
        """In a rollout's thread: it waits for an answer, or is done."""
        with self._lock:
            if rollout.done:  # given up by the coordinator before
                return
            rollout.done = done
            self._running -= 1
            if self._running == 0:
                self._all_rest.set()

    def run(self, jobs: Sequence[Job]) -> tuple[list[Trace], bool]:
        """
        Makes rollouts; every rank calls it.

        Args:
            jobs (`list[Job]`):
                The rollouts of this rank.

        Returns:
            `tuple`: one [`Trace`] per job, and whether a program of any rank has a bug, which ends all rollouts on
            every rank.
        """
        rollouts = [_Rollout(self, job) for job in jobs]
        try:
            return [rollout.trace for rollout in rollouts], self._waves(rollouts)
        finally:
            self._end(rollouts)

    def _waves(self, rollouts: list[_Rollout]) -> bool:
        self.num_waves = 0
        self._resume(rollouts, lambda rollout: rollout.thread.start())
        while True:
            waiting = [rollout for rollout in rollouts if rollout.pending is not None and not rollout.done]
            waiting, prepared = self._prepared(waiting)
            bug = any(rollout.trace.bug for rollout in rollouts)
            rows = self.agree(STOP if bug else len(waiting))
            if rows == STOP:
                return True
            if rows == 0:
                return False
            self.num_waves += 1
            calls = [rollout.pending for rollout in waiting if rollout.pending is not None]
            for rollout, answer in zip(waiting, self.generate(calls, prepared, rows), strict=True):
                rollout.answered(answer)
            self._resume(waiting, _Rollout.go_on)

    def _prepared(self, waiting: list[_Rollout]) -> tuple[list[_Rollout], list[Any]]:
        """The calls that can be made; rollouts with others end, and what they do meanwhile is waited for."""
        calls = [rollout.pending for rollout in waiting if rollout.pending is not None]
        prepared = list(self.prepare(calls)) if calls else []
        ending = []
        for rollout, found in zip(waiting, prepared, strict=True):
            if isinstance(found, Refusal):
                if found.is_bug:
                    rollout.found_bug(found.message)
                rollout.stop("too long", found.message)
                ending.append(rollout)
        self._resume(ending, _Rollout.go_on)
        pairs = [
            (rollout, found)
            for rollout, found in zip(waiting, prepared, strict=True)
            if not isinstance(found, Refusal)
        ]
        return [rollout for rollout, _ in pairs], [found for _, found in pairs]

    def _resume(self, rollouts: list[_Rollout], how: Callable[[_Rollout], None]) -> None:
        """Lets rollouts run until all of them rest; those that do not within the time are given up."""
        if not rollouts:
            return
        self._all_rest.clear()
        self._running = len(rollouts)
        for rollout in rollouts:
            how(rollout)
        if self._all_rest.wait(self.timeout):
            return
        with self._lock:
            for rollout in rollouts:
                if rollout.pending is None and not rollout.done:
                    rollout.stop("timeout", f"nothing within {self.timeout} seconds")
                    rollout.done = True
            self._running = 0

    def _end(self, rollouts: list[_Rollout]) -> None:
        """After an error: nobody goes on."""
        for rollout in rollouts:
            if not rollout.done or rollout.trace.ending == "timeout":
                rollout.stop()
                rollout.go_on()
        for rollout in rollouts:
            if rollout.thread.ident is not None:
                rollout.thread.join(0.0 if rollout.gave_trouble else _FAREWELL)
