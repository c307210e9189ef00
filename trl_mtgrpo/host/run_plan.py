"""From what a user passed to what is run: which tasks, which settings, and what the host trainer is given."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel
from trl import GRPOConfig

from ..rollouts import GroupFilter, PromptSource, RolloutSource
from ..rollouts.loop import BatchSampler
from ..tasks import Task, TaskMixture
from ..tasks.names import check_baseline
from ..weighting import PlateauGuard, TaskWeighting
from .agent_checks import check_agents, check_host_options, check_images, reads_responses
from .config import MultiTaskGRPOConfig
from .first_words import check_evaluation_rows, warn_of_a_task_column, warn_of_settings
from .pilot_checks import check_pilots
from .schedule import Schedule, check_boundaries
from .settings import Settings, chosen, resolve


logger = logging.getLogger(__name__)

# A dataset without tasks is one task under this name, where the library's settings are to act on it.
PLAIN_TASK = "default"


# What is asked of a part; a function is called itself.
_METHODS_OF: dict[str, tuple[str, ...]] = {
    "weighting": ("init", "update", "weights"),
    "sampler": ("open", "plan", "select"),
    "group_filter": (),
    "guard": ("init", "update", "bound"),
    "prompt_source": ("draw", "observe"),
    "rollout_source": (),
}
_CURES = {
    "weighting": "A strategy of the library's own is named in the config: `task_weighting`.",
    "sampler": "Leave it out for the configured one.",
    "group_filter": "A filter of the library's own is named in the config: `group_filter`.",
    "guard": "The config switches it: `plateau_guard`.",
    "prompt_source": "Leave it out for a seeded order of each task's rows.",
    "rollout_source": "It gets the trainer's own source and returns the one to ask.",
}


@dataclass(frozen=True)
class Parts:
    """What a user brings in place of a configured part; see [`MultiTaskGRPOTrainer`]."""

    weighting: TaskWeighting | None = None
    sampler: BatchSampler | None = None
    group_filter: GroupFilter | None = None
    guard: PlateauGuard | None = None
    prompt_source: PromptSource | None = None
    rollout_source: Callable[[RolloutSource], RolloutSource] | None = None
    baseline_accuracy: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, methods in _METHODS_OF.items():
            part = getattr(self, name)
            if part is None:
                continue
            if not methods and not callable(part):
                raise TypeError(f"`{name}` must be a function where it is given, got {part!r:.80}. {_CURES[name]}")
            is_class = bool(methods) and isinstance(part, type)
            if is_class or not all(callable(getattr(part, method, None)) for method in methods):
                cure = f"Make one: `{name}={part.__name__}(...)`." if is_class else _CURES[name]
                raise TypeError(
                    f"`{name}` must be an object with the methods {list(methods)}, got {part!r:.80}. {cure}"
                )

    @property
    def of_method(self) -> dict[str, Any]:
        """Those that stand in place of settings, by name."""
        return {name: getattr(self, name) for name in ("weighting", "sampler", "guard", "group_filter")}

    @property
    def given(self) -> list[str]:
        """Names of those that were brought."""
        return [part.name for part in fields(self) if getattr(self, part.name) is not None]


@dataclass(frozen=True, eq=False)
class RunPlan:
    """
    What a run consists of.

    Args:
        settings ([`Settings`]):
            The library's own settings.
        mixture ([`TaskMixture`], *optional*):
            The tasks; `None` where the host trains alone.
        trains_host_rows (`bool`):
            Whether the host's loader chooses the prompts: one task, nothing filtered.
        host_arguments (`dict`):
            Arguments of the host's constructor.
        parses_responses (`bool`, *optional*, defaults to `False`):
            Whether the user's tokenizer came with a way to read completions.
    """

    settings: Settings
    mixture: TaskMixture | None
    trains_host_rows: bool
    host_arguments: dict[str, Any]
    parses_responses: bool = False

    @property
    def unsaid(self) -> str | None:
        """What the host would say of environments of this library's making, where the user has given none."""
        tasks = () if self.mixture is None else self.mixture.tasks
        given = self.mixture is None or any(task.environment_factory is not None for task in tasks)
        return None if given else "'environment_factory'"


def plan_run(
    model: "str | PreTrainedModel",
    reward_funcs: Any,
    args: GRPOConfig | None,
    train_dataset: Any,
    eval_dataset: Any,
    tasks: Sequence[Task] | None,
    parts: Parts,
    host_options: Mapping[str, Any],
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
        parts ([`Parts`]):
            Parts of the user's own.
        host_options (`dict`):
            Further arguments for the host.

    Returns:
        [`RunPlan`]

    Raises:
        ValueError: for arguments that do not fit together.
    """
    args = _default_args(model) if args is None else args
    if not isinstance(args, GRPOConfig):
        raise TypeError(
            f"`args` must be a `MultiTaskGRPOConfig` or a `GRPOConfig`, got {type(args).__name__}. Build one from its "
            "fields: `MultiTaskGRPOConfig(output_dir, ...)`."
        )
    factories = host_options.get("environment_factory")
    routed = isinstance(factories, Mapping) and "task" in (getattr(train_dataset, "column_names", None) or ())
    if tasks is None and reward_funcs is None and routed:
        reward_funcs = {}  # every environment gives its reward
    has_tasks = tasks is not None or isinstance(reward_funcs, Mapping)
    settings = resolve(args, has_tasks=has_tasks, own=parts.of_method)
    given = {"reward_funcs": reward_funcs, "train_dataset": train_dataset, "eval_dataset": eval_dataset}
    arguments: dict[str, Any] = {"model": model, "args": args, **given, **host_options}
    acts = [name for name in chosen(args) if name != "method"] + parts.given
    if not has_tasks:
        warn_of_a_task_column(reward_funcs, train_dataset)
    if not has_tasks and settings.trains_everything and not acts:
        return RunPlan(settings, None, True, arguments)
    if has_tasks:
        check_host_options(host_options, by_name=tasks is None)
    if tasks is not None:
        _refuse_with_tasks(given)
        mixture = TaskMixture(tasks, on_error=settings.reward_on_error, timeout=settings.reward_timeout)
    elif has_tasks:
        mixture = TaskMixture.from_dataset(
            train_dataset,
            reward_funcs,
            eval_dataset,
            tools=host_options.get("tools"),
            environment_factory=factories,
            on_error=settings.reward_on_error,
            timeout=settings.reward_timeout,
        )
    else:
        mixture = _single_task(args, settings, given, acts or [f"method={settings.method!r}"], host_options)
    check_baseline(parts.baseline_accuracy, mixture.names)
    check_images(mixture, args)
    check_agents(mixture, args, host_options)
    if has_tasks and args.reward_weights is not None:
        raise ValueError(
            f"`reward_weights` must be left out when tasks are given, got {args.reward_weights}. Set "
            "`Task(..., reward_weights=...)`."
        )
    mixture.check_signatures(may_add_columns=host_options.get("rollout_func") is not None)
    _check_updates(args, settings)
    _check_memory(settings, parts)
    check_pilots(settings, args, mixture, host_options.get("rollout_func"), parts.prompt_source)
    # The host's loader cannot spread a batch over several generate calls, and how many groups a program's bundle
    # brings is known only when it has run.
    alone = all(task.max_environments is None and task.program is None for task in mixture.tasks)
    num_groups = args.generation_batch_size // args.num_generations
    # Nor can it fill one from fewer rows than a batch has prompts: it would end without a step.
    enough = mixture.num_rows().sum() >= num_groups
    own_rows = mixture.num_tasks == 1 and settings.trains_everything and alone and bool(enough)
    check_boundaries(args, Schedule.of(args, max(int(mixture.num_rows().sum()) // num_groups, 1)))
    _warn_of_weight_transfers(args, settings)
    if has_tasks:
        check_evaluation_rows(mixture, args)
        if args.process_index == 0:
            warn_of_settings(mixture, args, settings)
    arguments |= {"reward_funcs": list(mixture.functions), "train_dataset": mixture.host_dataset("train")}
    if has_tasks:
        arguments["eval_dataset"] = mixture.host_dataset("eval")
    if host_options.get("reward_processing_classes") is not None:
        arguments["reward_processing_classes"] = mixture.processing_classes(host_options["reward_processing_classes"])
    if has_tasks:
        arguments.pop("tools", None)
        arguments.pop("environment_factory", None)
    if mixture.environments is not None:
        arguments["environment_factory"] = mixture.environments.factories
    return RunPlan(settings, mixture, own_rows, arguments, reads_responses(host_options.get("processing_class")))


def _default_args(model: "str | PreTrainedModel") -> MultiTaskGRPOConfig:
    name = model if isinstance(model, str) else model.config._name_or_path
    return MultiTaskGRPOConfig(f"{name.split('/')[-1]}-MT-GRPO")


def _single_task(
    args: GRPOConfig, settings: Settings, given: Mapping[str, Any], acts: list[str], host_options: Mapping[str, Any]
) -> TaskMixture:
    """A dataset without tasks as one task, so that the library's settings act on it."""
    dataset = given["train_dataset"]
    if (
        not isinstance(dataset, Dataset)
        or given["reward_funcs"] is None
        or host_options.get("tools")
        or host_options.get("environment_factory")
    ):
        raise ValueError(
            f"`{acts[0]}` must be left out for tools, environments or streamed rows of a dataset without tasks, "
            f"got {acts}. Leave it out to train as `GRPOTrainer` does, or give `tasks`."
        )
    functions = given["reward_funcs"]
    task = Task(
        PLAIN_TASK,
        dataset,
        list(functions) if isinstance(functions, list | tuple) else [functions],
        reward_weights=args.reward_weights,
    )
    return TaskMixture(
        [task], on_error=settings.reward_on_error, timeout=settings.reward_timeout, qualified_names=False
    )


def _refuse_with_tasks(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out when `tasks` is given, got {type(value).__name__}. Put it into the tasks: "
                f"`Task(..., {name}=...)`."
            )


def _check_updates(args: GRPOConfig, settings: Settings) -> None:
    window = args.gradient_accumulation_steps
    if settings.task_weight_update == "minibatch" and args.steps_per_generation % window:
        raise ValueError(
            "`task_weight_update` must be 'batch' unless `steps_per_generation` is a multiple of "
            f"`gradient_accumulation_steps`, got 'minibatch' with {args.steps_per_generation} and {window}. Use "
            "'batch'."
        )


def _check_memory(settings: Settings, parts: Parts) -> None:
    if settings.prompt_memory == "off":
        return
    if parts.prompt_source is not None:
        raise ValueError(
            f"`prompt_memory` must be 'off' beside a `prompt_source` of your own, got {settings.prompt_memory!r}. "
            "Leave one of them out."
        )
    if not settings.filters_groups:
        raise ValueError(
            f"`prompt_memory` must be 'off' where no group is filtered, got {settings.prompt_memory!r}. Set "
            "`group_filter`, or leave it out: a solved prompt costs no refill then."
        )


def _warn_of_weight_transfers(args: GRPOConfig, settings: Settings) -> None:
    sleeps = args.use_vllm and args.vllm_mode == "colocate" and args.vllm_enable_sleep_mode
    if sleeps and not settings.trains_everything:
        logger.warning(
            "`vllm_enable_sleep_mode` sends the weights to vLLM again for every refill round of a step, instead of "
            "once per step. Set `vllm_enable_sleep_mode=False`, or bound the rounds with `max_resampling_rounds`."
        )
