"""
What this library relies on in TRL's `GRPOTrainer`, and the checks that it is still there: methods and attributes when
the trainer is built, what the methods return when they are first used, before the first optimizer step.
"""

import inspect
from collections.abc import Callable
from typing import Any

import trl
from trl import GRPOTrainer


# The releases whose runs with replayed rollouts are bit-equal to the stock trainer's (`make test-trl-versions`).
TESTED_VERSIONS = ("1.14.0", "1.14.2", "1.16.0")

# Parameter names, `self` left out, of every private method that is overridden or called.
HOOKS: dict[str, tuple[str, ...]] = {
    "_generate": ("prompts",),
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_generate_and_score_completions": ("inputs",),
    "_prepare_inputs": ("generation_batch",),
    "_compute_loss": ("model", "inputs"),
    "_get_train_sampler": ("dataset",),
    "_save_checkpoint": ("model", "trial"),
    "_load_optimizer_and_scheduler": ("checkpoint",),
    "_log_completion_extra": ("column", "values"),
    "_load_rng_state": ("checkpoint",),
}

# Leading parameters of methods that may grow further ones.
LEADING: dict[str, tuple[str, ...]] = {
    "_get_per_token_logps_and_entropies": ("model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"),
    "_generate_single_turn": ("prompt_ids", "images", "multimodal_fields"),
    "_tool_call_loop": ("prompts", "prompt_ids", "completion_ids", "completions"),
    "log": ("logs",),
    "_determine_best_metric": ("metrics", "trial"),
    "_run_epoch": ("model", "epoch"),
}

# The same for tasks with programs.
OF_PROGRAMS: dict[str, tuple[str, ...]] = {
    "_tokenize_prompts": ("prompts",),
    "_generate_single_turn": ("prompt_ids", "images", "multimodal_fields", "num_generations"),
}

# The same for tasks with images.
OF_IMAGES: dict[str, tuple[str, ...]] = {"_tokenize_prompts": ("prompts",)}

# Attributes of a built trainer that are read or set.
ATTRIBUTES: tuple[str, ...] = (
    *("num_generations", "num_generations_eval", "num_iterations", "shuffle_dataset", "max_completion_length"),
    *("epsilon_low", "epsilon_high", "importance_sampling_level", "use_vllm", "mask_truncated_completions"),
    *("reward_funcs", "reward_func_names", "reward_weights", "reward_processing_classes"),
    *("_step", "_buffered_inputs", "_metrics", "_logs", "_pending_extra_logs", "_tokenizer", "environment_factories"),
    "_is_vlm",
)

# Attributes of a built trainer with environments.
OF_ENVIRONMENTS: tuple[str, ...] = ("_env_tools", "_environment_pool", "chat_template", "chat_template_kwargs")
# Those that it makes for each batch, with one entry per row.
OF_ROWS: tuple[str, ...] = ("environments", "_batch_environments", "_sync_tool_dicts", "_async_tool_dicts")

# Elements of what `_generate` returns, in order.
GENERATION_FIELDS: tuple[str, ...] = (
    *("prompt_ids", "completion_ids", "tool_mask", "completions", "logprobs"),
    *("extra_fields", "images", "tool_images"),
)
# Elements that are one list entry per prompt in every release.
PER_PROMPT = ("prompt_ids", "completion_ids", "completions")

# Keys of what `_generate_and_score_completions` returns.
LOSS_KEYS: tuple[str, ...] = (
    *("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"),
)

# Tables of completions that extra columns are aligned with.
LOGS = ("prompt", "extra")


class HostContractError(RuntimeError):
    """The installed TRL lacks something that this library relies on, or has changed it."""


def check_host(host: type = GRPOTrainer) -> None:
    """
    Checks that every method this library overrides exists with the signature it was written for.

    Args:
        host (`type`, *optional*, defaults to [`~trl.GRPOTrainer`]):
            The class to check.

    Raises:
        HostContractError: naming the method, both signatures and the TRL versions that work.
    """
    for name, expected in {**HOOKS, **LEADING}.items():
        method = getattr(host, name, None)
        found = None if method is None else tuple(inspect.signature(method).parameters)[1:]
        if found is None or not (found == expected if name in HOOKS else _leads(method, expected)):
            takes = "no such method" if found is None else found
            raise HostContractError(f"`{host.__name__}.{name}` must take {expected}, got {takes} {_advice()}")


def check_program_host(host: type = GRPOTrainer) -> None:
    """
    Checks the methods that programs are generated with.

    Args:
        host (`type`, *optional*, defaults to [`~trl.GRPOTrainer`]):
            The class to check.

    Raises:
        HostContractError: naming the method, both signatures and the TRL versions that work.
    """
    _check_methods(host, OF_PROGRAMS)


def check_image_host(host: type = GRPOTrainer) -> None:
    """
    Checks the methods that images are prepared with.

    Args:
        host (`type`, *optional*, defaults to [`~trl.GRPOTrainer`]):
            The class to check.

    Raises:
        HostContractError: naming the method, both signatures and the TRL versions that work.
    """
    _check_methods(host, OF_IMAGES)


def _check_methods(host: type, methods: dict[str, tuple[str, ...]]) -> None:
    for name, expected in methods.items():
        method = getattr(host, name, None)
        found = None if method is None else tuple(inspect.signature(method).parameters)[1:]
        if found is None or found[: len(expected)] != expected:
            takes = "no such method" if found is None else found
            raise HostContractError(f"`{host.__name__}.{name}` must take {expected}, got {takes} {_advice()}")


def check_trainer(trainer: Any) -> None:
    """
    Checks that a built trainer has the attributes that this library reads.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, after its constructor.

    Raises:
        HostContractError: naming what is missing.
    """
    agentic = getattr(trainer, "environment_factories", None) is not None
    missing = [name for name in (*ATTRIBUTES, *(OF_ENVIRONMENTS if agentic else ())) if not hasattr(trainer, name)]
    missing += [f"_logs[{name!r}]" for name in LOGS if name not in getattr(trainer, "_logs", {})]
    if missing:
        raise HostContractError(f"`GRPOTrainer` must have the attributes {missing}, got none of them {_advice()}")


def check_tool_rows(trainer: Any, num_rows: int) -> None:
    """
    Checks what a trainer with environments keeps for the rows that it generates for.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, while it generates.
        num_rows (`int`):
            Rows that it generates for.

    Raises:
        HostContractError: when something is missing or has another number of rows.
    """
    for name in OF_ROWS:
        values = getattr(trainer, name, None)
        if not isinstance(values, list) or len(values) != num_rows:
            found = f"{len(values)} entries" if isinstance(values, list) else type(values).__name__
            raise HostContractError(
                f"`GRPOTrainer.{name}` must have one entry per row while tools are called, got {found} for {num_rows} "
                f"rows {_advice()}"
            )


def check_generation(output: Any, num_prompts: int) -> None:
    """
    Checks what `_generate` returned.

    Args:
        output (`Any`):
            What it returned.
        num_prompts (`int`):
            Prompts that it got.

    Raises:
        HostContractError: when it is not a tuple of `GENERATION_FIELDS`.
    """
    fits = isinstance(output, tuple) and len(output) == len(GENERATION_FIELDS)
    if fits:
        named = dict(zip(GENERATION_FIELDS, output, strict=True))
        fits = all(isinstance(named[name], list) and len(named[name]) == num_prompts for name in PER_PROMPT)
        fits &= named["extra_fields"] is None or isinstance(named["extra_fields"], dict)
    if not fits:
        kinds = [type(element).__name__ for element in output] if isinstance(output, tuple) else type(output).__name__
        raise HostContractError(
            f"`GRPOTrainer._generate` must return {GENERATION_FIELDS} with one entry per prompt, got {kinds} for "
            f"{num_prompts} prompts {_advice()}"
        )


def check_loss_inputs(inputs: Any, num_rows: int) -> None:
    """
    Checks what the host prepares for its loss.

    Args:
        inputs (`Any`):
            What `_generate_and_score_completions` returned.
        num_rows (`int`):
            Rows that it got.

    Raises:
        HostContractError: when a key is missing or has another number of rows.
    """
    missing = [key for key in LOSS_KEYS if not isinstance(inputs, dict) or key not in inputs]
    if missing:
        raise HostContractError(
            f"`GRPOTrainer._generate_and_score_completions` must return the keys {missing}, got none of them "
            f"{_advice()}"
        )
    rows = {key: len(inputs[key]) for key in LOSS_KEYS if getattr(inputs[key], "ndim", 0)}
    if set(rows.values()) != {num_rows}:
        raise HostContractError(
            f"`GRPOTrainer._generate_and_score_completions` must return {num_rows} rows, got {rows} {_advice()}"
        )


def _advice() -> str:
    return (
        f"in TRL {trl.__version__}. Install a tested version: pip install 'trl=={TESTED_VERSIONS[-1]}' (tested: "
        f"{', '.join(TESTED_VERSIONS)})."
    )


def _leads(method: Callable[..., Any], expected: tuple[str, ...]) -> bool:
    """Whether a method takes these parameters first; one with `*args` passes on those it does not name."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    named = tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)[: len(expected)]
    passes_on = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return named == (expected[: len(named)] if passes_on else expected)
