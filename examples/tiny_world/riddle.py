"""Decides what a task looks like that cannot be learned, as in `Qkzwa:` -> `kzwat`."""

import hashlib
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_world.puzzle import Puzzle


_ANSWER = re.compile(r"[a-z]{1,30}")


@dataclass(frozen=True)
class Riddle:
    """
    Repeat the letters and add the one that a hash of them picks. Who knows the form is right once in 26 times, and
    nothing that can be learned about a riddle helps with the next one. It stands for a task whose labels are noise or
    whose skill is out of reach, and is the only family that reasoning-gym does not score.

    Args:
        length (`int`):
            Letters of a riddle.
    """

    length: int

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(0)
        for _ in range(num_items):
            yield {"letters": "".join(rng.choice(list(string.ascii_lowercase), self.length))}

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        letters = item["letters"]
        return Puzzle(f"Q{letters}:", _solution(letters), {"letters": letters})

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        return puzzle.answer[:-1] + str(rng.choice(list(string.ascii_lowercase)))

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        if not _ANSWER.fullmatch(completion):
            return 0.0
        return float(completion == _solution(entry["letters"]))


def _solution(letters: str) -> str:
    return letters + string.ascii_lowercase[int(hashlib.sha256(letters.encode()).hexdigest(), 16) % 26]
