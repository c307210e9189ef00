"""The trainer: each hook of TRL's `GRPOTrainer` that multi-task training needs, wrapped and never copied."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from transformers.trainer_utils import EvalLoopOutput
from trl import GRPOConfig, GRPOTrainer

from ..rollouts import GroupFilter, PromptSource, RolloutSource
from ..rollouts.loop import BatchSampler
from ..state.run_state import MultiTaskState
from ..tasks import Task
from ..tasks.said import at_users_line
from ..weighting import PlateauGuard, TaskWeighting
from .build import build_run
from .callbacks import TaskWeightCallback
from .contract import check_host, check_trainer
from .plain import PlainRun
from .run_plan import Parts, plan_run


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
        sampler ([`BatchSampler`], *optional*):
            A planner of your own, in place of the configured one: anything with `open`, `plan` and `select`.
        group_filter (`Callable`, *optional*):
            A filter of your own: rewards of shape `(N, G)` to booleans of shape `(N,)`. It is applied on top of the
            rule that a group without advantages does not train.
        guard ([`PlateauGuard`], *optional*):
            A guard of your own, in place of the configured one.
        prompt_source ([`PromptSource`], *optional*):
            Chooses the prompts, in place of a seeded order of each task's rows.
        rollout_source (`Callable`, *optional*):
            Gets the trainer's own [`RolloutSource`] and returns the one to ask for rollouts, usually one around it.
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

    _run: PlainRun = PlainRun()  # also of a trainer whose constructor was never called

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
        sampler: BatchSampler | None = None,
        group_filter: GroupFilter | None = None,
        guard: PlateauGuard | None = None,
        prompt_source: PromptSource | None = None,
        rollout_source: Callable[[RolloutSource], RolloutSource] | None = None,
        baseline_accuracy: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_host()
        parts = Parts(weighting, sampler, group_filter, guard, prompt_source, rollout_source, baseline_accuracy)
        plan = plan_run(model, reward_funcs, args, train_dataset, eval_dataset, tasks, parts, kwargs)
        self.mixture, self.settings = plan.mixture, plan.settings
        with at_users_line(left_out=plan.unsaid):
            super().__init__(**plan.host_arguments)
        if plan.mixture is not None:
            check_trainer(self)
            self._run = build_run(self, plan, parts)
            self.add_callback(TaskWeightCallback(self))

    @property
    def _host(self) -> GRPOTrainer:
        """The host's own methods."""
        return cast(GRPOTrainer, super())

    @property
    def task_weights(self) -> dict[str, float]:
        """The weights that the next generation batch follows, by task name; they sum to 1. Empty without tasks."""
        return self._run.task_weights

    @property
    def multi_task_state(self) -> MultiTaskState | None:
        """What the run remembers between steps, as it is written into checkpoints. `None` without tasks."""
        return self._run.state

    def never_solved_rows(self) -> dict[str, list[int]]:
        """
        Rows that never work: by task name the positions in `train_dataset` of prompts whose last six groups failed in
        every rollout. They are too hard, or their answer key is wrong. Tasks without such rows are absent.
        """
        state = self.multi_task_state
        if state is None:
            return {}
        rows = zip(state.task_names, state.draws.memory.never_solved(), strict=True)
        return {name: found.tolist() for name, found in rows if len(found)}

    def update_task_weights(self) -> None:
        """
        Measures what has been trained since the last call and moves the task weights.

        [`TaskWeightCallback`] calls it after every optimizer step; a loop of your own calls it after its own. It does
        nothing until a whole generation batch has been trained (`task_weight_update="batch"`).
        """
        self._run.step_end(self._host)

    def report_rollouts(self) -> None:
        """Says where the run's rollouts went. [`TaskWeightCallback`] calls it once at the end of training."""
        self._run.train_end()

    # What follows are the host's hooks, each decided by the run.

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        return self._run.train_sampler(self._host, dataset)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self._run.prepare(self._host, inputs)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        return self._run.generate(self._host, prompts)

    def _generate_single_turn(
        self, prompt_ids: list[Any], images: Any, multimodal_fields: Any, *args: Any, **kwargs: Any
    ) -> Any:
        return self._run.single_turn(self._host, prompt_ids, images, multimodal_fields, *args, **kwargs)

    def _tool_call_loop(self, prompts: list[Any], prompt_ids: list[Any], completion_ids: list[Any], *args: Any) -> Any:
        return self._run.tool_turns(self._host, prompts, prompt_ids, completion_ids, *args)

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> torch.Tensor:
        return self._run.rewards(self._host, inputs, prompts, completions, completion_ids_list)

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        self._run.log_extra(self._host, column, values)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        return self._run.micro_batch(self._host, generation_batch)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        return self._run.loss(self._host, model, inputs)

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        return self._run.forward(self._host, model, *args, **kwargs)

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        return self._run.evaluate(self._host, dataloader, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs as the host does, without the metrics of tasks that were absent since the last time."""
        self._run.log(self._host, logs, start_time)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return self._run.is_best(self._host, metrics, trial)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        return self._run.train(self._host, resume_from_checkpoint, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self._run.epoch(self._host, *args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._run.save(self._host, model, trial)

    def save_state(self) -> None:
        """Saves the trainer's state, and the method's beside it, to `output_dir`."""
        self._run.save_state(self._host)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        self._run.load(self._host, checkpoint)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        self._run.model_card(self._host, *args, **kwargs)
