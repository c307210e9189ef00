"""Decides how a number sorting item is written compactly, as in `N<12,13,16,6:` -> `6,12,13,16`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_world.puzzle import Puzzle, accepts, make_dataset


_ANSWER = re.compile(r"[0-9]{1,3}(,[0-9]{1,3}){0,9}")


@dataclass(frozen=True)
class NumberSorting:
    """
    Sort whole numbers upwards (`<`) or downwards (`>`).

    Args:
        min_numbers (`int`):
            Fewest numbers.
        max_numbers (`int`):
            Most numbers.
        max_value (`int`):
            Largest number; the smallest is 0.
    """

    min_numbers: int
    max_numbers: int
    max_value: int

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        dataset = make_dataset(
            "number_sorting",
            num_items,
            min_numbers=self.min_numbers,
            max_numbers=self.max_numbers,
            min_value=0,
            max_value=self.max_value,
            min_decimals=0,
            max_decimals=0,
        )
        for index in range(num_items):
            metadata = dataset[index]["metadata"]
            yield {
                "numbers": [int(float(number)) for number in metadata["original_numbers"]],
                "direction": metadata["direction"],
                "sorted": [int(float(number)) for number in metadata["sorted_numbers"]],
            }

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        sign = "<" if item["direction"] == "ascending" else ">"
        prompt = f"N{sign}{','.join(map(str, item['numbers']))}:"
        entry = {"numbers": item["numbers"], "direction": item["direction"], "sorted": item["sorted"]}
        return Puzzle(prompt, ",".join(map(str, item["sorted"])), entry)

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        return ",".join(map(str, rng.permutation(puzzle.entry["numbers"])))

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        if not _ANSWER.fullmatch(completion):
            return 0.0
        # JSON on both sides: the scorer falls back to Python's `eval` for a reference that is not JSON.
        reference = {"answer": json.dumps(entry["sorted"]), "metadata": {"direction": entry["direction"]}}
        return accepts("number_sorting", json.dumps(completion.split(",")), reference)
