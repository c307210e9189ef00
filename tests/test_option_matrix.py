"""Every option of TRL trains: bit-equal to the host without tasks, with a balanced ledger with three tasks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from tests import host_runs
from tests.host_runs import Option, differences, parameters_of, saved_model, train_plain, train_tasks
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer


# Options are tried on one set of rewards, whose sums leave 0..1 for some.
pytestmark = pytest.mark.filterwarnings("ignore:rewards of task")


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
            rewards=host_runs.with_second,
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
    "two functions": Option(rewards=host_runs.with_second),
    "async functions": Option(rewards=host_runs.with_async, fast=True),
    "abstaining function": Option(rewards=host_runs.with_abstention, fast=True),
    "reward model": Option(rewards=host_runs.with_model, fast=True),
    "reward model on chat": Option(rewards=host_runs.with_model, chat=True),
    "rollout function": Option(trainer=lambda: {"rollout_func": host_runs.rollout_func}, fast=True),
    "rollout function on chat": Option(trainer=lambda: {"rollout_func": host_runs.rollout_func}, chat=True),
    "masked truncation": Option({"mask_truncated_completions": True, "max_completion_length": 64}),
    "entropy quantile": Option({"top_entropy_quantile": 0.5}),
    "entropy bonus": Option({"entropy_coef": 0.01}),
    "adaptive entropy": Option({"use_adaptive_entropy": True, "entropy_coef": 0.01}),
    "lora": Option(trainer=host_runs.lora(), fast=True),
    "lora with kl": Option({"beta": 0.1}, trainer=host_runs.lora()),
    "lora with checkpointing": Option({"gradient_checkpointing": True}, trainer=host_runs.lora()),
    "no checkpointing": Option({"gradient_checkpointing": False}),
    "reentrant checkpointing": Option(
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    ),
    "off-policy mask": Option({"off_policy_mask_threshold": 0.01, "num_iterations": 2}),
    "no shuffling": Option({"shuffle_dataset": False}),
    "another seed": Option({"seed": 7}),
    "logged columns": Option(
        {"log_completions": True, "num_completions_to_print": 0}, rewards=host_runs.with_logging, fast=True
    ),
    "sampling parameters": Option({"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}),
    "float32 head": Option({"cast_lm_head_to_fp32": True}),
    "bf16": Option({"bf16": True}),
    "no dropout": Option({"disable_dropout": True}),
    "evaluation": Option({"eval_strategy": "steps", "eval_steps": 1}, with_eval=True, fast=True),
    "eight generations": Option({"num_generations": 8}),
    "generation batch size": Option({"generation_batch_size": 16}),
}


def _marked() -> list[Any]:
    return [pytest.param(name, marks=() if OPTIONS[name].fast else pytest.mark.slow, id=name) for name in OPTIONS]


def test_the_matrix_has_at_least_forty_options() -> None:
    assert len(OPTIONS) >= 40


@pytest.mark.parametrize("name", _marked())
def test_an_option_trains_as_with_the_host(name: str, tmp_path: Path) -> None:
    host = train_plain(GRPOTrainer, GRPOConfig, OPTIONS[name], tmp_path)
    own = train_plain(MultiTaskGRPOTrainer, MultiTaskGRPOConfig, OPTIONS[name], tmp_path)
    assert differences(host, own) == []


@pytest.mark.parametrize("name", _marked())
def test_an_option_trains_three_tasks_with_filter_refill_and_surplus(name: str, tmp_path: Path) -> None:
    # Four groups or more per generation batch, so that every task has a place.
    rows = 32 if "num_generations" in OPTIONS[name].settings else 16
    changes = {"generation_batch_size": 32} if "generation_batch_size" in OPTIONS[name].settings else {}
    trainer = train_tasks(OPTIONS[name], tmp_path, per_device_train_batch_size=rows, oversampling=2.0, **changes)
    ledger = trainer.multi_task_state.groups
    assert ledger.imbalance.tolist() == [0, 0, 0]
    assert trainer.multi_task_state.tokens.imbalance.tolist() == [0, 0, 0]
    assert ledger.generated.sum() > ledger.trained.sum() > 0
    after = parameters_of(trainer)
    assert torch.isfinite(after).all()
    assert sum(abs(line.get("grad_norm", 0.0)) for line in trainer.state.log_history) > 0
    if "peft_config" not in OPTIONS[name].trainer():
        before = torch.cat([p.detach().flatten() for p in saved_model(tmp_path).parameters()])
        assert not torch.equal(before, after)
