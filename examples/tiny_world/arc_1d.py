"""Decides how an arc_1d item is written compactly, as in `A04444400>00444440;66666000>` -> `06666600`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_world.puzzle import Puzzle, accepts, make_dataset


_ANSWER = re.compile(r"[0-9]{1,30}")


@dataclass(frozen=True)
class Arc1D:
    """
    Apply to the last grid the rule that the demonstrations show: move the block one right, or two left.

    Args:
        size (`int`):
            Cells per grid.
        num_demonstrations (`int`):
            Solved examples in the prompt.
    """

    size: int
    num_demonstrations: int

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        options = {"min_size": self.size, "max_size": self.size, "num_train": self.num_demonstrations}
        dataset = make_dataset("arc_1d", num_items, **options)
        dataset.task_names = ["move_1pix_solid_right", "move_2pix_solid_left"]
        for index in range(num_items):
            item = dataset[index]
            yield {
                "demonstrations": [
                    [_digits(example["input"]), _digits(example["output"])]
                    for example in item["metadata"]["train_examples"]
                ],
                "question": _digits(item["metadata"]["test_example"]["input"]),
                "answer": item["answer"],
            }

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        demonstrations = "".join(f"{before}>{after};" for before, after in item["demonstrations"])
        prompt = f"A{demonstrations}{item['question']}>"
        return Puzzle(prompt, item["answer"].replace(" ", ""), {"answer": item["answer"], "grid": item["question"]})

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        grid = puzzle.entry["grid"]
        others = sorted({_moved(grid, steps) for steps in range(-3, 4)} - {puzzle.answer})
        return str(rng.choice(others))

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        if not _ANSWER.fullmatch(completion):
            return 0.0
        return accepts("arc_1d", " ".join(completion), {"answer": entry["answer"]})


def _digits(grid: list[int]) -> str:
    return "".join(map(str, grid))


def _moved(grid: str, steps: int) -> str:
    """Moves the block and keeps what stays inside the grid."""
    padded = "000" + grid + "000"
    return padded[3 - steps : 3 - steps + len(grid)]
