"""The memory of prompts and the alarm on forgetting in the real trainer: what they change, say, and bring back."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.resume_runs import differences, final_facts
from tests.tiny import contains_digit, rows, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.rollouts import IndexPrompts


def half_solved(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    """Rows with an even number are right whatever is answered, the others about as often as not."""
    plain = contains_digit(completions)
    return [1.0 if int(p[1:]) % 2 == 0 else value for p, value in zip(prompts, plain, strict=True)]


def half_failed(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    plain = contains_digit(completions)
    return [0.0 if int(p[1:]) % 2 == 0 else value for p, value in zip(prompts, plain, strict=True)]


def tasks(seen: list[str], sizes: tuple[int, ...] = (12, 10), names: str = "one two") -> list[Task]:
    functions = {"one": half_solved, "two": half_failed, "new": half_solved}

    def noting(function: Any) -> Any:
        def reward(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
            seen.extend(prompts)
            return function(prompts, completions)

        return reward

    return [
        Task(name, rows(name[0], size=size), noting(functions[name]), success_threshold=1.0)
        for name, size in zip(names.split(), sizes, strict=True)
    ]


# The model stays nearly what it is, so that what is solved stays so.
STEADY = {"learning_rate": 1e-6, "solved_discount": 0.0, "max_steps": 24}


def trained(folder: Path, seen: list[str] | None = None, **changes: Any) -> MultiTaskGRPOTrainer:
    trainer = tiny_trainer(folder, tasks([] if seen is None else seen), **(STEADY | changes))
    trainer.train()
    return trainer


def logged(trainer: MultiTaskGRPOTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize("memory", ["off", "solved"])
def test_solved_prompts_are_generated_as_often_as_the_memory_lets_them(tmp_path: Path, memory: str) -> None:
    seen: list[str] = []
    trainer = trained(tmp_path, seen, prompt_memory=memory)
    late = [int(prompt[1:]) for prompt in seen[len(seen) // 2 :] if prompt[0] == "o"]
    solved = np.mean([number % 2 == 0 for number in late])
    assert solved == pytest.approx(0.5, abs=0.1) if memory == "off" else solved < 0.35
    # Passed over or watched, it is the same share of groups that this saves.
    assert max(logged(trainer, "sampling/memory_saving")) > 0.1
    assert bool(sum(logged(trainer, "tasks/one/passed_over"))) == (memory == "solved")
    assert sum(logged(trainer, "tasks/two/passed_over")) == 0  # failed prompts are never passed over
    assert (trainer.multi_task_state.groups.imbalance == 0).all()


@pytest.mark.slow
def test_accuracies_are_those_of_uniform_draws_and_ledgers_what_was_generated(tmp_path: Path) -> None:
    plain, memory = (trained(tmp_path / name, prompt_memory=name, max_steps=40) for name in ("off", "solved"))
    late = slice(16, None)
    assert np.mean(logged(memory, "tasks/one/accuracy")[late]) == pytest.approx(
        np.mean(logged(plain, "tasks/one/accuracy")[late]), abs=0.06
    )
    # TRL's own number is of what trains; the share of solved groups is of what was generated.
    assert np.mean(logged(memory, "tasks/one/solved_ratio")[late]) < np.mean(
        logged(plain, "tasks/one/solved_ratio")[late]
    )


def test_off_is_the_order_of_each_tasks_rows_to_the_last_bit(tmp_path: Path) -> None:
    first, second = [], []
    plain = trained(tmp_path / "a", first, prompt_source=IndexPrompts([12, 10], 42), max_steps=12)
    off = trained(tmp_path / "b", second, max_steps=12)
    assert first == second
    assert off.multi_task_state.draws.cursors == plain.multi_task_state.draws.cursors
    assert logged(plain, "loss") == logged(off, "loss")


@pytest.mark.parametrize("memory", ["off", "solved"])
def test_a_resumed_run_remembers_every_prompt(tmp_path: Path, memory: str) -> None:
    settings = {**STEADY, "max_steps": 16, "save_strategy": "steps", "save_steps": 10, "prompt_memory": memory}
    settings["oversampling"] = 2.0
    seen: list[str] = []
    straight = trained(tmp_path, seen, **settings)
    later: list[str] = []
    resumed = tiny_trainer(tmp_path, tasks(later), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert list(differences(final_facts(straight), final_facts(resumed))) == []
    assert seen[-len(later) :] == later
    assert all(resumed.multi_task_state.draws.memory.codes)
    assert bool(sum(logged(resumed, "tasks/one/passed_over"))) == (memory == "solved")


def test_with_other_tasks_the_memory_of_those_that_stay_is_kept(tmp_path: Path) -> None:
    settings = {**STEADY, "save_strategy": "steps", "save_steps": 12, "prompt_memory": "solved"}
    before = trained(tmp_path, max_steps=12, **{k: v for k, v in settings.items() if k != "max_steps"})
    codes = before.multi_task_state.draws.memory.codes
    changed = tiny_trainer(
        tmp_path,
        tasks([], (10, 7, 12), "two new one"),
        allow_task_changes=True,
        **{**settings, "max_steps": 12},
    )
    changed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert changed.multi_task_state.draws.memory.codes == (codes[1], "", codes[0])
    assert changed.multi_task_state.forgetting.best[1] == 0.0


def test_of_a_dataset_of_another_size_no_single_prompt_is_known(tmp_path: Path) -> None:
    settings = {**STEADY, "save_strategy": "steps", "save_steps": 12, "prompt_memory": "solved"}
    before = trained(tmp_path, **{**settings, "max_steps": 12}).multi_task_state.draws.memory
    resized = tiny_trainer(tmp_path, tasks([], (5, 10)), allow_task_changes=True, **settings)
    resized.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    after = resized.multi_task_state.draws.memory
    assert [len(text) for text in before.codes] == [12, 10]
    assert [len(text) for text in after.codes] == [5, 10]
    assert (resized.multi_task_state.groups.imbalance == 0).all()


def test_rows_that_never_work_are_listed_and_said_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="trl_mtgrpo"):
        trainer = trained(tmp_path, max_steps=40)
    found = trainer.never_solved_rows()
    assert "one" not in found
    assert set(found["two"]) <= set(range(0, 10, 2))
    assert len(found["two"]) >= 3
    assert f"Task 'two': {len(found['two'])} rows failed in every rollout of their last six groups." in caplog.text
    assert "Passing over solved prompts would save about" in caplog.text


def test_without_tasks_there_are_no_rows_that_never_work() -> None:
    assert MultiTaskGRPOTrainer.__new__(MultiTaskGRPOTrainer).never_solved_rows() == {}


def test_a_memory_beside_a_source_of_ones_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="`prompt_memory` must be 'off' beside a `prompt_source` of your own, got 'so"
    ):
        tiny_trainer(tmp_path, prompt_memory="solved", prompt_source=IndexPrompts([30, 30, 30]))


@pytest.mark.parametrize("changes", [{"method": "grpo"}, {"method": "sec_grpo"}])
def test_a_memory_where_nothing_is_filtered_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(
        ValueError, match=r"`prompt_memory` must be 'off' where no group is filtered, got 'solved'\. Set"
    ):
        tiny_trainer(tmp_path, prompt_memory="solved", **changes)


class Forgetful:
    """Right answers to nearly everything, until a number of them was scored; then mostly wrong ones."""

    def __init__(self, until: int) -> None:
        self.scored, self.until = 0, until

    def __call__(self, completions: list[str], **kwargs: Any) -> list[float]:
        values = []
        for completion in completions:
            self.scored += 1
            lucky = sum(map(ord, completion)) % 10
            values.append(float(lucky > 0 if self.scored <= self.until else lucky == 0))
        return values

    __name__ = "forgetful"


def forgetting_tasks(until: int = 1_000) -> list[Task]:
    return [
        Task("lost", rows("l"), Forgetful(until), success_threshold=1.0),
        Task("kept", rows("k"), contains_digit, success_threshold=1.0),
    ]


FORGETS = {"learning_rate": 1e-6, "task_weighting": "fixed", "solved_discount": 1.0, "max_surplus_age": 0}


@pytest.mark.slow
def test_a_task_that_is_made_to_forget_is_named_and_gets_its_share_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = tiny_trainer(tmp_path, forgetting_tasks(), max_steps=110, **FORGETS)
    with caplog.at_level(logging.WARNING, logger="trl_mtgrpo"):
        trainer.train()
    regressed, share = (np.array(logged(trainer, f"tasks/lost/{name}")) for name in ("regressed", "target_share"))
    first = int(regressed.argmax())
    assert 0 < first < 110
    assert not regressed[:first].any()
    assert share[first] < 0.45  # what was solved shrank it
    assert share[first + 1] >= 0.5  # its weight, and what the other one has solved
    assert caplog.text.count("Task 'lost' has forgotten: its accuracy was") == 1
    assert sum(logged(trainer, "tasks/kept/regressed")) == 0


@pytest.mark.slow
def test_a_run_that_is_resumed_knows_what_was_forgotten(tmp_path: Path) -> None:
    settings = {**FORGETS, "save_strategy": "steps", "save_steps": 90, "max_steps": 93}
    straight = tiny_trainer(tmp_path, forgetting_tasks(), **settings)
    straight.train()
    resumed = tiny_trainer(tmp_path, forgetting_tasks(until=0), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-90"))
    assert straight.multi_task_state.forgetting.regressed.tolist() == [True, False]
    assert list(differences(final_facts(straight), final_facts(resumed))) == []
