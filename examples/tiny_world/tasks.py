"""Decides which tiny tasks exist, which of their prompts are held out, and what their dataset rows hold."""

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tiny_world.arc_1d import Arc1D
from tiny_world.countdown import Countdown
from tiny_world.number_sorting import NumberSorting
from tiny_world.palindrome import Palindrome
from tiny_world.puzzle import Family, Puzzle
from tiny_world.riddle import Riddle
from tiny_world.zebra import Zebra


Split = Literal["train", "test"]

_TEST_SHARE = 5  # one prompt in five is held out
_ITEM_FORMAT = 1  # part of the cache file's name: raise it when a family's `items` yield other fields


@dataclass(frozen=True)
class TinyTask:
    """
    A task of the tiny world.

    Args:
        name (`str`):
            Task name.
        family (`Family`):
            Renders and scores its puzzles.
        num_items (`int`):
            Number of items behind it. Zebra items take 9 ms each, so they are kept in a file.
    """

    name: str
    family: Family
    num_items: int


TASKS = {
    task.name: task
    for task in (
        TinyTask("countdown", Countdown(num_numbers=3, max_value=9, max_target=20), 8000),
        TinyTask("zebra", Zebra(num_people=3, num_characteristics=2), 1500),
        TinyTask("arc_1d", Arc1D(size=8, num_demonstrations=2), 6000),
        TinyTask("countdown_2", Countdown(num_numbers=2, max_value=30, max_target=40), 8000),
        TinyTask("countdown_4", Countdown(num_numbers=4, max_value=9, max_target=20), 8000),
        TinyTask("countdown_rare", Countdown(num_numbers=3, max_value=9, max_target=20, gives_up=True), 8000),
        TinyTask("zebra_2x2", Zebra(num_people=2, num_characteristics=2), 400),
        TinyTask("zebra_2x3", Zebra(num_people=2, num_characteristics=3), 1500),
        TinyTask("arc_1d_8", Arc1D(size=8, num_demonstrations=1), 6000),
        TinyTask("arc_1d_10", Arc1D(size=10, num_demonstrations=1), 6000),
        TinyTask("arc_1d_14", Arc1D(size=14, num_demonstrations=1), 6000),
        TinyTask("palindrome", Palindrome(min_length=4, max_length=6), 6000),
        TinyTask("number_sorting", NumberSorting(min_numbers=3, max_numbers=4, max_value=20), 6000),
        TinyTask("riddle", Riddle(length=4), 8000),
    )
}


def default_cache_dir() -> Path:
    """The user's cache folder for this project: `$XDG_CACHE_HOME/trl_mtgrpo`, or `~/.cache/trl_mtgrpo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trl_mtgrpo"


def is_held_out(prompt: str) -> bool:
    """
    Says whether a prompt belongs to the test split. It depends on the text alone, so that no seed, size or redrawn
    letter can put one prompt on both sides.
    """
    return zlib.crc32(prompt.encode()) % _TEST_SHARE == 0


def task_items(task: TinyTask, cache_dir: Path | None = None) -> list[dict[str, Any]]:
    """Reads the task's reasoning-gym items from the cache, or generates and stores them."""
    folder = (cache_dir or default_cache_dir()) / "items"
    path = folder / f"{task.name}-{zlib.crc32(repr((task, _ITEM_FORMAT)).encode()):08x}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.writelines(json.dumps(item) + "\n" for item in task.family.items(task.num_items))
        os.replace(file.name, path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw_puzzles(
    task: TinyTask, items: list[dict[str, Any]], split: Split, rng: np.random.Generator
) -> Iterator[Puzzle]:
    """Yields puzzles of one split without end: pass after pass over the items in random order, letters redrawn."""
    while True:
        for index in rng.permutation(len(items)):
            puzzle = task.family.render(items[index], rng)
            if is_held_out(puzzle.prompt) == (split == "test"):
                yield puzzle


def tiny_task_rows(
    task_name: str, split: Split, size: int, seed: int, cache_dir: Path | None = None
) -> list[dict[str, str]]:
    """
    Rows of one task for `datasets.Dataset.from_list`.

    Args:
        task_name (`str`):
            A key of [`TASKS`].
        split (`str`):
            `"train"` or `"test"`. No prompt is in both, whatever the sizes and seeds.
        size (`int`):
            Number of rows. Prompts repeat only where the task holds fewer distinct ones (zebra 2x2).
        seed (`int`):
            Seed of the choice of items and letters.
        cache_dir (`Path`, *optional*):
            Where generated items are kept. [`default_cache_dir`] if not given.

    Returns:
        `list[dict[str, str]]`: Rows with `prompt`, `answer` (one right completion) and `entry` (the verifier's data as
        JSON text: tasks share columns, and a column of dicts with different keys could not be concatenated).
    """
    task = _task(task_name)
    if split not in ("train", "test"):
        raise ValueError(f'`split` must be "train" or "test", got {split!r}. Choose one of them.')
    items = task_items(task, cache_dir)
    rng = np.random.default_rng([seed, split == "test", zlib.crc32(task_name.encode())])
    fresh: dict[str, Puzzle] = {}
    repeats: list[Puzzle] = []
    for puzzle, _ in zip(draw_puzzles(task, items, split, rng), range(20 * size), strict=False):
        if puzzle.prompt in fresh:
            repeats.append(puzzle)
        else:
            fresh[puzzle.prompt] = puzzle
        if len(fresh) == size:
            break
    puzzles = [*fresh.values(), *repeats][:size]
    return [{"prompt": p.prompt, "answer": p.answer, "entry": json.dumps(p.entry)} for p in puzzles]


def tiny_task_reward(task_name: str) -> Callable[..., list[float]]:
    """The task's reward function in TRL's calling convention: 1.0 where reasoning-gym accepts the answer, else 0.0."""
    family = _task(task_name).family

    def reward(prompts: list[str], completions: list[str], entry: list[str], **columns: Any) -> list[float]:
        return [family.score(text, json.loads(data)) for text, data in zip(completions, entry, strict=True)]

    reward.__name__ = f"{task_name}_reward"
    return reward


def _task(name: str) -> TinyTask:
    if name not in TASKS:
        raise ValueError(f"`task_name` must be one of {sorted(TASKS)}, got {name!r}. Choose one of them.")
    return TASKS[name]
