"""Which prompts come next: per-task index streams behind the host's dataloader, which serves as the clock."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..sampling import IndexStream


class TaskAwareSampler(Sampler[int]):
    """
    Draws prompts per task when they are needed, and paces the host's dataloader.

    The host's dataloader runs at least one generation ahead of training, so rows that it chose would follow weights
    that are a step old. It therefore only ticks: iterating yields the index of a placeholder row, as often as the host
    asks for rows. The prompts of a generation are drawn with [`~TaskAwareSampler.draw`] once the newest weights are
    known. Draws depend on the arguments alone, so every rank gets the same and a checkpoint only needs the cursors.

    Args:
        sizes (`list[int]`):
            Number of rows in each task's train set.
        num_groups (`int`):
            Prompts per generation batch (the paper's B).
        num_generations (`int`):
            Rollouts per prompt (G).
        repeats (`int`, *optional*, defaults to `1`):
            How often the host fetches a generation batch: `steps_per_generation * num_iterations`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the permutations.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether each pass over a task is permuted.

    Example:

    ```python
    >>> from trl_mtgrpo import TaskAwareSampler

    >>> sampler = TaskAwareSampler(sizes=[100, 50], num_groups=4, num_generations=8, seed=1)
    >>> keys, cursors = sampler.draw(counts=[3, 1], cursors=(0, 0))
    >>> [task for task, _ in keys], cursors
    ([0, 0, 0, 1], (3, 1))
    ```
    """

    def __init__(
        self,
        sizes: Sequence[int],
        num_groups: int,
        num_generations: int,
        repeats: int = 1,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.streams = tuple(
            IndexStream(size=size, seed=seed, task_id=task_id, shuffle=shuffle) for task_id, size in enumerate(sizes)
        )
        self.num_batches = max(sum(sizes) // num_groups, 1)
        self.ticks_per_batch = num_groups * num_generations * repeats

    def draw(
        self, counts: Sequence[int] | NDArray[np.int64], cursors: Sequence[int]
    ) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
        """
        The next prompts of each task.

        Args:
            counts (`list[int]`):
                Prompts to draw per task, length K.
            cursors (`tuple[int, ...]`):
                Position in each task's stream, length K.

        Returns:
            `tuple`: `(task_id, row_index)` of each prompt in task order, and the moved cursors.
        """
        keys: list[tuple[int, int]] = []
        moved: list[int] = []
        for task_id, (stream, count, cursor) in enumerate(zip(self.streams, counts, cursors, strict=True)):
            indices, position = stream.take(cursor, int(count))
            keys.extend((task_id, int(index)) for index in indices)
            moved.append(position)
        return keys, tuple(moved)

    def __iter__(self) -> Iterator[int]:
        for _ in range(len(self)):
            yield 0

    def __len__(self) -> int:
        return self.num_batches * self.ticks_per_batch
