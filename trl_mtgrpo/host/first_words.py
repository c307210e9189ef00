"""What a user should know of a run before it begins: each thing once, at the user's line, with how to end it."""

import math
from typing import Any

from trl import GRPOConfig

from ..tasks import TaskMixture
from ..tasks.said import warn_user
from .settings import Settings, without_effect


def check_evaluation_rows(mixture: TaskMixture, args: GRPOConfig) -> None:
    """
    Checks that there is something to evaluate where evaluations are asked for.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        args ([`~trl.GRPOConfig`]):
            The user's settings.

    Raises:
        `ValueError`: when no task has evaluation rows.
    """
    strategy = getattr(args.eval_strategy, "value", args.eval_strategy)
    without = [task.name for task in mixture.tasks if task.eval_dataset is None]
    if strategy == "no" or not without:
        return
    if len(without) == mixture.num_tasks:
        raise ValueError(
            f"`eval_strategy` must be 'no' for tasks without evaluation rows, got {strategy!r}. Give the tasks some: "
            "`Task(..., eval_dataset=...)`."
        )
    warn_user(
        f"Tasks {without} have no evaluation rows, so the worst task of an evaluation is that of the others only. "
        "Give them some, `Task(..., eval_dataset=...)`, or evaluate none."
    )


def warn_of_settings(mixture: TaskMixture, args: GRPOConfig, settings: Settings) -> None:
    """
    Warns of settings without effect, and of batches that cannot hold every task.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        args ([`~trl.GRPOConfig`]):
            The user's settings.
        settings ([`Settings`]):
            What they were resolved to.
    """
    idle = without_effect(args, settings)
    if idle:
        warn_user(
            f"The settings {list(idle)} have no effect: this run has method={settings.method!r}, "
            f"task_weighting={settings.task_weighting!r} and group_filter={settings.group_filter!r}. Leave them out, "
            "or choose what they belong to."
        )
    size, generations = args.generation_batch_size, args.num_generations
    assert size is not None
    assert generations is not None
    groups = size // generations
    if groups < mixture.num_tasks:
        per_row = size // args.per_device_train_batch_size
        step = generations // math.gcd(generations, per_row)
        wanted = math.ceil(2 * mixture.num_tasks * generations / per_row / step) * step
        warn_user(
            f"A batch has {groups} prompts for {mixture.num_tasks} tasks, so tasks are absent from every batch. Set "
            f"`per_device_train_batch_size={wanted}` or more, or as many more `gradient_accumulation_steps`."
        )


def warn_of_a_task_column(reward_funcs: Any, train_dataset: Any) -> None:
    """Warns that a column `task` makes no tasks where reward functions are not given by name."""
    if "task" in (getattr(train_dataset, "column_names", None) or ()) and isinstance(reward_funcs, list | tuple):
        warn_user(
            "`reward_funcs` is a list, so the column 'task' of `train_dataset` makes no tasks: all rows train as one. "
            "Give a dict from task name to functions, or rename the column."
        )
