"""What is given by task name must name the tasks: a misspelt or missing name is an error, never dropped."""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def by_name(value: Any, names: Sequence[str], argument: str) -> dict[str, Any]:
    """
    One value for all tasks, or one per name, as one per name.

    Args:
        value (`Any` or `Mapping[str, Any]`):
            What the user gave. A dict names every task; `None` in it says that the task has no such value.
        names (`list[str]`):
            The tasks.
        argument (`str`):
            The argument that holds it, for error messages.

    Returns:
        `dict[str, Any]`: one value per task, in their order.

    Raises:
        `ValueError`: when a dict leaves out a task or names another one.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    if set(value) != set(names):
        raise ValueError(
            f"`{argument}` must name exactly the tasks {list(names)}, got {list(value)}."
            f"{close_names(value, names)} Give one entry per task, None for a task without."
        )
    return {name: value[name] for name in names}


def check_known(given: Mapping[str, Any], names: Sequence[str], argument: str) -> None:
    """
    Refuse names that no task has.

    Args:
        given (`Mapping[str, Any]`):
            What is given by task name; tasks may be left out.
        names (`list[str]`):
            The tasks.
        argument (`str`):
            The argument that holds it, for error messages.

    Raises:
        `ValueError`: when a name is unknown.
    """
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(
            f"`{argument}` must have names of tasks as its keys, got {unknown} beside the tasks {list(names)}."
            f"{close_names(unknown, names)} Correct the names."
        )


def close_names(given: Iterable[Any], known: Sequence[str]) -> str:
    """
    What an unknown name was probably meant to be, for error messages.

    Args:
        given (`Iterable`):
            Names that were given.
        known (`list[str]`):
            Names that exist.

    Returns:
        `str`: one question per near miss, each with a leading space; empty without one.
    """
    unknown = [str(name) for name in given if name not in known]
    folded = {name.casefold(): name for name in known}
    hints = []
    for name in unknown:
        close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
        hints += [f" Did you mean '{folded[close[0]]}' where it says '{name}'?"] if close else []
    return "".join(hints)


def check_baseline(baseline: Any, names: Sequence[str]) -> dict[str, float] | None:
    """
    Accuracies to compare evaluations with.

    Args:
        baseline (`Mapping[str, float]`, *optional*):
            What the user gave as `baseline_accuracy`.
        names (`list[str]`):
            The tasks.

    Returns:
        `dict[str, float]` or `None`: by task name, without tasks whose baseline is `None`.

    Raises:
        `ValueError` or `TypeError`: when it does not name the tasks or holds no accuracies.
    """
    if baseline is None:
        return None
    if not isinstance(baseline, Mapping):
        raise TypeError(
            f"`baseline_accuracy` must be a dict from task name to accuracy, got {baseline!r}. Leave it out to "
            "compare with nothing."
        )
    values = by_name(baseline, names, "baseline_accuracy")
    for name, value in values.items():
        number = as_number(value)
        if value is not None and (number is None or not 0.0 <= number <= 1.0):
            raise ValueError(
                f"`baseline_accuracy` of task '{name}' must be a number from 0 to 1, got {value!r}. Give what "
                f"`eval_tasks/{name}/accuracy` was, or None."
            )
    return {name: float(value) for name, value in values.items() if value is not None}


def as_number(value: Any) -> float | None:
    """A finite number as a float; `None` for anything else, truth values and text included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        return None
    return float(value)
