"""From what a user passed to what is run: which tasks, which settings, and what the host trainer is given."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel
from trl import GRPOConfig

from ..tasks.mixture import TaskMixture
from ..tasks.task import Task
from .config import MultiTaskGRPOConfig
from .evaluation import with_evaluation_sets
from .settings import Settings, resolve


logger = logging.getLogger(__name__)

# A dataset without tasks is one task under this name.
PLAIN_TASK = "default"


@dataclass(frozen=True, eq=False)
class RunPlan:
    """
    What a run consists of.

    Args:
        args ([`~trl.GRPOConfig`]):
            What the host is given.
        settings ([`Settings`]):
            What the library's own settings are.
        mixture ([`TaskMixture`], *optional*):
            The tasks; `None` where the host trains alone because it must prepare the rows itself.
        trains_host_rows (`bool`):
            Whether the host's loader chooses the prompts: one task, nothing filtered.
        host_arguments (`dict`):
            `reward_funcs`, `train_dataset` and `eval_dataset` for the host.
    """

    args: GRPOConfig
    settings: Settings
    mixture: TaskMixture | None
    trains_host_rows: bool
    host_arguments: dict[str, Any]


def plan_run(
    model: "str | PreTrainedModel",
    reward_funcs: Any,
    args: GRPOConfig | None,
    train_dataset: Any,
    eval_dataset: Any,
    tasks: Sequence[Task] | None,
    host_options: Mapping[str, Any],
    custom_filter: bool = False,
) -> RunPlan:
    """
    Decides what is run, before the host trainer is built.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            The model; it names the output folder when `args` is not given.
        reward_funcs (`Any`):
            The user's `reward_funcs`.
        args ([`~trl.GRPOConfig`], *optional*):
            The user's settings.
        train_dataset (`Any`):
            The user's training rows.
        eval_dataset (`Any`):
            The user's evaluation rows.
        tasks (`list[Task]`, *optional*):
            The user's tasks.
        host_options (`dict`):
            Further arguments for the host.
        custom_filter (`bool`, *optional*, defaults to `False`):
            Whether the user has given a filter of groups.

    Returns:
        [`RunPlan`]

    Raises:
        ValueError: for arguments that do not fit together.
    """
    args = _default_args(model) if args is None else args
    has_tasks = tasks is not None or isinstance(reward_funcs, Mapping)
    settings = resolve(args, has_tasks=has_tasks, custom_filter=custom_filter)
    if tasks is not None:
        _refuse_with_tasks(reward_funcs, train_dataset, eval_dataset)
        mixture = TaskMixture(tasks, on_error=settings.reward_on_error, timeout=settings.reward_timeout)
    elif isinstance(reward_funcs, Mapping):
        mixture = TaskMixture.from_dataset(
            train_dataset,
            reward_funcs,
            None if isinstance(eval_dataset, Mapping) else eval_dataset,
            on_error=settings.reward_on_error,
            timeout=settings.reward_timeout,
        )
        if isinstance(eval_dataset, Mapping):
            mixture = with_evaluation_sets(mixture, eval_dataset, settings)
    else:
        return _plain_run(args, settings, reward_funcs, train_dataset, eval_dataset, host_options)
    _refuse_unsupported(mixture, host_options)
    _check_boundaries(args, settings)
    _warn_of_weight_transfers(args, settings)
    if args.reward_weights is not None:
        raise ValueError(
            f"`reward_weights` must be left out when tasks are given, got {args.reward_weights}. Set "
            "`Task(..., reward_weights=...)`."
        )
    args = copy.copy(args)
    args.reward_weights = list(mixture.reward_weights)
    own_rows = mixture.num_tasks == 1 and settings.trains_everything
    return RunPlan(
        args=args,
        settings=settings,
        mixture=mixture,
        trains_host_rows=own_rows,
        host_arguments={
            "reward_funcs": list(mixture.reward_funcs),
            "train_dataset": mixture.tasks[0].train_dataset if own_rows else _clock_dataset(mixture),
            "eval_dataset": mixture.index_dataset("eval"),
        },
    )


def _default_args(model: "str | PreTrainedModel") -> MultiTaskGRPOConfig:
    name = model if isinstance(model, str) else model.config._name_or_path
    return MultiTaskGRPOConfig(f"{name.split('/')[-1]}-MT-GRPO")


def _plain_run(
    args: GRPOConfig,
    settings: Settings,
    reward_funcs: Any,
    train_dataset: Any,
    eval_dataset: Any,
    host_options: Mapping[str, Any],
) -> RunPlan:
    functions = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    mixture = None
    if (
        isinstance(train_dataset, Dataset)
        and reward_funcs is not None
        and not _host_prepares(train_dataset, host_options)
    ):
        task = Task(PLAIN_TASK, train_dataset, functions, reward_weights=args.reward_weights)
        mixture = TaskMixture([task], qualified_names=False)
    if mixture is None and not settings.trains_everything:
        raise ValueError(
            f"`method` must be 'grpo' for tools, environments, images or streamed rows, got "
            f"{settings.method!r}. Leave "
            "`method` and `group_filter` out, or train on text prompts of a map-style dataset."
        )
    own_rows = settings.trains_everything
    return RunPlan(
        args=args,
        settings=settings,
        mixture=mixture,
        trains_host_rows=own_rows,
        host_arguments={
            "reward_funcs": reward_funcs,
            "train_dataset": train_dataset if own_rows or mixture is None else _clock_dataset(mixture),
            "eval_dataset": eval_dataset,
        },
    )


def _host_prepares(dataset: Dataset, host_options: Mapping[str, Any]) -> bool:
    images = {"image", "images"} & set(dataset.column_names)
    return bool(images or host_options.get("tools") or host_options.get("environment_factory"))


def _warn_of_weight_transfers(args: GRPOConfig, settings: Settings) -> None:
    sleeps = args.use_vllm and args.vllm_mode == "colocate" and args.vllm_enable_sleep_mode
    if sleeps and not settings.trains_everything:
        logger.warning(
            "`vllm_enable_sleep_mode` sends the weights to vLLM again for every refill round of a step, instead of "
            "once per step. Set `vllm_enable_sleep_mode=False`, or bound the rounds with `max_resampling_rounds`."
        )


def _clock_dataset(mixture: TaskMixture) -> Dataset:
    """One row that stands for any prompt: the host's loader only keeps time."""
    return Dataset.from_dict({"prompt": [mixture.row(0, 0)["prompt"]]})


def _refuse_with_tasks(reward_funcs: Any, train_dataset: Any, eval_dataset: Any) -> None:
    given = {"reward_funcs": reward_funcs, "train_dataset": train_dataset, "eval_dataset": eval_dataset}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out when `tasks` is given, got {type(value).__name__}. Put it into the tasks: "
                f"`Task(..., {name}=...)`."
            )


def _refuse_unsupported(mixture: TaskMixture, host_options: Mapping[str, Any]) -> None:
    for name in ("environment_factory", "tools"):
        if host_options.get(name):
            raise ValueError(
                f"`{name}` must be left out of multi-task training, got {host_options[name]!r}. Tools and "
                f"environments are "
                "supported for a plain dataset only; run the environment inside a `rollout_func` instead."
            )
    for column in ("image", "images"):
        if column in mixture.columns:
            raise ValueError(
                f"`tasks` must have text prompts, got a column {column!r}. Remove it with `dataset.remove_columns`."
            )


def _check_boundaries(args: GRPOConfig, settings: Settings) -> None:
    """Refuses checkpoints inside a generation batch: the rest of it would be lost on resume."""
    micro_steps, window = args.steps_per_generation * args.num_iterations, args.gradient_accumulation_steps
    if settings.task_weight_update == "minibatch" and args.steps_per_generation % window:
        raise ValueError(
            "`task_weight_update` must be 'batch' unless `steps_per_generation` is a multiple of "
            f"`gradient_accumulation_steps`, got 'minibatch' with {args.steps_per_generation} and {window}. "
            f"Use 'batch'."
        )
    # Optimizer steps after which a generation batch and an accumulation window end together.
    between = math.lcm(micro_steps, window) // window
    for switch, name in (("save_strategy", "save_steps"), ("eval_strategy", "eval_steps")):
        steps = getattr(args, name)
        checkpoints = name == "save_steps" or str(getattr(args.save_strategy, "value", "")) == "best"
        if not checkpoints or getattr(args, switch).value != "steps" or not steps:
            continue
        if steps < 1:  # a share of the run, which the host turns into steps
            steps = math.ceil(steps * args.max_steps) if args.max_steps > 0 else steps
        if between > 1 and (steps < 1 or steps % between):
            higher = max(math.ceil(steps / between), 1) * between
            raise ValueError(
                f"`{name}` must be a multiple of the {between} optimizer steps between ends of generation batches, "
                f"got {getattr(args, name)}. A checkpoint inside a batch cannot be resumed exactly. Use {higher}."
            )
