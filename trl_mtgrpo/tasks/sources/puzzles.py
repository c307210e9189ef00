"""Decides which rows a reasoning-gym dataset yields and how they read as prompts."""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from .templates import PromptTemplate


_MAX_TRIES = 20

Place = Literal["box", "last", "first"]

# What a prompt says of the answer's form. Examples hold letters where answers hold numbers, and a name that is none of
# zebra_puzzles', so that no example can be right.
_COUNTDOWN = (
    "Make {target} out of the numbers {numbers}. Use every one of them exactly once, and nothing but +, -, *, / and "
    "parentheses. "
)
_FORMS: dict[Place, dict[str, str]] = {
    "box": {
        "countdown": r"Give the finished expression in \boxed{}, like \boxed{(a + b) / c} with the numbers.",
        "zebra_puzzles": r" Write just that name in \boxed{}, like \boxed{Somebody}.",
        "arc_1d": "\n\n" r"Write just the output grid in \boxed{}, like \boxed{a b c} with the numbers.",
        "": "\n\n" r"Write your final answer, and nothing else, in \boxed{}.",
    },
    "last": {
        "countdown": "Give the finished expression at the end, on a line of its own.",
        "zebra_puzzles": " Write just that name at the end, on a line of its own.",
        "arc_1d": "\n\nWrite just the output grid at the end, on a line of its own, its numbers separated by spaces.",
        "": "\n\nWrite your final answer, and nothing else, at the end, starting on a new line.",
    },
    "first": {
        "countdown": "Give the finished expression and nothing else.",
        "zebra_puzzles": " Write just that name.",
        "arc_1d": "\n\nWrite just the output grid, its numbers separated by spaces.",
        "": "\n\nWrite your final answer and nothing else.",
    },
}


@dataclass(eq=False)
class PuzzleRows:
    """
    The rows of one split, each made from its position alone.

    Args:
        family (`str`):
            A reasoning-gym dataset.
        options (`Mapping`):
            Its options.
        seed (`int`):
            Seed of the first item; item i is made from the seed plus i.
        size (`int`):
            Number of rows.
        prompt ([`PromptTemplate`]):
            What becomes of a question.
        excluded (`frozenset[str]`, *optional*):
            Keys of rows that must not appear; an item with such a key is replaced.
        place (`str`, *optional*, defaults to `"box"`):
            Where answers are read: `"box"`, `"last"` for the last line or `"first"` for the first one.
        has_own_columns (`bool`, *optional*, defaults to `True`):
            Whether the reward needs only what is in the row; otherwise the row says how to make its item again.
        rows (`dict`, *optional*):
            Rows made so far, by position.
    """

    family: str
    options: Mapping[str, Any]
    seed: int
    size: int
    prompt: PromptTemplate
    excluded: frozenset[str] = frozenset()
    place: Place = "box"
    has_own_columns: bool = True
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)

    def row(self, position: int) -> dict[str, Any]:
        """One row: `prompt`, the columns of the reward, and `key`, by which two rows are the same puzzle."""
        if position not in self.rows:
            source = json.dumps({**self.options, "seed": self.seed, "size": 2 * self.size + 100}, sort_keys=True)
            for attempt in range(_MAX_TRIES):
                # Replacements come from the spare second half, so that no row depends on another one.
                spare = self.size + (position + 1009 * attempt) % (self.size + 100)
                row = self._row(source, spare if attempt else position)
                if row is not None and row["key"] not in self.excluded:
                    self.rows[position] = row
                    break
            else:
                raise ValueError(
                    f"`eval_size` must leave other items to train on, got {_MAX_TRIES} repeated or failed items in a "
                    f"row for '{self.family}'. Use fewer evaluation rows or wider options."
                )
        return self.rows[position]

    def _row(self, source: str, item: int) -> dict[str, Any] | None:
        try:
            entry = source_entry(self.family, source, item)
        except ValueError:
            return None  # countdown gives up when it finds no expression in range
        question, key, columns = rendered(self.family, entry, self.place)
        if not self.has_own_columns:
            columns |= {"item": item, "source": source}
        return {"prompt": self.prompt.fill(question), "key": key, **columns}

    def lazy_dataset(self) -> Dataset:
        """The rows as a dataset that makes each when it is read."""
        first = self.row(0)
        names = [name for name in first if name != "key"]
        columns = {name: [type(first[name])()] * self.size for name in names if name != "prompt"}
        empty = [{"role": "user", "content": ""}] if self.prompt.is_chat else ""
        positions = {"position": range(self.size), "prompt": [empty] * self.size}
        return Dataset.from_dict({**positions, **columns}).with_transform(self)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = [self.row(position) for position in batch["position"]]
        return {name: batch[name] if name == "position" else [row[name] for row in rows] for name in batch}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rows": {}}

    def all_rows(self, cache_dir: str | os.PathLike[str] | None) -> list[dict[str, Any]]:
        """All rows at once, kept in a file where a folder is given."""
        if cache_dir is None or self.size == 0:
            return [self.row(position) for position in range(self.size)]
        form = instruction(self.family, self.place)
        made_of = [
            self.family,
            dict(self.options),
            self.seed,
            self.size,
            self.prompt.key(),
            form,
            sorted(self.excluded),
        ]
        digest = hashlib.sha256(json.dumps([made_of, version("reasoning-gym")], sort_keys=True).encode()).hexdigest()
        path = Path(cache_dir) / f"{self.family}-{self.size}-{digest[:16]}.jsonl"
        if path.exists():
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [self.row(position) for position in range(self.size)]
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when complete, so that neither a crash nor another process leaves half a file.
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        partial.replace(path)
        return rows


def instruction(family: str, place: Place) -> str:
    """What a prompt says of the form in which it wants the answer."""
    return _FORMS[place].get(family, _FORMS[place][""])


def rendered(family: str, entry: dict[str, Any], place: Place) -> tuple[str, str, dict[str, Any]]:
    """Question, the key by which two items are the same puzzle, and the columns of the reward."""
    if family == "countdown":
        numbers, target = list(entry["metadata"]["numbers"]), int(entry["metadata"]["target"])
        question = _COUNTDOWN.format(target=target, numbers=numbers) + instruction(family, place)
        return question, f"{sorted(numbers)} {target}", {"numbers": numbers, "target": target}
    question = entry["question"].rstrip().replace("??", "?")  # zebra_puzzles ends its question twice
    return question + instruction(family, place), entry["question"], {"expected": answer_text(entry["answer"])}


def rows_dataset(rows: list[dict[str, Any]]) -> Dataset:
    """Rows as a dataset, without their keys."""
    return Dataset.from_list([{name: value for name, value in row.items() if name != "key"} for row in rows])


def answer_text(answer: Any) -> str:
    """The right answer as text, empty where a dataset names none."""
    return "" if answer is None else str(answer)


@functools.lru_cache(maxsize=64)
def source_dataset(family: str, source: str) -> Any:
    """The reasoning-gym dataset with the options `source`, a JSON text."""
    import reasoning_gym

    return reasoning_gym.create_dataset(family, **json.loads(source))


@functools.lru_cache(maxsize=4096)
def source_entry(family: str, source: str, item: int) -> dict[str, Any]:
    """One item of a reasoning-gym dataset, as it made it."""
    entry: dict[str, Any] = source_dataset(family, source)[item]
    return entry
