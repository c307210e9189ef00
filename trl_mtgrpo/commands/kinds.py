"""Whether a value of a YAML file is of the kind that a field is annotated with, and how to say so."""

import enum
import types
import typing
from collections.abc import Mapping
from typing import Any


def fits(value: Any, hint: Any) -> bool:
    """
    Whether a value is of a kind.

    Args:
        value (`Any`):
            What YAML gave.
        hint (`Any`):
            A type annotation. An int where a number is meant fits, because YAML writes 1 for 1.0.

    Returns:
        `bool`: `True` also for annotations that plain values cannot be compared with.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(hint))
    if hint is Any or hint is type(None):
        return hint is Any or value is None
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(fits(one, typing.get_args(hint)[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, typing.get_args(hint)[1]) for one in value.values())
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) and not issubclass(hint, enum.Enum) else False


def fits_setting(value: Any, hint: Any) -> bool:
    """The same for a field that is also read from a command line, where every value is text."""
    return isinstance(value, str) or fits(value, hint)


def kind_name(hint: Any) -> str:
    """What to call a kind, in error messages."""
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number", type(None): "nothing"}
    names |= {list: "a list"}
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind_name(one) for one in typing.get_args(hint) if one is not type(None)]
        return " or ".join(dict.fromkeys(kinds))
    if origin is typing.Literal or (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        return "text"
    if origin is list:
        return f"a list of {kind_name(typing.get_args(hint)[0])}"
    if origin is dict and typing.get_args(hint)[1] is not Any:
        return f"a mapping to {kind_name(typing.get_args(hint)[1])}"
    return names.get(hint, "a mapping")


def cure(value: Any, hint: Any) -> str:
    """What to do about a value that does not fit."""
    if "text" not in kind_name(hint).split(" or ") or value is None or isinstance(value, list | Mapping):
        return "Change its value."
    if isinstance(value, bool):
        return "YAML reads yes, no, on and off as true and false: put it in quotes."
    return "Put it in quotes."
