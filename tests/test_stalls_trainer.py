"""A task that yields nothing is named with its cause, costs little, and neither blocks nor ends the others' run."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import rows, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


# From this module the warnings of a run come.
REPORTER = "trl_mtgrpo.report.reporting"

# What a broken task's reward answers for every completion, whether the task says what correct means, and the advice.
BROKEN: dict[str, tuple[float | None, bool, str]] = {
    "solved": (1.0, True, "give it harder prompts, or leave it out next time"),
    "failed": (0.0, True, "give it easier prompts, more rollouts per prompt, or a warm start"),
    "constant": (0.3, False, "check the reward function, or sample with more variety"),
    "unscored": (None, True, "check that it can read the answers"),
}


def one_of_two(completions: list[Any], **kwargs: Any) -> list[float]:
    """In every group of two, one rollout is right."""
    return [float(i % 2) for i in range(len(completions))]


def always(value: float | None) -> Callable[..., list[float | None]]:
    return lambda completions, **kwargs: [value] * len(completions)


def good_tasks() -> list[Task]:
    return [Task(name, rows(name[0]), one_of_two, success_threshold=1.0) for name in ("first", "second")]


def train(folder: Path, bad: Task, max_steps: int, **changes: Any) -> MultiTaskGRPOTrainer:
    """Four groups of two rollouts per step, from two tasks whose every group trains and one that is broken."""
    trainer = tiny_trainer(
        folder,
        tasks=[*good_tasks(), bad],
        num_generations=2,
        per_device_train_batch_size=8,
        max_completion_length=2,
        max_steps=max_steps,
        **({"task_weighting": "fixed", "improvement_source": "none"} | changes),
    )
    trainer.train()
    return trainer


def series(trainer: MultiTaskGRPOTrainer, metric: str) -> list[float]:
    """A logged metric, step by step."""
    return [line[metric] for line in trainer.state.log_history if metric in line]


@pytest.mark.parametrize("cause", BROKEN)
def test_each_cause_has_its_own_message(cause: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward, knows_correct, advice = BROKEN[cause]
    bad = Task("bad", rows("b"), always(reward), success_threshold=1.0 if knows_correct else None)
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        trainer = train(tmp_path, bad, max_steps=6)
    (message,) = [r.getMessage() for r in caplog.records if r.name == REPORTER and "'bad'" in r.getMessage()]
    assert f"({cause})" in message
    assert advice in message
    assert trainer.state.global_step == 6


def test_a_stalled_task_costs_a_probe_now_and_then_and_the_others_fill_the_batch(tmp_path: Path) -> None:
    trainer = train(tmp_path, Task("bad", rows("b"), always(0.0), success_threshold=1.0), max_steps=26)
    stalled = series(trainer, "tasks/bad/stalled")
    start = stalled.index(1.0) + 1  # the first step that was opened with the stall known
    assert start <= 6
    assert all(stalled[start:])

    generated = series(trainer, "tasks/bad/generated_groups")
    assert sum(generated[:start]) >= 60
    probes = [(i, count) for i, count in enumerate(generated[start:], start=start) if count]
    assert [count for _, count in probes] == [2.0] * len(probes)
    steps = [i for i, _ in probes]
    # After 2, 4 and 8 steps, and then every ten.
    assert steps == [start + i for i in (1, 3, 7, 9, 19) if start + i < 26]

    assert not any(series(trainer, "sampling/unfilled_groups")[start:])
    assert not any(series(trainer, "tasks/bad/batch_share")[start:])
    assert trainer.state.global_step == 26


def test_a_stalled_task_that_yields_again_gets_its_share_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails_at_first(completions: list[Any], trainer_state: Any, **kwargs: Any) -> list[float]:
        return [0.0] * len(completions) if trainer_state.global_step < 8 else one_of_two(completions)

    with caplog.at_level(logging.WARNING, logger=REPORTER):
        trainer = train(tmp_path, Task("late", rows("l"), fails_at_first, success_threshold=1.0), max_steps=24)
    stalled = series(trainer, "tasks/late/stalled")
    assert 1.0 in stalled
    recovered = len(stalled) - stalled[::-1].index(1.0)
    assert 8 < recovered < 24
    assert sum(series(trainer, "tasks/late/batch_share")[recovered:]) > 0
    assert [r.getMessage()[:11] for r in caplog.records if "'late'" in r.getMessage()] == ["Task 'late'"]


def test_the_books_balance_while_a_task_is_stalled(tmp_path: Path) -> None:
    trainer = train(tmp_path, Task("bad", rows("b"), always(0.0), success_threshold=1.0), max_steps=8)
    state = trainer.multi_task_state
    assert not state.groups.imbalance.any()
    assert not state.tokens.imbalance.any()
    assert state.groups.trained[2] == 0
    assert state.groups.filtered[2].sum() == state.groups.generated[2] >= 60


def test_weights_that_run_toward_a_hopeless_task_do_not_starve_the_others(tmp_path: Path) -> None:
    trainer = train(
        tmp_path,
        Task("bad", rows("b"), always(0.0), success_threshold=1.0),
        max_steps=10,
        task_weighting="reward_only",
        task_weight_lr=1.0,
        task_weight_decay=1e-5,
    )
    assert max(series(trainer, "tasks/bad/weight")) > 0.9
    assert not any(series(trainer, "sampling/unfilled_groups")[-4:])
    assert trainer.state.global_step == 10
