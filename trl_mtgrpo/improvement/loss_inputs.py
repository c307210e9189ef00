"""What is added to the rows that TRL's loss sees: their task, their behaviour policy, what is to be measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .surrogate import sequence_surrogate


Inputs = dict[str, Any]

# Row-wise entries, shuffled and split by TRL together with its own.
SIGNAL = "batch_signal"  # the same value in every row
TASK_IDS = "task_ids"  # -1 for rows that only fill the shape
IS_MEASURED = "is_measured"
BEFORE = "surrogate_before"  # objective under the policy at the start of the generation; NaN until it is known
TRAINED_LOGPS = "train_per_token_logps"  # of the last training forward
OLD_LOGPS = "old_per_token_logps"  # TRL's own name
PICTURES = "pictures_of_rows"  # a list: what each row's images are to the model


class ClipRange(NamedTuple):
    """The clipped objective's settings; see [`sequence_surrogate`]."""

    epsilon_low: float
    epsilon_high: float
    delta: float | None
    level: str


def loss_mask(inputs: Inputs) -> torch.Tensor:
    """1 for the completion tokens in the loss, shape `(N, T)`."""
    mask: torch.Tensor = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask


def measured_groups(
    task_ids: NDArray[np.int64], is_filler: NDArray[np.bool_], per_task: int | None
) -> NDArray[np.bool_]:
    """
    Which groups the improvement is measured on: the first few of each task in the batch's order.

    Args:
        task_ids (`np.ndarray`):
            Task of each group, shape `(B,)`.
        is_filler (`np.ndarray`):
            Groups outside the loss, shape `(B,)`.
        per_task (`int`, *optional*):
            Groups per task; all when `None`.

    Returns:
        `np.ndarray`: shape `(B,)`.
    """
    measured = ~is_filler
    if per_task is not None:
        for task_id in np.unique(task_ids):
            own = np.flatnonzero(measured & (task_ids == task_id))
            measured[own[per_task:]] = False
    return measured


def weigh_advantages(inputs: Inputs, weights: Sequence[float]) -> None:
    """
    Multiplies advantages, which rewards could not carry: the host divides their scale out again.

    Args:
        inputs (`dict`):
            This rank's loss inputs; changed in place, and left alone where every weight is 1.
        weights (`list[float]`):
            Factor of each row.
    """
    if any(weight != 1.0 for weight in weights):
        advantages: torch.Tensor = inputs["advantages"]
        inputs["advantages"] = advantages * torch.tensor(weights, dtype=advantages.dtype, device=advantages.device)


def add_behaviour_policy(inputs: Inputs, logps: Sequence[Sequence[float] | None], clip: ClipRange) -> None:
    """
    Gives carried rows the log-probabilities of the policy that generated them, and every row its objective so far.

    Where TRL computed no old log-probabilities, because generation and update are aligned, fresh rows beside carried
    ones get NaN, which [`record_forward`] replaces by those of the training forward: there both policies are the same.
    The objective of a fresh row is its advantage, since its ratios are 1.

    Args:
        inputs (`dict`):
            This rank's loss inputs; changed in place.
        logps (`list`):
            For each row the behaviour policy's log-probabilities, or `None` for a fresh row.
        clip ([`ClipRange`]):
            Settings of the objective.
    """
    mask, advantages = loss_mask(inputs), inputs["advantages"]
    before = advantages * (mask.sum(dim=1) > 0)
    current: torch.Tensor | None = inputs.get(OLD_LOGPS)
    if any(row is not None for row in logps):
        shape, device = inputs["completion_ids"].shape, inputs["completion_ids"].device
        old = torch.full(shape, torch.nan, device=device) if current is None else current.clone()
        for i, row in enumerate(logps):
            if row is not None:
                old[i] = 0.0
                old[i, : len(row)] = torch.tensor(row, device=device)
        inputs[OLD_LOGPS] = old
        is_carried = torch.tensor([row is not None for row in logps], device=device)
        if current is None:
            before = before.masked_fill(is_carried, torch.nan)
        else:
            before = torch.where(is_carried, sequence_surrogate(current, old, advantages, mask, *clip), before)
    inputs[BEFORE] = before


def record_forward(inputs: Inputs, logps: torch.Tensor, clip: ClipRange) -> None:
    """
    Keeps the log-probabilities of a training forward and fills in what waited for them.

    Args:
        inputs (`dict`):
            The micro-batch; changed in place.
        logps (`torch.Tensor`):
            Per-token log-probabilities, shape `(N, T)`.
        clip ([`ClipRange`]):
            Settings of the objective.
    """
    inputs[TRAINED_LOGPS] = logps
    if OLD_LOGPS in inputs:
        inputs[OLD_LOGPS] = torch.where(inputs[OLD_LOGPS].isnan(), logps, inputs[OLD_LOGPS])
        now = sequence_surrogate(logps, inputs[OLD_LOGPS], inputs["advantages"], loss_mask(inputs), *clip)
        inputs[BEFORE] = torch.where(inputs[BEFORE].isnan(), now, inputs[BEFORE])
