"""Programs beside tasks of one call: one ledger, one mix, one memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.host_runs import parameters_of
from tests.programs.program_runs import has_lower, lower_share, program_task, program_trainer, ragged, two_calls
from tests.tiny import contains_digit, contains_lower, rows
from trl_mtgrpo import ProgramFailure, Task
from trl_mtgrpo.host.run import MixtureRun


def tasks(program: Any = ragged, with_eval: bool = False) -> list[Task]:
    evaluation = {"eval_dataset": rows("e", size=6)} if with_eval else {}
    return [
        Task("easy", rows("e"), contains_lower, success_threshold=1.0, **evaluation),
        program_task(program, has_lower, success_threshold=1.0, **evaluation),
        Task("medium", rows("m"), contains_digit, success_threshold=1.0, **evaluation),
    ]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    prepare = MixtureRun._prepare_loss

    def recording(self: MixtureRun, host: Any, batch: Any, state: Any) -> dict[str, Any]:
        found.append(batch)
        return prepare(self, host, batch, state)

    monkeypatch.setattr(MixtureRun, "_prepare_loss", recording)
    return found


def test_every_group_is_accounted_for_and_the_mix_follows_the_weights(batches: list[Any], tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, tasks(), max_steps=6, per_device_train_batch_size=48, task_weight_lr=0.5)
    trainer.train()
    for batch in batches:
        assert batch.group_ledger.imbalance.tolist() == [0, 0, 0]
        assert batch.token_ledger.imbalance.tolist() == [0, 0, 0]
        assert batch.group_ledger.trained.sum() == 12
        missing = batch.plan.desired - batch.group_ledger.trained
        assert (missing <= 0).all() or not batch.surplus.counts(3)[missing > 0].any()
    assert trainer.multi_task_state.groups.imbalance.tolist() == [0, 0, 0]
    assert sum(batch.group_ledger.carried_out[1] for batch in batches) > 0
    by_module = trainer.state.log_history[0]
    assert (
        by_module["modules/prog.plan/groups"] + by_module["modules/prog.act/groups"]
        <= by_module["tasks/prog/generated_groups"]
    )
    assert by_module["tasks/prog/calls_per_rollout"] > 1
    assert by_module["sampling/waves"] >= 2
    weights = trainer.task_weights
    assert sum(weights.values()) == pytest.approx(1.0)
    assert len(set(weights.values())) == 3


def test_the_table_names_the_module_of_programs_rows_only(tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, tasks(two_calls), max_steps=1, group_filter="none")
    trainer.train()
    extra = trainer._logs["extra"]
    named = {(task, module is None) for task, module in zip(extra["task"], extra["module"], strict=True)}
    assert named == {("easy", True), ("medium", True), ("prog", False)}


@pytest.mark.parametrize("group_baseline", ["members", "rollouts"])
def test_a_resumed_run_with_carried_ragged_groups_is_the_same_run(group_baseline: str, tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "group_baseline": group_baseline}
    whole = program_trainer(tmp_path / "whole", tasks(), **options)
    whole.train()
    resumed = program_trainer(tmp_path / "resumed", tasks(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert torch.equal(parameters_of(whole), parameters_of(resumed))
    first, second = whole.multi_task_state, resumed.multi_task_state
    assert first.programs.modules == second.programs.modules == ((), ("act", "plan"), ())
    assert first.programs.groups_per_bundle.tolist() == second.programs.groups_per_bundle.tolist()
    assert first.carried.role.tolist() == second.carried.role.tolist()
    own = [name for name in whole.state.log_history[-2] if name.startswith(("modules/", "tasks/", "sampling/"))]
    assert own
    for name in own:
        one, two = whole.state.log_history[-2][name], resumed.state.log_history[-2][name]
        assert one == two or (one != one and two != two), name


def test_groups_were_carried_in_the_resumed_run(tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, tasks(), max_steps=1)
    trainer.train()
    carried = trainer.multi_task_state.carried
    assert ((carried.task == 1) & (carried.members < 4)).any()


def test_tasks_without_a_program_draw_as_before_beside_one(tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, tasks(), max_steps=3)
    trainer.train()
    estimate = trainer.multi_task_state.programs.groups_per_bundle
    assert estimate[0] == estimate[2] == 1.0
    assert estimate[1] > 1.0


def test_the_first_step_of_a_program_makes_as_many_bundles_as_it_has_places(tmp_path: Path) -> None:
    asked: list[int] = []
    trainer = program_trainer(tmp_path, [program_task(ragged, has_lower, success_threshold=1.0)], max_steps=3)
    produce = trainer._run.source.produce

    def counted(prompts: Any, *rest: Any) -> Any:
        asked.append(len(prompts.task))
        return produce(prompts, *rest)

    trainer._run.source.produce = counted
    trainer.train()
    assert asked[0] == 4
    most = max(line.get("sampling/generated_groups", 0) for line in trainer.state.log_history)
    assert most <= trainer._run.loop.sampler.group_limit


def test_programs_are_evaluated_by_their_rollouts(tmp_path: Path) -> None:
    def sometimes(example: dict[str, Any], call: Any) -> str:
        if example["prompt"] == "e0":
            raise ProgramFailure("before any call")
        return two_calls(example, call)

    trainer = program_trainer(
        tmp_path, tasks(sometimes, with_eval=True), max_steps=1, per_device_eval_batch_size=4, num_generations_eval=2
    )
    metrics = trainer.evaluate()
    assert metrics["eval_tasks/prog/completions"] == 12
    assert metrics["eval_tasks/easy/completions"] == 12
    assert metrics["eval_tasks/prog/failed_rollouts"] == pytest.approx(1 / 6)
    assert metrics["eval_modules/prog.draft/calls"] == metrics["eval_modules/prog.final/calls"] == 10
    assert metrics["eval_tasks/prog/accuracy"] <= 5 / 6
    tested = ("easy", "prog", "medium")
    accuracies = [metrics[f"eval_tasks/{name}/accuracy"] for name in tested]
    assert metrics["eval_worst_task_accuracy"] == min(accuracies)
    trainer.train()


def test_the_improvement_of_a_program_is_measured_over_its_calls(tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, tasks(), max_steps=3)
    trainer.train()
    measured = [line.get("tasks/prog/improvement_raw") for line in trainer.state.log_history]
    assert any(value is not None and np.isfinite(value) and value != 0 for value in measured)


def test_the_accuracy_that_weights_follow_counts_each_rollout_once(batches: list[Any], tmp_path: Path) -> None:
    seen: list[float] = []

    def reward(outputs: list[Any], **kwargs: Any) -> list[float]:
        values = [float(any(c.islower() for c in output or "")) for output in outputs]
        seen.extend(values)
        return values

    task = program_task(ragged, reward, success_threshold=1.0, failure_reward=None)
    program_trainer(tmp_path, [task], max_steps=1).train()
    assert batches[0].accuracy[0] == pytest.approx(np.mean(seen))


def test_all_rewards_may_be_unknown(tmp_path: Path) -> None:
    task = program_task(two_calls, lambda outputs, **kwargs: [None] * len(outputs), name="quiet")
    trainer = program_trainer(tmp_path, [task, Task("easy", rows("e"), lower_or_not)], max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["modules/quiet.draft/filtered_ratio"] == 1.0


def lower_or_not(completions: list[Any], **kwargs: Any) -> list[float]:
    return lower_share(completions)
