"""Decides when a call into user code has taken too long and stops it."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class RewardTimeout(BaseException):
    """Raised in user code whose time is over; not an `Exception`, so that user code does not swallow it."""


def call_within(seconds: float | None, func: Callable[..., Any], **arguments: Any) -> Any:
    """
    Call a function and interrupt it after a while, also when it computes without pause.

    The limit works through an interval timer of the operating system, which only the main thread of a process can use:
    elsewhere, and where there is no such timer, the function runs without a limit. A single long call into compiled
    code (`9**9**9**9`) is interrupted when it returns.

    Args:
        seconds (`float` or `None`):
            The limit; `None` for none.
        func (`Callable`):
            The function.
        **arguments:
            Its arguments.

    Returns:
        What the function returns.

    Raises:
        `RewardTimeout`: when the time is over.
    """
    if (
        seconds is None
        or threading.current_thread() is not threading.main_thread()
        or not hasattr(signal, "setitimer")
    ):
        return func(**arguments)
    previous_handler = signal.signal(signal.SIGALRM, _interrupt)
    previous_timer = signal.getitimer(signal.ITIMER_REAL)
    try:
        try:
            # The timer repeats, so that a bare `except:` in the user's code swallows one interruption only.
            signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds / 10, 0.01))
            return func(**arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        # Again, because an interruption may arrive while the first clause is entered.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if previous_handler is None else previous_handler)
        if previous_timer[0] > 0:
            signal.setitimer(signal.ITIMER_REAL, *previous_timer)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise RewardTimeout
