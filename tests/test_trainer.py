"""The real trainer on tiny tasks: what is drawn, trained, carried, measured and reported."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.tiny import (
    contains_digit,
    contains_lower,
    rows,
    text_of,
    three_tasks,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
    tiny_trainer,
)
from trl_mtgrpo import FixedWeighting, MultiTaskGRPOTrainer, Task, TaskSignal, WeightingState
from trl_mtgrpo.host.behaviour import current_logps
from trl_mtgrpo.report.reporting import NothingToLearnError
from trl_mtgrpo.rollouts import CollectedBatch, GroupFacts, Row
from trl_mtgrpo.sampling.accounting import REASONS
from trl_mtgrpo.tasks.failures import RewardError


FOUR_STEPS = {"per_device_train_batch_size": 4, "steps_per_generation": 4}


def with_acceptance(rate: float) -> Callable[..., list[float]]:
    """A reward that makes a group of four informative with a known probability, drawn from its first tokens."""

    def reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        values = []
        for start in range(0, len(completion_ids), 4):
            group = completion_ids[start : start + 4]
            draw = np.random.default_rng([int(token) for token in group[0][:6]]).random()
            values += [1.0, 0.0, 0.0, 0.0] if draw < rate else [0.0] * 4
        return values

    return reward


def tasks_with_acceptance(*rates: float) -> list[Task]:
    return [
        Task(f"task{k}", rows("xyz"[k]), with_acceptance(rate), success_threshold=1.0) for k, rate in enumerate(rates)
    ]


def history(trainer: MultiTaskGRPOTrainer, name: str) -> list[Any]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class Prepared(NamedTuple):
    """A batch as it was prepared for the loss: the rows of each group, then the loss inputs that became of them."""

    batch: CollectedBatch
    rows: list[list[Row]]
    inputs: dict[str, torch.Tensor]


def watched(trainer: MultiTaskGRPOTrainer) -> list[Prepared]:
    """Every later batch."""
    batches: list[Prepared] = []
    prepare = trainer._run._prepare_loss

    def recording(host: Any, batch: CollectedBatch, state: Any) -> dict[str, torch.Tensor]:
        rows = rows_of(trainer, batch.groups)
        inputs = prepare(host, batch, state)
        batches.append(Prepared(batch, rows, inputs))
        return inputs

    trainer._run._prepare_loss = recording
    return batches


def rows_of(trainer: MultiTaskGRPOTrainer, groups: GroupFacts) -> list[list[Row]]:
    """The members of each group, on the one rank of a test."""
    return [[trainer._run.store[slot] for slot in slots] for slots in groups.place[:, :, 1].tolist()]


# Which groups train


def test_parameters_move_and_every_step_is_balanced(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=6)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    batches = watched(trainer)
    trainer.train()
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    assert len(batches) == 6
    for batch, _, _ in batches:
        assert (batch.group_ledger.imbalance == 0).all()
        assert (batch.token_ledger.imbalance == 0).all()
    generated = sum(int(batch.group_ledger.generated.sum()) for batch, _, _ in batches)
    assert trainer.multi_task_state.groups.generated.sum() == generated
    assert history(trainer, "sampling/total_generated_groups")[-1] == generated


def check_mix(trainer: MultiTaskGRPOTrainer, num_steps: int) -> int:
    """Trains and returns in how many steps the budget sufficed."""
    batches = watched(trainer)
    trainer.train()
    assert len(batches) == num_steps
    sufficed = 0
    for batch, _, _ in batches:
        trained, desired = batch.group_ledger.trained, batch.plan.desired
        assert (trained >= np.minimum(desired, batch.plan.available)).all()
        if (batch.plan.available >= desired).all():
            sufficed += 1
            assert trained.tolist() == desired.tolist()
            assert not batch.is_filler.any()
    return sufficed


def test_trained_groups_follow_the_drawn_counts(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, tasks_with_acceptance(0.9, 0.5, 0.1), max_steps=12)
    assert check_mix(trainer, 12) >= 6


@pytest.mark.slow
def test_trained_groups_follow_the_drawn_counts_over_200_steps(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, tasks_with_acceptance(0.9, 0.5, 0.1), max_steps=200)
    assert check_mix(trainer, 200) >= 195


@dataclass(frozen=True)
class AllOnOne:
    """All weight on one task, on the next one after each update."""

    def init(self, num_tasks: int) -> WeightingState:
        return WeightingState.zeros(num_tasks)

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        return replace(state, step=state.step + 1)

    def weights(self, state: WeightingState) -> NDArray[np.float64]:
        return np.eye(state.num_tasks)[state.step % state.num_tasks]


def test_a_step_draws_with_the_weights_that_the_step_before_made(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=6, method="grpo", weighting=AllOnOne())
    trainer.train()
    shares = zip(*(history(trainer, f"tasks/{name}/batch_share") for name in ("easy", "medium", "hard")), strict=True)
    assert list(shares) == [tuple(np.eye(3)[step % 3]) for step in range(6)]


def test_weights_wait_for_the_whole_batch(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=8, method="grpo", weighting=AllOnOne(), **FOUR_STEPS)
    batches = watched(trainer)
    trainer.train()
    assert [batch.group_ledger.trained.tolist() for batch, _, _ in batches] == [[4, 0, 0], [0, 4, 0]]


# Carried groups


def own_logps(trainer: MultiTaskGRPOTrainer, row: Row) -> torch.Tensor:
    """Per-token log-probabilities of a row under the current policy, computed for itself."""
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([[*row.prompt_ids, *row.completion_ids]])).logits[0]
    logps = (logits / trainer.temperature).log_softmax(dim=-1)[len(row.prompt_ids) - 1 : -1]
    return logps.gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0]


@pytest.mark.parametrize("cycle", [{}, FOUR_STEPS], ids=["aligned", "four updates per batch"])
def test_carried_groups_train_once_with_the_policy_that_generated_them(cycle: dict[str, int], tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=8, oversampling=3.0, max_surplus_age=2, **cycle)
    expected: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def identity(generation: int, group: list[Row]) -> tuple[Any, ...]:
        return (generation, *(tuple(row.completion_ids) for row in group))

    prepare = trainer._run._prepare_loss

    def prepare_after_noting_the_surplus(host: Any, batch: CollectedBatch, state: Any) -> dict[str, torch.Tensor]:
        generations = batch.surplus.generation.tolist()
        for generation, group in zip(generations, rows_of(trainer, batch.surplus), strict=True):
            if generation == state.generation - 1:
                expected[identity(generation, group)] = [own_logps(trainer, row) for row in group]
        return prepare(host, batch, state)

    trainer._run._prepare_loss = prepare_after_noting_the_surplus
    prepared = watched(trainer)
    trainer.train()
    trained, num_carried, moved = [], 0, 0.0
    for now, (batch, members, inputs) in enumerate(prepared):
        for i, (generation, group) in enumerate(zip(batch.groups.generation.tolist(), members, strict=True)):
            if batch.is_filler[i]:
                continue
            trained.append(identity(generation, group))
            if generation == now:
                continue
            num_carried += 1
            for j, logps in enumerate(expected[identity(generation, group)]):
                old = inputs["old_per_token_logps"][4 * i + j]
                torch.testing.assert_close(old[: len(logps)], logps, rtol=1e-4, atol=1e-5)
                moved = max(moved, float((old[: len(logps)] - own_logps(trainer, group[j])).abs().max()))
    assert num_carried > 0
    assert len(set(trained)) == len(trained)
    assert moved > 1e-3  # the policy has moved on since


def test_nothing_is_carried_at_age_zero(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=4, oversampling=3.0, max_surplus_age=0)
    trainer.train()
    assert set(history(trainer, "sampling/carried_groups")) == {0.0}
    assert trainer.multi_task_state.groups.expired.sum() > 0


# What is measured


def test_improvements_add_up_to_the_change_of_the_loss(tmp_path: Path) -> None:
    settings = {"loss_type": "grpo", "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    trainer = tiny_trainer(tmp_path, max_steps=3, **settings)
    losses: list[float] = []
    compute, measure, compared = trainer._compute_loss, trainer._run._measured, []

    def computed(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = compute(model, inputs)
        losses.append(float(loss.detach()))
        return loss

    def measured(host: Any, batch: Any, num_calls: int) -> Any:
        change = measure(host, batch, num_calls)
        before = sum(losses[-2:])
        after = 0.0
        for inputs in batch.micro_batches:
            old = inputs.get("old_per_token_logps", inputs["train_per_token_logps"])
            with torch.no_grad():
                after += float(compute(trainer.model, {**inputs, "old_per_token_logps": old}))
        compared.append((change.sums.sum() / 16, before - after))
        return change

    trainer._compute_loss, trainer._run._measured = computed, measured
    trainer.train()
    assert len(compared) == 3
    for improvement, decrease in compared:
        assert improvement == pytest.approx(decrease, abs=1e-6)
        assert abs(decrease) > 1e-4


def test_a_task_without_sequences_has_no_improvement(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=2, weighting=FixedWeighting((0.5, 0.5, 0.0)))
    trainer.train()
    assert history(trainer, "tasks/hard/improvement") == []
    assert history(trainer, "tasks/hard/batch_share") == [0.0, 0.0]


def test_every_metric_of_a_task_is_logged(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_steps=2)
    trainer.train()
    logged = trainer.state.log_history[0]
    columns = "weight target_share reward accuracy improvement filtered_ratio solved_ratio failed_ratio batch_share"
    for name in ("easy", "medium", "hard"):
        for column in [*columns.split(), "generated_groups", "generated_tokens", "stalled", "held"]:
            assert f"tasks/{name}/{column}" in logged
    sampling = (
        "rounds generated_groups accepted_groups carried_groups expired_groups unfilled_groups waste mix_distance"
    )
    for name in sampling.split():
        assert f"sampling/{name}" in logged
    assert sum(logged[f"tasks/{name}/weight"] for name in ("easy", "medium", "hard")) == pytest.approx(1.0)


# The end of the budget


def unfilled_batch(tmp_path: Path, **settings: Any) -> tuple[MultiTaskGRPOTrainer, Any, dict[str, torch.Tensor]]:
    """A step whose budget ended with some, not all, of its groups."""
    options = {"max_steps": 4, "oversampling": 1.0, "max_resampling_rounds": 0, "max_surplus_age": 0} | settings
    trainer = tiny_trainer(tmp_path, tasks_with_acceptance(0.5, 0.5, 0.5), **options)
    prepared = watched(trainer)
    trainer.train()
    for batch, _, inputs in prepared:
        if 0 < batch.is_filler.sum() < 4:
            return trainer, batch, inputs
    raise AssertionError("no step was partly filled")


def test_rows_that_fill_the_shape_have_no_part_in_baseline_deviation_and_normaliser(tmp_path: Path) -> None:
    trainer, batch, inputs = unfilled_batch(tmp_path)
    filler = torch.tensor(batch.is_filler.repeat(4))
    rewards = torch.tensor(batch.groups.reward, dtype=torch.float32)
    normalised = (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std(dim=1, keepdim=True) + 1e-4)
    trains = torch.tensor(~batch.is_filler)
    torch.testing.assert_close(inputs["advantages"].view(4, 4)[trains], normalised[trains])
    assert (inputs["advantages"][filler] == 0).all()
    assert (inputs["task_ids"][filler] == -1).all()
    tokens = inputs["completion_mask"] * inputs["tool_mask"]
    assert (tokens[filler] == 0).all()
    assert int(inputs["num_items_in_batch"]) == int(inputs["completion_mask"][~filler].sum())
    assert sum(history(trainer, "sampling/unfilled_groups")) > 0


@pytest.mark.parametrize(
    ("loss_type", "is_scaled"),
    [("dapo", False), ("cispo", False), ("bnpo", False), ("grpo", True), ("dr_grpo", True), ("sapo", True)],
)
def test_losses_over_tokens_ignore_fillers_and_losses_over_rows_shrink_by_the_share_that_trains(
    loss_type: str, is_scaled: bool, tmp_path: Path
) -> None:
    trainer, batch, inputs = unfilled_batch(tmp_path, loss_type=loss_type)
    real = torch.tensor(~batch.is_filler.repeat(4))
    old = current_logps(trainer)(
        torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
        torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
        inputs["completion_ids"].size(1),
    )
    # A policy that generated with other probabilities, so that the loss is not 0 by symmetry of the advantages.
    shift = torch.linspace(-0.1, 0.1, old.numel()).view_as(old)
    inputs = {**inputs, "old_per_token_logps": old + shift}
    few = {
        name: [entry for entry, trains in zip(value, real, strict=True) if trains]
        if isinstance(value, list)
        else (value[real] if value.dim() else value)
        for name, value in inputs.items()
    }
    with torch.no_grad():
        whole, part = (float(trainer._compute_loss(trainer.model, x)) for x in (inputs, few))
    share = float(real.float().mean())
    assert abs(part) > 1e-4
    assert whole == pytest.approx(part * (share if is_scaled else 1.0), abs=1e-6)


def test_logged_rewards_are_those_of_the_rows_that_train(tmp_path: Path) -> None:
    trainer, batch, _ = unfilled_batch(tmp_path, logging_steps=1)
    mean = float(batch.groups.reward[~batch.is_filler].mean())
    assert mean in [pytest.approx(value) for value in history(trainer, "reward")]


def test_training_stops_when_nothing_is_learned_for_long(tmp_path: Path) -> None:
    never = [Task("solved", rows("s"), lambda completions, **_: [1.0] * len(completions), success_threshold=1.0)]
    trainer = tiny_trainer(tmp_path, never, max_steps=9, max_empty_steps=3, max_resampling_rounds=0)
    with pytest.raises(
        NothingToLearnError, match=r"`max_empty_steps` must exceed the generation batches in a row .* got 3"
    ):
        trainer.train()
    assert trainer.state.global_step == 2


def test_a_run_that_has_trained_and_solved_everything_ends_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def right_from_the_second_step(completions: list[Any], trainer_state: Any, **kwargs: Any) -> list[float]:
        return [1.0 if trainer_state.global_step else float(i % 2) for i in range(len(completions))]

    tasks = [Task("once", rows("s"), right_from_the_second_step, success_threshold=1.0)]
    trainer = tiny_trainer(tmp_path, tasks, max_steps=9, max_empty_steps=3, max_resampling_rounds=0, max_surplus_age=0)
    trainer.train()
    assert trainer.state.global_step == 4
    assert "Training ends after step 4: all tasks are solved" in caplog.text


def test_the_error_names_the_task_and_the_likely_cause(tmp_path: Path) -> None:
    never = [Task("unanswered", rows("s"), lambda completions, **_: [0.0] * len(completions), success_threshold=1.0)]
    trainer = tiny_trainer(tmp_path, never, max_steps=9, max_empty_steps=5, max_resampling_rounds=3)
    with pytest.raises(NothingToLearnError, match=r"Task 'unanswered' yielded nothing .*\(failed\).*easier prompts"):
        trainer.train()


# Reward functions that fail


def hangs(completions: list[Any], **kwargs: Any) -> list[float]:
    while True:
        time.sleep(0.01)


def raises(completions: list[Any], **kwargs: Any) -> list[float]:
    raise KeyError("no answer")


BROKEN: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (raises, "must not raise, got KeyError: 'no answer' from 'medium/raises' on 16 rows from row 0"),
    "hangs": (hangs, "must return within 0.2 seconds, got no result from 'medium/hangs'"),
    "nan": (
        lambda completions, **_: [float("nan")] * len(completions),
        "a finite number or None per row, got nan for row",
    ),
    "infinite": (lambda completions, **_: [float("inf")] * len(completions), "got inf for row"),
    "text": (lambda completions, **_: ["1"] * len(completions), "got '1' for row"),
    "too few": (lambda completions, **_: [1.0], "must return one number or None per row, got 1 values for"),
    "none at all": (lambda completions, **_: None, "got None for"),
}


def tasks_with_broken(function: Callable[..., Any]) -> list[Task]:
    tasks = three_tasks()
    tasks[1] = Task("medium", rows("m"), function, success_threshold=1.0)
    return tasks


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_reward_stops_with_task_function_and_row(kind: str, tmp_path: Path) -> None:
    function, expected = BROKEN[kind]
    trainer = tiny_trainer(
        tmp_path,
        tasks_with_broken(function),
        reward_timeout=0.2 if kind == "hangs" else None,
        weighting=FixedWeighting((0.0, 1.0, 0.0)),
    )
    with pytest.raises(RewardError) as caught:
        trainer.train()
    assert expected in str(caught.value)
    assert str(caught.value).startswith("`reward_funcs` of task 'medium' must")
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("kind", ["raises", "nan", "too few"])
def test_a_broken_reward_can_be_dropped_and_is_counted(kind: str, tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path,
        tasks_with_broken(BROKEN[kind][0]),
        reward_on_error="drop",
        max_steps=3,
        max_resampling_rounds=1,
    )
    trainer.train()
    medium = trainer.multi_task_state.groups
    assert medium.generated[1] > 0
    assert medium.filtered[1, REASONS.index("unscored")] == medium.generated[1]
    assert medium.trained[1] == 0
    assert sum(history(trainer, "rewards/dropped_rows")) > 0


def test_a_reward_that_answers_none_leaves_rows_unscored_without_an_error(tmp_path: Path) -> None:
    def sometimes(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [None if i % 4 == 0 else value for i, value in enumerate(contains_digit(completions))]

    trainer = tiny_trainer(tmp_path, tasks_with_broken(sometimes), max_steps=3)
    trainer.train()
    assert (trainer.multi_task_state.groups.imbalance == 0).all()


# What reward functions log


def test_two_tasks_may_log_the_same_column(tmp_path: Path) -> None:
    def logging(letter: str, function: Callable[..., list[float]]) -> Callable[..., list[float]]:
        def reward(completions: list[Any], log_extra: Any, **kwargs: Any) -> list[float]:
            log_extra("seen", [f"{letter}:{text_of(completion)}" for completion in completions])
            return function(completions)

        return reward

    tasks = [
        Task("easy", rows("e"), logging("e", contains_lower), success_threshold=1.0),
        Task("medium", rows("m"), logging("m", contains_digit), success_threshold=1.0),
    ]
    trainer = tiny_trainer(tmp_path, tasks, max_steps=3)
    trainer.train()
    extra = trainer._logs["extra"]
    assert len(extra["seen"]) == len(extra["task"]) == 16
    for seen, task, completion in zip(extra["seen"], extra["task"], trainer._logs["completion"], strict=True):
        assert seen == f"{task[0]}:{text_of(completion)}"


# Bad input stops before the first step


@pytest.mark.parametrize(
    ("option", "value"), [("environment_factory", object), ("tools", [len])], ids=["environments", "tools"]
)
def test_tools_of_no_task_are_refused(option: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must say which task it belongs to, got"):
        MultiTaskGRPOTrainer(
            model=tiny_model(),
            tasks=three_tasks(),
            args=tiny_config(tmp_path),
            processing_class=tiny_tokenizer(),
            **{option: value},
        )


def test_a_row_with_an_outcome_but_no_reward_does_not_train(tmp_path):
    def no_reward(completions, **kwargs):
        return [None] * len(completions)

    def outcome(completions, **kwargs):
        return [float(i % 2) for i in range(len(completions))]

    task = Task("silent", rows("s"), no_reward, outcome_func=outcome)
    other = Task("easy", rows("e"), contains_digit, success_threshold=1.0)
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(), tasks=[task, other], args=tiny_config(tmp_path), processing_class=tiny_tokenizer()
    )
    trainer.train()
    ledger = trainer.multi_task_state.groups
    assert ledger.trained[0] == 0
    assert ledger.filtered[0, REASONS.index("unscored")] == ledger.generated[0] > 0
