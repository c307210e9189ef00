"""The table of options that train as with the host and also with tasks."""

from tests import host_parts as parts
from tests import host_rewards as rewards
from tests.host_runs import Option


def _loss_types() -> dict[str, Option]:
    losses = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
    return {
        f"loss {loss}": Option(
            {"loss_type": loss, "importance_sampling_level": "sequence" if loss == "luspo" else "token"},
            fast=loss in ("dr_grpo", "cispo"),
        )
        for loss in losses
    }


def _advantages() -> dict[str, Option]:
    return {
        f"scale {scale} {aggregation}": Option(
            {"scale_rewards": scale, "multi_objective_aggregation": aggregation, "reward_weights": [1.0, 0.5]},
            rewards=rewards.with_second,
            fast=(scale, aggregation) == ("batch", "normalize_then_sum"),
        )
        for scale in ("group", "batch", "none")
        for aggregation in ("sum_then_normalize", "normalize_then_sum")
    }


def _cycles() -> dict[str, Option]:
    """(gradient_accumulation_steps, steps_per_generation, num_iterations, optimizer steps)."""
    cycles = [
        (1, 1, 2, 4),
        (1, 2, 1, 4),
        (1, 4, 1, 8),
        (2, 2, 1, 4),
        (2, 4, 1, 4),
        (2, 2, 2, 4),
        (4, 2, 1, 2),
        (4, 1, 1, 2),
    ]
    cycles += [(2, 1, 1, 2), (2, 3, 1, 3), (3, 2, 1, 4), (4, 4, 2, 4), (2, 1, 3, 3)]
    return {
        f"accumulate {a} generate every {s} iterate {mu}": Option(
            {
                "gradient_accumulation_steps": a,
                "steps_per_generation": s,
                "num_iterations": mu,
                "max_steps": steps,
            },
            fast=(a, s, mu) in ((2, 4, 1), (4, 2, 1)),
        )
        for a, s, mu, steps in cycles
    }


OPTIONS: dict[str, Option] = {
    **_loss_types(),
    **_advantages(),
    **_cycles(),
    "sequence-level ratios": Option({"importance_sampling_level": "sequence", "num_iterations": 2, "max_steps": 4}),
    "kl": Option({"beta": 0.1}, fast=True),
    "kl without bias correction": Option({"beta": 0.1, "use_bias_correction_kl": False, "num_iterations": 2}),
    "kl with moving reference": Option({"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1}),
    "clip range": Option({"epsilon": 0.1, "epsilon_high": 0.3, "num_iterations": 2}),
    "delta": Option({"delta": 1.5, "num_iterations": 2}),
    "chat prompts": Option(chat=True, fast=True),
    "two functions": Option(rewards=rewards.with_second),
    "async functions": Option(rewards=rewards.with_async, fast=True),
    "abstaining function": Option(rewards=rewards.with_abstention, fast=True),
    "reward model": Option(rewards=rewards.with_model, fast=True),
    "reward model on chat": Option(rewards=rewards.with_model, chat=True),
    "rollout function": Option(trainer=lambda: {"rollout_func": parts.rollout_func}, fast=True),
    "rollout function on chat": Option(trainer=lambda: {"rollout_func": parts.rollout_func}, chat=True),
    "masked truncation": Option({"mask_truncated_completions": True, "max_completion_length": 64}),
    "entropy quantile": Option({"top_entropy_quantile": 0.5}),
    "entropy bonus": Option({"entropy_coef": 0.01}),
    "adaptive entropy": Option({"use_adaptive_entropy": True, "entropy_coef": 0.01}),
    "lora": Option(trainer=parts.lora(), fast=True),
    "lora with kl": Option({"beta": 0.1}, trainer=parts.lora()),
    "lora with checkpointing": Option({"gradient_checkpointing": True}, trainer=parts.lora()),
    "no checkpointing": Option({"gradient_checkpointing": False}),
    "reentrant checkpointing": Option(
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    ),
    "off-policy mask": Option({"off_policy_mask_threshold": 0.01, "num_iterations": 2}),
    "no shuffling": Option({"shuffle_dataset": False}),
    "another seed": Option({"seed": 7}),
    "logged columns": Option(
        {"log_completions": True, "num_completions_to_print": 0}, rewards=rewards.with_logging, fast=True
    ),
    "sampling parameters": Option({"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}),
    "float32 head": Option({"cast_lm_head_to_fp32": True}),
    "bf16": Option({"bf16": True}),
    "no dropout": Option({"disable_dropout": True}),
    "evaluation": Option({"eval_strategy": "steps", "eval_steps": 1}, with_eval=True, fast=True),
    "eight generations": Option({"num_generations": 8}),
    "generation batch size": Option({"generation_batch_size": 16}),
}
