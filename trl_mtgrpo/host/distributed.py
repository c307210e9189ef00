"""The one door between ranks: who holds which rows, and the few values that travel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object


@dataclass(frozen=True)
class Ranks:
    """
    The processes of the run, and this one's place among them.

    Rows are split contiguously: rank r of W holds rows `r * n / W` to `(r + 1) * n / W` of any n global rows, which is
    the host's order.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            The trainer's accelerator.
    """

    accelerator: Accelerator

    @property
    def size(self) -> int:
        return self.accelerator.num_processes

    def local(self, rows: Sequence[Any]) -> list[Any]:
        """This rank's contiguous share of globally ordered rows, whose number must be a multiple of the ranks."""
        share = len(rows) // self.size
        start = self.accelerator.process_index * share
        return list(rows[start : start + share])

    def gather(self, values: Sequence[float]) -> torch.Tensor:
        """One tensor of every rank's local values in rank order; every rank must bring the same number."""
        return self.accelerator.gather(torch.tensor(values, device=self.accelerator.device)).cpu()

    def gather_objects(self, values: list[Any]) -> list[Any]:
        """Every rank's objects in rank order; the numbers may differ."""
        return list(values) if self.size == 1 else gather_object(values)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over ranks."""
        return self.accelerator.reduce(values.to(self.accelerator.device), reduction="sum").cpu()
