"""Decides the value of an arithmetic expression that a model wrote, in the ways people write one; nothing is run."""

import ast
import re
from collections.abc import Callable
from fractions import Fraction

from .forms import number_value, plain_text


MAX_EXPRESSION_CHARS = 200
MAX_EXPRESSION_DEPTH = 20
MAX_NUMBER_DIGITS = 12
_MAX_WRITTEN_CHARS = 2_000  # with TeX commands, before they are read

_EXPRESSION = re.compile(r"[0-9+\-*/() ]+")
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_NUMBER_DIGITS + 1},}}")
_SIGNS = re.compile(r"\\(times|cdot|ast|div)(?![A-Za-z])")
_CHARACTERS = str.maketrans("×∗·⋅÷∕−–", "****//--")  # noqa: RUF001
_FRACTION = re.compile(r"\\[dtc]?frac(?![A-Za-z])\s{0,4}")
_PARTS = re.compile(r"\{([^{}]*)\}\s{0,4}\{([^{}]*)\}|([0-9])\s?([0-9])")
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: Fraction.__add__,
    ast.Sub: Fraction.__sub__,
    ast.Mult: Fraction.__mul__,
    ast.Div: Fraction.__truediv__,
}


def as_arithmetic(text: str) -> str:
    r"""
    An expression as people write it, in the signs of [`evaluate_arithmetic`].

    Args:
        text (`str`):
            The expression, with TeX or typographic signs.

    Returns:
        `str`: with `\times`, `\cdot`, `\div`, `\frac{a}{b}`, `\left(`, their characters and the minus sign replaced.
        What is not understood stays, to be refused.

    Example:

    ```python
    >>> as_arithmetic(r"\left(3-1\right) \times \frac{6}{2}.")
    '(3-1) * (6/2)'
    ```
    """
    if len(text) > _MAX_WRITTEN_CHARS:
        return text
    text = plain_text(text).translate(_CHARACTERS)
    if "\\" not in text:
        return text
    text = _SIGNS.sub(lambda sign: "/" if sign.group(1) == "div" else "*", text)
    for _ in range(MAX_EXPRESSION_DEPTH):
        found = list(_FRACTION.finditer(text))
        if not found:
            break
        # The last fraction holds no other one.
        start, inside = found[-1].start(), found[-1].end()
        parts = _PARTS.match(text, inside)
        if parts is None:
            break
        above, below = (parts.group(1), parts.group(2)) if parts.group(3) is None else (parts.group(3), parts.group(4))
        above, below = (part if part.strip().isdecimal() else f"({part})" for part in (above, below))
        text = f"{text[:start]}({above}/{below}){text[parts.end() :]}"
    return text


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
    r"""
    Whether an expression uses each given number exactly once and equals the target exactly.

    Args:
        answer (`str`):
            The expression a model wrote. TeX and typographic signs are read, see [`as_arithmetic`], and so is an
            equation with the target alone on one side.
        numbers (`list[int]`):
            The given numbers, in any order.
        target (`int`):
            The number to reach.

    Returns:
        `bool`: `True` for a solution. Values are compared as fractions, without a tolerance.

    Example:

    ```python
    >>> is_countdown_solution(r"\left(3 - 1\right) = 2", [1, 3], 2), is_countdown_solution("3 - 1 = 4", [1, 3], 2)
    (True, False)
    ```
    """
    text = as_arithmetic(answer)
    sides = text.split("=")
    if len(sides) == 2:
        left, right = sides
        # Both sides are said to be the target; the one that is a lone number says nothing else.
        if number_value(right) == target:
            text = left
        elif number_value(left) == target:
            text = right
    result = evaluate_arithmetic(text)
    return result is not None and sorted(result[1]) == sorted(numbers) and result[0] == target


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
