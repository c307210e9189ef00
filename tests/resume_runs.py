"""What a resumed run must share with the uninterrupted one, and how the two are compared."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tests.tiny import contains_a, contains_digit, contains_lower, rows
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.state.codec import to_json


TIMES = (
    "step_time",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "profiling/",
    "total_flos",
)


def recorded_tasks(seen: list[str], size: int = 30, names: str = "easy medium hard") -> list[Task]:
    """Tasks that write down every prompt they score."""
    functions = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a, "new": contains_digit}

    def recording(function: Any) -> Any:
        def reward(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
            seen.extend(prompts)
            return function(completions)

        return reward

    return [
        Task(name, rows(name[0], size=size), recording(functions[name]), success_threshold=1.0)
        for name in names.split()
    ]


def state_json(trainer: MultiTaskGRPOTrainer) -> str:
    """Everything that a run remembers, as text, with this rank's rows; where rows lie is not part of it."""
    state = trainer.multi_task_state
    if state is None:  # a plain run is the host's own and remembers nothing more
        return ""
    store = trainer._run.store
    places = state.carried.place.reshape(-1, 2)  # rank and slot
    slots = places[places[:, 0] == trainer.accelerator.process_index, 1].tolist()
    facts = replace(state, carried=replace(state.carried, place=np.zeros_like(state.carried.place)))
    return json.dumps([to_json(facts), [store[slot].to_json() for slot in slots]], sort_keys=True)


def final_facts(trainer: MultiTaskGRPOTrainer) -> dict[str, Any]:
    """Everything that a resumed run must share with the uninterrupted one."""
    return {
        "parameters": [parameter.detach().clone() for parameter in trainer.model.parameters()],
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.lr_scheduler.state_dict(),
        "state": state_json(trainer),
        "random state": torch.random.get_rng_state(),
        "metrics": [
            {name: value for name, value in entry.items() if not name.startswith(TIMES) and name != "train_loss"}
            for entry in trainer.state.log_history
        ],
        "tokens": trainer.state.num_input_tokens_seen,
    }


def differences(left: Any, right: Any, path: str = "") -> Iterator[str]:
    """Paths at which two nested values are not equal to the last bit."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            yield from differences(left.get(key), right.get(key), f"{path}/{key}")
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple) and len(left) == len(right):
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, f"{path}/{i}")
    elif isinstance(left, torch.Tensor):
        if not torch.equal(left, right):
            yield path
    elif not (left == right or (left is not left and right is not right)) and not (
        isinstance(left, float) and isinstance(right, float) and np.isnan(left) and np.isnan(right)
    ):
        yield f"{path}: {left!r} != {right!r}"
