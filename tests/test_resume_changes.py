"""Whether a run may go on with a changed setting never depends on what waits in its checkpoint."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import contains_a, contains_digit, contains_lower, rows, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


pytestmark = pytest.mark.slow

FUNCTIONS = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a}
SURPLUS = {"oversampling": 3.0, "max_surplus_age": 1, "solved_discount": 0.0, "max_steps": 6}
CHANGES: dict[str, dict[str, Any]] = {
    "a smaller batch": {"per_device_train_batch_size": 8},
    "a larger batch": {"per_device_train_batch_size": 32},
    "accumulation": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
    "two steps per batch": {"per_device_train_batch_size": 8, "steps_per_generation": 2, "max_steps": 10},
    "two passes": {"num_iterations": 2, "max_steps": 10},
    "shorter completions": {"max_completion_length": 3},
    "longer completions": {"max_completion_length": 9},
    "more rollouts": {"num_generations": 8, "per_device_train_batch_size": 32},
    "fewer rollouts": {"num_generations": 2, "per_device_train_batch_size": 8},
    "another loss": {"loss_type": "bnpo"},
    "another scale": {"scale_rewards": "batch"},
    "another clip": {"epsilon_high": 0.4, "delta": 2.0},
    "another temperature": {"temperature": 0.7},
    "another seed": {"seed": 7},
    "no filter": {"group_filter": "none"},
    "another filter": {"group_filter": "reward_variance"},
    "a baseline": {"method": "dapo"},
    "nothing carried": {"max_surplus_age": 0},
    "carried for longer": {"max_surplus_age": 3},
    "a memory": {"prompt_memory": "solved"},
    "pilots": {"pilot_generations": 2, "pilot_tasks": "all"},
    "a ceiling in groups": {"max_generated_groups": 6},
    "a ceiling in tokens": {"max_generated_tokens": 60},
    "masked completions": {"mask_truncated_completions": True},
    "another optimizer of weights": {"task_weight_optimizer": "sgd"},
    "another source": {"improvement_source": "reward"},
    "a threshold": {"task": {"success_threshold": 0.5}},
    "no threshold": {"task": {"success_threshold": None}},
    "a length of a task": {"task": {"max_completion_length": 3}},
}


def trainer(folder: Path, task: dict[str, Any] | None = None, **settings: Any) -> MultiTaskGRPOTrainer:
    own = {"easy": task or {}}
    return MultiTaskGRPOTrainer(
        model=tiny_model(),
        tasks=[
            Task(name, rows(name[0]), function, **({"success_threshold": 1.0} | own.get(name, {})))
            for name, function in FUNCTIONS.items()
        ],
        args=tiny_config(folder, **(SURPLUS | settings)),
        processing_class=tiny_tokenizer(),
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One with groups that wait and one without."""
    folders = {name: tmp_path_factory.mktemp("run") for name in ("carried", "none")}
    for name, folder in folders.items():
        first = trainer(
            folder, max_steps=3, max_surplus_age=int(name == "carried"), save_strategy="steps", save_steps=3
        )
        first.train()
        assert bool(len(first.multi_task_state.carried.task)) == (name == "carried")
    return {name: folder / "checkpoint-3" for name, folder in folders.items()}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("carried", ["carried", "none"])
def test_a_changed_setting_goes_on_and_accounts_for_every_group(
    change: str, carried: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints[carried], tmp_path / "checkpoint-3")
    resumed = trainer(tmp_path, **CHANGES[change])
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.state.global_step == resumed.args.max_steps
    for ledger in (resumed.multi_task_state.groups, resumed.multi_task_state.tokens):
        came = ledger.carried_in + ledger.generated
        went = ledger.trained + ledger.filtered.sum(axis=1) + ledger.expired + ledger.carried_out
        np.testing.assert_array_equal(came, went)
