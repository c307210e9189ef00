"""When a trained batch moves the task weights, and what the update listens to."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..host.distributed import Ranks
from ..host.settings import Settings
from ..report.metrics import Metrics, update_metrics
from ..rollouts.collector import CollectedBatch
from ..state.run_state import MultiTaskState
from ..weighting import (
    FixedWeighting,
    PlateauGuard,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    TaskSignal,
    TaskWeighting,
)
from .loss_inputs import IS_MEASURED, TASK_IDS, Inputs, measured_groups
from .measure import MeasuredChange


class BatchSignal(NamedTuple):
    """
    What is known of a batch's tasks when it is collected.

    Args:
        counts (`np.ndarray`):
            Trained groups per task, shape `(K,)`.
        advantages (`np.ndarray`):
            Mean absolute advantage per task, shape `(K,)`.
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
        signal ([`BatchSignal`]):
            What is known of its tasks.
        micro_batches (`list[dict]`):
            This rank's loss inputs.
        ends_at (`int`):
            The host's count of micro-steps after which all of it has been trained.
    """

    signal: BatchSignal
    micro_batches: list[Inputs]
    ends_at: int


def mark_rows(
    inputs: Inputs, batch: CollectedBatch, ranks: Ranks, num_generations: int, num_tasks: int, per_task: int | None
) -> BatchSignal:
    """
    Adds each row's task, and whether its objective is measured, to the loss inputs.

    Args:
        inputs (`dict`):
            This rank's loss inputs; changed in place.
        batch ([`CollectedBatch`]):
            The batch they belong to.
        ranks ([`Ranks`]):
            The processes of the run.
        num_generations (`int`):
            Rollouts per group (G).
        num_tasks (`int`):
            Number of tasks K.
        per_task (`int`, *optional*):
            Groups per task to measure; all when `None`.

    Returns:
        [`BatchSignal`]
    """
    measured = measured_groups(batch.task_ids, batch.is_filler, per_task).repeat(num_generations)
    tasks = np.where(batch.is_filler, -1, batch.task_ids).repeat(num_generations)
    device = inputs["advantages"].device
    inputs[TASK_IDS] = torch.tensor(ranks.local(tasks.tolist()), device=device)
    inputs[IS_MEASURED] = torch.tensor(ranks.local(measured.tolist()), device=device)
    own = inputs[TASK_IDS].cpu()
    sums = torch.zeros(2, num_tasks)
    sums[0].index_add_(0, own.clamp(min=0), inputs["advantages"].abs().float().cpu() * (own >= 0))
    sums[1].index_add_(0, own.clamp(min=0), (own >= 0).float())
    total = ranks.sum(sums).double().numpy()
    return BatchSignal(
        counts=batch.group_ledger.trained.astype(np.float64),
        advantages=total[0] / np.maximum(total[1], 1.0),
        measured_rows=max(int(part.sum()) for part in np.split(measured, ranks.size)),
    )


@dataclass
class WeightUpdater:
    """
    Moves the task weights by what batches improved.

    Args:
        weighting ([`TaskWeighting`]):
            The strategy.
        guard ([`PlateauGuard`], *optional*):
            Bounds tasks that take much and do not improve.
        settings ([`Settings`]):
            The run's settings.
        names (`tuple[str, ...]`):
            Task names in order.
        num_generations (`int`):
            Rollouts per group (G).
        rows_per_call (`int`):
            Rows of one forward call that measures.
    """

    weighting: TaskWeighting
    guard: PlateauGuard | None
    settings: Settings
    names: tuple[str, ...]
    num_generations: int
    rows_per_call: int
    _open: list[TrainedBatch] = field(default_factory=list)

    @property
    def measures_surrogate(self) -> bool:
        """Whether the extra forward can matter: a task has competitors, and the strategy looks at improvements."""
        blind = isinstance(self.weighting, FixedWeighting | RewardOnlyWeighting | SelfEvolvingCurriculum)
        return self.settings.improvement_source == "surrogate" and len(self.names) > 1 and not blind

    def weights(self, state: MultiTaskState) -> NDArray[np.float64]:
        """The weights that the next batch follows, shape `(K,)`."""
        weights = self.weighting.weights(state.weighting)
        return weights if self.guard is None else self.guard.bound(weights, state.guard)

    def add(self, batch: TrainedBatch) -> None:
        """Takes note of a batch whose training begins."""
        self._open.append(batch)

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
            `list`: with `task_weight_update="batch"` the batches trained to the end, else the minibatch just trained.
        """
        if self.settings.task_weight_update == "minibatch":
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
        self, state: MultiTaskState, batch: TrainedBatch, change: MeasuredChange | None
    ) -> tuple[MultiTaskState, Metrics]:
        """
        One update of the weights.

        Args:
            state ([`MultiTaskState`]):
                The state after the batch was collected.
            batch ([`TrainedBatch`]):
                What was trained.
            change ([`MeasuredChange`], *optional*):
                The measured change of the objective, where it is used.

        Returns:
            `tuple`: the new state, and the metrics of the update.
        """
        counts, improvements = batch.signal.counts, np.zeros(len(self.names))
        if change is not None:
            by_batch = self.settings.task_weight_update == "batch"
            rows = counts * self.num_generations if by_batch else change.counts.astype(np.float64)
            improvements = change.reduced(self.settings.improvement_reduction, rows)
            counts = np.minimum(counts, change.counts)  # absent from this minibatch, absent from the update
        elif self.settings.improvement_source == "reward":
            improvements = state.reward_average.changes
        signal = TaskSignal(
            rewards=state.reward_average.values,
            improvements=improvements,
            advantages=batch.signal.advantages,
            counts=counts,
        )
        state = replace(state, weighting=self.weighting.update(signal, state.weighting))
        if self.guard is not None:
            weights = self.weighting.weights(state.weighting)
            state = replace(state, guard=self.guard.update(weights, signal.rewards, state.guard))
        metrics = update_metrics(self.names, improvements, self.settings.improvement_clip, counts, state.guard.held)
        return state, metrics
