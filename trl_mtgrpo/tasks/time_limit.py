"""Decides when a call into user code has taken too long, and stops it."""

import asyncio
import contextlib
import contextvars
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any


class RewardTimeout(BaseException):
    """Raised in user code whose time is over; not an `Exception`, so that user code does not swallow it."""


class ExitError(RuntimeError):
    """In place of `SystemExit` from user code, which would end one process and leave the others waiting."""

    def __init__(self, asked: SystemExit) -> None:
        super().__init__(f"it asked the process to exit, with {asked.code!r}")


def call_within(seconds: float | None, function: Callable[[], Any]) -> Any:
    """
    Call a function and interrupt it after a while, also when it computes without pause.

    In the main thread a watching thread interrupts the function with a signal that nothing else uses, so it may set
    alarms of its own, as math-verify does. Python code, sleeping, waiting for other threads and reading from the
    network are stopped; a single long call into compiled code (`9**9**9**9`) is interrupted when it returns, and
    processes or threads that the function started go on.

    In any other thread the function runs in a thread of its own. The caller always gets on when the time is over; the
    function is stopped as soon as it executes Python code again.

    Args:
        seconds (`float` or `None`):
            The limit; `None` for none.
        function (`Callable`):
            The function, without arguments.

    Returns:
        What the function returns.

    Raises:
        `RewardTimeout`: when the time is over.
        `ExitError`: when the function wants to end the process.
    """
    in_main = threading.current_thread() is threading.main_thread()
    try:
        if seconds is None:
            return function()
        if in_main and hasattr(signal, "SIGURG") and hasattr(signal, "pthread_kill"):
            return _call_interruptibly(seconds, function)
        return _call_apart(seconds, function)
    except SystemExit as error:
        raise ExitError(error) from error


async def await_within(seconds: float | None, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """
    Await a function and stop it after a while, also when it blocks instead of waiting.

    With a limit the function runs in an event loop of a thread of its own, the same one for all functions. What waits
    is cancelled there; a function that blocks the loop is left behind with it, and stopped as soon as it executes
    Python code again, while other functions that ran there at the time are over time too.

    Args:
        seconds (`float` or `None`):
            The limit; `None` for none, and then the caller's loop.
        function (`Callable`):
            The function, without arguments.

    Returns:
        What the function returns.

    Raises:
        `RewardTimeout`: when the time is over.
        `ExitError`: when the function wants to end the process.
    """
    if seconds is None:
        return await _staying(function)
    loop = _running_loop()
    limited = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_cancelled_after(seconds, function), loop.loop))
    # Longer than the limit itself, so that a loop that is alive cancels what waits.
    done, _ = await asyncio.wait([limited], timeout=seconds + max(seconds / 10, 0.1))
    if not done:
        limited.cancel()
        loop.abandon()
        raise RewardTimeout
    return limited.result()


async def _staying(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    try:
        return await function()
    except SystemExit as error:  # it would end the loop, and everyone who waits for it would wait on
        raise ExitError(error) from error


async def _cancelled_after(seconds: float, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await _staying(function)
    except TimeoutError:
        if deadline.expired():
            raise RewardTimeout from None
        raise


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.abandoned = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(RewardTimeout):
            self.loop.run_forever()

    def abandon(self) -> None:
        self.abandoned = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        _stop(self.thread)


def _running_loop() -> _Loop:
    global _loop
    if _loop is None or _loop.abandoned or _loop.process != os.getpid():  # threads do not survive a fork
        _loop = _Loop()
    return _loop


_loop: _Loop | None = None


def _stop(thread: threading.Thread) -> None:
    """Raises [`RewardTimeout`] in a thread when it executes Python code next."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(RewardTimeout))


class _Watch:
    """Interrupts the main thread after `seconds`, and again from time to time until it is told that all is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.over = seconds, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        delay = self.seconds
        while not self.over.wait(delay):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGURG)  # type: ignore[arg-type]
            # Repeated, so that a bare `except:` in the user's code swallows one interruption only.
            delay = max(self.seconds / 10, 0.01)

    def interrupt(self, signum: int, frame: FrameType | None) -> None:
        if not self.over.is_set():
            raise RewardTimeout


def _call_interruptibly(seconds: float, function: Callable[[], Any]) -> Any:
    watch = _Watch(seconds)
    # By default this signal is ignored, so that one which arrives late harms nothing.
    previous = signal.signal(signal.SIGURG, watch.interrupt)
    try:
        try:
            watch.thread.start()
            return function()
        finally:
            watch.over.set()
    finally:
        # Again, because an interruption may arrive while the first clause is entered.
        watch.over.set()
        signal.signal(signal.SIGURG, signal.SIG_DFL if previous is None else previous)


def _call_apart(seconds: float, function: Callable[[], Any]) -> Any:
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:  # user code may raise anything; raised again in the caller's thread
            outcome.append((False, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _stop(thread)
        raise RewardTimeout
    succeeded, value = outcome[0]
    if succeeded:
        return value
    raise value
