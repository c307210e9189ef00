"""Decides how a reasoning-gym dataset becomes a task: its rows, its prompts, and which scorers may see model text.

A family is offered only when its scorer was read and does not evaluate what a model wrote; the families that do are
refused by name or scored by code of our own.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..answers import BoxedReward, LineReward, is_countdown_solution, is_same_text, number_value
from ..task import Task
from .item_forms import item_forms
from .puzzles import Place, PuzzleRows, answer_text, rendered, rows_dataset, source_dataset, source_entry
from .templates import PROMPT, Prompt, prompt_template


__all__ = [
    "EVALUATING",
    "EXACT",
    "HASH_DEPENDENT",
    "LEVELS",
    "PROMPT",
    "REVIEWED",
    "ReasoningGymCheck",
    "family_check",
    "reasoning_gym_task",
]


# The levels of the paper's experiments, recovered from its data.
LEVELS: dict[str, dict[str, dict[str, int]]] = {
    "countdown": {
        level: {
            "min_numbers": n,
            "max_numbers": n,
            "min_value": 1,
            "max_value": 100,
            "min_target": 1,
            "max_target": 1000,
        }
        for level, n in (("easy", 3), ("medium", 4), ("hard", 5))
    },
    "zebra_puzzles": {
        level: {"num_people": n, "num_characteristics": n} for level, n in (("easy", 3), ("medium", 4), ("hard", 5))
    },
    "arc_1d": {
        level: {"min_size": n, "max_size": n, "num_train": 3}
        for level, n in (("easy", 10), ("medium", 20), ("hard", 30))
    },
}

# Families whose own scorer hands model text to `eval` or to sympy's parser, which runs Python.
EVALUATING = frozenset(
    {
        "intermediate_integration",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "composite",
        "n_queens",
    }
)

# Families whose own scorer evaluates text, or accepts any text, but where being equal to the one right answer decides.
EXACT = frozenset({"binary_matrix", "game_of_life_halting", "spiral_matrix", "string_insertion"})

# Forms outside of which a scorer would expand a count, a power or a nesting that the model chose, accept "nan", or
# pass over what it cannot read.
_FORMS = {
    "complex_arithmetic": re.compile(r"[0-9.+\-ij() ]{1,80}"),
    "coin_flip": re.compile(r"[0-9., /]{1,60}"),
    "polynomial_equations": re.compile(r"[0-9.,eE+\- ]{1,200}"),
    "propositional_logic": re.compile(r"[A-Z()∧∨¬→↔ ]{1,200}"),  # noqa: RUF001
    "rubiks_cube": re.compile(r"(?!.*[0-9]{2})[A-Za-z0-9' ]{1,400}"),
    "rush_hour": re.compile(r"(?!.*[0-9]{2})[A-Z0-9+\-, \[\]'\"]{1,400}"),
}
_MAX_CHARS = 2_000
# "Not a number" compares as neither far nor unequal, which number_sorting takes for right.
_NAN = re.compile(r"(?<![a-z])nan(?![a-z])", re.IGNORECASE)

# Scorers read in reasoning-gym 0.1.25 and found to evaluate nothing.
_REVIEWED_NAMES = """
ab acre advanced_geometry aiw arc_1d arc_agi base_conversion basic_arithmetic bf binary_alternation
bitwise_arithmetic boxnet caesar_cipher calendar_arithmetic chain_sum circuit_logic codeio coin_flip
color_cube_rotation complex_arithmetic count_bits count_primes course_schedule cryptarithm decimal_arithmetic
decimal_chain_sum dice emoji_mystery family_relationships figlet_font fraction_simplification futoshiki game_of_life
gcd graph_color group_anagrams gsm_symbolic isomorphic_strings jugs kakurasu knight_swap knights_knaves
largest_island lcm leg_counting letter_counting letter_jumble list_functions mahjong_puzzle manipulate_matrix maze
mini_sudoku modulo_grid needle_haystack number_filtering number_format number_sequence number_sorting
palindrome_generation palindrome_partitioning path_star polynomial_equations pool_matrix power_function
prime_factorization products propositional_logic quantum_lock ransom_note rearc rectangle_count rotate_matrix
rotten_oranges rubiks_cube rush_hour self_reference sentence_reordering shortest_path simple_equations
simple_geometry sokoban spell_backward string_manipulation string_splitting string_synthesis sudoku survo syllogism
time_intervals tower_of_hanoi tsumego word_ladder word_sequence_reversal word_sorting zebra_puzzles
"""
REVIEWED = frozenset(_REVIEWED_NAMES.split())

# Families that iterate over sets of strings while they make an item.
HASH_DEPENDENT = frozenset({"isomorphic_strings", "knight_swap", "ransom_note", "word_ladder"})

_BLOCK = 1_000_000  # seeds per split: item i of a reasoning-gym dataset is made from its seed plus i
_SHOT_SEEDS = 900_000  # past the seeds of the largest split and its replacements
_MAX_SHOTS = 20
_SHOT_ITEMS = 200  # looked at for worked examples


def reasoning_gym_task(
    family: str,
    level: str | None = None,
    train_size: int = 10_000,
    eval_size: int = 200,
    seed: int = 0,
    name: str | None = None,
    format_reward: float | None = None,
    prompt: Prompt | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    chat: bool | None = None,
    tokenizer: Any = None,
    shots: int = 0,
    box: bool = True,
    **config: Any,
) -> Task:
    r"""
    A reasoning-gym dataset as a task, by default with plain-text prompts and the answer in `\boxed{}`.

    The reward is 1.0 for a right answer, `format_reward` for a wrong one in a box that is not empty, and 0.0
    otherwise, also for the prompt's own example; a completion is correct at 1.0. The last box of the completion counts
    wherever it stands (see [`extract_boxed`]); the paper's code reads only the text's last line. Training and
    evaluation rows come from seeds a million apart, and a training row that repeats an evaluation row is replaced.

    Training rows are made when they are first read, because some families need a second per row; with `cache_dir` all
    of them are made at once and kept in a file.

    Args:
        family (`str`):
            Name of a reasoning-gym dataset. Families whose scorer would evaluate model text are refused.
        level (`str`, *optional*):
            `"easy"`, `"medium"` or `"hard"` for countdown, zebra_puzzles and arc_1d, as in the paper; these default to
            `"medium"`. Other families take their own options instead.
        train_size (`int`, *optional*, defaults to `10000`):
            Training rows. The default is the paper's.
        eval_size (`int`, *optional*, defaults to `200`):
            Evaluation rows, 0 for none. The default is the paper's.
        seed (`int`, *optional*, defaults to `0`):
            Selects the rows; different seeds share none.
        name (`str`, *optional*):
            Name of the task, by default `family-level` or the family.
        format_reward (`float`, *optional*):
            Reward of a wrong answer in a box, by default 0.1 as in the paper. Not with `box=False`.
        prompt (`str` or `list[dict]`, *optional*):
            Template with the place `{question}`: text, or messages of which the last one has the place.
        cache_dir (`str` or `os.PathLike`, *optional*):
            Folder in which rows are kept between runs.
        chat (`bool`, *optional*):
            Whether prompts are messages. By default they are where `prompt` is, or where `tokenizer` has a chat
            template, and plain text otherwise. A text given as `prompt` becomes one message of the user.
        tokenizer (`PreTrainedTokenizerBase` or `ProcessorMixin`, *optional*):
            The model's tokenizer, looked at only for whether it has a chat template.
        shots (`int`, *optional*, defaults to `0`):
            Worked examples before each question, at most 20, the same for all rows and none of them a row of either
            split. In a chat they are turns of user and assistant; in text, the template from the line of the question
            on is repeated.
        box (`bool`, *optional*, defaults to `True`):
            Ask for the answer in `\boxed{}` and read it there. Otherwise the last line counts (or its last lines,
            where the right answer has several), and after worked examples in plain text the first one.
        **config:
            Options of the dataset, such as `max_size=12`; they override those of the level.

    Returns:
        [`Task`]: with `success_threshold=1.0`.

    Raises:
        `ValueError` or `TypeError`: for an unknown or refused family, an unknown level, sizes out of range, and
            arguments that contradict each other.

    Example:

    ```python
    >>> task = reasoning_gym_task("arc_1d", "easy", train_size=100, eval_size=20)
    >>> task.name, task.reward_funcs[0](completions=["\\boxed{7}"], expected=["0 0 7"])
    ('arc_1d-easy', [0.1])
    ```
    """
    options = _options(family, level, config)
    for argument, size, least in (("train_size", train_size, 1), ("eval_size", eval_size, 0), ("seed", seed, 0)):
        if not least <= size <= 400_000:
            raise ValueError(
                f"`{argument}` must be between {least} and 400000, got {size}. Larger sets would share items between "
                "training and evaluation."
            )
    if not box and format_reward is not None:
        raise ValueError(
            f"`format_reward` must be left out with `box=False`, got {format_reward}. Without a box there is no form "
            "to reward."
        )
    if not isinstance(shots, int) or not 0 <= shots <= _MAX_SHOTS:
        raise ValueError(
            f"`shots` must be a whole number between 0 and {_MAX_SHOTS}, got {shots!r}. Every prompt holds all of "
            "them."
        )
    template = prompt_template(prompt, chat, tokenizer)
    place: Place = "box" if box else "first" if shots and not template.is_chat else "last"
    check, columns = family_check(family)
    reward: BoxedReward | LineReward = LineReward(check, columns, place == "first")
    if box:
        reward = BoxedReward(check, columns, 0.1 if format_reward is None else format_reward)
    start, own = 2 * seed * _BLOCK, family in LEVELS
    shown = _worked_examples(PuzzleRows(family, options, start + _SHOT_SEEDS, 1, template, place=place), shots)
    template = template.with_examples([pair for _, pair in shown])
    examples = frozenset(key for key, _ in shown)
    evaluation = PuzzleRows(family, options, start, eval_size, template, examples, place, own)
    eval_rows = evaluation.all_rows(cache_dir)
    keys = examples | {row["key"] for row in eval_rows}
    training = PuzzleRows(family, options, start + _BLOCK, train_size, template, keys, place, own)
    if level is None and family in LEVELS:
        level = "medium"
    return Task(
        name if name is not None else f"{family}-{level}" if level else family,
        training.lazy_dataset() if cache_dir is None else rows_dataset(training.all_rows(cache_dir)),
        reward,
        eval_dataset=rows_dataset(eval_rows) if eval_rows else None,
        success_threshold=1.0,
    )


@dataclass(frozen=True)
class ReasoningGymCheck:
    """
    Whether a dataset's own scorer gives an answer full marks, at least 0.99.

    Args:
        family (`str`):
            A reviewed family.
    """

    family: str

    def __call__(self, answer: str, item: int, source: str, expected: str) -> bool:
        """
        Check one answer.

        Args:
            answer (`str`):
                What the model put in its box.
            item (`int`):
                Position of the item in its dataset.
            source (`str`):
                The dataset's options as JSON.
            expected (`str`):
                One right answer, empty where the dataset has none.

        Returns:
            `bool`: `True` for a right answer; an answer the scorer cannot read is wrong.
        """
        if self.family in EXACT:
            return is_same_text(answer, expected)
        longest = max(_MAX_CHARS, 2 * len(expected))
        if len(answer) > longest:
            return False
        entry = source_entry(self.family, source, item)
        if answer_text(entry["answer"]) != expected:
            raise RuntimeError(
                f"`family` must generate the same item twice, got another answer for item {item} of '{self.family}'. "
                "Use the reasoning-gym version that made the data, or delete the cache."
            )
        return any(self._scores(form, entry, source, expected) for form in item_forms(self.family, answer, expected))

    def _scores(self, answer: str, entry: dict[str, Any], source: str, expected: str) -> bool:
        form = _FORMS.get(self.family)
        if form is not None and not form.fullmatch(answer):
            return False
        if _NAN.search(answer) and not _NAN.search(expected):
            return False
        if self.family == "coin_flip" and not _is_near(answer, expected):
            return False
        try:
            return float(source_dataset(self.family, source).score_answer(answer, entry)) >= 0.99
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            return False  # scorers let such errors out when the answer has not the form they expect


def _is_near(answer: str, expected: str) -> bool:
    # coin_flip's scorer gives full marks to every beginning of the right answer, such as "0" for "0.3125".
    written, right = number_value(answer), number_value(expected)
    return written is not None and right is not None and abs(written - right) <= min(Fraction(1, 10_000), right / 100)


def _check_family(family: str) -> None:
    if family in EVALUATING:
        raise ValueError(
            f"`family` must have a scorer that does not evaluate what a model wrote, got '{family}', whose scorer "
            "does. Build a `Task` from its items with a reward function of your own."
        )
    if family not in REVIEWED | EXACT | {"countdown"}:
        raise ValueError(
            f"`family` must be a reasoning-gym dataset whose scorer was reviewed, got {family!r}. Known families: "
            f"{', '.join(sorted(REVIEWED | EXACT | {'countdown'}))}."
        )


def _options(family: str, level: str | None, config: dict[str, Any]) -> dict[str, Any]:
    _check_family(family)
    if family in HASH_DEPENDENT and not os.environ.get("PYTHONHASHSEED", "").isdecimal():
        raise ValueError(
            f"`family` must make the same items in every process, got '{family}', whose items depend on the hash seed "
            "of Python. Start Python with PYTHONHASHSEED=0 in its environment."
        )
    if family in LEVELS:
        level = "medium" if level is None else level
        if level not in LEVELS[family]:
            raise ValueError(
                f"`level` must be one of {list(LEVELS[family])}, got {level!r}. For other difficulties pass the "
                "dataset's own options."
            )
        return {**LEVELS[family][level], **config}
    if level is not None:
        raise ValueError(
            f"`level` must be left out for '{family}', got {level!r}. Set its difficulty with its own options."
        )
    return config


def family_check(family: str) -> tuple[Callable[..., bool], tuple[str, ...]]:
    """
    What decides whether an answer to a family's rows is right.

    Args:
        family (`str`):
            Name of a reasoning-gym dataset.

    Returns:
        `tuple`: a function `check(answer, <columns by name>)`, and the dataset columns that it needs.

    Raises:
        `ValueError`: for an unknown or refused family.
    """
    _check_family(family)
    if family == "countdown":
        return is_countdown_solution, ("numbers", "target")
    if family in LEVELS:
        return is_same_text, ("expected",)
    return ReasoningGymCheck(family), ("item", "source", "expected")


def _worked_examples(source: PuzzleRows, count: int) -> list[tuple[str, tuple[str, str]]]:
    """Keys of distinct items, each with its question and its answer as a model should write it."""
    options = json.dumps({**source.options, "seed": source.seed, "size": _SHOT_ITEMS}, sort_keys=True)
    check, names = family_check(source.family)
    found: dict[str, tuple[str, str]] = {}
    for item in range(_SHOT_ITEMS if count else 0):
        try:
            entry = source_entry(source.family, options, item)
        except ValueError:
            continue  # countdown gives up when it finds no expression in range
        question, key, columns = rendered(source.family, entry, source.place)
        answer = answer_text(entry["answer"])
        written = rf"\boxed{{{answer}}}" if source.place == "box" else answer
        row = {**columns, "item": item, "source": options}
        # reasoning-gym may write a countdown answer with powers or signs, which the rules do not allow.
        if answer and check(answer, **{name: row[name] for name in names}):
            found.setdefault(key, (question, written))
        if len(found) == count:
            break
    if len(found) < count:
        raise ValueError(
            f"`shots` must be at most the number of items with an answer to show, got {count} and {len(found)} for "
            f"'{source.family}'. Use fewer."
        )
    return list(found.items())
