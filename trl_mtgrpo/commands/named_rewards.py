"""The rewards that a task file may name, and what a right completion looks like to each."""

import difflib
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..tasks.answers import BoxedReward, answer_part, completion_text, is_same_text
from .task_file import RewardEntry


Reward = Callable[..., Any]


def _exact_match(column: str = "answer") -> Reward:
    def exact_match(completions: list[Any], **kwargs: Any) -> list[float]:
        texts = [answer_part(completion_text(completion)) for completion in completions]
        return [float(is_same_text(text, str(right))) for text, right in zip(texts, kwargs[column], strict=True)]

    return exact_match


def _boxed(column: str = "answer", format_reward: float = 0.0) -> Reward:
    return BoxedReward(lambda answer, **row: is_same_text(answer, str(row[column])), (column,), format_reward)


def _regex(pattern: str, column: str = "answer") -> Reward:
    compiled = re.compile(pattern)

    def regex(completions: list[Any], **kwargs: Any) -> list[float]:
        found = [compiled.search(answer_part(completion_text(completion))[-20_000:]) for completion in completions]
        caught = ["" if match is None else match.group(1 if compiled.groups else 0) for match in found]
        return [float(is_same_text(text, str(right))) for text, right in zip(caught, kwargs[column], strict=True)]

    return regex


def _number(column: str = "answer") -> Reward:
    def last(text: str) -> float | None:
        found = re.findall(r"-?[0-9][0-9,]*(?:\.[0-9]+)?", text[-20_000:])
        return float(found[-1].replace(",", "")) if found else None

    def number(completions: list[Any], **kwargs: Any) -> list[float]:
        texts = [answer_part(completion_text(completion)) for completion in completions]
        right = [last(str(answer)) for answer in kwargs[column]]
        return [float(value is not None and last(text) == value) for text, value in zip(texts, right, strict=True)]

    return number


NAMED_REWARDS: dict[str, Callable[..., Reward]] = {
    "exact_match": _exact_match,
    "boxed": _boxed,
    "regex": _regex,
    "number": _number,
}

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
        function = _imported(entry.use, folder, owner)
        return functools.partial(function, **entry.options) if entry.options else function
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


def _imported(path: str, folder: Path, owner: str) -> Reward:
    module, _, name = path.partition(":")
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    try:
        function: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"`reward` of {owner} must be a function that can be imported, got {path!r} ({error}). Modules are looked "
            "up beside the task file and where Python finds its packages."
        ) from error
    if not callable(function):
        raise ValueError(f"`reward` of {owner} must be a function, got {path!r}, which is {function!r:.80}. Name one.")
    return function  # type: ignore[no-any-return]
