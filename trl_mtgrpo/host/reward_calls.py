"""The one way to the host's reward functions: rows are bound, and nothing internal is shown to the user."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from trl import GRPOTrainer

from ..tasks import TaskMixture
from ..tasks.rows import TaskRow


# Of rows without a reward the host shows its own copies; [`Scorer`] speaks of the user's.
_UNSCORED = "All reward functions returned None"


def calculate_rewards(
    host: GRPOTrainer, mixture: TaskMixture, rows: Sequence[TaskRow], inputs: list[dict[str, Any]], *further: Any
) -> torch.Tensor:
    """
    Every rank's rewards.

    Args:
        host ([`~trl.GRPOTrainer`]):
            The host's own methods.
        mixture ([`TaskMixture`]):
            The tasks.
        rows (`list[TaskRow]`):
            This rank's rows.
        inputs (`list[dict[str, Any]]`):
            The host's copies of them.
        *further (`Any`):
            Prompts, completions and their tokens.

    Returns:
        `torch.Tensor`: shape `(N, C)`, in global row order.
    """
    mixture.bind(rows)
    with _without_the_hosts_rows():
        return host._calculate_rewards(inputs, *further)


@contextmanager
def _without_the_hosts_rows() -> Iterator[None]:
    logger = logging.getLogger(GRPOTrainer.__module__)
    logger.addFilter(_is_ours_to_say)
    try:
        yield
    finally:
        logger.removeFilter(_is_ours_to_say)


def _is_ours_to_say(record: logging.LogRecord) -> bool:
    return _UNSCORED not in record.getMessage()
