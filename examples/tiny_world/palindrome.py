"""Decides how a palindrome item is written compactly, as in `Puyuyyy:` -> `uyyyyu`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_world.puzzle import Puzzle, accepts, make_dataset


_ANSWER = re.compile(r"[a-z]{1,30}")


@dataclass(frozen=True)
class Palindrome:
    """
    Arrange the letters to a palindrome. Many answers are right.

    Args:
        min_length (`int`):
            Fewest letters.
        max_length (`int`):
            Most letters.
    """

    min_length: int
    max_length: int

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        options = {"min_length": self.min_length, "max_length": self.max_length}
        dataset = make_dataset("palindrome_generation", num_items, **options)
        for index in range(num_items):
            item = dataset[index]
            yield {"letters": item["metadata"]["letters"], "answer": item["answer"]}

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        return Puzzle(f"P{''.join(item['letters'])}:", item["answer"], {"letters": item["letters"]})

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        return "".join(rng.permutation(puzzle.entry["letters"]))

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        if not _ANSWER.fullmatch(completion):
            return 0.0
        return accepts("palindrome_generation", completion, {"metadata": {"letters": entry["letters"]}})
