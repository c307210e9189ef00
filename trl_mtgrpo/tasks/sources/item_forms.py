r"""Decides how an answer to a reasoning-gym item may be read before its dataset's own scorer sees it.

A scorer compares characters; a model writes `\text{yes}`, `- 2`, `4 legs` or `[1, 2]`. Each reading here is one that a
person would take for the same answer, and the scorer judges it.
"""

import re

from ..forms import number_text, plain_text, rows


# Families whose answers may look like a number but are text, or whose digits are asked for one by one.
_TEXTUAL = frozenset({"base_conversion", "bf", "decimal_arithmetic", "figlet_font", "number_format"})
# Families whose answers are sentences, in which a comma is no separator.
_SENTENCES = frozenset({"caesar_cipher", "emoji_mystery", "letter_jumble", "sentence_reordering"})
# Families in which every word of the answer is a word of the language or a name, so that its case says nothing.
_CASELESS = frozenset(
    {
        "acre",
        "calendar_arithmetic",
        "color_cube_rotation",
        "course_schedule",
        "family_relationships",
        "isomorphic_strings",
        "knight_swap",
        "knights_knaves",
        "mahjong_puzzle",
        "needle_haystack",
        "ransom_note",
        "shortest_path",
        "syllogism",
        "tsumego",
    }
)
_SIGNS = {
    "times": "×",  # noqa: RUF001
    "cdot": "×",  # noqa: RUF001
    "rightarrow": "→",
    "to": "→",
    "implies": "→",
    "Rightarrow": "→",
    "leftrightarrow": "↔",
    "iff": "↔",
    "land": "∧",
    "wedge": "∧",
    "lor": "∨",  # noqa: RUF001
    "vee": "∨",  # noqa: RUF001
    "neg": "¬",
    "lnot": "¬",
    "circ": "°",
}
_SIGN = re.compile(rf"\\({'|'.join(sorted(_SIGNS, key=len, reverse=True))})(?![A-Za-z])")
_FRACTION = re.compile(r"\\[dt]?frac\s{0,4}\{\s{0,4}(-?\d{1,40})\s{0,4}\}\s{0,4}\{\s{0,4}(\d{1,40})\s{0,4}\}")
_ARROW = re.compile(r"\s*(?:->|→)\s*")
_FACTORS = re.compile(r"\s*[×*·x]\s*")  # noqa: RUF001
_WHOLE = re.compile(r"[+-]?\d+")
_ZEROS = re.compile(r"([+-]?\d+)\.0*")


def item_forms(family: str, answer: str, expected: str) -> list[str]:
    """
    The readings of an answer, the text as it stands first.

    Args:
        family (`str`):
            A reasoning-gym dataset.
        answer (`str`):
            What a model wrote.
        expected (`str`):
            One right answer, empty where the dataset has none.

    Returns:
        `list[str]`: distinct texts, few.
    """
    plain = plain_text(answer)
    forms = [answer, plain]
    if "\\" in plain:
        forms.append(_FRACTION.sub(r"\1/\2", _SIGN.sub(lambda sign: _SIGNS[sign.group(1)], plain)))
    if family not in _TEXTUAL and number_text(expected):
        number = number_text(answer)
        if number is not None:
            whole = _ZEROS.fullmatch(number)
            forms.append(whole.group(1) if whole and _WHOLE.fullmatch(expected) else number)
    if expected and _is_expected(family, forms[-1], expected):
        forms.append(expected)
    return list(dict.fromkeys(forms))


def _is_expected(family: str, read: str, expected: str) -> bool:
    if family in _CASELESS:
        read, expected = read.lower(), expected.lower()
    if read in (expected, plain_text(expected)):
        return True  # a sentence may lack its last mark
    if family in _SENTENCES or "{" in expected or "[[" in expected:
        return False
    if "→" in expected:
        return _ARROW.sub(" ", read).split() == _ARROW.sub(" ", expected).split()
    if "×" in expected:  # noqa: RUF001
        return _FACTORS.split(read.strip()) == _FACTORS.split(expected)
    right, written = rows(expected), rows(read)
    if len(right) == 1 and read.count("[") <= 1:
        written = [[word for row in written for word in row]]
    return bool(right) and written == right
