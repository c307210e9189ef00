"""reasoning-gym tasks: the paper's levels, disjoint splits, and which scorers may see what a model wrote."""

import collections
import gc
import json
import os
import pickle
import re
import subprocess
import sys
import time
from typing import Any

import pytest


reasoning_gym = pytest.importorskip("reasoning_gym")

from trl_mtgrpo.tasks.answers import NAMED_REWARDS  # noqa: E402
from trl_mtgrpo.tasks.mixture import TaskMixture  # noqa: E402
from trl_mtgrpo.tasks.sources import puzzles  # noqa: E402
from trl_mtgrpo.tasks.sources.puzzles import source_dataset, source_entry  # noqa: E402
from trl_mtgrpo.tasks.sources.reasoning_gym import (  # noqa: E402
    EVALUATING,
    EXACT,
    HASH_DEPENDENT,
    LEVELS,
    REVIEWED,
    ReasoningGymCheck,
    reasoning_gym_task,
)


MARK = "hostile_text_was_run"
HOSTILE = [
    f'__import__("os").environ.setdefault("{MARK}", "1")',
    f'[__import__("os").environ.setdefault("{MARK}", "1")]',
    "9**9**9",
    "1e99999999",
    "1e-99999999",
    "-1e99999999/3",
    "9" * 5000,
    "R99999999 U99999999",
    "A+99999999",
    "[" * 5000,
    "(" * 5000 + ")" * 5000,
    "¬" * 5000 + "A",
    "A" + "∧A" * 3000,
    '{"a":' * 3000,
    "1," * 4000,
    "1 " * 4999,
    "1×" * 4000,  # noqa: RUF001
    "Move disk 1 from Peg 1 to Peg 2\n" * 300,
    "UDLR" * 2000,
    "x" * 9000,
    "\x00",
    "\ud800",
    "٣",
    "nan",
    "inf",
    "None",
    "True",
    "[]",
    "{}",
    "0x10",
    "1_0",
    "no",
    "-",
]
OFFERED = sorted(REVIEWED | EXACT)
SMALL = {"word_ladder": {"min_word_length": 3, "max_word_length": 3}}


@pytest.fixture(autouse=True)
def fixed_hash_seed(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")


_watching = False
_marked: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "compile" and MARK in repr(arguments[0]):
        _marked.append(event)


sys.addaudithook(_watch)  # cannot be removed again, hence the switch


def compiled(function: Any, *args: Any) -> bool:
    """Whether a call hands the marked text to Python's compiler."""
    global _watching
    _marked.clear()
    _watching = True
    try:
        function(*args)
    finally:
        _watching = False
    return bool(_marked)


def items(family, count=2):
    source = json.dumps({**SMALL.get(family, {}), "seed": 1, "size": 10})
    entries = [source_entry(family, source, i) for i in range(count)]
    return [{"item": i, "source": source, "expected": str(e["answer"] or "")} for i, e in enumerate(entries)]


@pytest.mark.parametrize(
    ("family", "level", "prompt_says", "column"),
    [
        ("countdown", "easy", "Make ", lambda row: len(row["numbers"]) == 3),
        ("countdown", "medium", "Make ", lambda row: len(row["numbers"]) == 4 and 1 <= row["target"] <= 1000),
        (
            "countdown",
            "hard",
            "Make ",
            lambda row: len(row["numbers"]) == 5 and all(1 <= n <= 100 for n in row["numbers"]),
        ),
        ("zebra_puzzles", "easy", "There are 3 houses", lambda row: row["expected"].isalpha()),
        ("arc_1d", "easy", "Example 3", lambda row: len(row["expected"].split()) == 10),
        ("arc_1d", "medium", "Example 3", lambda row: len(row["expected"].split()) == 20),
        ("arc_1d", "hard", "Example 3", lambda row: len(row["expected"].split()) == 30),
    ],
)
def test_levels_are_those_of_the_paper(family, level, prompt_says, column):
    task = reasoning_gym_task(family, level, train_size=5, eval_size=3)
    assert task.name == f"{family}-{level}"
    assert (len(task.train_dataset), len(task.eval_dataset)) == (5, 3)
    for row in [*task.train_dataset, *task.eval_dataset]:
        assert prompt_says in row["prompt"]
        assert r"\boxed{" in row["prompt"]
        assert column(row)


def test_zebra_levels_have_as_many_characteristics_as_people():
    assert [list(LEVELS["zebra_puzzles"][level].values()) for level in ("easy", "medium", "hard")] == [
        [3, 3],
        [4, 4],
        [5, 5],
    ]


def test_the_prompt_is_a_dialogue_that_the_model_goes_on_with():
    row = reasoning_gym_task("countdown", "easy", train_size=1, eval_size=0).train_dataset[0]
    before, user, after = row["prompt"].partition("\nUser: ")
    assert before
    assert user
    assert after.count("\nAssistant: ") == 1
    assert not row["prompt"].endswith((" ", "\n"))


def test_rewards_are_one_a_tenth_and_zero():
    task = reasoning_gym_task("arc_1d", "easy", train_size=1, eval_size=0)
    row = task.train_dataset[0]
    answers = [rf"\boxed{{{row['expected']}}}", r"\boxed{7}", r"\boxed{}", "no box"]
    assert task.reward_funcs[0](completions=answers, expected=[row["expected"]] * 4) == [1.0, 0.1, 0.0, 0.0]
    assert task.success_threshold == 1.0


@pytest.mark.parametrize("family", ["countdown", "zebra_puzzles", "arc_1d"])
def test_the_scorer_s_own_answer_is_right_in_the_bundled_reward(family):
    task = reasoning_gym_task(family, "easy", train_size=20, eval_size=0)
    source = json.dumps({**LEVELS[family]["easy"], "seed": 1_000_000, "size": 140}, sort_keys=True)
    for position in range(20):
        row = task.train_dataset[position]
        answer = source_entry(family, source, position)["answer"]
        columns = {name: [row[name]] for name in row if name not in ("prompt", "position")}
        # reasoning-gym may write a countdown answer with powers or leading signs, which the rules do not allow.
        if family == "countdown" and ("**" in answer or answer.startswith("-")):
            continue
        assert task.reward_funcs[0](completions=[rf"\boxed{{{answer}}}"], **columns) == [1.0]


def test_training_and_evaluation_rows_are_disjoint_by_content():
    # Two numbers up to 4 make so few puzzles that the splits would overlap without replacement.
    options = {"min_numbers": 2, "max_numbers": 2, "max_value": 4, "min_target": 1, "max_target": 8}
    task = reasoning_gym_task("countdown", "easy", train_size=60, eval_size=5, **options)
    keys = [
        {(*sorted(row["numbers"]), row["target"]) for row in split}
        for split in (task.train_dataset, task.eval_dataset)
    ]
    assert not keys[0] & keys[1]
    assert len(keys[0]) > 1


def test_too_many_evaluation_rows_for_the_family_are_an_error():
    options = {"min_numbers": 2, "max_numbers": 2, "max_value": 1, "min_target": 1, "max_target": 8}
    with pytest.raises(
        ValueError, match="`eval_size` must leave other items to train on, got 20 repeated or failed items"
    ):
        reasoning_gym_task("countdown", "easy", train_size=5, eval_size=50, **options)


def test_seeds_share_no_row():
    sets = [
        {row["prompt"] for row in reasoning_gym_task("arc_1d", "easy", 50, 10, seed=seed).train_dataset}
        for seed in (0, 1)
    ]
    assert not sets[0] & sets[1]


def test_training_rows_are_made_when_they_are_read_and_always_the_same():
    started = time.thread_time()
    task = reasoning_gym_task("zebra_puzzles", "hard", train_size=10_000, eval_size=0)
    assert len(task.train_dataset) == 10_000
    assert time.thread_time() - started < 60  # all rows would take hours
    again = reasoning_gym_task("zebra_puzzles", "hard", train_size=10_000, eval_size=0)
    assert task.train_dataset[7] == again.train_dataset[7]


def test_a_mixture_reads_lazy_rows():
    tasks = TaskMixture([reasoning_gym_task("arc_1d", "easy", 10, 2), reasoning_gym_task("countdown", "easy", 10, 2)])
    row = tasks.row(0, 3).columns
    assert len(row["expected"].split()) == 10
    assert "numbers" not in row
    assert tasks.num_rows().tolist() == [10, 10]


def test_a_lazy_dataset_survives_pickling():
    dataset = reasoning_gym_task("arc_1d", "easy", 10, 0).train_dataset
    assert pickle.loads(pickle.dumps(dataset))[4] == dataset[4]


def test_the_cache_holds_the_same_rows_and_is_read_again(tmp_path, monkeypatch):
    cached = reasoning_gym_task("arc_1d", "easy", 20, 5, cache_dir=tmp_path)
    fresh = reasoning_gym_task("arc_1d", "easy", 20, 5)
    assert cached.train_dataset["prompt"] == fresh.train_dataset["prompt"]
    assert len(list(tmp_path.iterdir())) == 2

    def must_not_run(*args):
        raise AssertionError("made again")

    monkeypatch.setattr("trl_mtgrpo.tasks.sources.puzzles.source_entry", must_not_run)
    again = reasoning_gym_task("arc_1d", "easy", 20, 5, cache_dir=tmp_path)
    assert again.train_dataset[:] == cached.train_dataset[:]


def test_the_cache_tells_different_options_apart(tmp_path):
    for level in ("easy", "medium"):
        task = reasoning_gym_task("arc_1d", level, 5, 0, cache_dir=tmp_path)
        assert len(task.train_dataset[0]["expected"].split()) == {"easy": 10, "medium": 20}[level]


@pytest.mark.parametrize("family", sorted(EVALUATING))
def test_families_whose_scorer_evaluates_text_are_refused(family):
    with pytest.raises(ValueError, match=f"`family` must have a scorer that does not evaluate .*, got '{family}'"):
        reasoning_gym_task(family)


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"`family` must be a reasoning-gym dataset .*, got 'coutdown'. Known families: ab, "
    ):
        reasoning_gym_task("coutdown")


def test_every_family_of_this_version_was_decided_upon():
    from reasoning_gym.factory import DATASETS

    assert set(DATASETS) == REVIEWED | EXACT | EVALUATING | {"countdown"}


@pytest.mark.parametrize("family", sorted(HASH_DEPENDENT))
def test_families_that_depend_on_the_hash_seed_need_a_fixed_one(family, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED")
    with pytest.raises(
        ValueError, match=f"must make the same items in every process, got '{family}'.* PYTHONHASHSEED=0"
    ):
        reasoning_gym_task(family)


@pytest.mark.parametrize(("family", "level"), [("countdown", "trivial"), ("arc_1d", "")])
def test_an_unknown_level_is_refused(family, level):
    with pytest.raises(ValueError, match=rf"`level` must be one of \['easy', 'medium', 'hard'\], got '{level}'"):
        reasoning_gym_task(family, level)


def test_a_level_for_a_family_without_levels_is_refused():
    with pytest.raises(ValueError, match="`level` must be left out for 'gcd', got 'easy'"):
        reasoning_gym_task("gcd", "easy")


@pytest.mark.parametrize(
    ("argument", "value"), [("train_size", 0), ("eval_size", -1), ("train_size", 400_001), ("seed", -1)]
)
def test_sizes_out_of_range_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be between . and 400000, got {value}"):
        reasoning_gym_task("gcd", **{argument: value})


def test_a_prompt_without_a_place_for_the_question_is_refused():
    with pytest.raises(ValueError, match=r"`prompt` must contain the place '\{question\}', got 'hello'"):
        reasoning_gym_task("gcd", prompt="hello")


@pytest.mark.parametrize("family", OFFERED)
def test_the_named_answer_is_right_and_no_hostile_one_is(family):
    check = ReasoningGymCheck(family)
    for columns in items(family):
        if columns["expected"]:
            assert check(columns["expected"], **columns)
        for answer in HOSTILE:
            if answer != columns["expected"]:
                assert not compiled(check, answer, *columns.values())
        assert MARK not in os.environ


@pytest.mark.parametrize("family", OFFERED)
def test_hostile_answers_are_scored_within_50_milliseconds(family):
    check, columns = ReasoningGymCheck(family), items(family, 1)[0]
    check("warm", **columns)
    gc.disable()  # a collection goes through all that other tests hold
    try:
        for answer in HOSTILE:
            started = time.thread_time()
            check(answer, **columns)
            assert time.thread_time() - started < 0.05, answer[:40]
    finally:
        gc.enable()


@pytest.mark.parametrize("family", OFFERED)
def test_answers_that_say_nothing_are_wrong(family):
    check = ReasoningGymCheck(family)
    for columns in items(family):
        wrong = [answer for answer in ("-", "qq zz", "None", "[]", "nan") if check(answer, **columns)]
        assert wrong in ([], [columns["expected"]])


def test_a_list_that_is_not_a_number_is_not_sorted():
    for columns in items("number_sorting"):
        count = len(json.loads(columns["expected"].replace("'", '"')))
        assert not ReasoningGymCheck("number_sorting")(json.dumps([float("nan")] * count), **columns)


def test_the_watch_sees_a_scorer_that_evaluates_text():
    dataset = source_dataset("countdown", json.dumps({"seed": 1, "size": 10}))
    assert compiled(dataset.score_answer, MARK, dataset[0])  # a harmless name, handed to sympy's parser


def test_an_item_that_comes_out_differently_is_an_error():
    columns = items("gcd", 1)[0] | {"expected": "another"}
    with pytest.raises(
        RuntimeError, match="`family` must generate the same item twice, got another answer for item 0"
    ):
        ReasoningGymCheck("gcd")("1", **columns)


@pytest.mark.slow
def test_items_do_not_depend_on_the_hash_seed_where_it_is_not_asked_for():
    script = (
        "from trl_mtgrpo.tasks.sources.reasoning_gym import reasoning_gym_task as t\n"
        "families = ('zebra_puzzles', 'arc_1d', 'countdown', 'ab')\n"
        "print([t(f, train_size=2, eval_size=0).train_dataset[1] for f in families])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


DRESSES = (r"\text{@}", r"\mathrm{@}", r"\textbf{@}", "$@$", '"@"', "@.", "**@**", "`@`", r"\texttt{@}", r"\(@\)")


@pytest.mark.parametrize("family", OFFERED)
def test_a_dress_changes_no_answer_of_any_family(family):
    check, rows = ReasoningGymCheck(family), items(family, 3)
    for columns in rows:
        for answer in {row["expected"] for row in rows} - {""}:
            verdict = check(answer, **columns)
            changed = [dress for dress in DRESSES if check(dress.replace("@", answer), **columns) != verdict]
            assert changed == [], answer


NUMERIC_NAMES = """
aiw basic_arithmetic binary_alternation chain_sum circuit_logic count_bits count_primes gcd gsm_symbolic largest_island
lcm leg_counting letter_counting maze number_sequence products rectangle_count rotten_oranges self_reference
simple_equations simple_geometry
"""
NUMERIC = NUMERIC_NAMES.split()
WORDS = ["word_sorting", "word_sequence_reversal", "word_ladder"]
LISTS = ["ab", "path_star", "spiral_matrix", "string_splitting", "string_synthesis"]
GRIDS = ["arc_agi", "binary_matrix", "kakurasu", "mini_sudoku", "rearc", "rotate_matrix", "sudoku", "survo"]
FORMS = [
    (NUMERIC, lambda e: f"{e}.0"),
    (NUMERIC, lambda e: f"{e} legs"),
    (NUMERIC, lambda e: rf"{e} \text{{ legs}}"),
    (NUMERIC, lambda e: e.replace("-", "- ")),
    (NUMERIC, lambda e: e.replace("-", "\u2212")),
    (NUMERIC, lambda e: f"{int(e):,}"),
    (NUMERIC, lambda e: f"{int(e):,}".replace(",", "{,}")),
    (NUMERIC, lambda e: f"x = {e}"),
    (["syllogism", "course_schedule", "ransom_note", "isomorphic_strings", "game_of_life_halting"], str.lower),
    (["calendar_arithmetic", "mahjong_puzzle", "acre", "color_cube_rotation", "needle_haystack"], str.upper),
    (WORDS, lambda e: ",".join(word.strip() for word in e.split(","))),
    (WORDS, lambda e: ", ".join(word.strip() for word in e.split(","))),
    (WORDS, lambda e: " ".join(word.strip() for word in e.split(","))),
    (WORDS, lambda e: ", ".join(rf"\text{{{word.strip()}}}" for word in e.split(","))),
    (LISTS, lambda e: e.replace(" ", ",")),
    (LISTS, lambda e: f"[{e.replace(' ', ', ')}]"),
    (LISTS, lambda e: e.replace(" ", r"\ ")),
    (GRIDS, lambda e: str([[int(cell) for cell in row.split()] for row in e.strip().split("\n")])),
    (GRIDS, lambda e: e.strip().replace("\n", r" \\ ")),
    (GRIDS, lambda e: r"\begin{bmatrix}" + e.strip().replace(" ", "&").replace("\n", r"\\") + r"\end{bmatrix}"),
    (["prime_factorization"], lambda e: e.replace("\u00d7", r"\times")),
    (["prime_factorization"], lambda e: e.replace(" \u00d7 ", "*")),
    (["quantum_lock"], lambda e: e.replace("\u2192", r"\rightarrow")),
    (["quantum_lock"], lambda e: e.replace("\u2192", "->")),
    (["shortest_path"], lambda e: e.replace(" ", ", ")),
    (["number_filtering", "number_sorting"], lambda e: e.replace("'", "")),
    (["number_filtering", "number_sorting", "list_functions"], lambda e: e.strip("[]")),
    (["dice"], lambda e: r"\frac{" + e.replace("/", "}{") + "}"),
    (["cryptarithm"], lambda e: e.replace(",", ", ")),
    (["knights_knaves"], lambda e: e.rstrip(".").lower()),
    (["complex_arithmetic", "decimal_chain_sum"], lambda e: e.replace("-", "\u2212")),
    (["number_format"], lambda e: f"{float(e):,}"),
]


@pytest.mark.parametrize(("family", "form"), [(family, form) for families, form in FORMS for family in families])
def test_a_family_s_answer_is_right_in_every_form_of_the_docs(family, form):
    for columns in items(family, 3):
        assert ReasoningGymCheck(family)(form(columns["expected"]), **columns), form(columns["expected"])


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        (
            "fraction_simplification",
            lambda e: r"\frac{" + e.strip("$").replace("/", "0}{") + "0}",
        ),
        ("rotate_matrix", lambda e: e.replace("\n", " ")),
        ("word_sorting", lambda e: ", ".join(reversed(e.split(", ")))),
        ("leg_counting", lambda e: f"{e} or {int(e) + 1}"),
        ("leg_counting", lambda e: f"{e} dozen"),
        ("syllogism", lambda e: "Yes or No"),
        ("list_functions", lambda e: e.replace("[", "[1, ")),
        ("caesar_cipher", str.lower),
        ("coin_flip", lambda e: "0"),
        ("coin_flip", lambda e: e[:3]),
        ("polynomial_equations", lambda e: f"{e}, x"),
        ("polynomial_equations", lambda e: f"$x, {e}$"),
    ],
)
def test_another_answer_stays_wrong_in_the_forms_of_its_family(family, wrong):
    for columns in items(family, 3):
        if "/" in columns["expected"] or family != "fraction_simplification":
            assert not ReasoningGymCheck(family)(wrong(columns["expected"]), **columns), wrong(columns["expected"])


LEVELLED = [(family, level) for family in LEVELS for level in LEVELS[family]]


def scores(task, rows, completion):
    columns = {name: [row[name] for row in rows] for name in task.reward_funcs[0].columns}
    return task.reward_funcs[0](
        prompts=[row["prompt"] for row in rows], completions=[completion] * len(rows), **columns
    )


@pytest.mark.parametrize(("family", "level"), LEVELLED)
def test_a_copy_of_the_prompt_s_example_never_scores(family, level):
    task = reasoning_gym_task(
        family, level, train_size=1, eval_size=5 if (family, level) == ("zebra_puzzles", "hard") else 40
    )
    rows = list(task.eval_dataset)
    (example,) = {match for row in rows for match in re.findall(r"\\boxed\{[^{}]+\}", row["prompt"])}
    for completion in (example, f"It is {example}.", example.replace(" ", ""), f"${example}$"):
        assert set(scores(task, rows, completion)) == {0.0}


@pytest.mark.parametrize("family", ["gcd", "word_ladder", "syllogism", "leg_counting", "maze"])
def test_other_families_show_an_empty_box_which_earns_nothing(family):
    task = reasoning_gym_task(family, train_size=1, eval_size=3, **SMALL.get(family, {}))
    rows = list(task.eval_dataset)
    assert all(r"\boxed{}" in row["prompt"] for row in rows)
    assert scores(task, rows, r"\boxed{}") == [0.0] * 3


def best_constant(task, rows, candidates=20):
    """Score of the best constant answer: the most frequent ones are tried on all rows."""
    given = [row["expected"] if "expected" in row else " + ".join(map(str, row["numbers"])) for row in rows]
    constants = [constant for constant, _ in collections.Counter(given).most_common(candidates)]
    right = [scores(task, rows, rf"\boxed{{{constant}}}").count(1.0) for constant in constants]
    return max(right) / len(rows)


@pytest.mark.parametrize(
    ("family", "level", "at_most"),
    [
        *(("countdown", level, 0.02) for level in ("easy", "medium", "hard")),
        *(("arc_1d", level, 0.05) for level in ("easy", "medium", "hard")),
        pytest.param("zebra_puzzles", "easy", 0.38, marks=pytest.mark.slow),  # one of three names is right
        ("gcd", None, 0.36),
        ("coin_flip", None, 0.1),
        ("lcm", None, 0.1),
        ("leg_counting", None, 0.1),
        ("word_sorting", None, 0.1),
    ],
)
def test_the_best_constant_answer_over_200_items_scores_as_the_docs_say(family, level, at_most):
    task = reasoning_gym_task(family, level, train_size=1, eval_size=200)
    assert best_constant(task, list(task.eval_dataset)) <= at_most


class Tokenizer:
    def __init__(self, chat_template):
        self.chat_template = chat_template


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"chat": True}, True),
        ({"chat": False}, False),
        ({"tokenizer": Tokenizer("{{ messages }}")}, True),
        ({"tokenizer": Tokenizer(None)}, False),
        ({"tokenizer": Tokenizer("{{ messages }}"), "chat": False}, False),
        ({"prompt": [{"role": "user", "content": "{question}"}]}, True),
        ({"prompt": "Q: {question}", "chat": True}, True),
        ({"prompt": "Q: {question}"}, False),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_prompts_are_messages_when_asked_for_or_when_the_tokenizer_has_a_template(options, expected, cached, tmp_path):
    cache = {"cache_dir": tmp_path} if cached else {}
    task = reasoning_gym_task("gcd", train_size=3, eval_size=2, **options, **cache)
    assert task.is_conversational == expected
    for row in (task.train_dataset[1], task.eval_dataset[1]):
        content = row["prompt"][-1]["content"] if expected else row["prompt"]
        assert "Greatest Common Divisor" in content
        assert expected or not options.get("prompt") or content.startswith("Q: ")
    assert TaskMixture([task]).tasks[0].is_conversational == expected


def test_messages_of_a_template_are_kept_around_the_question():
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Now: {question}"}]
    row = reasoning_gym_task("gcd", train_size=1, eval_size=0, prompt=prompt).train_dataset[0]
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][0]["content"] == "Be brief."
    assert row["prompt"][1]["content"].startswith("Now: Find the Greatest")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"chat": True, "tokenizer": Tokenizer(None)},
            ValueError,
            "`chat` must be False or None for a tokenizer without",
        ),
        ({"chat": "yes"}, TypeError, "`chat` must be True, False or None, got 'yes'"),
        ({"tokenizer": "gpt2"}, TypeError, "`tokenizer` must be a tokenizer or processor, got str"),
        (
            {"chat": False, "prompt": [{"role": "user", "content": "{question}"}]},
            ValueError,
            "must be text with `chat=False`",
        ),
        (
            {"prompt": [{"role": "user", "content": "?"}]},
            ValueError,
            r"`prompt` must contain the place '\{question\}' in its last",
        ),
        (
            {"prompt": [{"role": "system", "content": "{question}"}]},
            ValueError,
            "in its last message, one of the user",
        ),
        ({"prompt": []}, ValueError, "in its last message, one of the user"),
        ({"prompt": [{"role": "user"}]}, TypeError, "`prompt` must be text or a list of messages"),
        ({"prompt": 3}, TypeError, "`prompt` must be text or a list of messages"),
        (
            {"box": False, "format_reward": 0.1},
            ValueError,
            "`format_reward` must be left out with `box=False`, got 0.1",
        ),
        ({"shots": -1}, ValueError, "`shots` must be a whole number between 0 and 20, got -1"),
        ({"shots": 21}, ValueError, "`shots` must be a whole number between 0 and 20, got 21"),
        ({"shots": 1.5}, ValueError, "`shots` must be a whole number between 0 and 20, got 1.5"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        reasoning_gym_task("gcd", train_size=1, eval_size=0, **options)


def test_a_family_without_answers_to_show_has_no_worked_examples():
    with pytest.raises(
        ValueError, match="`shots` must be at most the number of items with an answer to show, got 1 and 0"
    ):
        reasoning_gym_task("graph_color", train_size=1, eval_size=0, shots=1)


@pytest.mark.parametrize("family", ["countdown", "arc_1d", "gcd", "letter_counting", "rotate_matrix"])
@pytest.mark.parametrize("box", [True, False])
def test_worked_examples_in_a_chat_are_right_answers_in_turns(family, box):
    task = reasoning_gym_task(family, train_size=2, eval_size=2, shots=2, chat=True, box=box)
    for row in (task.train_dataset[0], task.eval_dataset[1]):
        prompt = row["prompt"]
        assert [message["role"] for message in prompt] == ["user", "assistant"] * 2 + ["user"]
        assert len({message["content"] for message in prompt[::2]}) == 3
        assert all(message["content"].startswith(r"\boxed{") == box for message in prompt[1::2])


def test_worked_examples_in_text_repeat_the_turn_and_the_answer_follows_at_once():
    task = reasoning_gym_task("gcd", train_size=2, eval_size=0, shots=2, box=False, prompt="Sums.\nQ: {question}\nA:")
    row = task.train_dataset[0]
    lines = row["prompt"].split("\n")
    assert (lines[0], row["prompt"].count("\nQ: "), row["prompt"].count("\nA: ")) == ("Sums.", 3, 2)
    assert row["prompt"].endswith("\nA:")
    completion = f" {row['expected']}\nQ: Find the GCD of 3 and 9\nA: 3"
    assert scores(task, [row], completion) == [1.0]
    assert r"\boxed" not in row["prompt"]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("countdown", {"min_numbers": 2, "max_numbers": 2, "max_value": 4, "min_target": 1, "max_target": 8}),
        ("gcd", {"min_value": 1, "max_value": 5}),
        ("letter_counting", {"min_words": 1, "max_words": 1}),
    ],
)
def test_worked_examples_are_rows_of_neither_split(family, options):
    # So few different items that the splits would hold the examples if nothing prevented it.
    task = reasoning_gym_task(family, train_size=60, eval_size=4, shots=3, chat=True, **options)
    prompts = [row["prompt"] for split in (task.train_dataset, task.eval_dataset) for row in split]
    shown = {message["content"] for message in prompts[0][:-1] if message["role"] == "user"}
    assert len(shown) == 3
    asked = {prompt[-1]["content"] for prompt in prompts}
    puzzles = [
        {re.sub(r"\[(.*?)\]", lambda m: str(sorted(m[1].split(", "))), text) for text in texts}
        for texts in (shown, asked)
    ]
    assert not puzzles[0] & puzzles[1]


def test_without_worked_examples_rows_are_those_of_before():
    rows = [reasoning_gym_task("gcd", train_size=5, eval_size=5, shots=shots).eval_dataset for shots in (0, 2)]
    assert rows[0]["item"] == rows[1]["item"]


@pytest.mark.parametrize("family", ["countdown", "zebra_puzzles", "arc_1d", "gcd", "rotate_matrix"])
def test_without_a_box_the_last_line_is_read_and_no_box_is_asked_for(family):
    level = "easy" if family in LEVELS else None
    task = reasoning_gym_task(family, level, train_size=1, eval_size=0, box=False)
    row = task.train_dataset[0]
    assert "boxed" not in row["prompt"]
    answer = row.get("expected", "1")
    assert scores(task, [row], f"I think:\n{answer}\n") == [float(family != "countdown")]
    assert scores(task, [row], f"{answer}\nor something else") == [0.0]


def test_the_cache_tells_forms_of_prompts_apart(tmp_path, monkeypatch):
    variants = [{}, {"chat": True}, {"box": False}, {"shots": 1}, {"prompt": "{question}"}]
    prompts = [
        repr(
            reasoning_gym_task("gcd", train_size=2, eval_size=0, cache_dir=tmp_path, **options).train_dataset[0][
                "prompt"
            ]
        )
        for options in variants
    ]
    assert len(set(prompts)) == len(variants)
    monkeypatch.setitem(puzzles._FORMS["box"], "", "\n\nAnother instruction.")
    row = reasoning_gym_task("gcd", train_size=2, eval_size=0, cache_dir=tmp_path).train_dataset[0]
    assert "Another instruction." in row["prompt"]


def test_the_named_reward_of_a_family_is_the_one_of_its_task():
    task = reasoning_gym_task("arc_1d", "easy", train_size=1, eval_size=0)
    assert NAMED_REWARDS["reasoning_gym"](family="arc_1d") == task.reward_funcs[0]
    with pytest.raises(ValueError, match="got 'puzzle24'"):
        NAMED_REWARDS["reasoning_gym"](family="puzzle24")
