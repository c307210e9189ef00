"""Groups that begin with a pilot in the real trainer: what they change, say, and bring back."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.resume_runs import differences, final_facts, recorded_tasks
from tests.tiny import contains_a, contains_digit, rows, tiny_config, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.host.pilot_checks import check_pilots
from trl_mtgrpo.host.settings import resolve
from trl_mtgrpo.rollouts import RememberedPrompts, loss_weights
from trl_mtgrpo.sampling.accounting import REASONS
from trl_mtgrpo.tasks import TaskMixture


# Two groups of eight a step.
EIGHT = {"num_generations": 8, "per_device_train_batch_size": 16, "max_steps": 10}
PILOTS = {**EIGHT, "pilot_generations": 4, "pilot_tasks": "all"}


def tasks() -> list[Task]:
    return [
        Task("even", rows("e"), contains_digit, success_threshold=1.0),
        Task("hard", rows("h"), contains_a, success_threshold=1.0),
    ]


def trained(folder: Path, **settings: Any) -> MultiTaskGRPOTrainer:
    trainer = tiny_trainer(folder, tasks(), **settings)
    trainer.train()
    return trainer


def logged(trainer: MultiTaskGRPOTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def test_groups_whose_pilot_is_alike_end_with_it(tmp_path: Path) -> None:
    trainer = trained(tmp_path, **PILOTS)
    state = trainer.multi_task_state
    assert state.groups.filtered[1, REASONS.index("pilot")] > 0
    for ledger in (state.groups, state.tokens, state.rollouts):
        assert (ledger.imbalance == 0).all()
    assert state.rollouts.generated.sum() < 0.9 * 8 * state.groups.generated.sum()
    assert sum(logged(trainer, "sampling/generated_rollouts")) == state.rollouts.generated.sum()
    assert sum(logged(trainer, "sampling/pilot_stopped")) == state.groups.filtered[:, REASONS.index("pilot")].sum()
    assert max(logged(trainer, "tasks/hard/pilot_stopped")) > 0.3
    assert max(logged(trainer, "tasks/hard/pilot_weight")) > 1.2


def test_advantages_are_the_hosts_times_the_weights_of_their_groups(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, tasks(), **{**PILOTS, "max_steps": 6})
    run = trainer._run
    prepare, seen = run._prepare_loss, []

    def prepared(host: Any, batch: Any, state: Any) -> dict[str, Any]:
        inputs = prepare(host, batch, state)
        of_host = torch.tensor(list(trainer._logs["advantages"])[-16:])
        weights = torch.tensor(loss_weights(batch.groups, state.pilots).repeat(8))
        torch.testing.assert_close(inputs["advantages"].cpu(), (of_host * weights).float())
        seen.extend(weights.tolist())
        return inputs

    run._prepare_loss = prepared
    trainer.train()
    assert min(seen) < 1.0 < max(seen)


def test_as_long_as_no_task_uses_them_the_run_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", **EIGHT)
    auto = trained(tmp_path / "auto", **EIGHT, pilot_generations=4)
    assert auto.multi_task_state.pilots.sums[:, 0].sum() > 0  # it watched
    assert logged(plain, "loss") == logged(auto, "loss")
    for one, other in zip(plain.model.parameters(), auto.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not logged(plain, "sampling/generated_rollouts")
    assert sum(logged(auto, "sampling/pilot_stopped")) == 0


def test_a_resumed_run_goes_on_with_its_pilots_and_their_weights(tmp_path: Path) -> None:
    settings = {**PILOTS, "max_steps": 12, "save_strategy": "steps", "save_steps": 6, "oversampling": 3.0}
    straight = tiny_trainer(tmp_path, recorded_tasks([]), **settings)
    straight.train()
    resumed = tiny_trainer(tmp_path, recorded_tasks([]), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert list(differences(final_facts(straight), final_facts(resumed))) == []
    carried = resumed.multi_task_state.carried
    assert (carried.weight != 1.0).any()
    assert (carried.pilot == 4).all()


def test_with_other_tasks_what_is_known_of_pilots_is_kept(tmp_path: Path) -> None:
    settings = {**PILOTS, "save_strategy": "steps", "save_steps": 6, "max_steps": 6}
    before = tiny_trainer(tmp_path, tasks(), **settings)
    before.train()
    sums = before.multi_task_state.pilots.sums
    changed = tiny_trainer(
        tmp_path,
        [*reversed(tasks()), Task("new", rows("n"), contains_digit, success_threshold=1.0)],
        **settings,
        allow_task_changes=True,
    )
    changed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    after = changed.multi_task_state
    np.testing.assert_array_equal(after.pilots.sums, [sums[1], sums[0], np.zeros(7)])
    assert (after.rollouts.imbalance == 0).all()


def test_the_end_of_a_run_says_what_pilots_did(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="trl_mtgrpo"):
        trainer = trained(tmp_path, **PILOTS)
    made = trainer.multi_task_state.rollouts.generated.sum()
    assert f"2 of 2 tasks began groups with 4 rollouts; {made:,} rollouts were made" in caplog.text


@pytest.mark.parametrize("size", [3, 8, 16])
def test_a_size_that_does_not_divide_the_group_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`pilot_generations` must be a divisor of `num_generations` = 8 .*{size}\."
    ):
        tiny_trainer(tmp_path, tasks(), **EIGHT, pilot_generations=size)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "grpo"}, "where no group is filtered"),
        ({"prompt_memory": "solved"}, "beside `prompt_memory='solved'`"),
        ({"scale_rewards": "batch"}, "where advantages are scaled by the whole batch"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "where advantages are scaled by the whole batch"),
        ({"use_vllm": True, "vllm_mode": "server"}, "with `vllm_mode='server'`"),
    ],
)
def test_what_pilots_cannot_serve_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"`pilot_generations` must be None {reason}, got 4"):
        tiny_trainer(tmp_path, tasks(), **{**PILOTS, **changes})


def shout(text: str) -> str:
    """
    Says it louder.

    Args:
        text: What to say.
    """
    return text.upper()


def test_a_task_with_tools_is_refused(tmp_path: Path) -> None:
    task = Task("tools", rows("t", chat=True), contains_digit, success_threshold=1.0, tools=[shout])
    args = tiny_config(tmp_path, **PILOTS)
    with pytest.raises(ValueError, match=r"must be None with tools or an environment \(task 'tools'\), got 4"):
        check_pilots(resolve(args), args, TaskMixture([task]))


def test_a_function_that_makes_completions_is_refused(tmp_path: Path) -> None:
    args = tiny_config(tmp_path, **PILOTS)
    with pytest.raises(ValueError, match="`pilot_generations` must be None beside a `rollout_func`, got 4"):
        check_pilots(resolve(args), args, TaskMixture(tasks()), rollout_func=print)


def test_prompts_that_are_chosen_with_a_correction_of_their_own_are_refused(tmp_path: Path) -> None:
    source = RememberedPrompts([30], seed=0, skips=True)
    with pytest.raises(ValueError, match="must be None beside a `prompt_source` that corrects, got 4"):
        tiny_trainer(tmp_path, tasks(), **PILOTS, prompt_source=source)
