"""How slow this machine is, for limits of time that were set on a faster one."""

import time


# Seconds that a turn of the loop below takes where the limits of the tests were set.
_TURN = 4e-8


def slowness() -> float:
    """At least 1: how many times longer plain Python takes here, by the processor's own time."""
    turns, times = 200_000, []
    for _ in range(5):
        began, total = time.thread_time(), 0
        for i in range(turns):
            total += i
        times.append(time.thread_time() - began)
    return max(1.0, min(times) / (turns * _TURN))
