"""Decides the three tasks: the larger of two numbers, a number found by guessing, a number looked up with a tool."""

from functools import cache
from typing import Any

import numpy as np
from datasets import Dataset

from trl_mtgrpo import Task


def secret(key: int) -> int:
    """What the table holds under a key from 10 to 99."""
    return (key * 37 + key // 10 * 11) % 90 + 10


def look(key: int) -> int:
    """
    Looks a number up.

    Args:
        key: The key, from 10 to 99.
    """
    return secret(key)


class Guess:
    """A number from 1 to 9 is to be found with at most four guesses."""

    def reset(self, number: int, **row: Any) -> None:
        self.number, self.left, self.found = number, 4, False

    def guess(self, n: int) -> str:
        """
        Guesses the number.

        Args:
            n: A number from 1 to 9.
        """
        if self.left == 0:
            return "over"
        self.left -= 1
        self.found |= n == self.number
        return "yes" if n == self.number else "up" if n < self.number else "down"

    def get_reward(self) -> float:
        return float(self.found)


def last_words(completion: list[dict[str, Any]]) -> str:
    """What the model said last."""
    last = completion[-1]
    return str(last.get("content") or "").strip() if last["role"] == "assistant" else ""


def says_answer(completions: list[Any], answer: list[str], **kwargs: Any) -> list[float]:
    """Whether the model's last words are the answer."""
    return [float(last_words(completion) == right) for completion, right in zip(completions, answer, strict=True)]


def rows(prompts: list[str], **columns: list[Any]) -> Dataset:
    """Rows of a task, each prompt as a dialogue."""
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in prompts], **columns})


def split(values: list[Any], seed: int = 0, held_out: int = 30) -> tuple[list[Any], list[Any]]:
    """Values to train on and others to evaluate on."""
    order = np.random.default_rng(seed).permutation(len(values))
    held_out = min(held_out, len(values) // 3)
    return [values[i] for i in order[held_out:]], [values[i] for i in order[:held_out]]


@cache
def pairs() -> tuple[list[Any], list[Any]]:
    return split([(a, b) for a in range(10, 100) for b in range(10, 100) if a != b])


@cache
def keys() -> tuple[list[Any], list[Any]]:
    return split(list(range(10, 100)))


def build_tasks() -> list[Task]:
    """The tasks, each with prompts that are held out; every number from 1 to 9 is to be guessed in both."""

    def of_pairs(numbers: list[Any]) -> Dataset:
        return rows([f"max {a} {b}" for a, b in numbers], answer=[str(max(pair)) for pair in numbers])

    def of_keys(values: list[Any]) -> Dataset:
        return rows([f"key {key}?" for key in values], answer=[str(secret(key)) for key in values])

    def of_guesses(prefixes: str) -> Dataset:
        return rows(
            [f"find {letter}" for letter in prefixes for _ in range(9)], number=list(range(1, 10)) * len(prefixes)
        )

    some_pairs, held_pairs = pairs()
    some, held_keys = keys()
    return [
        Task("larger", of_pairs(some_pairs), says_answer, eval_dataset=of_pairs(held_pairs), success_threshold=1.0),
        Task(
            "guess",
            of_guesses("abcdef"),
            eval_dataset=of_guesses("gh"),
            environment_factory=Guess,
            success_threshold=1.0,
        ),
        Task(
            "lookup", of_keys(some), says_answer, eval_dataset=of_keys(held_keys), tools=[look], success_threshold=1.0
        ),
    ]
