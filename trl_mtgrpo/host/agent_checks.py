"""What must hold of tasks with tools, environments or lengths of their own, before the model is loaded."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers.utils import get_json_schema
from trl import GRPOConfig
from trl.chat_template_utils import supports_tool_calling

from ..tasks import Task, TaskMixture
from ..tasks.tools import tools_of


def check_host_options(host_options: Mapping[str, Any], by_name: bool) -> None:
    """
    Refuses tools and environments that are not given by task.

    Args:
        host_options (`dict`):
            The user's further arguments.
        by_name (`bool`):
            Whether tasks are given as dicts by their names.

    Raises:
        `ValueError`: when it is not said which task they belong to.
    """
    for name in ("environment_factory", "tools"):
        value = host_options.get(name)
        if value and not (by_name and isinstance(value, Mapping)):
            raise ValueError(
                f"`{name}` must say which task it belongs to, got {value!r}. Write `Task(..., {name}=...)`, or beside "
                f"a dict of reward functions `{name}={{'<task>': ...}}`."
            )


def check_agents(mixture: TaskMixture, args: GRPOConfig, host_options: Mapping[str, Any]) -> None:
    """
    Checks what tasks say about tools, environments and lengths against the run.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        args ([`~trl.GRPOConfig`]):
            The user's settings.
        host_options (`dict`):
            The user's further arguments.

    Raises:
        `ValueError`: when something does not fit together.
    """
    for task in mixture.tasks:
        _check_length(task, args, host_options)
        _check_number(task, args)
        for name, tool in tools_of(task):
            _check_tool(task.name, name, tool)
    if mixture.environments is None:
        return
    agentic = next(task.name for task in mixture.tasks if task.is_agentic)
    if host_options.get("rollout_func") is not None:
        raise ValueError(
            f"`rollout_func` must be left out beside tasks with tools or environments, got both with '{agentic}'. It "
            "would train on the answers of the tools. Call the tools inside `rollout_func`, or leave it out."
        )
    processing_class = host_options.get("processing_class")
    if processing_class is not None and not supports_tool_calling(processing_class):
        raise ValueError(
            f"`processing_class` must have a chat template that can show tools and their calls for task '{agentic}', "
            "got one that cannot. Use a model that was trained for tools, as Qwen3, or set "
            "`processing_class.chat_template` to such a template."
        )


def check_template(tasks: Sequence[Task], processing_class: Any) -> None:
    """
    Checks that prompts can be shown to a model.

    Args:
        tasks (`list[Task]`):
            The tasks.
        processing_class (`Any`):
            The tokenizer or processor.

    Raises:
        `ValueError`: when prompts are messages and there is no chat template.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if any(getattr(one, "chat_template", None) is not None for one in (processing_class, tokenizer)):
        return
    for task in tasks:
        if task.is_conversational and task.program is None:
            raise ValueError(
                f"`processing_class` must have a chat template for task '{task.name}', whose prompts are lists of "
                "messages, got none. Use a model that was made for chat, set `processing_class.chat_template`, or "
                "write prompts as text."
            )


def check_images(mixture: TaskMixture, args: GRPOConfig) -> None:
    """
    Checks that the images of tasks can be shown to a model.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        args ([`~trl.GRPOConfig`]):
            The user's settings.

    Raises:
        `ValueError`: when they cannot.
    """
    for task, has_images in zip(mixture.tasks, mixture.images.of_task, strict=True):
        if not has_images:
            continue
        if not task.is_conversational:
            raise ValueError(
                f"`train_dataset` of task '{task.name}' must have lists of messages as prompts beside images, got "
                "text. Write `[{'role': 'user', 'content': '...'}]` without a chat template applied, in all tasks."
            )
        if task.program is not None:
            raise ValueError(
                f"`program` of task '{task.name}' must be left out for rows with images, got both. Its calls are "
                "text: remove the columns with `dataset.remove_columns`."
            )
    if mixture.images.any and not args.use_vllm and not args.ds3_gather_for_generation:
        raise ValueError(
            "`ds3_gather_for_generation` must be True for tasks with images, got False. A rank whose rows have none "
            "would leave the others waiting; or generate with vLLM."
        )


def check_sight(mixture: TaskMixture, trainer: Any) -> None:
    """
    Checks that a model sees, where tasks have images.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, after its constructor.

    Raises:
        `ValueError`: when it reads text only.
    """
    if mixture.images.any and not trainer._is_vlm:
        name = mixture.names[mixture.images.of_task.index(True)]
        raise ValueError(
            f"`processing_class` must be the processor of a model that sees for task '{name}' with images, got "
            f"{type(trainer.processing_class).__name__}. Use such a model, or remove the columns with "
            "`dataset.remove_columns`."
        )


def reads_responses(processing_class: Any) -> bool:
    """Whether a tokenizer came with a way to read completions, by the host's rule."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    return any(getattr(tokenizer, name, None) is not None for name in ("response_template", "response_schema"))


def _check_tool(task: str, name: str, tool: Any) -> None:
    try:
        get_json_schema(tool)
    except Exception as error:  # the parser of docstrings raises what it stumbles over
        raise ValueError(
            f"`{name}`, a tool of task '{task}', must have types and a docstring with a line per parameter under "
            f"`Args:`, got {type(error).__name__}: {error} Complete them: the model is told of the tool by them."
        ) from error


def _check_length(task: Task, args: GRPOConfig, host_options: Mapping[str, Any]) -> None:
    length = task.max_completion_length
    longest = args.max_completion_length
    if length is None or longest is None:
        return
    if length > longest:
        raise ValueError(
            f"`max_completion_length` of task '{task.name}' must be at most the run's, {longest}, "
            f"got {length}. Raise it in the config, where it bounds all tasks."
        )
    given = [name for name in ("max_tokens", "max_new_tokens") if name in (args.generation_kwargs or {})]
    if host_options.get("rollout_func") is not None or given:
        raise ValueError(
            f"`max_completion_length` of task '{task.name}' must be left out where `rollout_func` or "
            f"`generation_kwargs` say how much is generated, got {length} beside {given or ['rollout_func']}. Bound "
            "the length there."
        )


def _check_number(task: Task, args: GRPOConfig) -> None:
    bound = task.max_environments
    if bound is None:
        return
    ranks, generations = args.world_size, args.num_generations
    assert generations is not None  # the host's config has a default
    needed = generations * (ranks // math.gcd(ranks, generations))
    rows = "a group needs at once"
    if task.eval_dataset is not None and args.per_device_eval_batch_size * ranks > needed:
        needed, rows = args.per_device_eval_batch_size * ranks, "a batch of an evaluation needs at once"
    if bound < needed:
        raise ValueError(
            f"`max_environments` of task '{task.name}' must be at least the {needed} that {rows}, got {bound}. Raise "
            "it, or lower `num_generations` or `per_device_eval_batch_size`."
        )
