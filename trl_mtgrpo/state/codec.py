"""How a part of the state is written down: frozen dataclasses of arrays, numbers and text as JSON, bit for bit."""

import dataclasses
import json
import math
import struct
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np


Part = TypeVar("Part")

_NUMBERS = (bool, int, float, str)
_CONCRETE = frozenset(np.sctypeDict.values())


def to_json(part: Any) -> dict[str, Any]:
    """
    A part as JSON values.

    Args:
        part (`Any`):
            A dataclass whose fields are arrays, numbers, text, tuples of such values, `None` or dataclasses.

    Returns:
        `dict`: one entry per field. Values that JSON lacks (NaN, infinities) become text.

    Raises:
        TypeError: if a field holds something else, or a value that its type cannot hold.
    """
    hints = get_type_hints(type(part))
    return {
        name: _encode(hints[name], getattr(part, name), f"{type(part).__name__}.{name}") for name in _names(type(part))
    }


def from_json(kind: type[Part], data: Any, **kinds: type) -> Part:
    """
    The part that [`to_json`] wrote.

    Args:
        kind (`type`):
            The dataclass; the types of its fields say how they are read.
        data (`dict`):
            What [`to_json`] returned.
        **kinds (`type`):
            Types of fields by name, where they are others than those declared.

    Returns:
        The part.

    Raises:
        ValueError: if the fields are not exactly those of `kind`.
    """
    names = _names(kind)
    if not isinstance(data, Mapping) or sorted(data) != sorted(names):
        found = sorted(data) if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(
            f"`{kind.__name__}` must be read from the fields {sorted(names)}, got {found}. Use the version of the "
            "code that wrote it."
        )
    hints = {**get_type_hints(kind), **kinds}
    return kind(**{name: _decode(hints[name], data[name], f"{kind.__name__}.{name}") for name in names})


def check_state(value: Any, name: str) -> None:
    """
    Checks that a value can be written into a checkpoint and read back.

    Args:
        value (`Any`):
            What a strategy remembers.
        name (`str`):
            The argument that it belongs to, for the message.

    Raises:
        TypeError: saying why it cannot.
    """
    kind = type(value)
    cure = (
        "Let its `init` return a `WeightingState`, or a frozen dataclass of typed arrays, numbers, text, tuples and "
        "such dataclasses."
    )
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"`{name}` must remember a frozen dataclass, got {kind.__name__}. {cure}")
    try:
        written = json.dumps(to_json(value), allow_nan=False)
        again = from_json(kind, json.loads(written))
        same = json.dumps(to_json(again), allow_nan=False) == written and _dtypes(value) == _dtypes(again)
    except (TypeError, ValueError, NameError) as error:  # NameError: a type that exists in a function only
        raise TypeError(
            f"`{name}` must remember what a checkpoint can hold, got {kind.__name__}: {error} {cure}"
        ) from error
    if not same:
        raise TypeError(
            f"`{name}` must remember what a checkpoint brings back, got another {kind.__name__} after reading. {cure}"
        )


def _dtypes(value: Any) -> Any:
    """The precision of the arrays in a part, which updates after a resume would have."""
    if isinstance(value, np.ndarray):
        return value.dtype.str
    if isinstance(value, tuple):
        return [_dtypes(item) for item in value]
    return [_dtypes(getattr(value, name)) for name in _names(type(value))] if dataclasses.is_dataclass(value) else None


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]  # type: ignore[arg-type]


def _encode(hint: Any, value: Any, place: str) -> Any:
    kind = _kind(hint, place)
    if value is None and kind is not hint:
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)  # by its own type: a strategy of the user's own may remember more
    if isinstance(value, np.ndarray) and _is_array(kind):
        return _encode_array(kind, value, place)
    if isinstance(value, tuple) and _is_tuple(kind):
        return [_encode(element, item, place) for element, item in zip(_elements(kind, value), value, strict=True)]
    if kind in _NUMBERS and isinstance(value, (*_NUMBERS, np.generic)):
        plain = kind(value)
        if plain == value or (plain != plain and value != value):
            return _encode_float(plain) if kind is float else plain
    raise TypeError(f"`{place}` must be {_name(kind)}, got {value!r} of type {type(value).__name__}.")


def _decode(hint: Any, data: Any, place: str) -> Any:
    kind = _kind(hint, place)
    if data is None and kind is not hint:
        return None
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_json(kind, data)
    if _is_array(kind):
        return _decode_array(kind, data)
    if _is_tuple(kind) and isinstance(data, list):
        return tuple(_decode(element, item, place) for element, item in zip(_elements(kind, data), data, strict=True))
    if kind is float and isinstance(data, str | float):
        return _decode_float(data)
    if kind in _NUMBERS and type(data) is kind:
        return data
    raise ValueError(f"`{place}` must be {_name(kind)}, got {data!r} of type {type(data).__name__}.")


def _kind(hint: Any, place: str) -> Any:
    """The type of a field without its `None`."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if len(kinds) != 1 or len(kinds) == len(get_args(hint)):
        raise TypeError(f"`{place}` must have one type beside None, got {hint}.")
    return kinds[0]


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _elements(kind: Any, items: Any) -> list[Any]:
    kinds = list(get_args(kind))
    return kinds[:1] * len(items) if kinds[1:] == [...] else kinds


def _is_array(kind: Any) -> bool:
    return kind is np.ndarray or get_origin(kind) is np.ndarray


def _dtype(kind: Any) -> np.dtype[Any] | None:
    """The dtype that a field declares; `None` where it leaves it open."""
    declared = [scalar for part in get_args(kind)[1:] for scalar in get_args(part) if scalar in _CONCRETE]
    return np.dtype(declared[0]) if declared else None


def _encode_array(kind: Any, array: np.ndarray[Any, Any], place: str) -> Any:
    dtype = _dtype(kind)
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        raise TypeError(f"`{place}` must hold numbers, booleans or text, got an array of {array.dtype}.")
    if dtype is not None and not np.can_cast(array.dtype, dtype, "safe"):
        raise TypeError(f"`{place}` must be an array of {dtype}, got one of {array.dtype}.")
    values = array.tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = _mapped(_encode_float, values)
    if dtype is not None and (array.size or array.ndim == 1):
        return values
    # Nested lists do not tell the shape of what is empty, nor a dtype.
    return {"shape": list(array.shape), "dtype": array.dtype.str, "values": values}


def _decode_array(kind: Any, data: Any) -> np.ndarray[Any, Any]:
    dtype, shape = _dtype(kind), None
    if isinstance(data, Mapping):
        dtype, shape, data = dtype or np.dtype(data["dtype"]), data["shape"], data["values"]
    if dtype is not None and dtype.kind == "f":
        data = _mapped(_decode_float, data)
    array = np.array(data, dtype=dtype)
    return array if shape is None else array.reshape(shape)


def _mapped(function: Any, values: Any) -> Any:
    return [_mapped(function, value) for value in values] if isinstance(values, list) else function(values)


def _encode_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    bits = struct.pack(">d", value)
    # A NaN has a sign and a payload, which decide nothing but are part of "bit for bit".
    return repr(value) if bits == struct.pack(">d", float(repr(value))) else f"nan:{bits.hex()}"


def _decode_float(data: float | str) -> float:
    if isinstance(data, str) and data.startswith("nan:"):
        return float(struct.unpack(">d", bytes.fromhex(data[4:]))[0])
    return float(data)
