"""What must hold of a run whose groups begin with a few rollouts, before the model is loaded."""

from typing import Any

from trl import GRPOConfig

from ..rollouts import CorrectingSource, PromptSource
from ..tasks import Task, TaskMixture
from .settings import Settings


def check_pilots(
    settings: Settings,
    args: GRPOConfig,
    mixture: TaskMixture,
    rollout_func: Any = None,
    prompt_source: PromptSource | None = None,
) -> None:
    """
    Refuses pilots where they cannot be what they promise.

    Args:
        settings ([`Settings`]):
            The library's own settings.
        args ([`~trl.GRPOConfig`]):
            The user's settings.
        mixture ([`TaskMixture`]):
            The tasks.
        rollout_func (`Callable`, *optional*):
            What makes completions in the host's place.
        prompt_source ([`PromptSource`], *optional*):
            What chooses prompts in place of the library's own.

    Raises:
        ValueError: naming what does not fit.
    """
    size = settings.pilot_generations
    if size is None:
        return
    whole = args.num_generations or 0
    if size >= whole or whole % size:
        raise ValueError(
            f"`pilot_generations` must be a divisor of `num_generations` = {whole} below it, got {size}. Take a "
            "quarter or a third of it."
        )
    reason = _refusal(settings, args, mixture, rollout_func, prompt_source)
    if reason is not None:
        raise ValueError(f"`pilot_generations` must be None {reason[0]}, got {size}. {reason[1]}")


def _refusal(
    settings: Settings, args: GRPOConfig, mixture: TaskMixture, rollout_func: Any, prompt_source: PromptSource | None
) -> tuple[str, str] | None:
    """Where pilots cannot be, and what to do."""
    if not settings.filters_groups:
        return "where no group is filtered", "Set `group_filter`, or leave it out: every group trains then."
    if settings.prompt_memory != "off" or isinstance(prompt_source, CorrectingSource):
        return (
            "beside `prompt_memory='solved'`" if prompt_source is None else "beside a `prompt_source` that corrects",
            "Leave one of them out: both correct the solved share, and together neither would be right.",
        )
    if args.scale_rewards == "batch" or args.multi_objective_aggregation == "normalize_then_sum":
        return (
            "where advantages are scaled by the whole batch",
            "Completed groups have a wider spread than others, which a weight per group cannot undo. Use "
            "`scale_rewards='group'` and `multi_objective_aggregation='sum_then_normalize'`.",
        )
    if args.use_vllm and args.vllm_mode == "server":
        return (
            "with `vllm_mode='server'`",
            "The server makes `num_generations` answers to every prompt. Use `vllm_mode='colocate'`.",
        )
    if rollout_func is not None:
        return "beside a `rollout_func`", "It may expect whole groups. Leave one of them out."
    for task in mixture.tasks:
        kind = _kind(task, mixture)
        if kind is not None:
            return f"with {kind} (task '{task.name}')", "Leave it out, or train that task in a run of its own."
    return None


def _kind(task: Task, mixture: TaskMixture) -> str | None:
    """What a task has that pilots are not made for."""
    if task.program is not None:
        return "a program"
    if task.is_agentic:
        return "tools or an environment"
    return "images" if mixture.images.any else None
