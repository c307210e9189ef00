"""When a trained batch moves the task weights, and what the update listens to."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..rollouts import CollectedBatch
from ..weighting import (
    FixedWeighting,
    GuardState,
    PlateauGuard,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    TaskSignal,
    TaskWeighting,
    WeightingState,
)
from ..weighting.signals import RewardAverage
from .loss_inputs import IS_MEASURED, SIGNAL, TASK_IDS, Inputs, measured_groups
from .measure import MeasuredChange, Shares


class BatchSignal(NamedTuple):
    """
    What is known of a batch's tasks when it is collected.

    Args:
        counts (`numpy.ndarray` of shape `(K,)`):
            Trained groups per task.
        advantages (`numpy.ndarray` of shape `(K,)`):
            Mean absolute advantage per task.
        measured_rows (`int`):
            Largest number of rows on any rank whose objective is to be measured.
    """

    counts: NDArray[np.float64]
    advantages: NDArray[np.float64]
    measured_rows: int


class TrainedBatch(NamedTuple):
    """
    A batch in training.

    Args:
        micro_batches (`list[dict]`):
            This rank's loss inputs.
        ends_at (`int`):
            The host's count of micro-steps after which all of it has been trained.
    """

    micro_batches: list[Inputs]
    ends_at: int

    @property
    def signal(self) -> BatchSignal:
        """What is known of its tasks; it travels in the rows."""
        signal: BatchSignal = self.micro_batches[0][SIGNAL][0]
        return signal


class UpdateFacts(NamedTuple):
    """
    What one update of the weights listened to.

    Args:
        improvements (`numpy.ndarray` of shape `(K,)`):
            I_k before the clip.
        counts (`numpy.ndarray` of shape `(K,)`):
            Trained groups per task.
    """

    improvements: NDArray[np.float64]
    counts: NDArray[np.float64]


def mark_rows(
    inputs: Inputs, batch: CollectedBatch, outside: NDArray[np.bool_], ranks: Shares, per_task: int | None
) -> None:
    """
    Adds each row's task, whether its objective is measured, and the batch's signal to the loss inputs.

    Args:
        inputs (`dict`):
            This rank's loss inputs; changed in place.
        batch ([`CollectedBatch`]):
            The batch they belong to.
        outside (`numpy.ndarray` of `bool`, shape `(B, G)`):
            Rows that only fill the shape.
        ranks ([`Shares`]):
            The processes of the run.
        per_task (`int`, *optional*):
            Groups per task to measure; all when `None`.
    """
    num_tasks = batch.plan.desired.size
    measured = measured_groups(batch.groups.task, batch.is_filler, per_task)[:, None] & ~outside
    tasks = np.where(outside, -1, batch.groups.task[:, None])
    device = inputs["advantages"].device
    inputs[TASK_IDS] = torch.tensor(ranks.local(tasks.ravel().tolist()), device=device)
    inputs[IS_MEASURED] = torch.tensor(ranks.local(measured.ravel().tolist()), device=device)
    own = inputs[TASK_IDS].cpu()
    sums = torch.zeros(2, num_tasks)
    sums[0].index_add_(0, own.clamp(min=0), inputs["advantages"].abs().float().cpu() * (own >= 0))
    sums[1].index_add_(0, own.clamp(min=0), (own >= 0).float())
    total = ranks.sum(sums).double().numpy()
    signal = BatchSignal(
        counts=batch.group_ledger.trained.astype(np.float64),
        advantages=total[0] / np.maximum(total[1], 1.0),
        measured_rows=max(int(part.sum()) for part in np.split(measured.ravel(), ranks.size)),
    )
    inputs[SIGNAL] = [signal] * len(own)


@dataclass
class WeightUpdater:
    """
    Moves the task weights by what batches improved.

    Args:
        weighting ([`TaskWeighting`]):
            The strategy.
        guard ([`PlateauGuard`], *optional*):
            Bounds tasks that take much and do not improve.
        num_tasks (`int`):
            Number of tasks K.
        num_generations (`int`):
            Rollouts per group (G).
        rows_per_call (`int`):
            Rows of one forward call.
        by (`str`, *optional*, defaults to `"batch"`):
            Whether weights move per generation `"batch"` or per optimizer `"minibatch"`.
        source (`str`, *optional*, defaults to `"surrogate"`):
            What the improvement is taken from: `"surrogate"`, `"reward"` or `"none"`.
        reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` or `"mean"` over a task's sequences.
    """

    weighting: TaskWeighting
    guard: PlateauGuard | None
    num_tasks: int
    num_generations: int
    rows_per_call: int
    by: Literal["batch", "minibatch"] = "batch"
    source: Literal["surrogate", "reward", "none"] = "surrogate"
    reduction: Literal["sum", "mean"] = "sum"
    _open: list[TrainedBatch] = field(default_factory=list)

    @property
    def measures_surrogate(self) -> bool:
        """Whether the extra forward can matter: a task has competitors, and the strategy looks at improvements."""
        blind = isinstance(self.weighting, FixedWeighting | RewardOnlyWeighting | SelfEvolvingCurriculum)
        return self.source == "surrogate" and self.num_tasks > 1 and not blind

    def weights(self, weighting: WeightingState, guard: GuardState) -> NDArray[np.float64]:
        """The weights that the next batch follows, shape `(K,)`."""
        weights = self.weighting.weights(weighting)
        return weights if self.guard is None else self.guard.bound(weights, guard)

    def begin(self, micro_batches: list[Inputs], ends_at: int) -> None:
        """Takes note of a batch whose training begins; of one that it knows already it does not."""
        if not self._open or self._open[-1].micro_batches is not micro_batches:
            self._open.append(TrainedBatch(micro_batches, ends_at))

    def forget(self) -> None:
        """Drops batches that a run before left half trained."""
        self._open.clear()

    def steps_left(self, step: int, window: int) -> int:
        """Optimizer steps of `window` micro-steps until all that was collected has been trained."""
        return max((-((step - batch.ends_at) // window) for batch in self._open), default=0)

    def due(self, step: int, window: int) -> list[tuple[TrainedBatch, int]]:
        """
        The batches that move the weights after this optimizer step, with the forward calls that measuring them takes.

        Args:
            step (`int`):
                The host's count of micro-steps.
            window (`int`):
                Micro-steps in the optimizer step that just ended.

        Returns:
            `list`: by batch those trained to the end, by minibatch the one just trained.
        """
        if self.by == "minibatch":
            due = []
            for batch in self._open[-1:]:
                steps = range(step - window, step)
                part = [batch.micro_batches[m % len(batch.micro_batches)] for m in steps]
                due.append((batch._replace(micro_batches=part), window))
        else:
            ended = [batch for batch in self._open if batch.ends_at <= step]
            due = [(batch, max(-(-batch.signal.measured_rows // self.rows_per_call), 1)) for batch in ended]
        self._open = [batch for batch in self._open if batch.ends_at > step]
        return due

    def update(
        self,
        weighting: WeightingState,
        guard: GuardState,
        average: RewardAverage,
        batch: TrainedBatch,
        change: MeasuredChange | None,
    ) -> tuple[WeightingState, GuardState, UpdateFacts]:
        """
        One update of the weights.

        Args:
            weighting ([`WeightingState`]):
                Memory of the strategy.
            guard ([`GuardState`]):
                Memory of the guard.
            average ([`RewardAverage`]):
                Accuracy averages of the tasks.
            batch ([`TrainedBatch`]):
                What was trained.
            change ([`MeasuredChange`], *optional*):
                The measured change of the objective, where it is used.

        Returns:
            `tuple`: both memories after the update, and what it listened to.
        """
        counts, improvements = batch.signal.counts, np.zeros(self.num_tasks)
        if change is not None:
            rows = counts * self.num_generations if self.by == "batch" else change.counts.astype(np.float64)
            improvements = change.reduced(self.reduction, rows)
            counts = np.minimum(counts, change.counts)  # absent from this minibatch, absent from the update
        elif self.source == "reward":
            improvements = average.changes
        signal = TaskSignal(
            rewards=average.values,
            improvements=improvements,
            advantages=batch.signal.advantages,
            counts=counts,
        )
        weighting = self.weighting.update(signal, weighting)
        if self.guard is not None:
            guard = self.guard.update(self.weighting.weights(weighting), signal.rewards, guard)
        return weighting, guard, UpdateFacts(improvements, counts)
