"""What a run says besides its metrics: warnings, each once, and the rollout table at the end."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..rollouts import CollectedBatch, GroupFacts
from ..sampling import BatchLedger, StallDoctor
from ..sampling.accounting import format_ledger
from ..state.run_state import MultiTaskState
from ..tasks.failures import RewardFailure


logger = logging.getLogger(__name__)


class NothingToLearnError(RuntimeError):
    """No group carried a gradient for `max_empty_steps` generation batches in a row."""


@dataclass
class RunReporter:
    """
    Warns of what the reader can act on, once per cause.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        num_rows (`np.ndarray`):
            Training rows per task, shape `(K,)`.
        filters (`bool`):
            Whether any group can be kept out of training.
        max_empty_steps (`int`):
            Generation batches in a row without a trainable group before the run stops.
    """

    names: tuple[str, ...]
    num_rows: NDArray[np.int64]
    filters: bool
    max_empty_steps: int
    _said: set[str] = field(default_factory=set)

    def batch(self, batch: CollectedBatch, state: MultiTaskState) -> None:
        """
        Looks at a collected batch.

        Raises:
            NothingToLearnError: after `max_empty_steps` batches in a row without a trainable group.
        """
        diagnoses = StallDoctor().diagnose(self.names, state.stalls, self.num_rows)
        stalled = [name for name, cause in zip(self.names, state.stalls.causes(), strict=True) if cause is not None]
        for name, message in zip(stalled, diagnoses, strict=True):
            self._warn(f"stalled {name}", f"{message} It gets a smaller share until it yields again.")
        self._said -= {f"stalled {name}" for name in self.names if name not in stalled}
        unfilled = int(batch.is_filler.sum())
        if unfilled and self.filters:
            self._warn(
                "unfilled",
                f"The budget of a step ended with {unfilled} of {len(batch.groups)} groups missing; the step "
                f"trains on "
                "what it has (metric `sampling/unfilled_groups`). Raise `max_resampling_rounds`, or look for the task "
                "with the highest `tasks/<name>/filtered_ratio`.",
            )
        if state.empty_steps >= self.max_empty_steps:
            raise NothingToLearnError(
                f"`max_empty_steps` must exceed the generation batches in a row without a trainable group, got "
                f"{state.empty_steps} of them. {' '.join(diagnoses) or 'All groups were filtered.'} Check the reward "
                "functions on a few completions, or choose prompts of another difficulty."
            )

    def round(self, ledger: BatchLedger, found: GroupFacts) -> None:
        """Looks at a round of generation."""

    def guard(self, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> None:
        """Names tasks that the guard has begun to hold, and those that it has released."""
        for k in np.flatnonzero(after & ~before):
            logger.warning(
                "Task %r takes a large share and does not improve; its weight is bounded until it moves (metric "
                "`tasks/<name>/held`). Check that the task can be learned, or set `plateau_guard=False`.",
                self.names[k],
            )
        for k in np.flatnonzero(before & ~after):
            logger.info("Task %r moves again; its weight is free.", self.names[k])

    def checkpoint(self, name: str, steps_left: int) -> None:
        """Looks at a checkpoint that is about to be written."""
        if steps_left:
            self._warn(
                "checkpoint",
                f"{name} lies inside a generation batch, {steps_left} optimizer steps before its end, and cannot be "
                "resumed. Let `save_steps` and `max_steps` be multiples of the steps per generation batch.",
            )

    def finished(self, step: int, max_steps: int) -> None:
        """Says that a resumed run had ended already."""
        self._warn(
            "finished",
            f"The checkpoint is at step {step} and `max_steps` is {max_steps}: nothing is trained. Raise `max_steps` "
            "to train on.",
        )

    def failures(self, failures: Sequence[RewardFailure]) -> None:
        """Names reward functions whose rows were dropped."""
        for failure in failures:
            self._warn(f"{failure.task} {failure.function} {failure.reason}", failure.message)

    def end(self, state: MultiTaskState) -> None:
        """Logs where the run's rollouts went, per task."""
        if state.generation:
            logger.info("Rollouts of this run:\n%s", format_ledger(state.task_names, state.groups, state.tokens))

    def _warn(self, key: str, message: str) -> None:
        if key not in self._said:
            self._said.add(key)
            logger.warning(message)
