"""Where every generated group went: generated = trained + carried + filtered + expired, in groups and tokens."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import OUTCOMES


Counts = NDArray[np.int64]

# Of a group that ended with its pilot: it has the pilot's outcome, and would perhaps have had another one.
PILOT = "pilot"
# Why a group did not train. An informative group is filtered only by a filter of the user's own.
REASONS = (*OUTCOMES[1:], PILOT, OUTCOMES[0])


@dataclass(frozen=True, eq=False)
class RolloutLedger:
    r"""
    Groups or tokens per task over one step or a whole run.

    At every step and in every total
    $$\text{carried in} + \text{generated} = \text{trained} + \text{carried out} + \text{filtered} + \text{expired}.$$

    Args:
        carried_in (`np.ndarray`):
            Accepted groups kept from the step before, shape `(K,)`.
        generated (`np.ndarray`):
            Groups generated, shape `(K,)`.
        trained (`np.ndarray`):
            Groups in the loss, shape `(K,)`.
        filtered (`np.ndarray`):
            Groups without a gradient by reason, shape `(K, len(REASONS))` in the order of `REASONS`.
        expired (`np.ndarray`):
            Accepted groups that grew too old, shape `(K,)`.
        carried_out (`np.ndarray`):
            Accepted groups kept for the next step, shape `(K,)`.
    """

    carried_in: Counts = field(metadata={"new_task": 0})
    generated: Counts = field(metadata={"new_task": 0})
    trained: Counts = field(metadata={"new_task": 0})
    filtered: Counts = field(metadata={"new_task": 0})
    expired: Counts = field(metadata={"new_task": 0})
    carried_out: Counts = field(metadata={"new_task": 0})

    @classmethod
    def empty(cls, num_tasks: int) -> "RolloutLedger":
        zero = np.zeros(num_tasks, dtype=np.int64)
        return cls(zero, zero, zero, np.zeros((num_tasks, len(REASONS)), dtype=np.int64), zero, zero)

    def then(self, step: "RolloutLedger") -> "RolloutLedger":
        """The totals after one more step; what is carried is a stock, everything else adds up."""
        return RolloutLedger(
            carried_in=self.carried_in,
            generated=self.generated + step.generated,
            trained=self.trained + step.trained,
            filtered=self.filtered + step.filtered,
            expired=self.expired + step.expired,
            carried_out=step.carried_out,
        )

    @property
    def imbalance(self) -> Counts:
        """What is unaccounted for per task, shape `(K,)`; always 0."""
        came, filtered = self.carried_in + self.generated, self.filtered.sum(axis=1, dtype=np.int64)
        unaccounted: Counts = came - (self.trained + filtered + self.expired + self.carried_out)
        return unaccounted

    @property
    def waste(self) -> float:
        """Generated per trained; 1.0 when nothing is wasted."""
        return float(self.generated.sum() / max(int(self.trained.sum()), 1))
