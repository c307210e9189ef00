"""One run with vLLM generating, whose observations are written to a file: an engine lives as long as its process."""

import argparse
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.environments.world import common_tokens, four_tasks, tool_tokenizer
from tests.programs.program_runs import has_lower, program_task, ragged
from tests.tiny import three_tasks, tiny_config, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


# The changes to the tiny settings: 16 rows per generation batch, two updates each.
SCENARIOS: dict[str, dict[str, Any]] = {
    "corrected": {},
    "corrected_tokens": {
        "vllm_importance_sampling_mode": "token_truncate",
        "per_device_train_batch_size": 16,
        "steps_per_generation": 1,
        "oversampling": 2.0,
    },
    "uncorrected": {"vllm_importance_sampling_correction": False},
    "server": {"vllm_mode": "server"},
    "tools": {"max_completion_length": 40, "max_tool_calling_iterations": 3, "vllm_max_model_length": 256},
    "pilots": {"pilot_generations": 2, "pilot_tasks": "all"},
    "program": {"max_steps": 3, "vllm_importance_sampling_mode": "token_truncate"},
}


def tasks_of(scenario: str) -> list[Task]:
    if scenario == "tools":
        return four_tasks()
    if scenario == "program":
        return [*three_tasks()[:1], program_task(ragged, has_lower, success_threshold=1.0)]
    return three_tasks()


def observed(trainer: MultiTaskGRPOTrainer) -> list[dict[str, Any]]:
    """How far the engine's log-probabilities are from the model's, by who wrote a token, and the ratios of rows."""
    batches: list[dict[str, Any]] = []
    prepare = trainer._run._prepare_loss

    def prepared(host: Any, batch: Any, state: Any) -> dict[str, Any]:
        inputs = prepare(host, batch, state)
        mask = inputs["completion_mask"].bool()
        own = mask & inputs["tool_mask"].bool() if "tool_mask" in inputs else mask
        sampled, ratio = inputs["sampling_per_token_logps"], inputs["importance_sampling_ratio"].expand(mask.shape)
        real = own.any(dim=1)
        fresh = torch.tensor(batch.groups.generation == trainer.multi_task_state.generation - 1)
        fresh = fresh.repeat_interleave(trainer.num_generations)[:, None]
        batches.append(
            {
                "step": trainer.state.global_step,
                "written": int(own.sum()),
                "not_written": int((mask & ~own).sum()),
                # What waited was sampled by an earlier policy, which its ratio says.
                "difference": _largest((inputs["old_per_token_logps"] - sampled)[own & fresh]),
                "sampled_elsewhere": _largest(sampled[mask & ~own]),
                "ratios": [_smallest(ratio[own & fresh]), _largest(ratio[own & fresh])],
                "fillers": int((~real).sum()),
                "filler_ratios": [_smallest(ratio[~real]), _largest(ratio[~real])],
            }
        )
        return inputs

    trainer._run._prepare_loss = prepared
    return batches


def recorded(trainer: MultiTaskGRPOTrainer) -> list[dict[str, Any]]:
    """What reaches the loss of each later generation batch."""
    batches: list[dict[str, Any]] = []
    prepare = trainer._run._prepare_loss

    def prepared(host: Any, batch: Any, state: Any) -> dict[str, Any]:
        slots = batch.groups.place[:, :, 1].ravel().tolist()
        logps = [trainer._run.store[slot].logprobs for slot in slots]
        inputs = prepare(host, batch, state)
        width = inputs["completion_ids"].size(1)
        expected = torch.zeros(len(logps), width)
        for i, row in enumerate(logps):
            expected[i, : len(row)] = torch.tensor(row)
        is_carried = batch.groups.generation < trainer.multi_task_state.generation - 1
        rows = torch.tensor(is_carried).repeat_interleave(trainer.num_generations)
        mask = inputs["completion_mask"].bool()
        batches.append(
            {
                "step": trainer.state.global_step,
                "rounds": int(batch.plan.rounds),
                "carried": is_carried.tolist(),
                "sampling_difference": _largest((inputs["sampling_per_token_logps"] - expected)[mask]),
                "old_difference_carried": _largest((inputs["old_per_token_logps"] - expected)[mask & rows[:, None]])
                if "old_per_token_logps" in inputs
                else None,
                "has_ratio": "importance_sampling_ratio" in inputs,
            }
        )
        return inputs

    trainer._run._prepare_loss = prepared
    return batches


def _wide_model(vocab_size: int = 98) -> Qwen2ForCausalLM:
    """As small as vLLM's CPU attention takes it: heads of 32."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocab_size,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def _calling_model(vocab_size: int) -> Qwen2ForCausalLM:
    """Writes ends, digits and calls mostly: a constant part of the hidden state is a bias of the output."""
    model = _wide_model(vocab_size)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 1.0
        head = model.lm_head.weight
        head[:, 0] = -0.5
        head[common_tokens(), 0] = 0.5
    return model


def _smallest(values: torch.Tensor) -> float | None:
    return float(values.min()) if values.numel() else None


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def run(scenario: str, folder: Path, base_url: str | None) -> dict[str, Any]:
    model = folder / "model"
    calls_tools = scenario == "tools"
    tokenizer = tool_tokenizer() if calls_tools else tiny_tokenizer()
    (_calling_model(len(tokenizer)) if calls_tools else _wide_model()).save_pretrained(model)
    tokenizer.save_pretrained(model)
    settings = {
        "per_device_train_batch_size": 8,
        "steps_per_generation": 2,
        "max_steps": 6,
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_max_model_length": 128,
        "vllm_gpu_memory_utilization": 0.1,
        "vllm_server_base_url": base_url,
    }
    trainer = MultiTaskGRPOTrainer(
        model=str(model),
        tasks=tasks_of(scenario),
        args=tiny_config(folder, **(settings | SCENARIOS[scenario])),
        processing_class=tokenizer,
    )
    batches = observed(trainer) if scenario in ("tools", "program", "pilots") else recorded(trainer)
    calls = list[tuple[str, int, int]]()
    generation = trainer.vllm_generation
    sync, generate = generation.sync_weights, generation.generate

    def counted_sync() -> None:
        calls.append(("sync", trainer.state.global_step, 0))
        sync()

    def counted_generate(**kwargs: Any) -> Any:
        calls.append(("generate", trainer.state.global_step, len(kwargs["prompts"])))
        return generate(**kwargs)

    with mock.patch.multiple(generation, sync_weights=counted_sync, generate=counted_generate):
        trainer.train()
    state = trainer.multi_task_state
    return {
        "batches": batches,
        "calls": calls,
        "imbalance": state.groups.imbalance.tolist() + state.tokens.imbalance.tolist(),
        "generated": int(state.groups.generated.sum()),
        "rollouts": int(state.rollouts.generated.sum()),
        "logs": trainer.state.log_history,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base-url")
    arguments = parser.parse_args()
    if arguments.base_url is None:
        import vllm._custom_ops as ops

        # This backend packs linear weights for oneDNN and drops the originals, which a weight sync writes to.
        ops._supports_onednn = False
    else:
        from trl.generation import vllm_client

        # Weights travel over NCCL, which a CPU does not have; the server's other endpoints are real requests.
        client = vllm_client.VLLMClient
        client.init_communicator = lambda self, device: None
        client.update_named_params = lambda self, metadata, params: [None for _ in params]
    result = run(arguments.scenario, arguments.folder, arguments.base_url)
    (arguments.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    os._exit(0)


if __name__ == "__main__":
    main()
