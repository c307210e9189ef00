"""One task with tools or an environment trains exactly as `GRPOTrainer` would, parameters and every metric."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from tests.environments.world import (
    SETTINGS,
    Count,
    OpenGuess,
    add,
    answered,
    chat_rows,
    guess_rows,
    in_few_tries,
    mul,
    tool_model,
    tool_tokenizer,
)
from tests.host_runs import Outcome, differences, parameters_of
from tests.tiny import tiny_config
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


class Case(NamedTuple):
    """How the host is set up, and the same as a task."""

    host: Callable[[], dict[str, Any]]
    settings: Any = MappingProxyType({})


def count_rows() -> Any:
    return chat_rows("c", seed=list(range(24)))


class CountOfRows(Count):
    def reset(self, seed: int, prompt: Any) -> str:
        return super().reset(seed)


CASES = {
    "environment": Case(lambda: {"environment_factory": OpenGuess, "train_dataset": guess_rows()}),
    "async": Case(lambda: {"environment_factory": CountOfRows, "train_dataset": count_rows()}),
    "both_rewards": Case(
        lambda: {"environment_factory": OpenGuess, "train_dataset": guess_rows(), "reward_funcs": [in_few_tries]}
    ),
    "one_tool": Case(lambda: {"tools": [add], "train_dataset": chat_rows("s"), "reward_funcs": [answered]}),
    "two_tools": Case(lambda: {"tools": [mul, add], "train_dataset": chat_rows("s"), "reward_funcs": [answered]}),
    "misaligned_kl": Case(
        lambda: {"environment_factory": OpenGuess, "train_dataset": guess_rows()},
        {"per_device_train_batch_size": 4, "steps_per_generation": 4, "gradient_accumulation_steps": 2, "beta": 0.05},
    ),
    "truncated": Case(
        lambda: {"environment_factory": OpenGuess, "train_dataset": guess_rows()},
        {"mask_truncated_completions": True, "max_tool_calling_iterations": 2},
    ),
}
# What only tasks have.
_OWN = ("tasks/", "task_weights/", "sampling/", "rewards/dropped_rows")
_TIMES = ("step_time", "runtime", "per_second", "profiling/")


def outcome(trainer: GRPOTrainer) -> Outcome:
    torch.manual_seed(0)
    trainer.train()
    logs = [
        {key.replace("/a/", "/"): value for key, value in line.items() if not key.startswith(_OWN)}
        for line in trainer.state.log_history
    ]
    logs = [{key: value for key, value in line.items() if not any(time in key for time in _TIMES)} for line in logs]
    return Outcome(parameters_of(trainer), logs, {}, {}, None, None)


def saved(folder: Path) -> str:
    tool_model().save_pretrained(folder / "model")
    return str(folder / "model")


@pytest.mark.parametrize("name", CASES)
def test_one_task_is_trained_as_by_the_host(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    settings = SETTINGS | {"max_steps": 4} | dict(case.settings)
    model = saved(tmp_path)
    host_config = {
        key: value
        for key, value in vars(tiny_config(tmp_path)).items()
        if key in ("use_cpu", "bf16", "logging_steps", "learning_rate", "report_to", "save_strategy", "disable_tqdm")
        or key in ("per_device_train_batch_size", "num_generations")
    }
    options = case.host()
    host = outcome(
        GRPOTrainer(
            model=model,
            args=GRPOConfig(output_dir=str(tmp_path), **(host_config | settings)),
            processing_class=tool_tokenizer(),
            **({"reward_funcs": []} | options),
        )
    )
    options = case.host()
    own = outcome(
        MultiTaskGRPOTrainer(
            model=model,
            tasks=[Task("a", options.pop("train_dataset"), options.pop("reward_funcs", []), **options)],
            args=tiny_config(tmp_path, method="grpo", **settings),
            processing_class=tool_tokenizer(),
        )
    )
    assert host.logs[0]["tools/call_frequency"] > 0.2
    assert len(host.logs) == len(own.logs) == 5
    assert differences(host, own) == []


def test_the_comparison_can_fail() -> None:
    first = Outcome(torch.zeros(1), [{"tools/call_frequency": 1.0}], {}, {}, None, None)
    assert differences(first, first._replace(logs=[{"tools/call_frequency": 2.0}])) != []
