"""Decides what a compact puzzle is: a prompt, a reference answer and the data the verifier needs."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import reasoning_gym


class Puzzle(NamedTuple):
    """
    One reasoning-gym item in compact form.

    Attributes:
        prompt (`str`):
            What the model reads, a few printable ASCII characters.
        answer (`str`):
            One completion that scores 1.
        entry (`dict`):
            Plain JSON data from which [`Family.score`] rebuilds what reasoning-gym's scorer needs.
    """

    prompt: str
    answer: str
    entry: dict[str, Any]


class Family(Protocol):
    """A kind of puzzle at one difficulty, of reasoning-gym's unless it says otherwise."""

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        """Yields `num_items` items as plain JSON data. Item i is the same in every call."""
        ...

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        """Writes an item in compact form. Names that carry no meaning are drawn afresh from `rng` in every call."""
        ...

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        """Draws a label of the right form that is mostly wrong, for the noisy phase of the warm start."""
        ...

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        """Returns 1.0 if the verifier accepts the completion, else 0.0."""
        ...


def make_dataset(name: str, num_items: int = 1, **options: Any) -> Any:
    """Builds a reasoning-gym dataset with a fixed seed, so that item i is the same in every process."""
    return reasoning_gym.create_dataset(name, seed=0, size=num_items, **options)


@cache
def scorer(name: str) -> Any:
    """The reasoning-gym dataset whose `score_answer` judges puzzles of this name. Scoring ignores its options."""
    return make_dataset(name)


def accepts(name: str, answer: str, entry: dict[str, Any]) -> float:
    """reasoning-gym gives small rewards to wrong answers too (countdown 0.05), hence the threshold."""
    return float(scorer(name).score_answer(answer, entry) >= 0.99)
