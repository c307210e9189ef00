"""
What the trainer's hooks do with tasks. One generation batch goes one way: collect -> replay -> (the host: split, loss,
optimizer step) -> measure -> update.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput
from trl import GRPOTrainer

from ..improvement.loss_inputs import ClipRange, add_behaviour_policy, record_forward, weigh_advantages
from ..improvement.measure import MeasuredChange, measure_change
from ..improvement.weight_updates import TrainedBatch, WeightUpdater, mark_rows
from ..report.metrics import (
    averaged,
    batch_metrics,
    episode_metrics,
    leave_out_unmeasured,
    memory_metrics,
    update_metrics,
)
from ..report.model_card import extend_model_card, multi_task_section
from ..report.pilots import pilot_metrics
from ..report.reporting import CUT_SHARE, RunReporter
from ..rollouts import BatchLoop, CollectedBatch, RolloutSource, RowStore, loss_weights
from ..state.run_state import MultiTaskState
from ..tasks import TaskMixture
from ..tasks.rows import KEY, TaskRow
from .agents import Agents, resting
from .behaviour import current_logps, keep_surplus
from .collecting import HostRollouts, Scorer
from .contract import check_loss_inputs
from .distributed import Ranks
from .doors import Door, Live, Probe, with_lists_of_images
from .evaluation import ScoredDoor, TaskEvaluation
from .first_look import look_at_environments
from .logs import ExtraColumns
from .plain import PlainRun
from .program_evaluation import evaluate_rows
from .programs import HostPrograms
from .replay import filler_rows, loss_rows
from .saving import Checkpoints
from .settings import Settings
from .sight import Sight, with_pictures
from .turns import Turns


@dataclass(eq=False, kw_only=True)
class MixtureRun(PlainRun):
    """
    A run of tasks.

    Args:
        settings ([`Settings`]):
            The run's settings.
        mixture ([`TaskMixture`]):
            The tasks.
        ranks ([`Ranks`]):
            The processes of the run.
        loop ([`BatchLoop`]):
            Collects batches.
        rollouts ([`HostRollouts`]):
            Generates through the host.
        programs ([`HostPrograms`], *optional*):
            The same for tasks with a program; `None` without any.
        source ([`RolloutSource`]):
            What the loop asks for rollouts: `rollouts`, or what a user put around it.
        store ([`RowStore`]):
            This rank's rows.
        scorer ([`Scorer`]):
            Scores rows.
        updater ([`WeightUpdater`]):
            Moves the task weights.
        reporter ([`RunReporter`]):
            Says what the reader can act on.
        clip ([`ClipRange`]):
            Settings of the clipped objective.
        columns ([`ExtraColumns`]):
            The completions table's further columns.
        sampler (`Any`, *optional*):
            The host's clock; `None` where the host's own sampler chooses the prompts.
        state ([`MultiTaskState`]):
            What the run remembers.
        checkpoints ([`Checkpoints`]):
            Writes and reads it.
        turns ([`Turns`]):
            Bounds the model's turns.
        sight ([`Sight`]):
            Runs the model on rows with images and without.
        agents ([`Agents`], *optional*):
            Looks after environments; `None` where no task has tools.
        baseline_accuracy (`dict[str, float]`, *optional*):
            Accuracy by task name for the relative change reported by evaluations.
    """

    settings: Settings
    mixture: TaskMixture
    ranks: Ranks
    loop: BatchLoop
    rollouts: HostRollouts
    programs: HostPrograms | None
    source: RolloutSource
    store: RowStore
    scorer: Scorer
    updater: WeightUpdater
    reporter: RunReporter
    clip: ClipRange
    columns: ExtraColumns
    sampler: Any
    state: MultiTaskState
    checkpoints: Checkpoints
    turns: Turns
    sight: Sight
    agents: Agents | None = None
    baseline_accuracy: Mapping[str, float] | None = None
    trainer: Any = None
    _door: Door = field(default_factory=Live)
    _in_loss: dict[str, Any] | None = None

    def attach(self, trainer: GRPOTrainer) -> None:
        self.trainer = trainer

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weights that the next batch follows, shape `(K,)`."""
        return self.updater.weights(self.state.weighting, self.state.guard)

    @property
    def task_weights(self) -> dict[str, float]:
        """The same by task name."""
        return dict(zip(self.mixture.names, self.weights.tolist(), strict=True))

    # Collecting

    def train_sampler(self, host: GRPOTrainer, dataset: Any) -> Any:
        return host._get_train_sampler(dataset) if self.sampler is None else self.sampler

    def prepare(self, host: GRPOTrainer, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.trainer.model.training:
            return self._prepare_evaluation(host, inputs)
        weights = self.weights
        chosen_by_host = [row[KEY] for row in inputs] if self.sampler is None else None
        self.rollouts.begin(host, self.state.generation, chosen_by_host)
        if self.programs is not None:
            self.programs.begin(host, self.state.generation, self.state.programs)
        self.reporter.open(self.trainer.state.global_step + 1, getattr(self.loop.sampler, "group_limit", None))
        calls_before = len(self.metrics.get(CUT_SHARE, ()))
        batch, state = self.loop.collect(
            self.state, weights, self.source, held=self.state.guard.held, on_round=self.reporter.round
        )
        average = state.reward_average.update(batch.accuracy, ~np.isnan(batch.accuracy), self.settings.task_reward_ema)
        state = replace(state, reward_average=average)
        metrics = batch_metrics(self.mixture.names, batch, weights, state.stalls.stalled, state.forgetting.regressed)
        metrics |= memory_metrics(self.mixture.names, batch, self.state.draws, state.draws)
        metrics |= pilot_metrics(self.mixture.names, batch, state.pilots) | self.reporter.take_dropped()
        if self.agents is not None:
            metrics |= episode_metrics(self.mixture.names, *self.rollouts.activity())
        if self.programs is not None:
            state = replace(state, programs=self.programs.remember(state.programs))
            metrics |= self.programs.metrics(batch)
        self.record(metrics)
        for unit, ledger in (("groups", state.groups), ("tokens", state.tokens)):  # totals, never averaged
            self.metrics[f"sampling/total_generated_{unit}"] = [float(ledger.generated.sum())]
        self.reporter.cut(self.metrics.get(CUT_SHARE, [])[calls_before:], self.trainer.max_completion_length)
        if self.reporter.batch(batch, state):
            self.trainer.control.should_training_stop = True
        return self._prepare_loss(host, batch, state)

    def _prepare_loss(self, host: GRPOTrainer, batch: CollectedBatch, state: MultiTaskState) -> dict[str, Any]:
        """Loss inputs of this rank for the groups that train, as the host prepares them; `state` becomes the run's."""
        chosen = loss_rows(batch, self.mixture, self.store, self.ranks)
        logps = None if self._corrects_sampling else current_logps(self.trainer)
        pad, generation = self.trainer._tokenizer.pad_token_id, self.state.generation
        surplus = keep_surplus(batch.surplus, generation, self.store, self.ranks, logps, pad, self.sight)
        self.state = replace(state, carried=surplus)
        with self.columns.of(chosen.rows), self._answering(chosen.door), resting(self.mixture):
            inputs = host._generate_and_score_completions(chosen.host_rows)
        fillers = filler_rows(batch)
        self.columns.leave_out(fillers.ravel())
        check_loss_inputs(inputs, len(chosen.rows))
        weights = loss_weights(batch.groups, state.pilots).repeat(self.trainer.num_generations)
        weigh_advantages(inputs, self.ranks.local(weights.tolist()))
        add_behaviour_policy(inputs, [row.behaviour for row in chosen.rows], self.clip)
        mark_rows(inputs, batch, fillers, self.ranks, self.settings.improvement_groups)
        return inputs

    def _prepare_evaluation(self, host: GRPOTrainer, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [row[KEY] if isinstance(row.get(KEY), TaskRow) else self.mixture.evaluation_row(row) for row in inputs]
        if self.programs is not None:
            door = evaluate_rows(self.programs, host, rows, self.rollouts.generate, self._door)
            with self.columns.of_evaluation(rows), self._answering(door), resting(self.mixture):
                return host._generate_and_score_completions(door.host_rows)
        with self.columns.of_evaluation(rows), self.turns.of([row.task_id for row in rows]):
            return host._generate_and_score_completions(self.mixture.host_rows(rows))

    @contextmanager
    def _answering(self, door: Door) -> Iterator[None]:
        """While it lasts the host's two hooks are answered by `door`."""
        before, self._door = self._door, door
        try:
            yield
        finally:
            self._door = before

    @contextmanager
    def probing(self, rows: Sequence[TaskRow]) -> Iterator[None]:
        """While it lasts the host stops when it has generated for `rows`."""
        with self._answering(Probe()), self.turns.of([row.task_id for row in rows]):
            yield

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        if self.agents is not None:
            self.agents.check_resets()
        return with_lists_of_images(self._door.generate(host, prompts))

    def single_turn(self, host: GRPOTrainer, *args: Any, **kwargs: Any) -> Any:
        return self.turns.single(host, *args, **kwargs)

    def tool_turns(self, host: GRPOTrainer, *args: Any) -> Any:
        return self.turns.loop(host, *args)

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        return self._door.rewards(host, *arguments)

    def log_extra(self, host: GRPOTrainer, column: str, values: list[Any]) -> None:
        self.columns.log(column, values)

    # The loss, and what it improved

    @property
    def _corrects_sampling(self) -> bool:
        """Whether the host relates every row to the sampling policy, carried ones too."""
        return bool(self.trainer.use_vllm and self.trainer.vllm_importance_sampling_correction)

    def micro_batch(self, host: GRPOTrainer, generation_batch: Any) -> dict[str, Any]:
        inputs = host._prepare_inputs(generation_batch)
        if self.trainer.model.training:
            per_batch = self.trainer.args.steps_per_generation * self.trainer.num_iterations
            self.updater.begin(self.trainer._buffered_inputs, self.trainer._step + per_batch)
        return inputs

    def loss(self, host: GRPOTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._in_loss = inputs if self.trainer.model.training else None
        try:
            return host._compute_loss(model, inputs)
        finally:
            self._in_loss = None

    def forward(self, host: GRPOTrainer, model: Any, *args: Any, **kwargs: Any) -> Any:
        result = self.sight.forward(host, model, *args, **kwargs)
        if self._in_loss is not None and torch.is_grad_enabled():
            record_forward(self._in_loss, result[0].detach(), self.clip)
        return result

    def step_end(self, host: GRPOTrainer) -> None:
        trainer = self.trainer
        for batch, num_calls in self.updater.due(trainer._step, trainer.current_gradient_accumulation_steps):
            change = self._measured(host, batch, num_calls) if self.updater.measures_surrogate else None
            before = self.state
            weighting, guard, facts = self.updater.update(
                before.weighting, before.guard, before.reward_average, batch, change
            )
            self.state = replace(before, weighting=weighting, guard=guard)
            self.record(
                update_metrics(
                    self.mixture.names, facts.improvements, self.settings.improvement_clip, facts.counts, guard.held
                )
            )
            self.reporter.guard(before.guard.held, guard.held)

    def _measured(self, host: GRPOTrainer, batch: TrainedBatch, num_calls: int) -> MeasuredChange:
        return measure_change(
            [with_pictures(inputs) for inputs in batch.micro_batches],
            current_logps(self.trainer),
            self.ranks,
            self.mixture.num_tasks,
            self.clip,
            num_calls=num_calls,
            batch_size=self.trainer.args.per_device_train_batch_size,
            since_generation=self.updater.by == "batch",
        )

    # Saving and loading

    def train(self, host: GRPOTrainer, checkpoint: str | bool | None, *args: Any, **kwargs: Any) -> Any:
        # What a run before left half trained belongs to a policy that is gone.
        self.trainer._step, self.trainer._buffered_inputs = 0, None
        self.updater.forget()
        found = self.checkpoints.find(checkpoint)
        if found is not None:
            self.trainer._metrics["train"].clear()
        try:
            if self.agents is not None and self.trainer.accelerator.is_main_process:
                look_at_environments(self.trainer, self.mixture)
            return host.train(found, *args, **kwargs)
        finally:
            if self.agents is not None:
                self.agents.close()

    def save(self, host: GRPOTrainer, model: Any, trial: Any) -> None:
        output_dir, step = self.trainer._get_output_dir(trial=trial), self.trainer.state.global_step
        folder = Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        self.reporter.checkpoint(folder.name, self._steps_left)
        self.checkpoints.begin(folder)
        self.checkpoints.write(folder, self.state, self._steps_left)
        host._save_checkpoint(model, trial)

    def save_state(self, host: GRPOTrainer) -> None:
        host.save_state()
        self.checkpoints.write(Path(self.trainer.args.output_dir), self.state, self._steps_left)

    @property
    def _steps_left(self) -> int:
        return self.updater.steps_left(self.trainer._step, self.trainer.args.gradient_accumulation_steps)

    def load(self, host: GRPOTrainer, checkpoint: str | None) -> None:
        host._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.state = self.checkpoints.read(checkpoint, self.trainer.state.global_step)

    def epoch(self, host: GRPOTrainer, *args: Any, **kwargs: Any) -> None:
        # The host asks only after a step whether the last one is done: resumed at its end, a run would grow by one.
        trainer = self.trainer
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer._load_rng_state(kwargs.get("resume_from_checkpoint"))
            trainer.control.should_training_stop = True
            self.reporter.finished(trainer.state.global_step, trainer.state.max_steps)
            return
        host._run_epoch(*args, **kwargs)

    def model_card(self, host: GRPOTrainer, *args: Any, **kwargs: Any) -> None:
        host.create_model_card(*args, **kwargs)
        if self.trainer.is_world_process_zero():
            described = self.settings.described() | {
                "num_generations": self.trainer.num_generations,
                "seed": self.trainer.args.seed,
            }
            section = multi_task_section(described, self.task_weights, self.trainer.state.log_history)
            extend_model_card(Path(self.trainer.args.output_dir) / "README.md", section)

    # Evaluation

    def evaluate(self, host: GRPOTrainer, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        self.mixture.check_evaluation(dataloader.dataset)
        evaluation = TaskEvaluation(self.mixture.names, dataloader.dataset, self.trainer.num_generations_eval)
        if self.programs is not None:
            self.programs.begin(host, self.state.generation, self.state.programs)
            self.rollouts.begin(host, self.state.generation, None)
        with self._answering(ScoredDoor(self.scorer, self.mixture, evaluation)):
            output = host.evaluation_loop(dataloader, *args, **kwargs)
        if self.agents is not None and not self.trainer.is_in_train:
            self.agents.close()
        self.record(evaluation.metrics(self.baseline_accuracy))
        if self.programs is not None:
            self.record(self.programs.evaluated())
        self.record(self.reporter.take_dropped())
        # The host logs under `eval_`, whatever the prefix, and nothing at all after a prediction.
        prefix = kwargs.get("metric_key_prefix", "eval")
        measured = averaged(self.metrics)
        self.metrics.clear()
        assert output.metrics is not None
        output.metrics.update({f"{prefix}_{name}": value for name, value in measured.items()})
        self.reporter.unscored(evaluation.unscored)
        return output

    # Reporting

    def log(self, host: GRPOTrainer, logs: dict[str, float], start_time: float | None) -> None:
        leave_out_unmeasured(self.metrics)
        host.log(logs, start_time)

    def is_best(self, host: GRPOTrainer, metrics: dict[str, float], trial: Any) -> bool:
        wanted = self.trainer.args.metric_for_best_model
        if wanted and not self.reporter.knows_best_metric(wanted, metrics):
            return False
        return host._determine_best_metric(metrics, trial)

    @property
    def metrics(self) -> dict[str, list[float]]:
        """The host's metrics of the mode that it is in."""
        metrics: dict[str, list[float]] = self.trainer._metrics["train" if self.trainer.model.training else "eval"]
        return metrics

    def record(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.metrics[name].append(value)

    def train_end(self) -> None:
        if self.trainer.accelerator.is_main_process:
            self.reporter.end(self.state)
