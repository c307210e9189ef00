"""A prompt source that remembers what came of each prompt, and passes over most of those that are solved."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling import OUTCOMES, Corrected, PromptMemory, Seen
from ..sampling.prompt_memory import CODES
from .facts import GroupFacts, IntVector
from .prompts import IndexPrompts, Prompts


# Most prompts that are looked at together: some millions of bytes.
_STRETCH = 1 << 16
# Sets the randomness of passing over apart from that of the orders.
_PASSING = 1


class RememberedPrompts(IndexPrompts):
    """
    Each task's rows in passes of a seeded order of their own, without most of those that every rollout solved before.

    A row that comes up is drawn with the probability of its code ([`PromptMemory.keep`]). Whether it is depends on the
    seed, the task and the place in the pass alone, so a resumed run and every rank decide alike. In the first pass of
    a task nothing is known and its draws are those of [`IndexPrompts`].

    Args:
        sizes (`list[int]`):
            Rows of each task's train set.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the orders.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether each pass over a task is permuted.
        skips (`bool`, *optional*, defaults to `False`):
            Whether prompts are passed over. Otherwise the memory only watches, and says what it would save.
    """

    def __init__(self, sizes: Sequence[int], seed: int = 0, shuffle: bool = True, skips: bool = False) -> None:
        super().__init__(sizes, seed, shuffle)
        self.seed, self.skips = seed, skips

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each task."""
        return tuple(stream.size for stream in self.streams)

    def draw(self, counts: NDArray[np.int64], draws: Any) -> tuple[Prompts, Any]:
        """See [`PromptSource`]; `draws` is a dataclass with `cursors`, one per task, and `memory`."""
        memory, cursors, rows, inclusion = draws.memory, [], [], []
        keep = memory.keep() if self.skips else np.ones((len(self.streams), CODES))
        for task, (count, cursor) in enumerate(zip(counts.tolist(), draws.cursors, strict=True)):
            found, chances, cursor, memory = self._walk(task, count, cursor, memory, keep[task])
            rows.append(found)
            inclusion.append(chances)
            cursors.append(cursor)
        task_ids = np.repeat(np.arange(len(rows)), counts)
        prompts = Prompts(task_ids, np.concatenate(rows), np.concatenate(inclusion))
        return prompts, replace(draws, cursors=tuple(cursors), memory=memory)

    def correct(self, facts: GroupFacts, draws: Any) -> Corrected | None:
        """See [`CorrectingSource`]."""
        return draws.memory.correct(_seen(facts)) if self.skips else None

    def observe(self, facts: GroupFacts, draws: Any) -> Any:
        """See [`PromptSource`]."""
        seen = _seen(facts)
        known = ~np.isnan(seen.success)
        groups = np.bincount(seen.task[known], minlength=len(self.streams))
        sums = np.bincount(seen.task[known], seen.success[known], minlength=len(self.streams))
        accuracy = np.divide(sums, groups, out=np.full(len(groups), np.nan), where=groups > 0)
        if self.skips:
            corrected = draws.memory.correct(seen).accuracy
            accuracy = np.where(np.isnan(corrected), accuracy, corrected)
        return replace(draws, memory=draws.memory.update(seen, self.sizes, accuracy))

    def release(self, tasks: NDArray[np.bool_], draws: Any) -> Any:
        """See [`CorrectingSource`]."""
        return replace(draws, memory=replace(draws.memory, released=tasks))

    def _walk(
        self, task: int, count: int, cursor: int, memory: PromptMemory, keep: NDArray[np.float64]
    ) -> tuple[IntVector, NDArray[np.float64], int, PromptMemory]:
        """Goes on from `cursor` until `count` rows are drawn: those, their chances, and what comes after it."""
        stream, rows, chances, missing = self.streams[task], [], [], count
        while missing:
            offset = cursor % stream.size
            # Not beyond the pass: its order is at hand.
            stretch = min(int(missing / keep.min()) + 1, stream.size - offset, _STRETCH)
            found, _ = stream.take(cursor, stretch)
            codes = memory.code_of(task, found)
            chance = keep[codes]
            drawn = np.flatnonzero(chance == 1.0 if keep.min() == 1.0 else self._noise(task, cursor, stretch) < chance)
            if len(drawn) >= missing:
                drawn = drawn[:missing]
                stretch = int(drawn[-1]) + 1
            memory = memory.walk(task, codes[:stretch])
            rows.append(found[drawn])
            chances.append(chance[drawn])
            cursor, missing = cursor + stretch, missing - len(drawn)
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *rows]), np.concatenate([none.astype(np.float64), *chances]), cursor, memory

    def _noise(self, task: int, cursor: int, count: int) -> NDArray[np.float64]:
        """Numbers in [0, 1) that belong to places of a pass, whichever stretch they are asked for in."""
        number, offset = divmod(cursor, self.streams[task].size)
        random = np.random.Philox(np.random.SeedSequence([self.seed, task, number, _PASSING]))
        random.advance(offset // 4)  # it makes four numbers at a time
        return np.random.Generator(random).random(offset % 4 + count)[offset % 4 :]


def _seen(facts: GroupFacts) -> Seen:
    """What came of each prompt; of a program's, whether any of its groups may train."""
    once = facts.select(facts.opens_bundle)
    accepted = np.isin(once.bundle, facts.bundle[facts.accepted])
    known = ~np.isnan(once.success)
    size = known.sum(axis=1)
    total = np.where(known, once.success, 0.0).sum(axis=1)
    return Seen(
        task=once.task,
        row=once.prompt,
        outcome=np.where(accepted, OUTCOMES.index("informative"), once.outcome),
        accepted=accepted,
        success=np.divide(total, size, out=np.full(len(size), np.nan), where=size > 0),
    )
