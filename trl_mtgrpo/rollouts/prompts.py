"""Which prompts come next: the protocol of a prompt source, and the default, one seeded index stream per task."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..sampling import Corrected, IndexStream
from .facts import GroupFacts


class Prompts(NamedTuple):
    """
    What is drawn. Of one prompt a whole bundle of episodes is generated.

    Args:
        task (`numpy.ndarray` of `int`, shape `(N,)`):
            Position of the task in the mixture; tasks stand one after another.
        row (`numpy.ndarray` of `int`, shape `(N,)`):
            Row of the task's train set.
        inclusion (`numpy.ndarray`, shape `(N,)`):
            Probability with which a source that passes over prompts let this one through; 1 for one that does not.
        pilot (`numpy.ndarray` of `int`, shape `(N,)`, *optional*):
            Rollouts to begin with, on which it depends whether the others are made; 0 for all at once. A prompt
            source leaves it out: the loop decides.
    """

    task: NDArray[np.int64]
    row: NDArray[np.int64]
    inclusion: NDArray[np.float64]
    pilot: NDArray[np.int64] | None = None


class PromptSource(Protocol):
    """
    Chooses prompts. Every rank asks with the same arguments and must get the same answer, so all randomness comes from
    a seed and from what `draws` remembers, which is written into checkpoints.
    """

    def draw(self, counts: NDArray[np.int64], draws: Any) -> tuple[Prompts, Any]:
        """`counts` prompts per task, shape `(K,)`, and what is to be remembered after it."""
        ...

    def observe(self, facts: GroupFacts, draws: Any) -> Any:
        """What is to be remembered after the groups of a step."""
        ...


@runtime_checkable
class CorrectingSource(PromptSource, Protocol):
    """A source that passes over prompts, and says what the task's statistics would be if it did not."""

    def correct(self, facts: GroupFacts, draws: Any) -> Corrected | None:
        """What uniform draws would have shown in the step whose groups are `facts`; `None` for the same."""
        ...

    def release(self, tasks: NDArray[np.bool_], draws: Any) -> Any:
        """What is to be remembered so that of these tasks, shape `(K,)`, nothing is passed over."""
        ...


class IndexPrompts:
    """
    Each task's rows in passes of a seeded order of their own.

    Args:
        sizes (`list[int]`):
            Rows of each task's train set.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the orders.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether each pass over a task is permuted.
    """

    def __init__(self, sizes: Sequence[int], seed: int = 0, shuffle: bool = True) -> None:
        self.streams = tuple(IndexStream(size, seed, task_id, shuffle) for task_id, size in enumerate(sizes))

    def take(
        self, counts: Sequence[int] | NDArray[np.int64], cursors: Sequence[int]
    ) -> tuple[Prompts, tuple[int, ...]]:
        """`counts` prompts per task from `cursors` on, and the moved cursors."""
        taken = [
            stream.take(cursor, int(count))
            for stream, count, cursor in zip(self.streams, counts, cursors, strict=True)
        ]
        rows = np.concatenate([indices for indices, _ in taken])
        task = np.repeat(np.arange(len(self.streams)), [len(indices) for indices, _ in taken])
        return Prompts(task, rows, np.ones(len(rows))), tuple(cursor for _, cursor in taken)

    def draw(self, counts: NDArray[np.int64], draws: Any) -> tuple[Prompts, Any]:
        """See [`PromptSource`]; `draws` is a dataclass with `cursors`, one per task."""
        prompts, cursors = self.take(counts, draws.cursors)
        return prompts, replace(draws, cursors=cursors)

    def observe(self, facts: GroupFacts, draws: Any) -> Any:
        """Remembers nothing of single prompts."""
        return draws


class CountedPrompts:
    """Prompts that are counted and not looked up: the host's loader, or a simulation, knows which they are."""

    def draw(self, counts: NDArray[np.int64], draws: Any) -> tuple[Prompts, Any]:
        """See [`PromptSource`]; rows are -1."""
        task = np.repeat(np.arange(len(counts)), counts)
        return Prompts(task, np.full(len(task), -1), np.ones(len(task))), draws

    def observe(self, facts: GroupFacts, draws: Any) -> Any:
        """Remembers nothing."""
        return draws
