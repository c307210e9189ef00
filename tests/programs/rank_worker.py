"""One rank of a launched run of a program: writes what it saw to `<folder>/rank<r>.json`."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tests.programs.program_runs import has_lower, lower_share, one_call, ragged
from tests.tiny import contains_digit, contains_lower, rows, tiny_config, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.tasks.failures import RewardError


RANK = int(os.environ.get("RANK", "0"))


def five_on_rank_zero(example: dict[str, Any], call: Any) -> str:
    """Five calls per rollout on one rank and none on the other."""
    text = ""
    for _ in range(5 * (RANK == 0)):
        text = call("m", f"{example['prompt']}{text[:2]}")
    return text


def bug_on_rank_one(example: dict[str, Any], call: Any) -> str:
    text = call("m", example["prompt"])
    if RANK == 1:
        raise ZeroDivisionError("a bug of one rank")
    for _ in range(10):
        call("m", text or "x")
    return text


def program(body: Any, reward: Any = lower_share, **options: Any) -> list[Task]:
    return [Task("prog", rows("p", size=24), reward, program=body, **options)]


def mixed() -> list[Task]:
    return [
        Task("easy", rows("e"), contains_lower, success_threshold=1.0),
        *program(ragged, has_lower, success_threshold=1.0),
        Task("medium", rows("m"), contains_digit, success_threshold=1.0),
    ]


def written_with_dspy() -> list[Task]:
    import dspy

    from tests.programs.dspy_parts import Plain, TwoSteps, dspy_tasks

    dspy.configure(adapter=Plain())
    return dspy_tasks(TwoSteps())


SCENARIOS: dict[str, tuple[Any, dict[str, Any]]] = {
    "uneven": (lambda: program(five_on_rank_zero), {"group_filter": "none"}),
    "bug": (lambda: program(bug_on_rank_one), {}),
    "mixed": (mixed, {}),
    "dspy": (written_with_dspy, {}),
    "one call": (lambda: program(one_call), {"method": "grpo", "shuffle_dataset": False}),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=[*SCENARIOS, "host"])
    parser.add_argument("model")
    parser.add_argument("folder")
    given = parser.parse_args()
    folder = Path(given.folder)
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(chat=given.scenario == "dspy")
    options = {"model": AutoModelForCausalLM.from_pretrained(given.model), "processing_class": tokenizer}
    changes: dict[str, Any] = {"max_steps": 3, "per_device_train_batch_size": 8, "remove_unused_columns": False}
    if given.scenario == "host":
        from trl import GRPOConfig, GRPOTrainer

        own = tiny_config(folder / "run", **changes).to_dict()
        names = GRPOConfig.__dataclass_fields__
        changes = {k: v for k, v in own.items() if k in names and k not in ("epsilon_high", "generation_batch_size")}
        changes |= {"shuffle_dataset": False, "remove_unused_columns": True, "logging_dir": None}
        changes = {name: value for name, value in changes.items() if value is not None}
        trainer: Any = GRPOTrainer(
            reward_funcs=lambda completions, **kwargs: lower_share(completions),
            args=GRPOConfig(**changes),
            train_dataset=rows("p", size=24),
            **options,
        )
    else:
        make, more = SCENARIOS[given.scenario]
        trainer = MultiTaskGRPOTrainer(tasks=make(), args=tiny_config(folder / "run", **(changes | more)), **options)
    found: dict[str, Any] = {"error": "", "seconds": 0.0}
    started = time.monotonic()
    try:
        trainer.train()
    except RewardError as error:
        found["error"] = str(error)
    found["seconds"] = time.monotonic() - started
    model = trainer.accelerator.unwrap_model(trainer.model)
    found["sum"] = [float(parameter.detach().double().sum()) for parameter in model.parameters()]
    found["logs"] = [
        {k: v for k, v in line.items() if not any(t in k for t in ("time", "per_second"))}
        for line in trainer.state.log_history
    ]
    if getattr(trainer, "multi_task_state", None) is not None:
        found["imbalance"] = trainer.multi_task_state.groups.imbalance.tolist()
        found["groups"] = trainer.multi_task_state.groups.generated.tolist()
    (folder / f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found), encoding="utf-8")
    if found["error"]:
        os._exit(0)  # the launcher would take the error of the test for one of the run


if __name__ == "__main__":
    main()
