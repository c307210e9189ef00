"""Why groups did not train, task by task, in words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..sampling import OUTCOMES
from ..sampling.stalls import ADVICE


# Names listed before the rest is only counted.
MOST_NAMES = 3
# Of a task's groups, from which on it has nothing left to teach: few prompts that stay wrong hide behind it.
SOLVED_SHARE = 0.9

# A group that carries a gradient stays out of training only when a filter of the user's own says so.
_EXCLUDED = "Its groups carry a gradient and `group_filter` keeps them out: loosen the filter."


def explain(names: Sequence[str], outcomes: NDArray[np.int64]) -> str:
    """
    The most frequent outcome of each task that was generated, with what to do about it; tasks of one cause together.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        outcomes (`np.ndarray`):
            Groups that did not train, per task and outcome, shape `(K, len(OUTCOMES))`.

    Returns:
        `str`: one sentence pair per cause; empty when nothing was generated.
    """
    counts = outcomes.sum(axis=1)
    main = outcomes.argmax(axis=1)
    parts = []
    for code, outcome in enumerate(OUTCOMES):
        found = np.flatnonzero((main == code) & (counts > 0))
        if not found.size:
            continue
        # An outcome may come without advice of its own; its name then has to do.
        advice = _EXCLUDED if outcome == "informative" else ADVICE.get(outcome, "")
        tasks = list_names([names[int(k)] for k in found])
        subject = f"Task {tasks}" if found.size == 1 else f"{found.size} tasks ({tasks})"
        cause = "excluded" if outcome == "informative" else outcome
        parts.append(f"{subject} yielded nothing in {counts[found].sum()} groups ({cause}). {advice}".rstrip())
    return " ".join(parts)


def are_solved(outcomes: NDArray[np.int64]) -> bool:
    """Whether each task was generated and nearly all of its groups are solved; shape `(K, len(OUTCOMES))`."""
    counts = outcomes.sum(axis=1)
    return bool((counts > 0).all() and (outcomes[:, OUTCOMES.index("solved")] >= SOLVED_SHARE * counts).all())


def list_names(names: Sequence[str]) -> str:
    """Some names in quotes, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown
