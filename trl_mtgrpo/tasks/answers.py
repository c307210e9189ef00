r"""Decides what an answer earns: the rewards that read a box, a line, a number or a pattern, and their names.

What counts as the answer is decided in `reading`, what means the same in `forms`, arithmetic in `arithmetic`. Text
that a model wrote is compared and never evaluated; the exception, [`math_verify_reward`], has to be named.
"""

import collections
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .arithmetic import (
    MAX_EXPRESSION_CHARS,
    MAX_EXPRESSION_DEPTH,
    MAX_NUMBER_DIGITS,
    as_arithmetic,
    evaluate_arithmetic,
    is_countdown_solution,
)
from .forms import is_same_answer, is_same_text, number_text, number_value, plain_text
from .reading import (
    MAX_ANSWER_CHARS,
    answer_part,
    boxed_answer,
    boxes,
    completion_text,
    extract_boxed,
    line_answer,
    prompt_text,
    says_something,
)


__all__ = [
    "MAX_ANSWER_CHARS",
    "MAX_EXPRESSION_CHARS",
    "MAX_EXPRESSION_DEPTH",
    "MAX_NUMBER_DIGITS",
    "NAMED_REWARDS",
    "BoxedReward",
    "LineReward",
    "answer_part",
    "as_arithmetic",
    "boxed_reward",
    "completion_text",
    "evaluate_arithmetic",
    "exact_match_reward",
    "extract_boxed",
    "is_countdown_solution",
    "is_same_answer",
    "is_same_text",
    "math_verify_reward",
    "number_reward",
    "number_text",
    "number_value",
    "plain_text",
    "reasoning_gym_reward",
    "regex_reward",
    "says_something",
]

Reward = Callable[..., list[float | None]]

_LAST_NUMBER = re.compile(r"(?<![\w.])[+\-−]?\s?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?![\w])")  # noqa: RUF001


@dataclass(frozen=True)
class BoxedReward:
    r"""
    A reward in TRL's calling convention: 1.0 for a right box, `format_reward` for a wrong one, 0.0 without an answer.

    A wrong answer that repeats a box of its own prompt, such as the example that shows the form, earns nothing.

    Args:
        check (`Callable[..., bool]`):
            Called as `check(answer, <columns by name>)` with the content of the last box; must not evaluate it.
        columns (`tuple[str, ...]`):
            Dataset columns that `check` needs.
        format_reward (`float`, *optional*, defaults to `0.1`):
            Reward of a wrong answer in a well-formed box that is not empty. The default is the paper's.
    """

    check: Callable[..., bool]
    columns: tuple[str, ...]
    format_reward: float = 0.1

    @property
    def __name__(self) -> str:
        return "boxed_answer"

    def __call__(self, completions: list[Any], **kwargs: Any) -> list[float]:
        prompts = kwargs.get("prompts")
        shown: dict[int, set[str]] = {}  # the completions of a group share their prompt
        rewards = []
        for i, completion in enumerate(completions):
            answer = boxed_answer(completion)
            if answer is None or not says_something(answer):
                rewards.append(0.0)
            elif self.check(answer, **{column: kwargs[column][i] for column in self.columns}):
                rewards.append(1.0)
            else:
                rewards.append(0.0 if prompts and _is_shown(answer, prompts[i], shown) else self.format_reward)
        return rewards


@dataclass(frozen=True)
class LineReward:
    """
    A reward in TRL's calling convention for answers without a box: 1.0 for a right line, otherwise 0.0.

    The answer is the last line of the completion that is not blank, or its last lines where the column `expected` has
    several.

    Args:
        check (`Callable[..., bool]`):
            Called as `check(answer, <columns by name>)`; must not evaluate the answer.
        columns (`tuple[str, ...]`):
            Dataset columns that `check` needs.
        first (`bool`, *optional*, defaults to `False`):
            Read the first lines instead, for prompts of worked examples in which the answer follows at once.
    """

    check: Callable[..., bool]
    columns: tuple[str, ...]
    first: bool = False

    @property
    def __name__(self) -> str:
        return "line_answer"

    def __call__(self, completions: list[Any], **kwargs: Any) -> list[float]:
        rewards = []
        for i, completion in enumerate(completions):
            row = {column: kwargs[column][i] for column in self.columns}
            lines = len(str(row.get("expected", "")).strip().split("\n"))
            answer = line_answer(completion, lines, self.first)
            rewards.append(float(says_something(answer) and self.check(answer, **row)))
        return rewards


def exact_match_reward(column: str = "answer") -> Reward:
    """
    A reward of 1.0 where the whole answer is the expected one, otherwise 0.0.

    Args:
        column (`str`, *optional*, defaults to `"answer"`):
            Dataset column with the right answer.

    Returns:
        `Callable`: a reward function. The answer is all that comes after the reasoning and before an end token or
        another speaker; it is compared as by [`is_same_answer`].

    Example:

    ```python
    >>> exact_match_reward()(completions=["4", "**4**.", "It is 4"], answer=["4", "4", "4"])
    [1.0, 1.0, 0.0]
    ```
    """

    def exact_match(completions: list[Any], **kwargs: Any) -> list[float | None]:
        expected = _column(kwargs, column)
        answers = (line_answer(completion, MAX_ANSWER_CHARS) for completion in completions)
        return [
            float(says_something(answer) and is_same_answer(answer, right))
            for answer, right in zip(answers, expected, strict=True)
        ]

    return exact_match


def boxed_reward(column: str = "answer", format_reward: float = 0.0) -> Reward:
    r"""
    A reward of 1.0 where the last `\boxed{}` holds the expected answer.

    Args:
        column (`str`, *optional*, defaults to `"answer"`):
            Dataset column with the right answer.
        format_reward (`float`, *optional*, defaults to `0.0`):
            Reward of a wrong answer in a box.

    Returns:
        `Callable`: a reward function, see [`BoxedReward`]; answers are compared as by [`is_same_answer`].
    """
    reward = BoxedReward(is_same_answer, ("expected",), format_reward)

    def boxed(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [*reward(completions, prompts=kwargs.get("prompts"), expected=_column(kwargs, column))]

    return boxed


def regex_reward(pattern: str, column: str | None = None) -> Reward:
    """
    A reward of 1.0 where a pattern is found in the answer and what it caught is the expected answer.

    Args:
        pattern (`str`):
            A regular expression. With a group, the last match's first group is the answer; without one, the last match
            is. It is searched in the last 10,000 characters of what comes after the reasoning. A pattern with nested
            repetition can take very long on text made for it; `reward_timeout` bounds a call.
        column (`str`, *optional*):
            Dataset column with the right answer, compared as by [`is_same_answer`]. Without one any match is right.

    Returns:
        `Callable`: a reward function.

    Raises:
        `ValueError`: when `pattern` is not a regular expression.

    Example:

    ```python
    >>> regex_reward(r"Answer: (.+)", "answer")(completions=["Answer: 3", "3"], answer=["3", "3"])
    [1.0, 0.0]
    ```
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"`pattern` must be a regular expression, got {pattern!r} ({error}). Escape characters such as "
            "'(' and '*'."
        ) from error

    def regex(completions: list[Any], **kwargs: Any) -> list[float | None]:
        expected = None if column is None else _column(kwargs, column)
        rewards: list[float | None] = []
        for i, completion in enumerate(completions):
            last = next(iter(collections.deque(compiled.finditer(_searched(completion)), maxlen=1)), None)
            caught = None if last is None else last.group(1 if compiled.groups else 0)
            rewards.append(float(caught is not None and (expected is None or is_same_answer(caught, expected[i]))))
        return rewards

    return regex


def number_reward(column: str = "answer", tolerance: float = 0.0) -> Reward:
    r"""
    A reward of 1.0 where the number that a completion ends on is the expected one.

    Args:
        column (`str`, *optional*, defaults to `"answer"`):
            Dataset column with the right number, or a text that states one. A row without one is not scored.
        tolerance (`float`, *optional*, defaults to `0.0`):
            Greatest distance at which two numbers count as the same.

    Returns:
        `Callable`: a reward function. The number in the last `\boxed{}` counts; where there is no box, the last number
        of what comes after the reasoning.

    Raises:
        `ValueError`: when `tolerance` is not a number of at least 0.

    Example:

    ```python
    >>> number_reward()(completions=["3 + 4 = 7.", "It costs $1,000", "7 or 8"], answer=["7", 1000, 7])
    [1.0, 1.0, 0.0]
    ```
    """
    if not 0 <= tolerance < float("inf"):
        raise ValueError(
            f"`tolerance` must be a finite number of at least 0, got {tolerance}. Use 0 to ask for the same number."
        )

    def number(completions: list[Any], **kwargs: Any) -> list[float | None]:
        rewards: list[float | None] = []
        for completion, right in zip(completions, _column(kwargs, column), strict=True):
            expected, written = number_value(str(right)), _last_number(completion)
            if expected is None:
                rewards.append(None)
            else:
                rewards.append(float(written is not None and abs(written - expected) <= Fraction(tolerance)))
        return rewards

    return number


def math_verify_reward(column: str = "answer") -> Reward:
    r"""
    A reward of 1.0 where math-verify finds the completion's answer equivalent to the expected one.

    math-verify parses TeX and expressions with sympy, so text that a model wrote reaches a parser that is not this
    library's. No task uses it unless it is named. Its own time limits, which rest on `signal.alarm`, are switched off:
    use `reward_timeout`.

    Args:
        column (`str`, *optional*, defaults to `"answer"`):
            Dataset column with the right answer, in TeX or plain. A row whose answer cannot be parsed is not scored.

    Returns:
        `Callable`: a reward function.

    Raises:
        `ImportError`: when math-verify is not installed.
    """
    try:
        library = importlib.import_module("math_verify")
    except ImportError as error:
        raise ImportError(
            "`math_verify` must be installed for the reward of this name, got no module of that name. Install it with "
            "`pip install trl_mtgrpo[math]`."
        ) from error

    def math_verify(completions: list[Any], **kwargs: Any) -> list[float | None]:
        rewards: list[float | None] = []
        for completion, right in zip(completions, _column(kwargs, column), strict=True):
            # A bare expression is read as TeX only between dollar signs.
            gold = library.parse(str(right), parsing_timeout=None) or library.parse(f"${right}$", parsing_timeout=None)
            if not gold:
                rewards.append(None)
                continue
            written = library.parse(_searched(completion), parsing_timeout=None)
            rewards.append(float(library.verify(gold, written, timeout_seconds=None)))
        return rewards

    return math_verify


def reasoning_gym_reward(family: str, format_reward: float = 0.1) -> BoxedReward:
    r"""
    The reward of a reasoning-gym family, for rows made by [`reasoning_gym_task`].

    Args:
        family (`str`):
            Name of a reasoning-gym dataset whose scorer does not evaluate model text.
        format_reward (`float`, *optional*, defaults to `0.1`):
            Reward of a wrong answer in a box. The default is the paper's.

    Returns:
        [`BoxedReward`]: reads the columns `numbers` and `target` for countdown, `expected` for zebra_puzzles and
        arc_1d, and `item`, `source` and `expected` for others.

    Raises:
        `ValueError`: for an unknown or refused family.
    """
    # Loads `datasets`, and knows this module.
    from .sources.reasoning_gym import family_check

    return BoxedReward(*family_check(family), format_reward)


NAMED_REWARDS: dict[str, Callable[..., Callable[..., Any]]] = {
    "exact_match": exact_match_reward,
    "boxed": boxed_reward,
    "regex": regex_reward,
    "number": number_reward,
    "math_verify": math_verify_reward,
    "reasoning_gym": reasoning_gym_reward,
}
"""Name of a reward in a task file -> function that returns it; further entries there are its keyword arguments."""


def _is_shown(answer: str, prompt: Any, shown: dict[int, set[str]]) -> bool:
    if id(prompt) not in shown:
        shown[id(prompt)] = boxes(prompt_text(prompt))
    return "".join(answer.split()) in shown[id(prompt)]


def _column(kwargs: dict[str, Any], column: str) -> list[Any]:
    if column not in kwargs:
        known = sorted(set(kwargs) - {"prompts", "completion_ids", "trainer_state", "log_extra", "log_metric"})
        raise ValueError(
            f"`column` must be a column of the task's rows, got '{column}' and rows with {known}. Name the column "
            "that holds the right answer."
        )
    return list(kwargs[column])


def _searched(completion: str | list[dict[str, Any]]) -> str:
    return line_answer(completion, MAX_ANSWER_CHARS)


def _last_number(completion: str | list[dict[str, Any]]) -> Fraction | None:
    box = boxed_answer(completion)
    if box is not None:
        return number_value(box)
    found = _LAST_NUMBER.findall(_searched(completion))
    return number_value(found[-1]) if found else None
