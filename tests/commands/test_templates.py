"""Templates put columns into text, and do nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.commands.templates import check_columns, columns_of, fill


def test_a_column_in_braces_is_replaced_and_other_braces_stay() -> None:
    row = {"question": "2 + 2?", "n": 3}
    assert fill("{question} {n} \\boxed{} {1 + 2} { n }", row) == "2 + 2? 3 \\boxed{} {1 + 2} { n }"


def test_doubled_braces_are_braces() -> None:
    assert fill("{{n}} {n} {{{n}}}", {"n": 3}) == "{n} 3 {3}"
    assert columns_of("{{a}} {b} {{{c}}}") == ("b", "c")


def test_messages_are_filled_one_by_one() -> None:
    template = [{"role": "system", "content": "Count."}, {"role": "user", "content": "{n}"}]
    assert fill(template, {"n": 1}) == [template[0], {"role": "user", "content": "1"}]


def test_a_dotted_name_looks_into_a_column() -> None:
    assert fill("{truth.target}", {"truth": {"target": 5}}) == "5"


def test_a_row_that_fills_no_place_gives_nothing() -> None:
    assert fill("Q: {question}", {"question": None}) == ""
    assert fill("Q: {question}", {"question": " "}) == ""
    assert fill([{"role": "user", "content": "Q: {question}"}], {"question": ""}) == []


@given(st.text(), st.text(alphabet="{}n.0[]!r:_", max_size=12))
def test_a_value_is_never_read_as_a_template(value: str, around: str) -> None:
    filled = fill(f"{around} {{n}}", {"n": f"{value}{{n}}"})
    assert filled == "" or filled.endswith(f"{value}{{n}}")


def test_attributes_cannot_be_reached() -> None:
    assert fill("{n.__class__}|{n}", {"n": 1}) == "|1"
    assert fill("{n!r}{n[0]}{n:>9}|{n}", {"n": 1}) == "{n!r}{n[0]}{n:>9}|1"


def test_a_place_without_a_column_is_refused_with_a_close_one() -> None:
    with pytest.raises(ValueError, match=r"`prompt` must name columns .* got '\{qestion\}'. Did you mean '\{question"):
        check_columns("{qestion}", ["question", "answer"], "`prompt`")
    with pytest.raises(ValueError, match=r"got '\{a\}'. To write the braces themselves, double them: \{\{a\}\}"):
        check_columns(r"\frac{a}{b}", ["question"], "`prompt`")
