"""One rank of a launched run: trains a scenario and writes what this rank saw to `<folder>/rank<r>.json`."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig

from tests.tiny import contains_a, contains_digit, contains_lower, rows, tiny_config, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.state.codec import to_json
from trl_mtgrpo.tasks.failures import RewardError


RANK = int(os.environ["RANK"])


def constant_on_rank_one(completions: list[Any], **kwargs: Any) -> list[float]:
    return [0.0] * len(completions) if RANK == 1 else contains_digit(completions)


def fails_on_rank_one(completions: list[Any], **kwargs: Any) -> list[float]:
    if RANK == 1:
        raise ZeroDivisionError("no digit to divide by")
    return contains_digit(completions)


def silent_on_rank_one(completions: list[Any], **kwargs: Any) -> list[float | None]:
    return [None] * len(completions) if RANK == 1 else contains_digit(completions)


def longer_on_rank_one(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """Completions whose number of tokens depends on the rank."""
    ids = [[33 + int(torch.randint(60, ())) for _ in range(2 + 3 * RANK + i % 2)] + [1] for i, _ in enumerate(prompts)]
    return {
        "prompt_ids": trainer.processing_class(list(prompts))["input_ids"],
        "completion_ids": ids,
        "logprobs": None,
    }


def tasks(medium: Any = contains_digit, sizes: tuple[int, ...] = (30, 30, 30), with_eval: bool = False) -> list[Task]:
    functions = {"easy": contains_lower, "medium": medium, "hard": contains_a}
    return [
        Task(
            name,
            rows(name[0], size=size),
            function,
            success_threshold=1.0,
            eval_dataset=rows(name[0], size=3 + i) if with_eval else None,
        )
        for i, ((name, function), size) in enumerate(zip(functions.items(), sizes, strict=True))
    ]


# The tasks and the changes to the tiny settings; 16 rows per rank, two updates per generation batch.
SCENARIOS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "train": (tasks, {"improvement_reduction": "mean"}, {}),
    "lora_kl": (
        tasks,
        {"improvement_reduction": "mean", "beta": 0.04, "gradient_checkpointing": True},
        {"lora": True},
    ),
    "surrogate": (tasks, {"loss_type": "grpo", "gradient_accumulation_steps": 2, "max_steps": 3}, {}),
    "uninformative": (lambda: tasks(constant_on_rank_one)[1:2], {"max_resampling_rounds": 2}, {}),
    "raise": (lambda: tasks(fails_on_rank_one), {}, {}),
    # Pilots of three rows: what completes them is seldom even, and one row is made twice.
    "pilots": (
        tasks,
        {"per_device_train_batch_size": 6, "num_generations": 6, "pilot_generations": 3, "pilot_tasks": "all"},
        {},
    ),
    # Three groups of two rows on two ranks: one group straddles them, and no request is even by itself.
    "uneven": (
        lambda: tasks(silent_on_rank_one, sizes=(1, 2, 30), with_eval=True),
        {
            "per_device_train_batch_size": 3,
            "num_generations": 2,
            "steps_per_generation": 1,
            "oversampling": 1.5,
            "max_generated_tokens": 150,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "per_device_eval_batch_size": 2,
        },
        {"rollout_func": longer_on_rank_one},
    ),
}


Record = dict[str, list[Any]]


def recorded(trainer: MultiTaskGRPOTrainer) -> Record:
    """What every rank must decide alike, and what only this one saw, of each later batch."""
    names = ("selections", "fillers", "weights", "calls", "losses", "changes")
    record: Record = {name: [] for name in names}
    run, compute = trainer._run, trainer._compute_loss
    prepare, measure, produce = run._prepare_loss, run._measured, run.rollouts.generate

    def prepared(host: Any, batch: Any, state: Any) -> dict[str, Any]:
        groups = batch.groups
        columns = groups.task, groups.prompt, groups.generation, groups.tokens, groups.outcome
        record["selections"].append(np.stack(columns, axis=1).tolist())
        record["fillers"].append(batch.is_filler.tolist())
        record["weights"].append(list(trainer.task_weights.values()))
        return prepare(host, batch, state)

    def computed(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = compute(model, inputs)
        record["losses"].append(float(loss))
        return loss

    def measured(host: Any, batch: Any, num_calls: int) -> Any:
        """Keeps the measured change beside the change of this rank's loss on the same rows."""
        change, window = measure(host, batch, num_calls), len(batch.micro_batches)
        before, after = sum(record["losses"][-window:]), 0.0
        for inputs in batch.micro_batches:
            old = inputs.get("old_per_token_logps", inputs["train_per_token_logps"])
            with torch.no_grad():
                after += float(compute(trainer.model, {**inputs, "old_per_token_logps": old}))
        record["changes"].append([float(change.sums.sum()), int(change.counts.sum()), before - after])
        return change

    def generated(rows: list[Any]) -> Any:
        record["calls"].append(len(rows))
        return produce(rows)

    run._prepare_loss, run._measured, run.rollouts.generate = prepared, measured, generated
    trainer._compute_loss = computed
    return record


def run(scenario: str, model: str, folder: Path) -> dict[str, Any]:
    make_tasks, changes, options = SCENARIOS[scenario]
    extra: dict[str, Any] = (
        {"peft_config": LoraConfig(r=4, target_modules="all-linear")} if options.get("lora") else {}
    )
    if "rollout_func" in options:
        extra["rollout_func"] = options["rollout_func"]
    settings = {"per_device_train_batch_size": 8, "steps_per_generation": 2, "max_steps": 6} | changes
    trainer = MultiTaskGRPOTrainer(
        model=model,
        tasks=make_tasks(),
        args=tiny_config(folder, **settings),
        processing_class=tiny_tokenizer(),
        **extra,
    )
    record, error = recorded(trainer), None
    try:
        trainer.train()
    except RewardError as raised:
        error = str(raised)
    state = trainer.multi_task_state
    return {
        **record,
        "world_size": trainer.accelerator.num_processes,
        "wrapped": type(trainer.model_wrapped).__name__,
        "optimizer": type(getattr(trainer.model_wrapped, "optimizer", None)).__name__,
        "logs": trainer.state.log_history,
        "final_weights": trainer.task_weights,
        "groups": to_json(state.groups),
        "tokens": to_json(state.tokens),
        "imbalance": state.groups.imbalance.tolist() + state.tokens.imbalance.tolist(),
        "error": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    result = run(arguments.scenario, arguments.model, arguments.folder)
    (arguments.folder / f"rank{RANK}.json").write_text(json.dumps(result), encoding="utf-8")
    if result["error"] is None:
        torch.distributed.barrier()
    # gloo threads abort some interpreters on their way out, after all work is done.
    os._exit(0)


if __name__ == "__main__":
    main()
