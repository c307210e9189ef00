"""Decides how a countdown item is written compactly, as in `C8,9,5=12:` -> `8+9-5`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from tiny_world.puzzle import Puzzle, accepts, make_dataset


# What may reach reasoning-gym's scorer, which hands text to sympy's parser: a flat sum of at most six small numbers.
_ANSWER = re.compile(r"-?[0-9]{1,2}([-+*/][0-9]{1,2}){1,5}")


@dataclass(frozen=True)
class Countdown:
    """
    Reach the target with + and -, using each number once.

    Args:
        num_numbers (`int`):
            How many numbers are given.
        max_value (`int`):
            Largest given number; the smallest is 1.
        max_target (`int`):
            Largest target; the smallest is 1.
        gives_up (`bool`, *optional*, defaults to `False`):
            Whether a wrong label is a bare `?`. A shuffle of the given numbers with random signs is right by accident
            in about one case of five, which is too often for a task whose acceptance should start near zero.
    """

    num_numbers: int
    max_value: int
    max_target: int
    gives_up: bool = False

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        dataset = make_dataset(
            "countdown",
            num_items,
            min_numbers=self.num_numbers,
            max_numbers=self.num_numbers,
            min_value=1,
            max_value=self.max_value,
            min_target=1,
            max_target=self.max_target,
            operators=("+", "-"),
        )
        for index in range(num_items):
            metadata = dataset[index]["metadata"]
            yield {key: metadata[key] for key in ("numbers", "target")}

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        entry = {"numbers": item["numbers"], "target": item["target"]}
        prompt = f"C{','.join(map(str, item['numbers']))}={item['target']}:"
        return Puzzle(prompt, _first_solution(item["numbers"], item["target"]), entry)

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        if self.gives_up:
            return "?"
        first, *others = rng.permutation(puzzle.entry["numbers"]).tolist()
        return str(first) + "".join(f"{rng.choice(('+', '-'))}{number}" for number in others)

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        return _score(completion, tuple(entry["numbers"]), entry["target"])


def _first_solution(numbers: list[int], target: int) -> str:
    """
    Added numbers in the prompt's order, then subtracted ones. reasoning-gym's own expression follows an order that
    cannot be seen in the prompt, which makes the same skill far slower to learn.
    """
    for signs in product((1, -1), repeat=len(numbers)):
        if any(sign > 0 for sign in signs) and sum(s * n for s, n in zip(signs, numbers, strict=True)) == target:
            added = [str(n) for s, n in zip(signs, numbers, strict=True) if s > 0]
            return "+".join(added) + "".join(f"-{n}" for s, n in zip(signs, numbers, strict=True) if s < 0)
    raise ValueError(f"`target` must be reachable with + and -, got {target} from {numbers}. Give a solvable item.")


@lru_cache(maxsize=65536)
def _score(completion: str, numbers: tuple[int, ...], target: int) -> float:
    if not _ANSWER.fullmatch(completion):
        return 0.0
    if sorted(map(int, re.findall(r"[0-9]+", completion))) != sorted(numbers):
        return 0.0  # as reasoning-gym decides too, after a slow parse
    return accepts("countdown", completion, {"metadata": {"numbers": list(numbers), "target": target}})
