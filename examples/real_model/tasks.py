"""Decides the three questions that a small pretrained model half knows, and how their answers are scored."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from datasets import Dataset

from trl_mtgrpo import Task


Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """
    A kind of question about a few numbers.

    Args:
        name (`str`):
            Task name.
        form (`str`):
            The question, with a place for each number.
        answer (`Callable`):
            The right answer from the numbers.
        example (`tuple[int, ...]`):
            Numbers of the worked example that stands before every question.
        numbers (`Callable`):
            All numbers that may be asked about.
    """

    name: str
    form: str
    answer: Callable[..., int]
    example: Numbers
    numbers: Callable[[], Iterable[Numbers]]

    def rows(self, seed: int = 0) -> list[dict[str, str]]:
        """
        Every question once behind the worked example, each on its line. Questions with the example's answer are left
        out, so that a copy of it is never right.

        Args:
            seed (`int`, *optional*, defaults to `0`):
                Seed of the order.

        Returns:
            `list[dict[str, str]]`: rows with the columns `prompt` and `answer`.
        """
        shown = self.answer(*self.example)
        asked = [numbers for numbers in self.numbers() if self.answer(*numbers) != shown]
        order = np.random.default_rng([seed, *self.name.encode()]).permutation(len(asked))
        start = f"{self.form.format(*self.example)} {shown}\n"
        return [
            {"prompt": start + self.form.format(*asked[index]), "answer": str(self.answer(*asked[index]))}
            for index in order
        ]


_TWO_DIGITS = range(10, 100)

# SmolLM2-135M-Instruct samples the right answer to one in five to one in ten of each, and half or more of the groups
# of eight hold right and wrong ones: `docs/real-model.md` has the numbers, and the questions that were not chosen.
QUESTIONS = (
    Question("n - 1", "{} - 1 =", lambda n: n - 1, (40,), lambda: ((n,) for n in range(11, 1000))),
    Question("a + b", "{} + {} =", lambda a, b: a + b, (23, 45), lambda: product(_TWO_DIGITS, repeat=2)),
    Question("larger", "{} or {}:", max, (17, 42), lambda: permutations(_TWO_DIGITS, 2)),
)


def is_right(completions: Sequence[str], answer: Sequence[str], **columns: Any) -> list[float]:
    """1.0 for a completion whose first line is the answer and nothing else, else 0.0."""
    return [
        float(completion.partition("\n")[0].strip() == right)
        for completion, right in zip(completions, answer, strict=True)
    ]


def real_tasks(eval_prompts: int) -> list[Task]:
    """
    The tasks. What is held out is the same in every run.

    Args:
        eval_prompts (`int`):
            Held-out prompts per task; all others are for training.

    Returns:
        `list[Task]`
    """
    tasks = []
    for question in QUESTIONS:
        rows = Dataset.from_list(question.rows())
        tasks.append(
            Task(
                question.name,
                rows.select(range(eval_prompts, len(rows))),
                is_right,
                eval_dataset=rows.select(range(eval_prompts)),
                success_threshold=1.0,
            )
        )
    return tasks


def best_constant_score(answers: Sequence[str]) -> float:
    """Share of questions that one and the same answer would solve, for the answer that solves most."""
    return Counter(answers).most_common(1)[0][1] / len(answers)


def line_end(tokenizer: Any) -> int:
    """
    The token that is a new line.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The model's tokenizer.

    Returns:
        `int`

    Raises:
        ValueError: when it has none.
    """
    token = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    if tokenizer.decode([token]) != "\n":
        raise ValueError(
            f"`tokenizer` must have a token for a new line, got {tokenizer.decode([token])!r}. Choose another model."
        )
    return int(token)
