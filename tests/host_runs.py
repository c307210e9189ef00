"""One training run of either trainer under one of TRL's options, and what the run left behind."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification
from trl import GRPOConfig, GRPOTrainer

from tests.tiny import contains_a, contains_digit, contains_lower, rows, text_of, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 6,
    "max_steps": 2,
    "logging_steps": 1,
    "learning_rate": 1e-2,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
}

# What only this library logs; everything else must be the host's, value for value.
OWN_METRICS = (
    *("tasks/", "sampling/", "task_weights/", "rewards/dropped_rows"),
    *("worst_task_accuracy", "average_accuracy", "task_accuracy_spread"),
)
_TIMES = ("step_time", "runtime", "per_second", "profiling/")


@dataclass(frozen=True, eq=False)
class Option:
    """
    One way to set up a run.

    Args:
        settings (`dict`): What is changed in the config.
        rewards (`Callable`): From a task's plain reward function to the task's rewards.
        chat (`bool`): Prompts as lists of messages.
        trainer (`Callable`): Further arguments of the trainer, built anew for each run.
        with_eval (`bool`): Whether there is a dataset to evaluate on.
        fast (`bool`): Whether the default test run includes it.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    rewards: Callable[[Any], list[Any]] = lambda function: [function]
    chat: bool = False
    trainer: Callable[[], dict[str, Any]] = dict
    with_eval: bool = False
    fast: bool = False


class Outcome(NamedTuple):
    """Parameters, logged values and the completions table of a finished run."""

    parameters: torch.Tensor
    logs: list[dict[str, float]]
    table: dict[str, Any]


def share_of_lower(completions: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.islower() for c in text_of(completion)) / 6 for completion in completions]


def with_second(function: Any) -> list[Any]:
    return [function, share_of_lower]


def with_async(function: Any) -> list[Any]:
    async def slowly(completions: list[Any], **kwargs: Any) -> list[float]:
        await asyncio.sleep(0)
        return function(completions)

    async def length(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [len(text_of(completion)) / 6 for completion in completions]

    return [slowly, length]


def with_abstention(function: Any) -> list[Any]:
    """A second function that gives no opinion on half of the completions."""

    def on_long(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [share_of_lower([c])[0] if "e" in text_of(c) else None for c in completions]

    return [function, on_long]


def with_logging(function: Any) -> list[Any]:
    def logged(completions: list[Any], log_extra: Any, log_metric: Any, **kwargs: Any) -> list[float]:
        log_extra("first", [text_of(completion)[:1] for completion in completions])
        log_metric("mean_length", sum(len(text_of(c)) for c in completions) / len(completions))
        return function(completions)

    return [logged]


def with_model(function: Any) -> list[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = Qwen2Config(
            vocab_size=98,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
            num_labels=1,
            name_or_path="tiny-reward-model",
        )
        return [function, Qwen2ForSequenceClassification(config)]


def lora(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"peft_config": LoraConfig(**({"r": 4, "target_modules": "all-linear"} | changes))}


def rollout_func(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """Random letters in place of generation, the last token of each from an environment."""
    ids = [[33 + int(torch.randint(60, ())) for _ in range(5)] + [1] for _ in prompts]
    return {
        "prompt_ids": trainer.processing_class([text_of(prompt) for prompt in prompts])["input_ids"],
        "completion_ids": ids,
        "logprobs": None,
        "env_mask": [[1, 1, 1, 1, 0, 1] for _ in prompts],
        "first_id": [row[0] for row in ids],
    }


def saved_model(folder: Any) -> Qwen2ForCausalLM:
    """The tiny model with a path of its own, from which TRL builds a reference model."""
    path = Path(folder) / "model"
    if not path.exists():
        tiny_model().save_pretrained(path)
    return Qwen2ForCausalLM.from_pretrained(path)


def train_plain(
    trainer_class: type[GRPOTrainer], config_class: type[GRPOConfig], option: Option, folder: Any
) -> Outcome:
    """Trains on one dataset with reward functions, as for the host."""
    torch.manual_seed(0)
    trainer = trainer_class(
        model=saved_model(folder),
        reward_funcs=option.rewards(share_of_lower),
        args=config_class(output_dir=str(folder), **(SETTINGS | option.settings)),
        train_dataset=rows("p", size=20, chat=option.chat, answer=[str(i) for i in range(20)]),
        eval_dataset=rows("e", size=4, chat=option.chat, answer=["0"] * 4) if option.with_eval else None,
        processing_class=tiny_tokenizer(chat=option.chat),
        **_processing(option),
        **option.trainer(),
    )
    trainer.train()
    logs = [{k: v for k, v in line.items() if not any(t in k for t in _TIMES)} for line in trainer.state.log_history]
    table = {name: list(column) for name, column in trainer._logs.items() if name not in ("rewards", "extra")}
    table |= {f"{part}/{name}": list(c) for part in ("rewards", "extra") for name, c in trainer._logs[part].items()}
    return Outcome(parameters_of(trainer), logs, table)


def train_tasks(option: Option, folder: Any, **changes: Any) -> MultiTaskGRPOTrainer:
    """Trains three tasks of different difficulty with filter, refill and carry-over."""
    functions = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a}
    tasks = [
        Task(
            name,
            rows(name[0], chat=option.chat, **({"answer": ["0"] * 30} if name == "easy" else {})),
            option.rewards(function),
            eval_dataset=rows(name[0], size=4, chat=option.chat) if option.with_eval else None,
            reward_weights=option.settings.get("reward_weights"),
        )
        for name, function in functions.items()
    ]
    settings = {name: value for name, value in option.settings.items() if name != "reward_weights"}
    torch.manual_seed(0)
    trainer = MultiTaskGRPOTrainer(
        model=saved_model(folder),
        tasks=tasks,
        args=MultiTaskGRPOConfig(output_dir=str(folder), task_table=False, **(SETTINGS | settings | changes)),
        processing_class=tiny_tokenizer(chat=option.chat),
        **_processing(option, num_tasks=3),
        **option.trainer(),
    )
    trainer.train()
    return trainer


def parameters_of(trainer: GRPOTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def differences(host: Outcome, own: Outcome) -> list[str]:
    """What differs between a host run and a run of this library, as readable lines; empty when nothing does."""
    found = [] if torch.equal(host.parameters, own.parameters) else ["parameters"]
    if len(host.logs) != len(own.logs):
        found.append(f"{len(host.logs)} and {len(own.logs)} log lines")
    for i, (theirs, ours) in enumerate(zip(host.logs, own.logs, strict=False)):
        for name in sorted(theirs.keys() | ours.keys()):
            if name not in theirs and name.removeprefix("eval_").startswith(OWN_METRICS):
                continue
            if not _same(theirs.get(name, "absent"), ours.get(name, "absent")):
                found.append(f"log {i} {name}: {theirs.get(name, 'absent')} and {ours.get(name, 'absent')}")
    for name in sorted(host.table.keys() | own.table.keys()):
        theirs, ours = host.table.get(name, []), own.table.get(name, [])
        if len(theirs) != len(ours) or not all(map(_same, theirs, ours)):
            found.append(f"completions table, column {name}")
    return found


def _same(first: Any, second: Any) -> bool:
    return first == second or (first != first and second != second)


def _processing(option: Option, num_tasks: int = 1) -> dict[str, Any]:
    rewards = option.rewards(share_of_lower) * num_tasks
    if not any(isinstance(reward, torch.nn.Module) for reward in rewards):
        return {}
    return {
        "reward_processing_classes": [
            tiny_tokenizer(chat=option.chat) if isinstance(reward, torch.nn.Module) else None for reward in rewards
        ]
    }
