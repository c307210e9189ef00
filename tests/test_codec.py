"""The codec of the state: what a part's types promise comes back bit for bit, anything else is refused by name."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from trl_mtgrpo.sampling import AcceptanceEstimate, StallDoctor
from trl_mtgrpo.sampling.accounting import RolloutLedger
from trl_mtgrpo.state.codec import check_state, from_json, to_json
from trl_mtgrpo.weighting import PlateauGuard, WeightingState
from trl_mtgrpo.weighting.signals import RewardAverage


@dataclass(frozen=True, eq=False)
class Inner:
    names: tuple[str, ...]
    pair: tuple[int, float | None]


@dataclass(frozen=True, eq=False)
class Part:
    doubles: NDArray[np.float64]
    singles: NDArray[np.float32]
    counts: NDArray[np.int64]
    flags: NDArray[np.bool_]
    open: np.ndarray
    number: float
    count: int
    flag: bool
    text: str
    missing: float | None
    inner: Inner
    many: tuple[Inner, ...] = ()


def a_part(**changes: Any) -> Part:
    values: dict[str, Any] = {
        "doubles": np.array([0.1, -0.0]),
        "singles": np.array([[0.1, np.nan]], dtype=np.float32),
        "counts": np.array([2**62]),
        "flags": np.array([True, False]),
        "open": np.zeros((0, 3), dtype=np.int32),
        "number": 0.1,
        "count": 3,
        "flag": True,
        "text": "ä\n",
        "missing": None,
        "inner": Inner(("a", "b"), (1, None)),
    }
    return Part(**(values | changes))


def there_and_back(part: Any) -> Any:
    return from_json(type(part), json.loads(json.dumps(to_json(part), allow_nan=False)))


SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@given(
    doubles=arrays.arrays(np.float64, SHAPES, elements=st.floats(width=64)),
    singles=arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32)),
    counts=arrays.arrays(np.int64, SHAPES),
    number=st.floats(width=64),
    missing=st.none() | st.floats(width=64),
    text=st.text(st.characters(codec="utf-8")),
)
@settings(max_examples=150)
def test_every_bit_and_every_shape_comes_back(**values: Any) -> None:
    before = a_part(**values)
    after = there_and_back(before)
    for name in ("doubles", "singles", "counts", "open"):
        one, other = getattr(before, name), getattr(after, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    assert np.float64(before.number).tobytes() == np.float64(after.number).tobytes()
    assert (before.missing is None) == (after.missing is None)
    assert before.text == after.text


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000007, 0xFFFC00000000ABCD])
def test_the_sign_and_the_payload_of_a_nan_come_back(bits: int) -> None:
    values = np.array([bits], dtype=np.uint64).view(np.float64)
    assert there_and_back(a_part(doubles=values)).doubles.tobytes() == values.tobytes()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_json_lacks_is_written_as_text(value: float) -> None:
    assert to_json(a_part(number=value))["number"] == str(value)
    assert json.dumps(to_json(a_part(doubles=np.array([value, 1.0]))), allow_nan=False)


def test_tuples_and_parts_inside_parts_come_back() -> None:
    many = (Inner((), (2, math.inf)), Inner(("x",), (0, None)))
    after = there_and_back(a_part(many=many))
    assert [(one.names, one.pair) for one in after.many] == [((), (2, math.inf)), (("x",), (0, None))]
    assert after.inner.names == ("a", "b")


def test_parts_of_every_owner_come_back() -> None:
    for part in (
        WeightingState.zeros(3),
        PlateauGuard().init(2),
        AcceptanceEstimate.init(2),
        StallDoctor().init(2),
        RewardAverage.start(2),
        RolloutLedger.empty(2),
    ):
        assert to_json(there_and_back(part)) == to_json(part)


@pytest.mark.parametrize(
    "change", [lambda data: data.pop("count"), lambda data: data.update(more=1), lambda data: data.clear()]
)
def test_other_fields_are_refused_with_both_sets(change: Any) -> None:
    data = to_json(a_part())
    change(data)
    with pytest.raises(ValueError, match=r"`Part` must be read from the fields \['count', .*\], got \[.*\]\. Use the"):
        from_json(Part, data)


@pytest.mark.parametrize("data", [None, [1], "text"])
def test_what_is_no_part_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"`Part` must be read from the fields .* got (NoneType|list|str)"):
        from_json(Part, data)


@pytest.mark.parametrize(
    ("name", "value"), [("count", "3"), ("count", 1.5), ("flag", 1), ("text", None), ("inner", {}), ("number", [1.0])]
)
def test_a_value_of_another_type_is_not_read(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`(Part.{name}|Inner)` must be"):
        from_json(Part, {**to_json(a_part()), name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 1.5),
        ("text", 3),
        ("number", "0.1"),
        ("counts", np.array([0.5])),
        ("doubles", [0.1]),
        ("doubles", np.array([object()])),
        ("inner", None),
        ("many", [Inner((), (0, 0.0))]),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_not_written(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"`Part\.{name}` must (be|hold) "):
        to_json(a_part(**{name: value}))


@dataclass(frozen=True)
class Moments:
    mean: NDArray[np.float64] = field(metadata={"new_task": 0.0})
    step: int


@dataclass
class Changeable:
    mean: np.ndarray


@dataclass(frozen=True)
class WithDict:
    values: dict[str, float]


@dataclass(frozen=True)
class WithTwoTypes:
    value: int | str


@dataclass(frozen=True)
class WithUndeclaredDtype:
    value: np.ndarray


def test_a_state_that_a_checkpoint_can_hold_passes() -> None:
    check_state(WeightingState.zeros(2), "weighting")
    check_state(Moments(np.array([np.nan]), 1), "weighting")
    check_state(WithUndeclaredDtype(np.ones((2, 2), dtype=np.float32)), "weighting")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "must remember a frozen dataclass, got NoneType"),
        ({"mean": 1}, "must remember a frozen dataclass, got dict"),
        (Changeable(np.zeros(1)), "must remember a frozen dataclass, got Changeable"),
        (WithDict({"a": 1.0}), "must remember what a checkpoint can hold, got WithDict: `WithDict.values` must be"),
        (WithTwoTypes(1), "must remember what a checkpoint can hold, got WithTwoTypes: .* one type beside None"),
        (WithUndeclaredDtype(np.array([object()])), "`WithUndeclaredDtype.value` must hold numbers"),
        (Moments(np.zeros(1, dtype=np.complex128), 1), "`Moments.mean` must hold numbers, booleans or text"),
        (
            Moments(np.zeros(1, dtype=np.float32), 1),
            "must remember what a checkpoint brings back, got another Moments",
        ),
    ],
)
def test_a_state_that_a_checkpoint_cannot_hold_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=rf"(?s){reason}.*Let its `init` return a `WeightingState`"):
        check_state(value, "weighting")
