"""Decides how a zebra puzzle is written compactly, as in `ZA@1B=yy<x:` -> `AzByCx:A`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from reasoning_gym.logic.contrib.logic_puzzle.generate import generate_puzzle

from tiny_world.puzzle import Puzzle, accepts


_LETTERS = ("ABCDEFG", "xyzuvwt", "pqrsmno")  # one row per attribute, the person's name first
_SIGNS = {"found_at": "@", "same_house": "=", "consecutive": "<", "beside": "-"}
_ANSWER = re.compile(r"(?:[A-G][t-z][m-s]?){2,7}:([A-G])")


@dataclass(frozen=True)
class Zebra:
    """
    Name the person in house 1. The completion writes the houses from left to right first, then a colon and the name.

    Clues: `A@1` A is in house 1, `A=x` the same person, `x<y` directly left of, `x-y` neighbours. Letters carry no
    meaning and are drawn anew on every use.

    Args:
        num_people (`int`):
            Number of houses.
        num_characteristics (`int`):
            Attributes per person, the name included (2 or 3).
    """

    num_people: int
    num_characteristics: int

    def items(self, num_items: int) -> Iterator[dict[str, Any]]:
        for index in range(num_items):
            # The dataset returns English text only; this is the call behind its item `index` at seed 0.
            instance, puzzle = generate_puzzle(Random(index), self.num_people, self.num_characteristics)
            cell_of: dict[Any, list[int]] = {}  # literal -> attribute, value
            for attribute, kind in enumerate(puzzle.element_classes):
                values = [literal for literal in puzzle.solution if isinstance(literal, kind)]
                cell_of.update({literal: [attribute, value] for value, literal in enumerate(values)})
            yield {
                "clues": [_plain_clue(clue, cell_of) for clue in sorted(puzzle.clues)],
                "names": [literal.name for literal, (attribute, _) in cell_of.items() if attribute == 0],
                "houses": [
                    [cell_of[literal][1] for literal in cell_of if puzzle.solution[literal] == house]
                    for house in puzzle.houses
                ],
                "answer": instance["questions"][0]["answer"],
            }

    def render(self, item: dict[str, Any], rng: np.random.Generator) -> Puzzle:
        order = [rng.permutation(self.num_people).tolist() for _ in range(self.num_characteristics)]

        def letter(attribute: int, value: int) -> str:
            return _LETTERS[attribute][order[attribute][value]]

        clues = []
        for sign, first, second in item["clues"]:
            left = letter(*first)
            right = str(second) if sign == "@" else letter(*second)
            if sign in "=-":
                left, right = sorted((left, right))
            clues.append(("@=<-".index(sign), left, right))
        prompt = "Z" + "".join(f"{left}{'@=<-'[kind]}{right}" for kind, left, right in sorted(clues)) + ":"
        houses = ["".join(letter(*cell) for cell in enumerate(house)) for house in item["houses"]]
        names = {letter(0, value): name for value, name in enumerate(item["names"])}
        return Puzzle(prompt, "".join(houses) + ":" + houses[0][0], {"names": names, "answer": item["answer"]})

    def wrong_answer(self, puzzle: Puzzle, rng: np.random.Generator) -> str:
        columns = [rng.permutation(list(row[: self.num_people])) for row in _LETTERS[: self.num_characteristics]]
        houses = "".join("".join(house) for house in zip(*columns, strict=True))
        return f"{houses}:{houses[0]}"

    def score(self, completion: str, entry: dict[str, Any]) -> float:
        match = _ANSWER.fullmatch(completion)
        name = entry["names"].get(match.group(1)) if match else None
        return accepts("zebra_puzzles", name, {"answer": entry["answer"]}) if name else 0.0


def _plain_clue(clue: Any, cell_of: dict[Any, list[int]]) -> list[Any]:
    sign = _SIGNS[type(clue).__name__]
    if sign == "@":
        return [sign, cell_of[clue.value], clue.house]
    return [sign, cell_of[clue.value1], cell_of[clue.value2]]
