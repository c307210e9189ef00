"""Decides which function an entry of a task file means, and what a right completion looks like to a reward."""

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..tasks.answers import NAMED_REWARDS
from .task_file import PartEntry, RewardEntry


Reward = Callable[..., Any]


# A right completion, made from the right answer. `regex` has a form of its own: the task's `reference`.
FORMS = {
    "exact_match": "{answer}",
    "boxed": "\\boxed{{{answer}}}",
    "number": "{answer}",
    "math_verify": "\\boxed{{{answer}}}",
    "reasoning_gym": "\\boxed{{{answer}}}",
}
# What an unnamed function may want to see.
USUAL_FORMS = (
    "{answer}",
    "\\boxed{{{answer}}}",
    "<answer>{answer}</answer>",
    "#### {answer}",
    "The answer is {answer}.",
)


def reward_function(entry: RewardEntry, folder: Path, owner: str) -> Reward:
    """
    The function that an entry of a task file means.

    Args:
        entry ([`RewardEntry`]):
            A named reward, or `package.module:function`.
        folder (`Path`):
            Folder of the task file, from which modules can be imported.
        owner (`str`):
            The task, for error messages.

    Returns:
        `Callable`: a reward in TRL's convention.

    Raises:
        ValueError: when the name is unknown, the function cannot be imported, or the options do not fit.
    """
    if ":" in entry.use:
        function = imported(entry.use, folder, f"`reward` of {owner}")
        return with_options(function, entry, f"reward '{entry.use}' of {owner}")
    if entry.use not in NAMED_REWARDS:
        close = difflib.get_close_matches(entry.use, NAMED_REWARDS, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else "A function of your own is named `package.module:function`."
        raise ValueError(f"`reward` of {owner} must be one of {list(NAMED_REWARDS)}, got {entry.use!r}. {hint}")
    factory = NAMED_REWARDS[entry.use]
    try:
        inspect.signature(factory).bind(**entry.options)
    except TypeError as error:
        raise ValueError(
            f"`options` of reward '{entry.use}' of {owner} must be out of "
            f"{list(inspect.signature(factory).parameters)}, "
            f"got {entry.options} ({error}). Change them."
        ) from None
    return factory(**entry.options)


def with_options(function: Callable[..., Any], entry: RewardEntry | PartEntry, what: str) -> Callable[..., Any]:
    """
    A function that has the options of its entry.

    Args:
        function (`Callable`):
            What the entry names.
        entry ([`RewardEntry`] or [`PartEntry`]):
            The entry.
        what (`str`):
            The entry, for error messages.

    Returns:
        `Callable`: the function itself where there are no options.

    Raises:
        ValueError: when the function does not take them.
    """
    if not entry.options:
        return function
    try:
        inspect.signature(function).bind_partial(**entry.options)
    except TypeError as error:
        raise ValueError(
            f"`options` of {what} must be arguments of `{entry.use}`, got {entry.options} ({error}). Change them."
        ) from None
    return functools.partial(function, **entry.options)


def imported(path: str, folder: Path, what: str) -> Callable[..., Any]:
    """
    The function or class behind `package.module:name`.

    Args:
        path (`str`):
            Where it is.
        folder (`Path`):
            Folder of the task file, from which modules can be imported.
        what (`str`):
            The entry, for error messages.

    Returns:
        `Callable`

    Raises:
        ValueError: when it cannot be imported, or called.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"{what} must be written as `package.module:name`, got {path!r}. Name both parts.")
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    try:
        function: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{what} must be a function that can be imported, got {path!r} ({error}). Write "
            "`package.module:name`; modules are looked up beside the task file and where Python finds its packages."
        ) from error
    except (Exception, SystemExit) as error:  # the user's module runs when it is imported
        raise ValueError(
            f"{what} must be in a module that can be imported, got {path!r}, which raised {type(error).__name__}: "
            f"{error!s:.200}. Correct the module; what it does beside definitions belongs under `if __name__ == "
            "'__main__':`."
        ) from error
    if not callable(function):
        raise ValueError(f"{what} must be a function, got {path!r}, which is {function!r:.80}. Name one.")
    return function  # type: ignore[no-any-return]
