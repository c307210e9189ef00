"""One training run of either trainer under one of TRL's options, and what the run left behind."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from trl import GRPOConfig, GRPOTrainer

from tests.host_parts import saved_model
from tests.host_rewards import share_of_lower
from tests.tiny import contains_a, contains_digit, contains_lower, rows, tiny_tokenizer
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

_TIMES = ("step_time", "runtime", "per_second", "preparation_time", "profiling/")


def train(trainer: GRPOTrainer, folder: Path) -> Any:
    """What is done with a trainer unless an option says otherwise."""
    trainer.train()


@dataclass(frozen=True, eq=False)
class Option:
    """
    One way to set up a run. Fields from `data` on are for runs without tasks.

    Args:
        settings (`dict`): What is changed in the config.
        rewards (`Callable`): From a task's plain reward function to the task's rewards.
        chat (`bool`): Prompts as lists of messages.
        trainer (`Callable`): Further arguments of the trainer, built anew for each run.
        with_eval (`bool`): Whether there is a dataset to evaluate on.
        fast (`bool`): Whether the default test run includes it.
        data (`Callable`, *optional*): The arguments `train_dataset` and `eval_dataset`.
        model (`Callable`): The model, from the folder that both trainers share.
        processing (`Callable`, *optional*): The processing class.
        script (`Callable`): What is done with the trainer; what it returns is compared.
        resume_from (`int`, *optional*): The run continues a checkpoint that GRPOTrainer wrote at this step.
        config (`type`): This library's run gets a config of this class.
        subclass (`type`, *optional*): A class of the user's own in front of the trainer's.
        error (`str`, *optional*): The run ends with an error whose text matches.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    rewards: Callable[[Any], Any] = lambda function: [function]
    chat: bool = False
    trainer: Callable[[], dict[str, Any]] = dict
    with_eval: bool = False
    fast: bool = False
    data: Callable[[], dict[str, Any]] | None = None
    model: Callable[[Any], Any] = saved_model
    processing: Callable[[], Any] | None = None
    script: Callable[[GRPOTrainer, Path], Any] = train
    resume_from: int | None = None
    config: type[GRPOConfig] = MultiTaskGRPOConfig
    subclass: type | None = None
    error: str | None = None


class Outcome(NamedTuple):
    """Parameters, logged values, completions tables, saved tables, what was returned and the error it ended with."""

    parameters: torch.Tensor
    logs: list[dict[str, float]]
    table: dict[str, Any]
    saved: dict[str, Any]
    returned: Any
    error: str | None


def train_plain(
    trainer_class: type[GRPOTrainer],
    config_class: type[GRPOConfig],
    option: Option,
    folder: Any,
    saved_by: type[GRPOTrainer] = GRPOTrainer,
) -> Outcome:
    """
    Trains on one dataset with reward functions, as for the host.

    Args:
        trainer_class (`type`): The trainer.
        config_class (`type`): Its config.
        option ([`Option`]): The run.
        folder (`Path`): Shared by the runs that are compared; each writes into its own part.
        saved_by (`type`): The trainer that writes the checkpoint of a run that continues one.
    """
    folder = Path(folder)
    own = folder / f"{trainer_class.__name__}-{saved_by.__name__}"
    if option.resume_from is None:
        return _outcome(trainer_class, config_class, option, folder, own)
    before = folder / f"before-{saved_by.__name__}"
    checkpoint = before / f"checkpoint-{option.resume_from}"
    if not checkpoint.exists():
        saver_config = GRPOConfig if saved_by is GRPOTrainer else config_class
        _outcome(saved_by, saver_config, option, folder, before)
    return _outcome(trainer_class, config_class, option, folder, own, checkpoint)


def _outcome(
    trainer_class: type[GRPOTrainer],
    config_class: type[GRPOConfig],
    option: Option,
    folder: Path,
    own: Path,
    checkpoint: Path | None = None,
) -> Outcome:
    error, returned, trainer = None, None, None
    saving = {"save_strategy": "steps", "save_steps": option.resume_from} if option.resume_from else {}
    torch.manual_seed(0)
    if option.subclass is not None:
        trainer_class = type(trainer_class.__name__, (option.subclass, trainer_class), {})
    data = {
        "train_dataset": rows("p", size=20, chat=option.chat, answer=[str(i) for i in range(20)]),
        "eval_dataset": rows("e", size=4, chat=option.chat, answer=["0"] * 4) if option.with_eval else None,
    }
    try:
        trainer = trainer_class(
            model=option.model(folder),
            reward_funcs=option.rewards(share_of_lower),
            args=config_class(output_dir=str(own), **(SETTINGS | saving | option.settings)),
            processing_class=option.processing() if option.processing else tiny_tokenizer(chat=option.chat),
            **(data if option.data is None else option.data()),
            **_processing(option),
            **option.trainer(),
        )
        if checkpoint is None:
            returned = option.script(trainer, own)
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint))
    except Exception as raised:
        if option.error is None:  # what an option is not about must not be compared
            raise
        error = f"{type(raised).__name__}: {raised}"
    if trainer is None:
        return Outcome(torch.zeros(0), [], {}, {}, returned, error)
    logs = [{k: v for k, v in line.items() if not any(t in k for t in _TIMES)} for line in trainer.state.log_history]
    table = {name: list(column) for name, column in trainer._logs.items() if name not in ("rewards", "extra")}
    table |= {f"{part}/{name}": list(c) for part in ("rewards", "extra") for name, c in trainer._logs[part].items()}
    saved = {
        f"{path.name}/{name}": list(column)
        for path in sorted((own / "completions").glob("*.parquet"))
        for name, column in pd.read_parquet(path).items()
    }
    return Outcome(parameters_of(trainer), logs, table, saved, _without_times(returned), error)


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
    if (host.error is None) != (own.error is None):
        found.append(f"error: {host.error} and {own.error}")
    if len(host.logs) != len(own.logs):
        found.append(f"{len(host.logs)} and {len(own.logs)} log lines")
    for i, (theirs, ours) in enumerate(zip(host.logs, own.logs, strict=False)):
        found += _different_values(theirs, ours, f"log {i}")
    found += _different_values(host.table, own.table, "completions table, column")
    found += _different_values(host.saved, own.saved, "saved table, column")
    found += _different_values({"": host.returned}, {"": own.returned}, "returned")
    return found


def _different_values(theirs: dict[str, Any], ours: dict[str, Any], place: str) -> list[str]:
    return [
        f"{place} {name}: {theirs.get(name, 'absent')} and {ours.get(name, 'absent')}"
        for name in sorted(theirs.keys() | ours.keys())
        if not _same(theirs.get(name, "absent"), ours.get(name, "absent"))
    ]


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if hasattr(first, "shape") or hasattr(second, "shape"):
        return repr(first) == repr(second)
    return first == second or (first != first and second != second)


def _without_times(returned: Any) -> Any:
    if isinstance(returned, dict):
        return {k: _without_times(v) for k, v in returned.items() if not any(time in str(k) for time in _TIMES)}
    return [_without_times(value) for value in returned] if isinstance(returned, list | tuple) else returned


def matches(option: Option, outcome: Outcome) -> bool:
    """Whether a run ended as the option says."""
    return outcome.error is None if option.error is None else bool(re.search(option.error, outcome.error or ""))


def _processing(option: Option, num_tasks: int = 1) -> dict[str, Any]:
    rewards = option.rewards(share_of_lower)
    if not isinstance(rewards, list) or not any(isinstance(reward, torch.nn.Module) for reward in rewards):
        return {}
    return {
        "reward_processing_classes": [
            tiny_tokenizer(chat=option.chat) if isinstance(reward, torch.nn.Module) else None
            for reward in rewards * num_tasks
        ]
    }
