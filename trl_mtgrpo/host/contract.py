"""What this library relies on in TRL's `GRPOTrainer`, and the check that it is still there."""

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
    "log": ("logs",),
    "_run_epoch": ("model", "epoch"),
}


class HostContractError(RuntimeError):
    """The installed TRL lacks a method that this library overrides, or has changed its signature."""


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
            raise HostContractError(
                f"`{host.__name__}.{name}` must take {expected}, got {takes} in TRL {trl.__version__}. Install a "
                f"tested version: pip install 'trl=={TESTED_VERSIONS[-1]}' (tested: {', '.join(TESTED_VERSIONS)})."
            )


def _leads(method: Callable[..., Any], expected: tuple[str, ...]) -> bool:
    """Whether a method takes these parameters first; one with `*args` passes on those it does not name."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    named = tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)[: len(expected)]
    passes_on = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return named == (expected[: len(named)] if passes_on else expected)
