"""Where every generated group went: generated = trained + carried + filtered + expired, in groups and tokens."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import OUTCOMES


Counts = NDArray[np.int64]

# Why a group did not train. An informative group is filtered only by a filter of the user's own.
REASONS = (*OUTCOMES[1:], OUTCOMES[0])


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
            Groups without a gradient by reason, shape `(K, 5)` in the order of `REASONS`.
        expired (`np.ndarray`):
            Accepted groups that grew too old, shape `(K,)`.
        carried_out (`np.ndarray`):
            Accepted groups kept for the next step, shape `(K,)`.
    """

    carried_in: Counts
    generated: Counts
    trained: Counts
    filtered: Counts
    expired: Counts
    carried_out: Counts

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

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name).tolist() for f in fields(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RolloutLedger":
        ledger = {f.name: np.array(value[f.name], dtype=np.int64) for f in fields(cls)}
        ledger["filtered"] = ledger["filtered"].reshape(-1, len(REASONS))
        return cls(**ledger)
