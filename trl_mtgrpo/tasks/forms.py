r"""Decides which ways of writing an answer mean the same: `\text{bob}`, `$bob$` and `"bob"` are bob, `- 2.0` is -2.

Only marks that a reader does not read are taken off. Text is compared, never evaluated, and every step is linear in
its length.
"""

import re
from fractions import Fraction


_MAX_ROUNDS = 8
_MAX_NUMBER_CHARS = 60

_STYLES = (
    "textbf|textit|texttt|textrm|textsf|textsc|textnormal|text|emph|mathrm|mathbf|mathit|mathtt|mathsf|mathbb"
    "|operatorname|mbox|boldsymbol|bm|underline|hbox"
)
_STYLED = re.compile(rf"\\(?:{_STYLES})\*?\s{{0,4}}\{{([^{{}}]*)\}}")
_STYLE_START = re.compile(rf"\\(?:{_STYLES})\*?\s{{0,4}}\{{")
_OLD_STYLE = re.compile(r"\{\\(?:bf|it|rm|sf|tt|em)\b([^{}]*)\}")
_SWITCH = re.compile(r"\\(?:displaystyle|textstyle|bf|rm|tt|sf|it)(?![A-Za-z])")
_SIZED = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)\s{0,4}(?=[()\[\]|.]|\\[{}])")
_NEW_ROW = re.compile(r"\\\\(?:\[[^\]\n]{0,9}\])?|\\(?:newline|cr)(?![A-Za-z])")
_SPACE = re.compile(r"\\[ ,;:]|\\!|~|\\(?:quad|qquad|enspace|thinspace|space)(?![A-Za-z])|\\phantom\{[^{}]*\}")
_ESCAPED = re.compile(r"\\([_#%&*])")
_PAIRS = (
    ("```", "```"),
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("``", "''"),
    ("`", "`"),
    ("''", "''"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("„", "“"),
    ("‘", "’"),  # noqa: RUF001
    ("«", "»"),
)
_DASHES = str.maketrans("−–‐‑", "----")  # noqa: RUF001
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]{1,12}\*?\}(?:\{[lcr| ]{0,40}\})?")
_FRACTION = re.compile(r"\\[dt]?frac\s{0,4}\{\s{0,4}(-?\s{0,4}\d{1,40})\s{0,4}\}\s{0,4}\{\s{0,4}(\d{1,40})\s{0,4}\}")
_SHORT_FRACTION = re.compile(r"\\[dt]?frac\s{0,4}(\d)\s{0,4}(\d)")
_TENS = re.compile(
    r"\s{0,4}(?:\\times|\\cdot|[\u00d7*\u00b7])\s{0,4}10\s{0,4}\^\s{0,4}(?:\{\s{0,4}([+-]?\d{1,3})\s{0,4}\}|([+-]?\d{1,3}))"
)
_NAME = re.compile(r"(?:[A-Za-z][A-Za-z0-9_]{0,15}\s{0,4})?=\s{0,4}")
_CURRENCY = re.compile(r"^([+-]?)\s{0,4}\\?[$€£]\s{0,4}")
_DEGREES = re.compile(r"\s{0,4}(?:°|\^\s{0,2}\{?\s{0,2}\\circ\s{0,2}\}?)$")
_UNIT = re.compile(r"(?<=[0-9.])\s{0,4}([A-Za-z]{2,20})(?:\s{1,4}([A-Za-z]{2,20}))?$")
# Words after a number that are no unit: they change the number, or leave open which one is meant.
_NOT_A_UNIT = """
or and not to plus minus over mod pi hundred thousand million billion trillion dozen dozens score percent half
halves third thirds quarter quarters tenth tenths hundredth hundredths th st nd rd more less than maybe
"""
_NO_UNITS = frozenset(_NOT_A_UNIT.split())
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:,|\{,\}| )\d{3})+(?:\.\d*)?")
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,3}))?")
_RATIO = re.compile(r"([+-]?\d+)\s*/\s*(\d+)")
_ROW_BREAK = re.compile(r"[\])]\s*[,;]?\s*[\[(]|[\n;]")
_BETWEEN = re.compile(r"[\s,&|]+")


def plain_text(text: str) -> str:
    r"""
    A text without the marks that dress it: styles, math mode, quotes, emphasis, TeX spaces, one closing mark.

    Args:
        text (`str`):
            The content of a box, or an answer.

    Returns:
        `str`: what is left. Bare braces stay, and so do words, digits, signs and look-alike characters.

    Example:

    ```python
    >>> [plain_text(text) for text in (r"\text{bob}", "$bob$", '"bob".', r"\textbf{- 2}", r"0\ 4\,4")]
    ['bob', 'bob', 'bob', '- 2', '0 4 4']
    ```
    """
    text = text.translate(_DASHES)
    if "\\" in text or "~" in text:
        text = _SWITCH.sub("", _SIZED.sub("", _OLD_STYLE.sub(r"\1", _NEW_ROW.sub("\n", text))))
        text = _SPACE.sub(lambda space: "" if space.group() == "\\!" else " ", text)
    for _ in range(_MAX_ROUNDS):
        before, text = text, _undressed(text.strip())
        if text == before:
            break
    return _ESCAPED.sub(r"\1", text)


def is_same_text(answer: str, expected: str) -> bool:
    """
    Whether an answer is the expected text, whatever its case, its dress and what stands between its words.

    Args:
        answer (`str`):
            What a model wrote.
        expected (`str`):
            The right answer.

    Returns:
        `bool`: `True` when they agree. Words may be separated by white space, commas or both; a list may stand in
        brackets and a grid in rows of brackets. Look-alike characters do not agree: when the expected text is ASCII,
        so must the answer be.

    Example:

    ```python
    >>> is_same_text(r"\\text{Bob}.", "bob"), is_same_text("[0, 4, 4]", "0 4 4"), is_same_text("not bob", "bob")
    (True, True, False)
    ```
    """
    read, right = plain_text(answer).lower(), expected.lower()
    if expected.isascii() and not read.isascii():
        return False
    if read.split() in (right.split(), plain_text(right).split()):
        return True
    if len("".join(read.split())) > 200 + 8 * len(right):
        return False  # more marks than any form of a list or grid has
    return same_rows(read, right) or ("[" not in read and flat(read) == flat(right) and len(flat(right)) > 1)


def is_same_answer(answer: str, expected: object) -> bool:
    r"""
    Whether an answer is the expected text or the expected number.

    Args:
        answer (`str`):
            What a model wrote.
        expected (`object`):
            The right answer, text or a number; a text may itself be dressed.

    Returns:
        `bool`: `True` for the same text, see [`is_same_text`], and for the same number exactly: `1.0`, `\frac{2}{2}`
        and `1 leg` are `1`, `1,000` is `1000`, `.333` is not `1/3`.
    """
    right = plain_text(str(expected))
    if is_same_text(answer, right):
        return True
    value = number_value(right)
    return value is not None and number_value(answer) == value


def number_text(answer: str) -> str | None:
    r"""
    The one number that an answer states, in ASCII and without what stands around it.

    Args:
        answer (`str`):
            What a model wrote.

    Returns:
        `str` or `None`: a number such as `-2`, `.5`, `1e9` or `3/4`, or `None` where the answer is not one number. A
        currency sign, degrees, a unit of one or two words and `x =` are left out.

    Example:

    ```python
    >>> [number_text(text) for text in ("- 2", r"\$1,000", "4 legs", "x = 7.", r"\frac{3}{4}", "4 or 5")]
    ['-2', '1000', '4', '7', '3/4', None]
    ```
    """
    if len(answer) > 10 * _MAX_NUMBER_CHARS:
        return None
    text = _CURRENCY.sub(r"\1", plain_text(answer), count=1)
    name = _NAME.match(text)
    text = _DEGREES.sub("", text[name.end() :] if name else text)
    text = _TENS.sub(lambda tens: f"e{tens.group(1) or tens.group(2)}", text)
    text = _SHORT_FRACTION.sub(r"\1/\2", _FRACTION.sub(r"\1/\2", text))
    unit = _UNIT.search(text)
    if unit and not {word.lower() for word in unit.groups() if word} & _NO_UNITS:
        text = text[: unit.start()]
    text = re.sub(r"^([+-])\s+", r"\1", text.strip())
    if _GROUPED.fullmatch(text):
        text = re.sub(r"\{,\}|[, ]", "", text)
    if len(text) > _MAX_NUMBER_CHARS or not text.isascii():
        return None
    ratio = _RATIO.fullmatch(text)
    if ratio:
        return f"{ratio.group(1)}/{ratio.group(2)}"
    return text if _NUMBER.fullmatch(text) else None


def number_value(answer: str) -> Fraction | None:
    """
    The exact value of the one number that an answer states.

    Args:
        answer (`str`):
            What a model wrote.

    Returns:
        `Fraction` or `None`: the value, or `None` where the answer is not one number.
    """
    text = number_text(answer)
    if text is None:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def same_rows(answer: str, expected: str) -> bool:
    """
    Whether two lists, or two grids row by row, hold the same words.

    Args:
        answer (`str`):
            What a model wrote, undressed.
        expected (`str`):
            The right answer.

    Returns:
        `bool`: `True` when all words agree, with case. A list of one row may be broken into lines, but not into
        brackets.
    """
    right = rows(expected)
    written = rows(answer)
    if written == right:
        return bool(right)
    return (
        len(right) == 1
        and len(right[0]) > 1
        and answer.count("[") <= 1
        and [word for row in written for word in row] == right[0]
    )


def rows(text: str) -> list[list[str]]:
    """
    The rows of a list or grid: broken at new lines, semicolons and brackets, their words at white space and commas.

    Args:
        text (`str`):
            A list, with or without brackets.

    Returns:
        `list[list[str]]`: the words of each row that has some, without quotes.
    """
    text = _ENVIRONMENT.sub(" ", text).strip()
    broken = _ROW_BREAK.split(text) if text[:1] in ("[", "(") and text[-1:] in ("]", ")") else re.split(r"[\n;]", text)
    words = [[_unquoted(word) for word in _BETWEEN.split(row.strip(" \t[](),")) if word] for row in broken]
    return [row for row in words if row]


def flat(text: str) -> list[str]:
    """
    The words of all rows.

    Args:
        text (`str`):
            A list or grid.

    Returns:
        `list[str]`: its words in order.
    """
    return [word for row in rows(text) for word in row]


def _undressed(text: str) -> str:
    """One layer less."""
    start = _STYLE_START.match(text)
    if start and text.endswith("}") and _closes_last(text, start.end()):
        text = text[start.end() : -1].strip()
    elif "\\" in text:
        text = _STYLED.sub(r"\1", text)
    for opening, closing in _PAIRS:
        inside = text[len(opening) : -len(closing)]
        if (
            text.startswith(opening)
            and text.endswith(closing)
            and len(text) > len(opening) + len(closing)
            and ((closing not in inside and opening not in inside) or inside.lstrip().startswith(("[", "{")))
        ):
            return inside.strip()
    return text[:-1].rstrip() if text.endswith((".", ",", ";", "。")) else text


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 2 and word[0] == word[-1] and word[0] in "'\"" else word


def _closes_last(text: str, start: int) -> bool:
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position == len(text) - 1
    return False
