"""The one door between ranks: who holds which rows, and the few values that travel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Slots(Protocol[T_co]):
    """Rows of this rank by slot."""

    def __getitem__(self, slot: int, /) -> T_co: ...


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
        return int(self.accelerator.num_processes)

    @property
    def index(self) -> int:
        return int(self.accelerator.process_index)

    def local(self, rows: Sequence[T]) -> list[T]:
        """This rank's contiguous share of globally ordered rows, whose number must be a multiple of the ranks."""
        share = len(rows) // self.size
        return list(rows[self.index * share : (self.index + 1) * share])

    def places(self, num_rows: int, first_slot: int) -> NDArray[np.int64]:
        """Rank and slot of each of `num_rows` global rows that were dealt in contiguous shares, shape `(N, 2)`."""
        share = num_rows // self.size
        rows = np.arange(num_rows)
        return np.stack([rows // share, first_slot + rows % share], axis=1) if num_rows else np.zeros((0, 2), int)

    def exchange(self, places: NDArray[np.int64], rows: Slots[T]) -> list[T]:
        """
        Rows from wherever they lie to the ranks that need them; nothing else travels.

        Args:
            places (`numpy.ndarray` of shape `(N, 2)`):
                Rank and slot of each row, in global order and equal on every rank; N is a multiple of the ranks.
            rows (`Slots`):
                The rows of this rank.

        Returns:
            `list`: this rank's contiguous share of the N rows.
        """
        share = len(places) // self.size
        if self.size == 1:
            return [rows[int(slot)] for _, slot in places]
        wanted = np.arange(len(places)) // max(share, 1)  # rank that needs each row
        received: dict[int, T] = {}
        for source in np.unique(places[:, 0]).tolist():
            parts = [np.flatnonzero((places[:, 0] == source) & (wanted == rank)) for rank in range(self.size)]
            outgoing = None
            if source == self.index:
                outgoing = [[rows[int(places[i, 1])] for i in part] for part in parts]
            incoming: list[Any] = [None]
            dist.scatter_object_list(incoming, outgoing, src=source)
            received.update(zip(parts[self.index].tolist(), incoming[0], strict=True))
        return [received[i] for i in range(self.index * share, (self.index + 1) * share)]

    def gather(self, values: Sequence[Any]) -> NDArray[Any]:
        """One array of every rank's local values in rank order; every rank must bring the same number."""
        local = torch.tensor(values, device=self.accelerator.device)
        gathered: NDArray[Any] = self.accelerator.gather(local).cpu().numpy()
        return gathered

    def gather_objects(self, values: list[Any]) -> list[Any]:
        """Every rank's objects in rank order; the numbers may differ."""
        return list(values) if self.size == 1 else list(gather_object(values))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over ranks."""
        total: torch.Tensor = self.accelerator.reduce(values.to(self.accelerator.device), reduction="sum")
        return total.cpu()

    def any(self, value: bool) -> bool:
        """Whether `value` holds on any rank."""
        return bool(self.gather([int(value)]).any())
