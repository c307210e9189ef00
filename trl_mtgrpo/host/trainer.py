"""The trainer: each hook of TRL's `GRPOTrainer` that multi-task training needs, wrapped and never copied.

One generation batch goes one way: collect -> replay -> (TRL: split, loss, optimizer step) -> measure -> update. The
groups that train are *replayed*: TRL prepares them for its loss while `_generate` and `_calculate_rewards` answer with
what was already generated and scored.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput
from trl import GRPOConfig, GRPOTrainer

from ..improvement.loss_inputs import ClipRange, add_behaviour_policy, record_forward
from ..improvement.measure import MeasuredChange, measure_change
from ..improvement.weight_updates import BatchSignal, TrainedBatch, WeightUpdater, mark_rows
from ..report.display import TaskTableCallback
from ..report.metrics import batch_metrics
from ..report.model_card import extend_model_card, multi_task_section
from ..report.reporting import RunReporter
from ..rollouts.collector import BatchCollector, CollectedBatch, Generated
from ..rollouts.groups import COMPLETION_IDS, COMPLETIONS, Group, merge_extra_fields, split_generation
from ..sampling import RatioPreservingSampler, StallDoctor
from ..state.checkpoints import begin_checkpoint, find_checkpoint
from ..state.resuming import resume_state
from ..state.run_state import STATE_FILE, start_state, write_state
from ..tasks.failures import RewardError, describe_failures
from ..tasks.rewards import merge_rows
from ..tasks.task import Task
from ..weighting import PlateauGuard, TaskWeighting
from .behaviour import with_behaviour_policy
from .callbacks import TaskWeightCallback
from .contract import check_host
from .distributed import Ranks
from .evaluation import TaskEvaluation, check_evaluation_rows, evaluation_rows, name_evaluation
from .method import GroupFilter, build_guard, build_judge, build_sampler, build_weighting, filters_groups
from .replay import Replay, build_replay
from .run_plan import plan_run
from .task_sampler import TaskAwareSampler


class MultiTaskGRPOTrainer(GRPOTrainer):
    """
    Trains one model on several tasks with [Multi-Task GRPO](https://huggingface.co/papers/2602.05547).

    Task weights move toward weak and slowly improving tasks, groups without a gradient are filtered and refilled, and
    the mix of each batch follows the weights *after* filtering. Everything else is [`~trl.GRPOTrainer`]: its arguments
    keep their names and meaning.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            Model to train.
        reward_funcs (`Callable`, `list` or `dict[str, Callable | list]`, *optional*):
            Without `tasks`: a dict from task name to reward function(s) for a `train_dataset` with a `task` column, or
            what `GRPOTrainer` takes, which then trains as it would.
        args ([`MultiTaskGRPOConfig`] or [`~trl.GRPOConfig`], *optional*):
            Settings. A plain `GRPOConfig` gets the defaults of [`MultiTaskGRPOConfig`] and keeps its clip range.
        train_dataset ([`~datasets.Dataset`], *optional*):
            Training rows, when `tasks` is not given.
        eval_dataset ([`~datasets.Dataset`] or `dict[str, Dataset]`, *optional*):
            Evaluation rows, when `tasks` is not given: one set, with a `task` column where there are several tasks, or
            one set per name. With a dict of reward functions the names are those of the tasks; otherwise each set is
            reported as `eval_<name>_...`.
        tasks (`list[Task]`, *optional*):
            The tasks. See [`Task`].
        weighting ([`TaskWeighting`], *optional*):
            A strategy of your own, in place of the configured one.
        sampler ([`RatioPreservingSampler`], *optional*):
            A planner of your own, in place of the configured one.
        group_filter (`Callable`, *optional*):
            A filter of your own: rewards of shape `(N, G)` to booleans of shape `(N,)`. It is applied on top of the
            rule that a group without advantages does not train.
        guard ([`PlateauGuard`], *optional*):
            A guard of your own, in place of the configured one.
        baseline_accuracy (`dict[str, float]`, *optional*):
            Accuracy by task name for the relative change reported by evaluations.
        **kwargs:
            Further arguments of [`~trl.GRPOTrainer`], by keyword.

    Raises:
        ValueError: for arguments that do not fit together, before the first step.
        HostContractError: if the installed TRL has changed a hook.

    Example:

    ```python
    from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task

    trainer = MultiTaskGRPOTrainer(
        model="Qwen/Qwen2.5-3B",
        tasks=[
            Task("countdown", countdown_train, countdown_reward, success_threshold=1.0),
            Task("zebra", zebra_train, zebra_reward, success_threshold=1.0),
        ],
        args=MultiTaskGRPOConfig(output_dir="out", task_weight_tradeoff=0.2),
    )
    trainer.train()
    ```
    """

    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "mt-grpo", "trl_mtgrpo"]
    _name = "MT-GRPO"
    _paper: ClassVar[dict[str, str]] = {
        "title": "Multi-Task GRPO: Reliable LLM Reasoning Across Tasks",
        "id": "2602.05547",
        "citation": """@article{ramesh2026multitask,
    title         = {{Multi-Task GRPO: Reliable LLM Reasoning Across Tasks}},
    author        = {Ramesh, Shyam Sundhar and Ji, Xiaotong and Zimmer, Matthieu and Yoon, Sangwoong and
                     Wang, Zhiyong and Bou Ammar, Haitham and Lucchi, Aurelien and Bogunovic, Ilija},
    year          = 2026,
    eprint        = {2602.05547},
    archivePrefix = {arXiv},
}""",
    }

    def __init__(
        self,
        model: "str | PreTrainedModel",
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        tasks: Sequence[Task] | None = None,
        weighting: TaskWeighting | None = None,
        sampler: RatioPreservingSampler | None = None,
        group_filter: GroupFilter | None = None,
        guard: PlateauGuard | None = None,
        baseline_accuracy: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_host()
        plan = plan_run(model, reward_funcs, args, train_dataset, eval_dataset, tasks, kwargs)
        self.settings, self.mixture, self._trains_host_rows = plan.settings, plan.mixture, plan.trains_host_rows
        self._replay: Replay | None = None
        self._queued: BatchSignal | None = None
        self._open_micro_batch: dict[str, Any] | None = None
        self._evaluation: TaskEvaluation | None = None
        self._baseline_accuracy = baseline_accuracy
        super().__init__(model=model, args=plan.settings, **plan.host_arguments, **kwargs)
        if self.mixture is not None:
            self._build_method(weighting, sampler, group_filter, guard)

    def _build_method(
        self,
        weighting: TaskWeighting | None,
        sampler: RatioPreservingSampler | None,
        group_filter: GroupFilter | None,
        guard: PlateauGuard | None,
    ) -> None:
        settings, names, generations = self.settings, self.mixture.names, self.num_generations
        num_groups = settings.generation_batch_size // generations
        self._ranks = Ranks(self.accelerator)
        self._clip = ClipRange(self.epsilon_low, self.epsilon_high, settings.delta, self.importance_sampling_level)
        self.task_sampler = TaskAwareSampler(
            self.mixture.num_rows().tolist(),
            num_groups=num_groups,
            num_generations=generations,
            repeats=settings.steps_per_generation * self.num_iterations,
            seed=settings.seed,
            shuffle=self.shuffle_dataset,
        )
        filters = filters_groups(settings) or group_filter is not None
        multiple = self._ranks.size // math.gcd(self._ranks.size, generations)
        self._collector = BatchCollector(
            mixture=self.mixture,
            task_sampler=self.task_sampler,
            sampler=sampler or build_sampler(settings, num_groups, multiple),
            doctor=StallDoctor.for_batch(num_groups) if filters else None,
            judge=build_judge(settings, self.mixture, group_filter),
            ranks=self._ranks,
            num_generations=generations,
            max_surplus_age=settings.max_surplus_age,
            reward_ema=settings.task_reward_ema,
            solved_discount=settings.solved_discount,
            seed=settings.seed,
            # A whole round in one call is best for vLLM; `generate` holds its whole batch in memory.
            groups_per_call=2**31 if self.use_vllm else num_groups,
            max_group_tokens=generations * self.max_completion_length,
        )
        self._updater = WeightUpdater(
            weighting=weighting or build_weighting(settings, names),
            # A strategy of the user's own is bounded only by a guard of the user's own.
            guard=guard or (None if weighting else build_guard(settings, self.mixture.num_tasks)),
            settings=settings,
            names=names,
            num_generations=generations,
        )
        # The host's loader has its own order, which may grow as any TRL run's may.
        num_rows = () if self._trains_host_rows else tuple(self.mixture.num_rows().tolist())
        self._reporter = RunReporter(names, self.mixture.num_rows(), filters, settings.max_empty_steps)
        self.multi_task_state = start_state(names, self._updater.weighting, num_rows)
        self.add_callback(TaskWeightCallback(self))
        if settings.task_table:
            self.add_callback(TaskTableCallback(names))

    @property
    def task_weights(self) -> dict[str, float]:
        """The weights that the next generation batch follows, by task name; they sum to 1."""
        if self.mixture is None:
            return {}
        weights = self._updater.weights(self.multi_task_state)
        return dict(zip(self.mixture.names, weights.tolist(), strict=True))

    # Drawing, generating and scoring

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        if self.mixture is None or self._trains_host_rows:
            self._host_sampler = super()._get_train_sampler(dataset)
            return self._host_sampler
        return self.task_sampler

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.mixture is None:
            return super()._generate_and_score_completions(inputs)
        if not self.model.training:
            rows = evaluation_rows(self.mixture, inputs)
            if self.mixture.num_tasks > 1:
                self._log_completion_extra("task", [row["task"] for row in rows])
            return super()._generate_and_score_completions(rows)
        weights = self._updater.weights(self.multi_task_state)
        batch, state = self._collector.collect(
            self.multi_task_state,
            weights,
            self._generate_rows,
            host_rows=[self._named(row) for row in inputs] if self._trains_host_rows else None,
        )
        self.multi_task_state = replace(state, carried=self._with_behaviour_policy(batch.surplus))
        self._record(batch_metrics(self.mixture.names, batch, weights, state.stalls.stalled))
        for unit, ledger in (("groups", state.groups), ("tokens", state.tokens)):  # totals, never averaged
            self._metrics["train"][f"sampling/total_generated_{unit}"] = [float(ledger.generated.sum())]
        self._reporter.batch(batch, state)
        return self._prepare_for_loss(batch)

    def _generate_rows(self, rows: list[dict[str, Any]]) -> Generated:
        """Generates and scores this rank's rows, without TRL's preparation for the loss."""
        output = self._generate([row["prompt"] for row in rows])
        rows = merge_extra_fields(output, rows)
        rewards = self._calculate_rewards(
            rows, [row["prompt"] for row in rows], output[COMPLETIONS], output[COMPLETION_IDS]
        )
        logged = {column: list(values) for column, values in self._pending_extra_logs.items()}
        self._pending_extra_logs.clear()  # put back for the rows that train
        return Generated(split_generation(output, rows, logged), rewards.float().cpu().numpy(), self._lengths)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        return super()._generate(prompts) if self._replay is None else self._replay.output

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        if self._replay is not None:
            return self._replay.rewards
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.mixture is None:
            return rewards
        failures = self.mixture.failures.take()
        fatal = any(failure.fatal for failure in failures)
        facts = self._ranks.gather(
            [[row.get("task_id", 0), len(ids), fatal] for row, ids in zip(inputs, completion_ids_list, strict=True)]
        ).numpy()
        if facts[:, 2].any():
            raise RewardError(describe_failures(self._ranks.gather_objects(failures)))
        if self.settings.reward_on_error == "drop":
            self._record({"rewards/dropped_rows": float(sum(len(failure.rows) for failure in failures))})
            self._reporter.failures(failures)
        task_ids, lengths = facts[:, 0].astype(np.int64), facts[:, 1].astype(np.int64)
        self._lengths = lengths
        # A reward model scores every row; its column counts for its own task only.
        foreign = torch.from_numpy(self.mixture.column_task[None, :] != task_ids[:, None]).to(rewards.device)
        rewards = rewards.masked_fill(foreign, torch.nan)
        # An outcome alone is no reward: the host would train on it as 0.
        unscored = np.isnan(self.mixture.task_rewards(rewards.float().cpu().numpy(), task_ids))
        rewards = rewards.masked_fill(torch.from_numpy(unscored[:, None]).to(rewards.device), torch.nan)
        if self._evaluation is not None:
            self._evaluation.add(rewards.float().cpu().numpy(), task_ids, lengths)
        return rewards

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        held = self._pending_extra_logs[column]
        if held and len(held) == len(values):  # two tasks logged the same column for the same rows
            self._pending_extra_logs[column] = merge_rows(held, values)
        else:
            super()._log_completion_extra(column, values)

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "task_id": 0} if "task_id" not in row else row

    # Replaying the selected groups

    def _prepare_for_loss(self, batch: CollectedBatch) -> dict[str, Any]:
        """Loss inputs of this rank for the groups that train, as TRL prepares them."""
        self._replay = build_replay(batch, self._ranks, self.num_generations)
        self._pending_extra_logs.update(self._replay.logged(self.mixture.names))
        try:
            inputs = super()._generate_and_score_completions([rollout.row for rollout in self._replay.rollouts])
            add_behaviour_policy(inputs, self._replay.behaviour_logps, self._clip)
        finally:
            self._replay = None
        self._queued = mark_rows(
            inputs,
            batch,
            self._ranks,
            self.num_generations,
            self.mixture.num_tasks,
            self.settings.improvement_groups,
        )
        return inputs

    def _with_behaviour_policy(self, groups: Sequence[Group]) -> tuple[Group, ...]:
        if self._corrects_sampling:  # TRL relates every row to the sampling policy, carried ones too
            return tuple(groups)
        return with_behaviour_policy(groups, self._ranks, self._token_logps, self._tokenizer.pad_token_id)

    @property
    def _corrects_sampling(self) -> bool:
        return self.use_vllm and self.vllm_importance_sampling_correction

    # The loss, and what it improved

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs = super()._prepare_inputs(generation_batch)
        if self._queued is not None:  # a batch was collected in this call
            ends_at = self._step + self.args.steps_per_generation * self.num_iterations
            self._updater.add(TrainedBatch(self._queued, self._buffered_inputs, ends_at))
            self._queued = None
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._open_micro_batch = inputs if self.mixture is not None and self.model.training else None
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._open_micro_batch = None

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        if self._open_micro_batch is not None and torch.is_grad_enabled():
            record_forward(self._open_micro_batch, result[0].detach(), self._clip)
        return result

    def _token_logps(self, tokens: torch.Tensor, attention: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Log-probabilities of the last `num_tokens` tokens under the current policy, shape `(N, num_tokens)`."""
        with torch.no_grad():
            return super()._get_per_token_logps_and_entropies(
                self.model, tokens, attention, num_tokens, batch_size=self.args.per_device_train_batch_size
            )[0]

    def update_task_weights(self) -> None:
        """
        Measures what has been trained since the last call and moves the task weights.

        [`TaskWeightCallback`] calls it after every optimizer step; a loop of your own calls it after its own. It does
        nothing until a whole generation batch has been trained (`task_weight_update="batch"`).
        """
        if self.mixture is None:
            return
        for batch, num_calls in self._updater.due(self._step, self.current_gradient_accumulation_steps):
            change = self._measure(batch, num_calls) if self._updater.measures_surrogate else None
            before = self.multi_task_state
            self.multi_task_state, metrics = self._updater.update(before, batch, change)
            self._record(metrics)
            self._reporter.guard(before.guard.held, self.multi_task_state.guard.held)

    def _measure(self, batch: TrainedBatch, num_calls: int) -> MeasuredChange:
        return measure_change(
            batch.micro_batches,
            self._token_logps,
            self._ranks,
            self.mixture.num_tasks,
            self._clip,
            num_calls=num_calls,
            batch_size=self.args.per_device_train_batch_size,
            since_generation=self.settings.task_weight_update == "batch",
        )

    # Evaluation

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        if self.mixture is None:
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        else:
            check_evaluation_rows(self.mixture, dataloader.dataset)
            num_rows = len(dataloader.dataset) * self.num_generations_eval
            self._evaluation = TaskEvaluation(self.mixture, num_rows, self._baseline_accuracy)
            try:
                output = super().evaluation_loop(dataloader, *args, **kwargs)
            finally:
                measured, self._evaluation = self._evaluation, None
            self._record(measured.metrics())
        # Of several evaluation sets the host would let the last one overwrite the others.
        name_evaluation(self._metrics["eval"], kwargs.get("metric_key_prefix", "eval"))
        return output

    # Saving and loading

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        if self.mixture is not None:
            # What a run before left half trained belongs to a policy that is gone.
            self._step, self._buffered_inputs = 0, None
            self._updater.forget()
            if resume_from_checkpoint:
                self._metrics["train"].clear()
                resume_from_checkpoint = str(
                    find_checkpoint(resume_from_checkpoint, self.args.output_dir, not self.args.save_only_model)
                )
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.mixture is not None and self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            steps_left = self._updater.steps_left(self._step, self.args.gradient_accumulation_steps)
            self._reporter.checkpoint(folder.name, steps_left)
            begin_checkpoint(folder)
            write_state(folder / STATE_FILE, self.multi_task_state, steps_left, self._ranks.size)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.mixture is not None and checkpoint is not None:
            self.multi_task_state = resume_state(
                Path(checkpoint) / STATE_FILE,
                self.mixture.names,
                self.multi_task_state.num_rows,
                self.mixture.row,
                self._updater.weighting,
                (self.num_generations, len(self.mixture.column_task)),
                self.settings.allow_task_changes,
            )
            if self._trains_host_rows:  # the host's loader would start its first pass again
                for _ in range(int(self.state.epoch)):
                    next(iter(self._host_sampler))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The host asks only after a step whether the last one is done: resumed at its end, a run would grow by one.
        if self.mixture is not None and self.state.global_step >= self.state.max_steps:
            self._load_rng_state(kwargs.get("resume_from_checkpoint"))
            self.control.should_training_stop = True
            self._reporter.finished(self.state.global_step, self.state.max_steps)
        else:
            super()._run_epoch(*args, **kwargs)

    def save_state(self) -> None:
        """Saves the trainer's state, and the method's beside it, to `output_dir`."""
        super().save_state()
        if self.mixture is not None and self.args.should_save:
            steps_left = self._updater.steps_left(self._step, self.args.gradient_accumulation_steps)
            write_state(Path(self.args.output_dir) / STATE_FILE, self.multi_task_state, steps_left, self._ranks.size)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        super().create_model_card(*args, **kwargs)
        if self.mixture is not None and self.is_world_process_zero():
            section = multi_task_section(self.settings, self.task_weights, self.state.log_history)
            extend_model_card(Path(self.args.output_dir) / "README.md", section)

    # Reporting

    def _record(self, metrics: Mapping[str, float]) -> None:
        mode = "train" if self.model.training else "eval"
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)

    def report_rollouts(self) -> None:
        """Logs where the run's rollouts went. [`TaskWeightCallback`] calls it once at the end of training."""
        if self.mixture is not None and self.accelerator.is_main_process:
            self._reporter.end(self.multi_task_state)
