"""Answers: which text counts, what is right, and that nothing a model wrote is ever run."""

import ast
import concurrent.futures
import sys
import time
from fractions import Fraction
from typing import Any

import pytest
from data import forms
from data.hostile import Case, cases
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.tasks.answers import (
    NAMED_REWARDS,
    BoxedReward,
    LineReward,
    answer_part,
    completion_text,
    evaluate_arithmetic,
    extract_boxed,
    is_countdown_solution,
    is_same_answer,
    is_same_text,
    number_text,
    plain_text,
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


def boxed(check, columns, answer, **row):
    completions = [template.replace("@", answer) for template in (r"\boxed{@}", *forms.COMPLETIONS)]
    values = {name: [value] * len(completions) for name, value in row.items()}
    return BoxedReward(check, columns)(prompts=["?"] * len(completions), completions=completions, **values)


def right_forms() -> list[tuple[Any, tuple[str, ...], dict[str, Any], str]]:
    table: list[tuple[Any, tuple[str, ...], dict[str, Any], str]] = []
    for expected, written in {**forms.TEXT, **forms.GRIDS}.items():
        table += [(is_same_text, ("expected",), {"expected": expected}, form) for form in written]
    for expected, written in {**forms.TEXT, **forms.NUMBERS}.items():
        table += [(is_same_answer, ("expected",), {"expected": expected}, form) for form in written]
    for numbers, target, written in forms.COUNTDOWN:
        row = {"numbers": numbers, "target": target}
        table += [(is_countdown_solution, ("numbers", "target"), row, form) for form in written]
    return table


@pytest.mark.parametrize(("check", "columns", "row", "form"), right_forms())
def test_every_way_of_writing_a_right_answer_is_right_in_every_completion(check, columns, row, form):
    assert set(boxed(check, columns, form, **row)) == {1.0}


def test_the_table_of_forms_has_at_least_a_hundred_and_fifty():
    assert len({(repr(row), form) for _, _, row, form in right_forms()}) >= 150


@pytest.mark.parametrize(
    ("kind", "expected", "form"),
    [(kind, expected, form) for kind, expected, written in forms.WRONG for form in written],
)
def test_what_is_near_a_right_answer_and_is_another_one_stays_wrong(kind, expected, form):
    if kind == "countdown":
        assert not is_countdown_solution(form, *expected)
    elif kind == "number":
        assert not is_same_answer(form, expected)
    else:
        assert not is_same_text(form, expected)
        assert not is_same_answer(form, expected)


@given(st.text(alphabet="01a-+.,/ \\{}$*\"'[]()frac\ntextbo=", max_size=60))
def test_reading_a_form_never_fails_and_reads_the_same_a_second_time(text):
    once = plain_text(text)
    assert isinstance(once, str)
    number = number_text(text)
    assert number is None or number_text(number) == number


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_only_the_same_number_is_the_same_number(first, second):
    assert is_same_answer(f"{first:,}", str(second)) == (first == second)
    assert is_same_answer(f"x = {first}.0 legs", second) == (first == second)


PIECES = [
    r"\text{",
    r"\frac{",
    r"\frac12",
    "{",
    "}",
    "$",
    "**",
    '"',
    "[",
    "]",
    "(",
    ")",
    r"\\",
    "1,000",
    "= ",
    "- ",
    r"\ ",
]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), st.integers(1, 9_990))
def test_reading_takes_time_in_proportion_to_the_length_at_most(pieces, length):
    text = ("".join(pieces) * length)[:length]
    started = time.thread_time()
    is_same_answer(text, "0 0 4 4")
    is_same_answer(text, "12")
    is_countdown_solution(text, [1, 2], 3)
    assert time.thread_time() - started < 0.05


def test_a_wrong_answer_that_copies_the_prompt_s_example_earns_nothing():
    prompt = r"Who? Answer in \boxed{}, like \boxed{Some body}."
    completions = [
        r"\boxed{Some body}",
        r"\boxed{Somebody }",
        r"like \boxed{Some body}.",
        r"\boxed{eve}",
        r"\boxed{bob}",
    ]
    reward = BoxedReward(is_same_text, ("expected",))
    rewards = reward(prompts=[prompt] * 5, completions=completions, expected=["bob"] * 5)
    assert rewards == [0.0, 0.0, 0.0, 0.1, 1.0]


def test_an_example_in_any_message_of_a_conversation_is_an_example():
    prompt = [
        {"role": "system", "content": r"Use \boxed{a}."},
        {"role": "assistant", "content": r"\boxed{b}"},
        {"role": "user", "content": [{"type": "text", "text": r"Like \boxed{c}"}]},
    ]
    completions = [[{"role": "assistant", "content": rf"\boxed{{{letter}}}"}] for letter in "abcd"]
    reward = BoxedReward(is_same_text, ("expected",))
    assert reward(prompts=[prompt] * 4, completions=completions, expected=["e"] * 4) == [0.0, 0.0, 0.0, 0.1]


@pytest.mark.parametrize(
    ("completion", "expected", "last", "first"),
    [
        ("It is so.\n\n**4**\n", "4", 1.0, 0.0),
        ("4", "4", 1.0, 1.0),
        ("4\n5", "4", 0.0, 1.0),
        ("4\nUser: 2 + 2?\nAssistant: 5", "4", 1.0, 1.0),
        ("Grid:\n1 0\n0 1", "1 0\n0 1", 1.0, 0.0),
        ("1 0\n0 1\n3 + 3 =", "1 0\n0 1", 0.0, 1.0),
        ("<think>4", "4", 0.0, 0.0),
        ("<think>5</think>4<|im_end|>", "4", 1.0, 1.0),
        ("", "4", 0.0, 0.0),
        ("", "", 0.0, 0.0),
        ("4" * 1_000_000, "4", 0.0, 0.0),
    ],
)
def test_without_a_box_the_answer_is_the_last_or_the_first_lines(completion, expected, last, first):
    for place, value in ((False, last), (True, first)):
        assert LineReward(is_same_text, ("expected",), place)(completions=[completion], expected=[expected]) == [value]


def test_the_names_of_rewards_are_those_of_the_docs():
    assert set(NAMED_REWARDS) == {"exact_match", "boxed", "regex", "number", "math_verify", "reasoning_gym"}


@pytest.mark.parametrize(
    ("name", "options", "completion", "answer", "value"),
    [
        ("exact_match", {}, "4", "4", 1.0),
        ("exact_match", {}, "<think>hm</think>\n$4$.\n", 4, 1.0),
        ("exact_match", {}, "It is 4", "4", 0.0),
        ("exact_match", {}, "", "", 0.0),
        ("boxed", {}, r"\boxed{4.0}", "4", 1.0),
        ("boxed", {}, "4", "4", 0.0),
        ("boxed", {"format_reward": 0.2}, r"\boxed{5}", "4", 0.2),
        ("regex", {"pattern": r"Answer: (.+)", "column": "answer"}, "Answer: 3\nAnswer: **4**", "4", 1.0),
        ("regex", {"pattern": r"Answer: (.+)", "column": "answer"}, "4", "4", 0.0),
        ("regex", {"pattern": r"^\d+$"}, "17", "4", 1.0),
        ("number", {}, "3 + 1 = 4.", "4", 1.0),
        ("number", {}, "about -1,000 in all", -1000, 1.0),
        ("number", {}, r"first 5, \boxed{4}, then 6", "4", 1.0),
        ("number", {}, "none", "4", 0.0),
        ("number", {}, "4", "none", None),
        ("number", {"tolerance": 0.1}, "4.05", "4", 1.0),
        ("number", {"tolerance": 0.1}, "4.2", "4", 0.0),
    ],
)
def test_a_named_reward_scores_as_its_name_says(name, options, completion, answer, value):
    reward = NAMED_REWARDS[name](**options)
    conversation = [{"role": "assistant", "content": completion}]
    for written in (completion, conversation):
        assert reward(prompts=["?"], completions=[written], answer=[answer]) == [value]
    assert reward.__name__ == name


def test_a_reward_for_a_column_that_is_not_there_names_those_that_are():
    with pytest.raises(
        ValueError, match=r"`column` must be a column of the task's rows, got 'answer' and rows with \['solution'\]"
    ):
        NAMED_REWARDS["exact_match"]()(prompts=["?"], completions=["4"], solution=["4"])


def test_a_pattern_that_is_none_and_a_tolerance_that_is_none_are_refused():
    with pytest.raises(ValueError, match=r"`pattern` must be a regular expression, got '\('"):
        NAMED_REWARDS["regex"]("(")
    with pytest.raises(ValueError, match="`tolerance` must be a finite number of at least 0, got -1"):
        NAMED_REWARDS["number"](tolerance=-1)


def test_math_verify_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ImportError, match=r"`math_verify` must be installed .* `pip install trl_mtgrpo\[math\]`"):
        NAMED_REWARDS["math_verify"]()


def test_math_verify_scores_what_is_equivalent_in_any_thread_and_skips_what_cannot_be_read():
    pytest.importorskip("math_verify")
    reward = NAMED_REWARDS["math_verify"]()
    completions = [r"so \boxed{\frac{1}{2}}", r"\boxed{3}", "x"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # its own limits need the main thread
        rewards = pool.submit(reward, completions=completions, answer=["0.5", r"\frac{1}{2}", ""]).result()
    assert rewards == [1.0, 0.0, None]
