"""Answers: which text counts, what is right, and that nothing a model wrote is ever run."""

import ast
import sys
import time
from fractions import Fraction
from typing import Any

import pytest
from data.hostile import Case, cases
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.tasks.answers import (
    BoxedReward,
    answer_part,
    completion_text,
    evaluate_arithmetic,
    extract_boxed,
    is_countdown_solution,
    is_same_text,
    says_something,
)


REWARDS = {
    "countdown": BoxedReward(is_countdown_solution, ("numbers", "target")),
    "zebra": BoxedReward(is_same_text, ("expected",)),
    "arc": BoxedReward(is_same_text, ("expected",)),
}
CASES = cases()
FORBIDDEN_EVENTS = ("exec", "import", "open", "os.", "subprocess.", "socket.", "ctypes.", "shutil.")

_seen: list[tuple[str, Any]] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching:
        _seen.append((event, arguments))


sys.addaudithook(_watch)  # cannot be removed again, hence the switch


def watched(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, list[tuple[str, Any]]]:
    global _watching
    _seen.clear()
    _watching = True
    try:
        result = function(*args, **kwargs)
    finally:
        _watching = False
    return result, list(_seen)


def score(case: Case) -> float:
    columns = {name: [value] for name, value in case.columns.items()}
    return REWARDS[case.task](prompts=[""], completions=[case.completion], completion_ids=[[]], **columns)[0]


def test_the_corpus_has_at_least_three_hundred_distinct_completions():
    assert len({(case.task, repr(case.completion), repr(case.columns)) for case in CASES}) >= 300


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.encode("unicode_escape").decode()[:60])
def test_a_hostile_completion_gets_the_score_of_the_rules(case):
    assert score(case) == case.score


def test_no_hostile_completion_takes_50_milliseconds():
    slowest = {}
    for case in CASES:
        started = time.thread_time()
        score(case)
        slowest[case.name] = time.thread_time() - started
    name = max(slowest, key=lambda key: slowest[key])
    assert slowest[name] < 0.05, f"{name} took {slowest[name]:.3f} s"


def test_no_hostile_completion_is_executed():
    for case in CASES:
        _, events = watched(score, case)
        assert not [event for event, _ in events if event.startswith(FORBIDDEN_EVENTS)], case.name
        # `ast.parse` announces itself as "compile"; only whitelisted characters may get that far.
        for source in (arguments[0] for event, arguments in events if event == "compile"):
            assert set(source) <= set(b"0123456789+-*/() "), case.name


def test_the_watch_would_notice_text_that_is_evaluated():
    _, events = watched(eval, "2*3+7")  # what this library must never do
    assert "exec" in [event for event, _ in events]


@given(st.text())
def test_any_text_is_scored_without_an_error(text):
    for task, columns in (("countdown", {"numbers": [[1, 2]], "target": [3]}), ("zebra", {"expected": ["alice"]})):
        assert REWARDS[task](completions=[text], **columns) == [0.0]
        assert REWARDS[task](completions=[rf"\boxed{{{text}"], **columns)[0] in (0.0, 0.1, 1.0)


@given(st.text(alphabet=st.characters(blacklist_characters="{}\\<>")), st.text(alphabet="abc {}\n"))
def test_the_last_closed_box_is_found_wherever_it_stands(inside, after):
    text = rf"first \boxed{{no}} then \boxed{{{inside}}}" + after
    assert extract_boxed(text) == (inside.strip() if says_something(inside) else "no")


def test_a_box_longer_than_the_limit_is_no_answer():
    assert extract_boxed(r"\boxed{12345}", max_chars=5) == "12345"
    assert extract_boxed(r"\boxed{123456}", max_chars=5) is None


def test_the_answer_part_is_what_follows_the_reasoning():
    assert answer_part("a</think>b</think>c") == "c"
    assert answer_part("<think>a") == ""
    assert answer_part("a") == "a"


def test_the_text_of_a_conversation_is_its_last_message():
    assert completion_text([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]) == "b"


expressions = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]}{t[2]})"),
    max_leaves=8,
)


def _by_fractions(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(node.value)
    assert isinstance(node, ast.BinOp)
    left, right = _by_fractions(node.left), _by_fractions(node.right)
    return {ast.Add: left.__add__, ast.Sub: left.__sub__, ast.Mult: left.__mul__, ast.Div: left.__truediv__}[
        type(node.op)
    ](right)


@given(expressions)
def test_expressions_of_the_grammar_have_the_value_of_exact_fractions(text):
    try:
        expected = _by_fractions(ast.parse(text, mode="eval").body)
    except ZeroDivisionError:
        expected = None
    result = evaluate_arithmetic(text)
    assert (None if result is None else result[0]) == expected
    if result is not None:
        assert list(result[1]) == [int(n) for n in "".join(c if c.isdigit() else " " for c in text).split()]


@given(st.text(alphabet="0123456789+-*/(). _ex", max_size=40))
def test_text_near_the_grammar_is_refused_or_has_python_s_own_value(text):
    result = evaluate_arithmetic(text)
    if result is not None:
        tree = ast.parse(text.strip(), mode="eval")
        assert _by_fractions(tree.body) == result[0]
        assert not set(text) & set("._ex")


def test_countdown_compares_without_a_tolerance():
    assert is_countdown_solution("1/3*3", [1, 3, 3], 1)
    assert not is_countdown_solution("1000000/3", [1000000, 3], 333333)


def test_the_format_reward_is_what_was_asked_for():
    reward = BoxedReward(is_same_text, ("expected",), format_reward=0.25)
    assert reward(completions=[r"\boxed{a}", r"\boxed{b}", ""], expected=["a", "a", "a"]) == [1.0, 0.25, 0.0]
