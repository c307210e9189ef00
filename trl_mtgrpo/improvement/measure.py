"""How much an update improved each task: the clipped objective after minus before, measured with one forward."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .loss_inputs import (
    BEFORE,
    IS_MEASURED,
    OLD_LOGPS,
    PICTURES,
    TASK_IDS,
    TRAINED_LOGPS,
    ClipRange,
    Inputs,
    loss_mask,
)
from .surrogate import sequence_surrogate


class Shares(Protocol):
    """What is asked of the processes of a run: their number, this one's share of rows, and sums over all."""

    @property
    def size(self) -> int: ...

    def local(self, rows: Sequence[Any]) -> list[Any]: ...

    def sum(self, values: torch.Tensor) -> torch.Tensor: ...


# From token ids, attention mask, completion length and, where rows have images, what each one's images are to the
# model, to per-token log-probabilities of the current policy.
Forward = Callable[..., torch.Tensor]


class MeasuredChange(NamedTuple):
    """
    Change of the objective per task.

    Args:
        sums (`np.ndarray`):
            Sum over the task's measured sequences of all ranks, shape `(K,)`.
        counts (`np.ndarray`):
            Number of those sequences, shape `(K,)`.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    def reduced(self, reduction: str, num_rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """
        I_k, shape `(K,)`; 0 for a task without sequences.

        Args:
            reduction (`str`):
                `"sum"` over all of the task's sequences in the batch, extrapolated where only some were measured, or
                `"mean"`.
            num_rows (`np.ndarray`):
                Sequences of each task in the batch, shape `(K,)`.
        """
        mean = self.sums / np.maximum(self.counts, 1)
        return mean * num_rows if reduction == "sum" else mean


@torch.no_grad()
def measure_change(
    micro_batches: Sequence[Inputs],
    forward: Forward,
    ranks: Shares,
    num_tasks: int,
    clip: ClipRange,
    num_calls: int,
    batch_size: int,
    since_generation: bool = True,
) -> MeasuredChange:
    """
    The improvement of each task (Section 4.1 of the paper): objective now minus objective before.

    Every rank makes the same number of forward calls, whatever rows it holds.

    Args:
        micro_batches (`list[dict]`):
            This rank's loss inputs, already trained.
        forward (`Callable`):
            Log-probabilities of the current policy.
        ranks ([`Shares`]):
            The processes of the run.
        num_tasks (`int`):
            Number of tasks K.
        clip ([`ClipRange`]):
            Settings of the objective.
        num_calls (`int`):
            Forward calls, the same on every rank.
        batch_size (`int`):
            Rows per call.
        since_generation (`bool`, *optional*, defaults to `True`):
            Whether "before" is the start of the generation batch, or else the last training forward.

    Returns:
        [`MeasuredChange`]
    """
    rows = _stack(micro_batches)
    measured = rows[IS_MEASURED].nonzero().flatten()  # (M,)
    device = measured.device
    sums = torch.zeros(2, num_tasks, dtype=torch.float64)
    for call in range(num_calls):
        index = measured[call * batch_size : (call + 1) * batch_size]
        weight = torch.ones(len(index), dtype=torch.float64)
        if len(index) == 0:  # nothing left here, but other ranks still call
            index, weight = torch.zeros(1, dtype=torch.long, device=device), torch.zeros(1, dtype=torch.float64)
        part = {name: column[index] for name, column in rows.items() if name != PICTURES}
        tokens = torch.cat([part["prompt_ids"], part["completion_ids"]], dim=1)
        attention = torch.cat([part["prompt_mask"], part["completion_mask"]], dim=1)
        pictures = [rows[PICTURES][i] for i in index.tolist()] if PICTURES in rows else ()
        after = forward(tokens, attention, part["completion_ids"].size(1), *([pictures] if pictures else ()))
        old, advantages, mask = part[OLD_LOGPS], part["advantages"], loss_mask(part)
        before = part[BEFORE]
        if not since_generation:
            before = sequence_surrogate(part[TRAINED_LOGPS], old, advantages, mask, *clip)
        change = sequence_surrogate(after, old, advantages, mask, *clip) - before
        tasks = part[TASK_IDS].cpu()
        weight = weight * (tasks >= 0)
        sums[0].index_add_(0, tasks.clamp(min=0), change.double().cpu() * weight)
        sums[1].index_add_(0, tasks.clamp(min=0), weight)
    # float32 on devices without float64; the sums are of a few thousand values near 0
    total = ranks.sum(sums.float())
    return MeasuredChange(total[0].double().numpy(), total[1].round().long().numpy())


def _stack(micro_batches: Sequence[Inputs]) -> Inputs:
    """The micro-batches as one; they were cut from one padded batch, so their widths agree."""
    names = [
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        TASK_IDS,
        IS_MEASURED,
        BEFORE,
    ]
    names += [name for name in ("tool_mask", TRAINED_LOGPS) if name in micro_batches[0]]
    rows = {name: torch.cat([batch[name] for batch in micro_batches]) for name in names}
    if any(PICTURES in batch for batch in micro_batches):
        none: list[dict[str, Any]] = [{}] * len(micro_batches[0]["prompt_ids"])
        rows[PICTURES] = [row for batch in micro_batches for row in batch.get(PICTURES, none)]
    # Without old log-probabilities the training forward was made by the policy that generated.
    rows[OLD_LOGPS] = torch.cat([batch.get(OLD_LOGPS, batch[TRAINED_LOGPS]) for batch in micro_batches])
    return rows
