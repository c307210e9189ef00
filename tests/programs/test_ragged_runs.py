"""What trains of ragged rollouts: advantages, token counts and gradients of the real calls, and of nothing else."""

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.host_runs import parameters_of
from tests.programs.program_runs import lower_share, program_task, program_trainer, ragged, two_calls
from trl_mtgrpo import ProgramFailure
from trl_mtgrpo.host.run import MixtureRun
from trl_mtgrpo.rollouts import CollectedBatch
from trl_mtgrpo.rollouts.facts import NOWHERE


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


def expected_advantages(rewards: np.ndarray) -> np.ndarray:
    known = ~np.isnan(rewards)
    if known.sum() < 2:
        return np.zeros_like(rewards)
    advantages = (rewards - rewards[known].mean()) / (rewards[known].std(ddof=1) + 1e-4)
    return np.where(known, advantages, 0.0)


@pytest.mark.parametrize("baseline", ["members", "rollouts"])
def test_advantages_and_token_counts_are_those_of_the_real_calls(
    baseline: str, batches: list[Any], tmp_path: Path
) -> None:
    program_trainer(tmp_path, [program_task(ragged)], max_steps=4, group_baseline=baseline).train()
    members = []
    for batch, inputs in batches:
        real = ((batch.groups.place[:, :, 1] != NOWHERE) & ~batch.is_filler[:, None]).ravel()
        rewards = np.where(batch.is_filler[:, None], np.nan, batch.groups.reward)
        expected = np.concatenate([expected_advantages(row) for row in rewards])
        found = inputs["advantages"].numpy()
        assert np.abs(found - expected)[real].max() <= 1e-6
        if baseline == "members":
            assert (found[~real] == 0).all()
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        assert (mask.sum(dim=1) > 0).tolist() == real.tolist()
        assert inputs["num_items_in_batch"].item() == mask.sum().item()
        trained = batch.groups.tokens[~batch.is_filler].sum()
        assert inputs["num_items_in_batch"].item() == trained
        members += batch.groups.members.tolist()
    assert min(members) < 4  # the run was ragged


def real_loss(trainer: Any, inputs: dict[str, Any], real: torch.Tensor, loss_type: str) -> torch.Tensor:
    """The objective over the real calls alone, each in a forward of its own."""
    total, rows = torch.zeros(()), len(real)
    tokens = sum(int(inputs["completion_mask"][i].sum()) for i in torch.nonzero(real).flatten().tolist())
    for i in torch.nonzero(real).flatten().tolist():
        prompt = inputs["prompt_ids"][i][inputs["prompt_mask"][i].bool()]
        completion = inputs["completion_ids"][i][inputs["completion_mask"][i].bool()]
        logits = trainer.model(torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        logps = torch.log_softmax(logits / trainer.temperature, dim=-1)
        logps = logps.gather(1, completion[:, None])[:, 0]
        loss = -(logps - logps.detach()).exp() * inputs["advantages"][i]
        if loss_type in ("dapo", "bnpo"):
            total = total + loss.sum() / tokens
        elif loss_type == "grpo":
            total = total + loss.mean() / rows
        else:
            total = total + loss.sum() / (rows * trainer.max_completion_length)
    return total


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo", "dr_grpo"])
def test_the_gradient_is_that_of_the_real_calls_alone(loss_type: str, batches: list[Any], tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, [program_task(ragged)], max_steps=2, loss_type=loss_type)
    trainer.train()
    batch, inputs = batches[0]
    real = torch.tensor(((batch.groups.place[:, :, 1] != NOWHERE) & ~batch.is_filler[:, None]).ravel())
    assert int((~real).sum()) > 0
    gradients = []
    for loss in (trainer._compute_loss(trainer.model, inputs), real_loss(trainer, inputs, real, loss_type)):
        parameters = list(trainer.model.parameters())
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    assert gradients[1].norm() > 0
    assert (gradients[0] - gradients[1]).norm() / gradients[1].norm() <= 1e-5


def test_in_complete_traces_every_call_has_the_advantage_of_its_rollout_under_both_baselines(
    batches: list[Any], tmp_path: Path
) -> None:
    for baseline in ("members", "rollouts"):
        task = program_task(two_calls)
        program_trainer(tmp_path, [task], max_steps=2, group_baseline=baseline, group_filter="none").train()
    half = len(batches) // 2
    for (one, theirs), (two, ours) in zip(batches[:half], batches[half:], strict=True):
        assert torch.equal(theirs["advantages"], ours["advantages"])
        assert (one.groups.members == 4).all()
        for batch, inputs in ((one, theirs), (two, ours)):
            advantages = inputs["advantages"].view(-1, 4)
            for bundle in np.unique(batch.groups.bundle[batch.groups.generation == batch.groups.generation.max()]):
                same = np.flatnonzero(batch.groups.bundle == bundle)
                prompts = batch.groups.prompt[same]
                for i in same[prompts == prompts[0]]:
                    assert torch.equal(advantages[i], advantages[same[0]])


def failing(rate: float) -> Any:
    """Fails after its first module's call in a share of the rollouts, by what the model wrote."""

    def program(example: dict[str, Any], call: Any) -> str:
        text = call("first", example["prompt"])
        if random.Random(text).random() < rate:
            raise ProgramFailure("cannot go on")
        return call("second", f"s{text}")

    return program


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_failures_in_the_first_module_cost_the_second_only_their_own_calls(
    rate: float, batches: list[Any], tmp_path: Path
) -> None:
    task = program_task(failing(rate), size=60)
    options = {"num_generations": 8, "per_device_train_batch_size": 32, "group_filter": "none", "method": "grpo"}
    program_trainer(tmp_path, [task], max_steps=5, learning_rate=0.0, **options).train()
    made = [batch.generated for batch, _ in batches]
    bundles = sum(int(facts.opens_bundle.sum()) for facts in made)
    survived = sum(int(((facts.role == 1) & (facts.members >= 2) & facts.accepted).sum()) for facts in made)
    complete = sum(int(((facts.role == 1) & (facts.members == 8)).sum()) for facts in made)
    first = [facts.select(facts.role == 0) for facts in made]
    assert all((facts.members == 8).all() for facts in first)
    assert survived / bundles >= 0.99
    assert complete / bundles < 0.75


def test_failed_rollouts_have_the_failure_reward_and_are_shown_to_the_reward_as_failed(
    batches: list[Any], tmp_path: Path
) -> None:
    seen: list[Any] = []

    def reward(outputs: list[Any], failed: list[bool], traces: list[Any], **kwargs: Any) -> list[float]:
        seen.extend(zip(outputs, failed, [len(trace) for trace in traces], strict=True))
        return [1.0 for _ in outputs]

    task = program_task(failing(0.5), reward, failure_reward=-2.0)
    program_trainer(tmp_path, [task], max_steps=2).train()
    assert {(failed, length) for _, failed, length in seen} == {(False, 2), (True, 1)}
    assert all((output is None) == failed for output, failed, _ in seen)
    rewards = np.concatenate([batch.generated.reward[batch.generated.role == 0].ravel() for batch, _ in batches])
    assert set(rewards.tolist()) == {1.0, -2.0}


def test_without_a_failure_reward_the_functions_decide(batches: list[Any], tmp_path: Path) -> None:
    def reward(failed: list[bool], **kwargs: Any) -> list[float]:
        return [0.25 if dead else 1.0 for dead in failed]

    program_trainer(tmp_path, [program_task(failing(0.5), reward, failure_reward=None)], max_steps=1).train()
    rewards = batches[0][0].generated.reward
    assert set(rewards[~np.isnan(rewards)].tolist()) == {0.25, 1.0}


def test_the_reward_of_a_module_is_added_to_its_rows_only(batches: list[Any], tmp_path: Path) -> None:
    def bonus(completions: list[Any], traces: list[Any], outputs: list[Any], **kwargs: Any) -> list[float]:
        assert len(completions) == len(traces) == len(outputs)
        return [10.0 if completion[:1].islower() else 20.0 for completion in completions]

    task = program_task(two_calls, module_rewards={"draft": bonus})
    program_trainer(tmp_path, [task], max_steps=1, group_filter="none").train()
    facts = batches[0][0].generated
    draft, final = facts.select(facts.role == 0), facts.select(facts.role == 1)
    added = draft.reward - final.reward
    assert set(np.round(added, 4).ravel().tolist()) == {10.0, 20.0}
    assert (final.reward <= 1.0).all()


def test_only_the_named_modules_are_in_the_loss(batches: list[Any], tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, [program_task(two_calls, trainable_modules=["final"])], max_steps=2)
    trainer.train()
    assert set(trainer._logs["extra"]["module"]) == {"final"}
    assert all(prompt.startswith("f") for prompt in trainer._logs["prompt"])
    assert trainer.state.log_history[0]["modules/prog.draft/calls"] > 0
    assert trainer.state.log_history[0]["modules/prog.draft/groups"] == 0


def test_the_completions_table_shows_exactly_what_was_sent_and_sampled(tmp_path: Path) -> None:
    trainer = program_trainer(tmp_path, [program_task(two_calls)], max_steps=1, group_filter="none")
    trainer.train()
    table = trainer._logs
    by_rollout: dict[int, dict[str, tuple[str, str]]] = {}
    for i, rollout in enumerate(table["extra"]["rollout"]):
        by_rollout.setdefault(rollout, {})[table["extra"]["module"][i]] = (table["prompt"][i], table["completion"][i])
    pairs = [made for made in by_rollout.values() if len(made) == 2]
    assert pairs
    assert all(made["final"][0] == f"f{made['draft'][1]}" for made in pairs)
    assert set(table["extra"]["task"]) == {"prog"}
    assert set(table["extra"]["occurrence"]) == {0}


def test_random_sleeps_in_programs_change_no_parameter(tmp_path: Path) -> None:
    def sleepy(example: dict[str, Any], call: Any) -> str:
        time.sleep(random.random() / 100)
        return ragged(example, call)

    runs = []
    for program in (ragged, sleepy, sleepy):
        trainer = program_trainer(tmp_path, [program_task(program)], max_steps=2)
        trainer.train()
        runs.append(parameters_of(trainer))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


def test_equal_modules_train_as_many_groups_each(batches: list[Any], tmp_path: Path) -> None:
    def often(example: dict[str, Any], call: Any) -> str:
        for i in range(3):
            call("many", f"{i}{example['prompt']}")
        return call("once", example["prompt"])

    options = {"group_filter": "none", "max_steps": 4}
    program_trainer(tmp_path, [program_task(often, lower_share)], module_balance="equal", **options).train()
    roles = np.concatenate([batch.groups.role[~batch.is_filler] for batch, _ in batches])
    assert np.bincount(roles).tolist() == [len(roles) // 2] * 2
