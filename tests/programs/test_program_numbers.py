"""
Numbers that programs are to show, over more rollouts than the other tests make.

    python -m pytest -m slow -o log_cli=true --log-cli-level=INFO tests/programs/test_program_numbers.py
"""

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.programs.program_runs import has_lower, program_task, program_trainer, ragged
from tests.programs.test_ragged_runs import expected_advantages, failing
from tests.tiny import contains_a, contains_digit, rows
from trl_mtgrpo import Task
from trl_mtgrpo.host.run import MixtureRun
from trl_mtgrpo.rollouts import CollectedBatch
from trl_mtgrpo.rollouts.facts import NOWHERE


pytestmark = pytest.mark.slow

logger = logging.getLogger(__name__)
LOGS_ONCE: dict[str, Any] = {"logging_steps": 1000}


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[CollectedBatch, dict[str, Any]]]:
    """Every batch of the test's runs with the loss inputs that the host made of it."""
    found: list[tuple[CollectedBatch, dict[str, Any]]] = []
    prepare = MixtureRun._prepare_loss

    def recording(self: MixtureRun, host: Any, batch: CollectedBatch, state: Any) -> dict[str, Any]:
        inputs = prepare(self, host, batch, state)
        found.append((batch, {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}))
        return inputs

    monkeypatch.setattr(MixtureRun, "_prepare_loss", recording)
    return found


@pytest.mark.parametrize("baseline", ["members", "rollouts"])
def test_advantages_are_those_of_float64_to_a_millionth(baseline: str, batches: list[Any], tmp_path: Path) -> None:
    task = program_task(ragged)
    program_trainer(tmp_path, [task], max_steps=60, group_baseline=baseline, **LOGS_ONCE).train()
    errors = []
    for batch, inputs in batches:
        real = ((batch.groups.place[:, :, 1] != NOWHERE) & ~batch.is_filler[:, None]).ravel()
        rewards = np.where(batch.is_filler[:, None], np.nan, batch.groups.reward)
        expected = np.concatenate([expected_advantages(row) for row in rewards])
        errors.append(np.abs(inputs["advantages"].numpy() - expected)[real])
    error = np.concatenate(errors)
    # Advantages are at most 1.5 here, where numbers of float32 are 1.2e-7 apart.
    logger.info("%s: %d advantages, largest error %.1e", baseline, error.size, error.max())
    assert error.max() <= 1e-6


@pytest.mark.parametrize(("rate", "complete_kept"), [(0.1, 0.43), (0.2, 0.17), (0.4, 0.02)])
def test_failures_cost_the_second_module_its_own_calls_only(
    rate: float, complete_kept: float, batches: list[Any], tmp_path: Path
) -> None:
    task = program_task(failing(rate), size=400, failure_reward=-1.0)
    options = {"num_generations": 8, "per_device_train_batch_size": 256, "group_filter": "none", "method": "grpo"}
    program_trainer(tmp_path, [task], max_steps=60, learning_rate=0.0, **options, **LOGS_ONCE).train()
    made = [batch.generated for batch, _ in batches]
    bundles = sum(int(facts.opens_bundle.sum()) for facts in made)
    second = [facts.select((facts.role == 1) & (facts.members > 0)) for facts in made]
    members = np.concatenate([facts.members for facts in second])
    accepted = np.concatenate([facts.accepted for facts in second])
    first = [facts.select(facts.role == 0) for facts in made]
    survived, complete = int((accepted & (members >= 2)).sum()) / bundles, int((members == 8).sum()) / bundles
    could = sum(int(((facts.reward != -1.0).sum(axis=1) >= 2).sum()) for facts in first) / bundles
    failed = np.concatenate([(facts.reward == -1.0).ravel() for facts in first]).mean()
    logger.info(
        "%.0f %% fail: of %d bundles %.4f have a second group that trains, %.3f a complete one; by chance %.4f, %.3f",
        *(100 * failed, bundles, survived, complete),
        *(1 - failed**8 - 8 * (1 - failed) * failed**7, (1 - failed) ** 8),
    )
    assert bundles >= 500
    assert failed == pytest.approx(rate, abs=0.05)
    assert accepted[members >= 2].all()
    assert all((facts.members == 8).all() and facts.accepted.all() for facts in first)
    assert survived == could
    # At 40 % chance leaves two of eight in .9915 of the bundles; three standard errors of that share are allowed for.
    assert survived >= 0.99 - 3 * (0.99 * 0.01 / bundles) ** 0.5
    assert complete == pytest.approx(complete_kept, abs=0.1)
    in_loss = 0
    for batch, inputs in batches:
        mask = (inputs["completion_mask"] * inputs.get("tool_mask", 1)).sum(dim=1).numpy() > 0
        calls_of_failed = (batch.groups.role == 0)[:, None] & (batch.groups.reward == -1.0) & ~batch.is_filler[:, None]
        assert mask[calls_of_failed.ravel()].all()
        in_loss += int(((inputs["advantages"].numpy() != 0) & mask)[calls_of_failed.ravel()].sum())
    assert in_loss > 100


def self_check(example: dict[str, Any], call: Any) -> str:
    """A guess, a test of it that many do not pass, another guess for those, and an answer."""
    guess = call("guess", example["prompt"])
    if random.Random(call("check", f"c{guess}")).random() < 0.6:
        guess = call("retry", f"r{guess}")
    return call("apply", f"a{guess}")


def test_ragged_groups_are_more_than_the_complete_ones(batches: list[Any], tmp_path: Path) -> None:
    options = {"num_generations": 8, "per_device_train_batch_size": 64}
    task = program_task(self_check, size=200)
    program_trainer(tmp_path, [task], max_steps=40, learning_rate=0.0, **options, **LOGS_ONCE).train()
    made = [batch.generated for batch, _ in batches]
    informative = sum(int(facts.accepted.sum()) for facts in made)
    complete = sum(int((facts.accepted & (facts.members == 8)).sum()) for facts in made)
    logger.info("%d groups may train, %d of them complete: %.2f times", informative, complete, informative / complete)
    assert informative >= 1.25 * complete


def test_a_program_and_two_plain_tasks_keep_the_mix_of_moving_weights(batches: list[Any], tmp_path: Path) -> None:
    steps, rounds = 120, 10
    tasks = [
        Task("hard", rows("h"), contains_a, success_threshold=1.0),
        program_task(ragged, has_lower, success_threshold=1.0),
        Task("medium", rows("m"), contains_digit, success_threshold=1.0),
    ]
    options = {"per_device_train_batch_size": 48, "max_resampling_rounds": rounds, "learning_rate": 3e-4}
    trainer = program_trainer(tmp_path, tasks, max_steps=steps, task_weight_lr=0.05, **options, **LOGS_ONCE)
    trainer.train()
    found = [batch for batch, _ in batches]
    assert len(found) == steps
    for batch in found:
        assert batch.group_ledger.imbalance.tolist() == batch.token_ledger.imbalance.tolist() == [0, 0, 0]
    assert trainer.multi_task_state.groups.imbalance.tolist() == [0, 0, 0]
    assert trainer.multi_task_state.tokens.imbalance.tolist() == [0, 0, 0]
    open_ended = [batch for batch in found if batch.plan.rounds <= rounds]
    bundle = max(int(np.bincount(batch.generated.bundle).max(initial=0)) for batch in found)
    off = np.array([np.abs(batch.group_ledger.trained - batch.plan.desired).max() for batch in open_ended])
    weights = np.array([batch.plan.weights for batch in found])
    accuracy = np.array([batch.accuracy for batch in found])
    worst = [float(np.nanmin(np.nanmean(part, axis=0))) for part in (accuracy[:20], accuracy[-20:])]
    logger.info(
        "mix exact in %d of %d steps whose rounds were not used up, at most %d groups off; a bundle has up to %d; "
        "shares moved between %s and %s; worst task from %.2f to %.2f",
        *((off == 0).sum(), len(open_ended), off.max(), bundle),
        *(weights.min(axis=0).round(2).tolist(), weights.max(axis=0).round(2).tolist()),
        *worst,
    )
    assert len(open_ended) >= steps / 2
    assert off.max() <= bundle
    assert (np.ptp(weights, axis=0) > 0.05).all()
    assert worst[1] > worst[0]
