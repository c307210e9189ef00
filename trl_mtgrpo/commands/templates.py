r"""Decides how a row's columns become a prompt or an answer: `{column}` is replaced, any other brace stays.

Doubled braces are braces, as in Python's format strings: `\boxed{{{answer}}}` holds a value, `{{answer}}` a name.

Only names of columns are looked up, and entries of columns that are mappings by a dotted name; nothing is formatted,
indexed or evaluated.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any


_NAME = r"([A-Za-z_][\w.\-]*)"
# `{{{name}}}` is a value in braces, `{{name}}` a name in braces, `{name}` a value.
_PLACE = re.compile(rf"\{{\{{\{{{_NAME}\}}\}}\}}|\{{\{{{_NAME}\}}\}}|\{{{_NAME}\}}")


def columns_of(template: Any) -> tuple[str, ...]:
    """
    The names of the places in a template.

    Args:
        template (`str` or `list[dict]`):
            Text, or messages with such text as `content`.

    Returns:
        `tuple[str, ...]`: each name once, in order.
    """
    texts = [template] if isinstance(template, str) else [message["content"] for message in template]
    return tuple(
        dict.fromkeys(
            braced or plain for text in texts for braced, _, plain in _PLACE.findall(text) if braced or plain
        )
    )


def check_columns(template: Any, columns: Sequence[str], owner: str) -> None:
    """
    Refuses a template with a place that no column fills.

    Args:
        template (`str` or `list[dict]`):
            The template.
        columns (`Sequence[str]`):
            Columns of the rows.
        owner (`str`):
            What the template is, for the error message.

    Raises:
        ValueError: naming the place and the columns.
    """
    for name in columns_of(template):
        if name not in columns and name.partition(".")[0] not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            hint = (
                f"Did you mean '{{{close[0]}}}'?"
                if close
                else f"To write the braces themselves, double them: {{{{{name}}}}}."
            )
            raise ValueError(f"{owner} must name columns out of {sorted(columns)}, got '{{{name}}}'. {hint}")


def fill(template: Any, row: Mapping[str, Any]) -> Any:
    """
    A template with the values of a row.

    Args:
        template (`str` or `list[dict]`):
            Text, or messages with such text as `content`.
        row (`Mapping`):
            Values by column.

    Returns:
        `str` or `list[dict]`: empty when the row holds nothing in any of the template's places.
    """
    names = columns_of(template)
    if names and all(not str(_value(name, row)).strip() for name in names):
        return "" if isinstance(template, str) else []
    if isinstance(template, str):
        return _PLACE.sub(lambda place: _replaced(place, row), template)
    return [
        {**message, "content": _PLACE.sub(lambda place: _replaced(place, row), message["content"])}
        for message in template
    ]


def _replaced(place: re.Match[str], row: Mapping[str, Any]) -> str:
    braced, kept, plain = place.groups()
    if kept:
        return f"{{{kept}}}"
    return f"{{{_value(braced, row)}}}" if braced else str(_value(plain, row))


def _value(name: str, row: Mapping[str, Any]) -> Any:
    value: Any = row
    if name in row:
        value = row[name]
    else:
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else value
