r"""Decides what counts as an answer in a completion and whether it is right, without evaluating text a model wrote.

The rule is: the answer is the content of the last `\boxed{...}` of the answer part. Everything here is bounded in
length, depth and number size before it is looked at closely, so that no completion costs more than a fraction of a
millisecond.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


MAX_ANSWER_CHARS = 10_000  # far above the largest grid a reasoning-gym dataset asks for
MAX_EXPRESSION_CHARS = 200
MAX_EXPRESSION_DEPTH = 20
MAX_NUMBER_DIGITS = 12

_BOX = "\\boxed{"
_BRACES = re.compile(r"[{}]")
_EXPRESSION = re.compile(r"[0-9+\-*/() ]+")
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_NUMBER_DIGITS + 1},}}")
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: Fraction.__add__,
    ast.Sub: Fraction.__sub__,
    ast.Mult: Fraction.__mul__,
    ast.Div: Fraction.__truediv__,
}


def completion_text(completion: str | list[dict[str, Any]]) -> str:
    """
    The text of one completion, plain or conversational.

    Args:
        completion (`str` or `list[dict]`):
            A string, or a list of messages of which the last one is read; a content made of parts contributes its text
            parts.

    Returns:
        `str`: the text, empty where there is none.
    """
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def answer_part(text: str) -> str:
    """
    What a completion says after its reasoning.

    Args:
        text (`str`):
            A completion.

    Returns:
        `str`: what follows the last `</think>`, the whole text where no such tags are used, and nothing where the
        reasoning was opened and never closed.
    """
    opened, closed = text.rfind("<think>"), text.rfind("</think>")
    if opened > closed:
        return ""
    return text[closed + len("</think>") :] if closed >= 0 else text


def extract_boxed(text: str, max_chars: int = MAX_ANSWER_CHARS) -> str | None:
    r"""
    The content of the last `\boxed{...}`, with braces matched by counting.

    The box may stand on any line. When the last box is never closed, or holds more than `max_chars` characters, there
    is no answer: an earlier box does not take its place. `\boxed {..}` and `\fbox{..}` are no boxes, and of nested
    boxes the innermost last one counts.

    Args:
        text (`str`):
            A completion, or its answer part.
        max_chars (`int`, *optional*, defaults to `10000`):
            Characters after which an open box is given up.

    Returns:
        `str` or `None`: the content without surrounding white space, empty for an empty box, or `None` without a box.

    Example:

    ```python
    >>> extract_boxed(r"First \boxed{1}, better \boxed{1 + \frac{1}{2}}.")
    '1 + \\frac{1}{2}'
    ```
    """
    start = text.rfind(_BOX)
    if start < 0:
        return None
    inside = text[start + len(_BOX) : start + len(_BOX) + max_chars + 1]
    depth = 1
    for brace in _BRACES.finditer(inside):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return inside[: brace.start()].strip()
    return None


def evaluate_arithmetic(text: str) -> tuple[Fraction, tuple[int, ...]] | None:
    """
    The exact value of an arithmetic expression and the numbers written in it.

    Only non-negative whole numbers, `+ - * /` between two operands and parentheses are understood. Everything else is
    refused: `**` and `//`, signs before a number, decimals, leading zeros, two numbers side by side, names, calls,
    digits and signs outside ASCII. So is anything longer than 200 characters, nested deeper than 20, or with a number
    of more than 12 digits. The text is parsed into a tree that is walked here; nothing is ever executed.

    Args:
        text (`str`):
            The expression.

    Returns:
        `tuple` or `None`: the value as a `Fraction` and the numbers from left to right, or `None` where the text is
        refused or divides by zero.

    Example:

    ```python
    >>> evaluate_arithmetic("(1 + 2) / 6")
    (Fraction(1, 2), (1, 2, 6))
    >>> evaluate_arithmetic("2**3") is None
    True
    ```
    """
    if len(text) > MAX_EXPRESSION_CHARS or not _EXPRESSION.fullmatch(text):
        return None
    if _LONG_NUMBER.search(text) or _depth(text) > MAX_EXPRESSION_DEPTH:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval")
        numbers: list[int] = []
        return _value(tree.body, numbers), tuple(numbers)
    except (SyntaxError, _RefusedError, ZeroDivisionError):
        return None


def is_countdown_solution(answer: str, numbers: list[int], target: int) -> bool:
    """
    Whether an expression uses each given number exactly once and equals the target exactly.

    Args:
        answer (`str`):
            The expression a model wrote.
        numbers (`list[int]`):
            The given numbers, in any order.
        target (`int`):
            The number to reach.

    Returns:
        `bool`: `True` for a solution. Values are compared as fractions, without a tolerance.
    """
    result = evaluate_arithmetic(answer)
    return result is not None and sorted(result[1]) == sorted(numbers) and result[0] == target


def is_same_text(answer: str, expected: str) -> bool:
    """
    Whether an answer is the expected text, whatever its case and the white space between its words.

    Args:
        answer (`str`):
            What a model wrote.
        expected (`str`):
            The right answer.

    Returns:
        `bool`: `True` when they agree. Look-alike characters do not: when the expected text is ASCII, so must the
        answer be.
    """
    if expected.isascii() and not answer.isascii():
        return False
    return answer.lower().split() == expected.lower().split()


@dataclass(frozen=True)
class BoxedReward:
    r"""
    A reward in TRL's calling convention: 1.0 for a right box, `format_reward` for a wrong one, 0.0 without an answer.

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
        rewards = []
        for i, completion in enumerate(completions):
            answer = extract_boxed(answer_part(completion_text(completion)))
            if answer is None or not _says_something(answer):
                rewards.append(0.0)
            else:
                row = {column: kwargs[column][i] for column in self.columns}
                rewards.append(1.0 if self.check(answer, **row) else self.format_reward)
        return rewards


class _RefusedError(Exception):
    pass


def _value(node: ast.expr, numbers: list[int]) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    raise _RefusedError


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _says_something(answer: str) -> bool:
    # Zero-width and control characters, and braces alone, are an empty box in disguise.
    return any(character.isprintable() and character not in " {}\\" for character in answer)
