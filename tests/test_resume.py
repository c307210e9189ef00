"""A resumed run is the uninterrupted one, bit for bit, and a checkpoint that cannot give that is refused."""

import json
import logging
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import TrainerCallback

from tests.resume_runs import differences, final_facts, recorded_tasks
from tests.tiny import contains_digit, contains_lower, rows, tiny_config, tiny_model, tiny_tokenizer, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task, TaskSignal
from trl_mtgrpo.state.checkpoints import last_complete_checkpoint
from trl_mtgrpo.state.state_file import STATE_FILE, StateFileError


def straight_and_resumed(
    folder: Path, cut: int, size: int = 30, **changes: Any
) -> tuple[MultiTaskGRPOTrainer, MultiTaskGRPOTrainer, list[str], list[str]]:
    """An uninterrupted run that saves at `cut`, and a new trainer that continues from there."""
    prompts: list[str] = []
    straight = tiny_trainer(folder, recorded_tasks(prompts, size), save_strategy="steps", save_steps=cut, **changes)
    straight.train()
    later: list[str] = []
    resumed = tiny_trainer(folder, recorded_tasks(later, size), save_strategy="steps", save_steps=cut, **changes)
    resumed.train(resume_from_checkpoint=str(folder / f"checkpoint-{cut}"))
    return straight, resumed, prompts, later


def saved_payload(checkpoint: Path) -> list[dict[str, Any]]:
    return json.loads((checkpoint / STATE_FILE).read_text())["body"]["payload"]


ALIGNED = {"max_steps": 6}
FOUR_STEPS = {"max_steps": 8, "per_device_train_batch_size": 4, "steps_per_generation": 4}
# So that groups are carried at every cut.
SURPLUS = {"oversampling": 3.0, "max_surplus_age": 1, "solved_discount": 0.0}
TWO_BATCHES = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8, "steps_per_generation": 4}
CASES = {
    "first epoch": (3, {**ALIGNED}),
    "carried groups": (3, {**ALIGNED, **SURPLUS}),
    "carried groups, later epoch": (4, {**ALIGNED, **SURPLUS, "size": 4}),
    "without carry-over, end of an epoch": (3, {**ALIGNED, "max_surplus_age": 0, "size": 4}),
    "groups carried for two steps": (3, {**ALIGNED, **SURPLUS, "max_surplus_age": 2}),
    "four updates per batch, carried groups": (4, {**FOUR_STEPS, **SURPLUS}),
    "four updates per batch, later epoch": (8, {**FOUR_STEPS, "max_steps": 12, "size": 2}),
    "four updates per batch, without carry-over": (4, {**FOUR_STEPS, "max_surplus_age": 0}),
    "two batches per update": (2, {"max_steps": 4, **TWO_BATCHES}),
    "weights move each minibatch": (4, {**FOUR_STEPS, "task_weight_update": "minibatch"}),
    "two passes, guard, token budget": (
        4,
        {"max_steps": 8, "num_iterations": 2, "plateau_guard": True, "max_generated_tokens": 300},
    ),
    "dapo": (3, {**ALIGNED, "method": "dapo"}),
    "sec_grpo": (3, {**ALIGNED, "method": "sec_grpo"}),
}


# The others are run by `make test-slow`.
FAST = ("carried groups", "four updates per batch, carried groups", "two batches per update", "sec_grpo")


@pytest.mark.parametrize(
    "case", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_resumed_run_equals_the_uninterrupted_one(case: str, tmp_path: Path) -> None:
    cut, settings = CASES[case]
    straight, resumed, prompts, later = straight_and_resumed(tmp_path, cut, **settings)
    carried = saved_payload(tmp_path / f"checkpoint-{cut}")
    assert carried or "oversampling" not in settings
    assert all(row["behaviour"] for group in carried for row in group["rows"])
    assert list(differences(final_facts(straight), final_facts(resumed))) == []
    assert later
    assert prompts[-len(later) :] == later
    assert len(later) < len(prompts)


@pytest.mark.parametrize("max_steps", [6, 4])
def test_a_finished_run_that_is_resumed_trains_nothing_and_says_so(
    max_steps: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2, **SURPLUS}
    straight = tiny_trainer(tmp_path, recorded_tasks([]), max_steps=6, **settings)
    straight.train()
    later: list[str] = []
    resumed = tiny_trainer(tmp_path, recorded_tasks(later), max_steps=max_steps, **settings)
    with caplog.at_level(logging.WARNING, logger="trl_mtgrpo"):
        resumed.train(resume_from_checkpoint=True)
    assert later == []
    assert resumed.state.global_step == 6
    assert list(differences(final_facts(straight), final_facts(resumed))) == []
    assert not (tmp_path / "checkpoint-7").exists()
    assert f"The checkpoint is at step 6 and `max_steps` is {max_steps}" in caplog.text


def plain_trainer(folder: Path, save_steps: int, size: int = 24) -> MultiTaskGRPOTrainer:
    return MultiTaskGRPOTrainer(
        model=tiny_model(),
        reward_funcs=contains_digit,
        train_dataset=rows("p", size=size),
        args=tiny_config(folder, max_steps=10, save_strategy="steps", save_steps=save_steps),
        processing_class=tiny_tokenizer(),
    )


def test_a_plain_run_resumes_exactly_as_the_host_does_within_an_epoch(tmp_path: Path) -> None:
    # 24 rows, 4 prompts per step: 6 steps per epoch
    straight, resumed = plain_trainer(tmp_path, 3), plain_trainer(tmp_path, 3)
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert list(differences(final_facts(straight), final_facts(resumed))) == []


def test_a_plain_dataset_may_grow_between_runs_as_with_the_host(tmp_path: Path) -> None:
    plain_trainer(tmp_path, 8).train()
    grown = plain_trainer(tmp_path, 8, size=32)
    grown.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert grown.state.global_step == 10


@dataclass(frozen=True, eq=False)
class Counts:
    seen: NDArray[np.float64] = field(metadata={"new_task": 0.0})


class CountingWeighting:
    """Remembers in a dataclass of its own how often each task was trained."""

    def init(self, num_tasks: int) -> Counts:
        return Counts(np.zeros(num_tasks))

    def update(self, signal: TaskSignal, state: Counts) -> Counts:
        return Counts(state.seen + signal.counts)

    def weights(self, state: Counts) -> NDArray[np.float64]:
        return (state.seen + 1.0) / (state.seen + 1.0).sum()


class StopAt(TrainerCallback):
    """Raises in the middle of a run."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_an_interrupted_trainer_object_can_be_resumed_itself(tmp_path: Path) -> None:
    settings = {**FOUR_STEPS, "save_strategy": "steps", "save_steps": 4}
    straight = tiny_trainer(tmp_path / "straight", **settings)
    straight.train()
    stop = StopAt(6)
    interrupted = tiny_trainer(tmp_path / "interrupted", callbacks=[stop], **settings)
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    interrupted.remove_callback(stop)
    interrupted.train(resume_from_checkpoint=True)
    assert list(differences(final_facts(straight), final_facts(interrupted))) == []


def test_a_checkpoint_at_the_end_of_a_run_inside_a_batch_is_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**FOUR_STEPS, "save_strategy": "steps", "save_steps": 4}
    with caplog.at_level(logging.WARNING):
        tiny_trainer(tmp_path, **{**settings, "max_steps": 6}).train()
    assert "checkpoint-6 lies inside a generation batch, 2 optimizer steps before its end" in caplog.text
    longer = tiny_trainer(tmp_path, **settings)
    with pytest.raises(
        StateFileError, match=r"must be a complete checkpoint, got .*checkpoint-6.* Use .*checkpoint-4 ins"
    ):
        longer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-4"


def test_checkpoints_at_the_end_of_epochs_lie_between_batches(tmp_path: Path) -> None:
    prompts: list[str] = []
    settings = {**FOUR_STEPS, "max_steps": 16, "save_strategy": "epoch"}
    straight = tiny_trainer(tmp_path, recorded_tasks(prompts, size=3), **settings)
    straight.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-16", "checkpoint-8"]
    resumed = tiny_trainer(tmp_path, recorded_tasks([], size=3), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert list(differences(final_facts(straight), final_facts(resumed))) == []


def saved_run(folder: Path, names: str = "easy medium hard", **changes: Any) -> MultiTaskGRPOTrainer:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 4, **changes}
    trainer = tiny_trainer(folder, recorded_tasks([], names=names), **settings)
    trainer.train()
    return trainer


@pytest.mark.parametrize("names", ["easy medium", "easy medium hard new", "medium easy hard"])
def test_other_tasks_are_refused_with_both_lists(names: str, tmp_path: Path) -> None:
    saved_run(tmp_path)
    other = tiny_trainer(tmp_path, recorded_tasks([], names=names), max_steps=8)
    expected = rf"`tasks` must be those of the checkpoint \['easy', 'medium', 'hard'\], got \['{names.split()[0]}'"
    with pytest.raises(StateFileError, match=expected):
        other.train(resume_from_checkpoint=True)


def test_tasks_change_on_request_and_the_log_says_what_becomes_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = saved_run(tmp_path, **SURPLUS).multi_task_state
    changed = tiny_trainer(
        tmp_path, recorded_tasks([], names="new hard easy"), max_steps=8, allow_task_changes=True, save_steps=4
    )
    resumed: list[Any] = []

    class Look(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            resumed.append(changed.multi_task_state)

    changed.add_callback(Look())
    with caplog.at_level(logging.WARNING):
        changed.train(resume_from_checkpoint=True)
    after = resumed[0]
    old, new = before.weighting.values, after.weighting.values
    assert after.task_names == ("new", "hard", "easy")
    assert new[1] - new[2] == old[2] - old[0]  # hard against easy
    assert new[0] == np.mean([old[2], old[0]])
    assert after.draws.cursors == (0, before.draws.cursors[2], before.draws.cursors[0])
    assert after.acceptance.accepted[0] == 0
    assert after.groups.generated.tolist() == [0, before.groups.generated[2], before.groups.generated[0]]
    assert (after.groups.imbalance == 0).all()
    assert len(after.carried) == 0
    assert "task 'new' is new" in caplog.text
    assert "task 'medium' is removed" in caplog.text
    assert before.carried
    assert f"{len(before.carried)} carried groups expire" in caplog.text
    assert (changed.multi_task_state.groups.imbalance == 0).all()
    assert changed.state.global_step == 8


def test_a_dataset_of_another_size_is_refused_with_its_task(tmp_path: Path) -> None:
    saved_run(tmp_path)
    other = tiny_trainer(tmp_path, recorded_tasks([], size=29), max_steps=8)
    expected = "`train_dataset` of task 'easy' must have the rows of the checkpoint, got 29 rows instead of 30"
    with pytest.raises(StateFileError, match=expected):
        other.train(resume_from_checkpoint=True)


def test_a_dataset_changes_its_size_on_request_and_carried_groups_expire(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = saved_run(tmp_path, **SURPLUS).multi_task_state
    changed = tiny_trainer(tmp_path, recorded_tasks([], size=29), max_steps=8, allow_task_changes=True, save_steps=4)
    with caplog.at_level(logging.WARNING):
        changed.train(resume_from_checkpoint=True)
    after = changed.multi_task_state
    assert (before.draws.num_rows, after.draws.num_rows) == ((30, 30, 30), (29, 29, 29))
    assert all(new > old for new, old in zip(after.draws.cursors, before.draws.cursors, strict=True))
    assert "task 'easy' has 29 rows instead of 30" in caplog.text
    assert f"{len(before.carried)} carried groups expire" in caplog.text


def test_fixed_weights_come_from_the_settings_and_not_from_the_checkpoint(tmp_path: Path) -> None:
    uniform = {"task_weighting": "fixed"}
    saved_run(tmp_path, **uniform)
    given = {"easy": 0.5, "medium": 0.25, "hard": 0.25}
    resumed = tiny_trainer(tmp_path, recorded_tasks([]), max_steps=5, fixed_task_weights=given, **uniform)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.task_weights == pytest.approx(given)


def test_carried_groups_of_another_group_size_expire(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = saved_run(tmp_path, **SURPLUS).multi_task_state
    assert before.carried
    other = tiny_trainer(tmp_path, recorded_tasks([]), max_steps=6, num_generations=8)
    with caplog.at_level(logging.WARNING):
        other.train(resume_from_checkpoint=True)
    assert other.state.global_step == 6
    assert f"{len(before.carried)} carried groups expire" in caplog.text
    assert "`num_generations` is 8 instead of 4" in caplog.text
    groups = other.multi_task_state.groups
    assert (groups.imbalance == 0).all()
    assert groups.expired.sum() >= before.groups.expired.sum() + len(before.carried)


@pytest.mark.parametrize("settings", [SURPLUS, {"max_surplus_age": 0}], ids=["carried groups", "nothing carried"])
def test_a_reward_function_more_is_said_whether_or_not_a_group_is_carried(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = saved_run(tmp_path, **settings).multi_task_state
    assert bool(before.carried) == (settings is SURPLUS)
    tasks = recorded_tasks([])
    tasks[1] = Task("medium", rows("m"), [contains_digit, contains_lower], success_threshold=1.0)
    other = tiny_trainer(tmp_path, tasks, max_steps=6, **settings)
    with caplog.at_level(logging.WARNING):
        other.train(resume_from_checkpoint=True)
    assert other.state.global_step == 6
    assert "task 'medium' is scored by ['contains_digit', 'contains_lower'] instead of ['reward']" in caplog.text
    assert (other.multi_task_state.groups.imbalance == 0).all()


def test_reordered_rows_are_refused_and_accepted_on_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved_run(tmp_path)
    tasks = recorded_tasks([])
    tasks[2] = replace(tasks[2], train_dataset=tasks[2].train_dataset.select(range(29, -1, -1)))
    with pytest.raises(
        StateFileError, match=r"`train_dataset` of task 'hard' must have the rows .*, got other or reor"
    ):
        tiny_trainer(tmp_path, tasks, max_steps=5).train(resume_from_checkpoint=True)
    with caplog.at_level(logging.WARNING):
        tiny_trainer(tmp_path, tasks, max_steps=5, allow_task_changes=True).train(resume_from_checkpoint=True)
    assert "task 'hard' has other or reordered rows, as a sample of them shows" in caplog.text


def test_the_memory_of_another_strategy_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = saved_run(tmp_path, task_weighting="sec").multi_task_state
    assert before.weighting.values.any()
    other = tiny_trainer(tmp_path, recorded_tasks([]), max_steps=4)
    with caplog.at_level(logging.WARNING):
        other.train(resume_from_checkpoint=True)
    after = other.multi_task_state
    assert not after.weighting.values.any()
    assert after.groups.generated.tolist() == before.groups.generated.tolist()
    assert "weights are those of SelfEvolvingCurriculum, the run's are those of ImprovementAware" in caplog.text


def test_a_strategy_with_a_state_of_its_own_resumes_exactly(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    straight, resumed = (
        tiny_trainer(tmp_path, recorded_tasks([]), weighting=CountingWeighting(), **settings) for _ in range(2)
    )
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert isinstance(resumed.multi_task_state.weighting, Counts)
    assert resumed.multi_task_state.weighting.seen.any()
    assert list(differences(final_facts(straight), final_facts(resumed))) == []


def test_the_later_checkpoints_of_an_abandoned_branch_are_not_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    tiny_trainer(tmp_path, recorded_tasks([]), **settings).train()
    other = tiny_trainer(tmp_path, recorded_tasks([]), callbacks=[StopAt(5)], **settings)
    with pytest.raises(KeyboardInterrupt):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with caplog.at_level(logging.WARNING):
        assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert "checkpoint-6 (it belongs to a run that another one in this folder has left behind)" in caplog.text


def test_a_checkpoint_of_the_host_continues_in_a_plain_run_only(tmp_path: Path) -> None:
    plain_trainer(tmp_path, 4).train()
    with pytest.raises(StateFileError, match=f"it has no `{STATE_FILE}`, so another trainer wrote it"):
        tiny_trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    resumed = plain_trainer(tmp_path, 4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.state.global_step == 10


def test_without_a_complete_checkpoint_resuming_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="must be left out when there is no complete checkpoint"):
        tiny_trainer(tmp_path).train(resume_from_checkpoint=True)


def test_resuming_skips_a_damaged_checkpoint_and_names_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    straight = tiny_trainer(tmp_path, **settings)
    straight.train()
    weights = tmp_path / "checkpoint-6" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 7)
    resumed = tiny_trainer(tmp_path, **settings)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=True)
    assert "Skipped: checkpoint-6 (`model.safetensors` is damaged)" in caplog.text
    assert "deleted" not in caplog.text
    assert list(differences(final_facts(straight), final_facts(resumed))) == []


def test_a_rewritten_checkpoint_counts_as_incomplete_until_its_end(tmp_path: Path) -> None:
    trainer = saved_run(tmp_path)
    stopped = tiny_trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=4)
    shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "copy")

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    stopped.save_model = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert trainer.state.global_step == 4
    assert last_complete_checkpoint(tmp_path) is None


def test_the_row_of_a_carried_group_is_found_again(tmp_path: Path) -> None:
    trainer = saved_run(tmp_path, **SURPLUS)
    before = trainer.multi_task_state.carried
    payload = saved_payload(tmp_path / "checkpoint-4")
    assert len(before) == len(payload) > 0
    for task_id, group in zip(before.task.tolist(), payload, strict=True):
        for row in group["rows"]:
            assert row["prompt"].startswith(trainer.mixture.names[task_id][0])
            assert len(row["behaviour"]) == len(row["completion_ids"])
