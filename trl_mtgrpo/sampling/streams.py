"""Which prompt of a task comes next: an endless sequence of seeded passes, addressed by one integer."""

import numpy as np
from numpy.typing import NDArray


class IndexStream:
    """
    Row indices of one task, pass after pass, each pass in its own seeded order.

    The stream itself remembers nothing: the cursor, the number of rows taken since the start, is its whole position,
    and the same `(seed, task_id, cursor)` gives the same rows anywhere. One pass is kept at hand, so a task costs its
    index and no more.

    Args:
        size (`int`):
            Rows of the task's dataset.
        seed (`int`):
            Seed of the run.
        task_id (`int`):
            Position of the task in the mixture.
        shuffle (`bool`, *optional*, defaults to `True`):
            Whether each pass has its own order. Otherwise rows come in the order of the dataset.

    Raises:
        ValueError: If `size` is not positive, or `seed` or `task_id` is negative.

    Example:

    ```python
    >>> from trl_mtgrpo.sampling import IndexStream
    >>> stream = IndexStream(size=4, seed=0, task_id=0)
    >>> first, cursor = stream.take(0, 4)
    >>> sorted(first.tolist()), cursor
    ([0, 1, 2, 3], 4)

    ```
    """

    def __init__(self, size: int, seed: int, task_id: int, shuffle: bool = True) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, got {size}. Give the task a dataset with rows.")
        if seed < 0 or task_id < 0:
            raise ValueError(
                f"`seed` and `task_id` must be non-negative, got {seed} and {task_id}. Pass the seed of the run."
            )
        self.size = size
        self.seed = seed
        self.task_id = task_id
        self.shuffle = shuffle
        # A cache, not a state: it holds what `_order` would compute again.
        self._cached: tuple[int, NDArray[np.int64]] | None = None

    def take(self, cursor: int, n: int) -> tuple[NDArray[np.int64], int]:
        """
        The next `n` row indices from `cursor` on, and the cursor after them.

        Args:
            cursor (`int`):
                Rows taken before.
            n (`int`):
                Rows to take; more than one pass is allowed.

        Returns:
            `tuple[numpy.ndarray, int]`: indices of shape `(n,)` and `cursor + n`.
        """
        if cursor < 0 or n < 0:
            raise ValueError(
                f"`cursor` and `n` must be non-negative, got {cursor} and {n}. Start a stream at cursor 0."
            )
        end = cursor + n
        pieces = []
        while cursor < end:
            number, offset = divmod(cursor, self.size)
            piece = self._order(number)[offset : offset + end - cursor]
            pieces.append(piece)
            cursor += piece.size
        indices = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
        return indices.astype(np.int64), end

    def _order(self, number: int) -> NDArray[np.int64]:
        if not self.shuffle:
            number = 0
        if self._cached is None or self._cached[0] != number:
            if self.shuffle:
                order = np.random.default_rng([self.seed, self.task_id, number]).permutation(self.size)
            else:
                order = np.arange(self.size)
            self._cached = (number, order)
        return self._cached[1]
