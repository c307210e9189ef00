"""Groups that begin with a pilot: their gradient, what is said of their task, and how they are counted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trl_mtgrpo import RatioPreservingSampler
from trl_mtgrpo.rollouts import BatchLoop, GroupFacts, PilotRule, Prompts, Verdict, loss_weights, simulate_prompts
from trl_mtgrpo.rollouts.facts import NOWHERE
from trl_mtgrpo.rollouts.pilot import Rollouts
from trl_mtgrpo.rollouts.population import PopulationRollouts, SimulatedDraws
from trl_mtgrpo.rollouts.remembered import RememberedPrompts
from trl_mtgrpo.rollouts.simulation import SimulatedState
from trl_mtgrpo.sampling import OUTCOMES, PromptMemory, group_outcomes
from trl_mtgrpo.sampling.accounting import REASONS
from trl_mtgrpo.sampling.pilots import PilotEstimate


SIZE, WHOLE = 4, 12
# Chances of each reward level, of prompts of several kinds.
KINDS = {
    (0.0, 1.0): np.array([[0.02, 0.98], [0.2, 0.8], [0.5, 0.5], [0.9, 0.1], [0.97, 0.03]]),
    (0.0, 0.1, 1.0): np.array([[0.9, 0.08, 0.02], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4], [0.01, 0.04, 0.95]]),
}


def judge(strict: bool) -> Callable[..., Verdict]:
    def judging(task: Any, reward: NDArray[np.float64], success: NDArray[np.float64], *others: Any) -> Verdict:
        outcome = group_outcomes(reward, correct=success, require_mixed=strict)
        return Verdict(outcome == 0, outcome)

    return judging


def maker(levels: tuple[float, ...], rng: np.random.Generator) -> Callable[..., Rollouts]:
    """Rollouts whose reward is drawn by the kind of their prompt, which is its row."""
    chances = KINDS[levels].cumsum(axis=1)

    def make(task: NDArray[np.int64], row: NDArray[np.int64]) -> Rollouts:
        level = (rng.random(len(row))[:, None] > chances[row][:, :-1]).sum(axis=1)
        reward = np.array(levels)[level]
        ones = np.ones(len(row), dtype=np.int64)
        place = np.stack([ones * 0, np.arange(len(row))], axis=1)
        return Rollouts(ones, ones > 0, reward, (reward == 1.0) * 1.0, reward[:, None].astype(np.float32), place)

    return make


def groups(
    levels: tuple[float, ...], strict: bool, pilot: int, number: int, seed: int
) -> tuple[GroupFacts, PilotRule]:
    rng = np.random.default_rng(seed)
    rule = PilotRule(SIZE, strict, np.array([True]), "all")
    row = rng.integers(len(KINDS[levels]), size=number)
    none = np.zeros(number, dtype=np.int64)
    prompts = Prompts(none, row, np.ones(number), none + pilot)
    return rule.produce(prompts, WHOLE, rng, maker(levels, rng), judge(strict), judge(strict), 0), rule


def gradient(facts: GroupFacts, weights: NDArray[np.float64], levels: tuple[float, ...]) -> NDArray[np.float64]:
    """Mean over trained groups of Σ A times a direction of its own for each kind of prompt and reward."""
    trained = facts.select(facts.accepted)
    mean, spread = trained.reward.mean(axis=1, keepdims=True), trained.reward.std(axis=1, ddof=1, keepdims=True)
    advantage = (trained.reward - mean) / (spread + 1e-4) * weights[facts.accepted][:, None]
    place = trained.prompt[:, None] * len(levels) + np.searchsorted(levels, trained.reward)
    return np.bincount(place.ravel(), advantage.ravel(), len(KINDS[levels]) * len(levels)) / len(trained)


LEVELS = [pytest.param(levels, marks=pytest.mark.slow if i else ()) for i, levels in enumerate(KINDS)]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("levels", LEVELS)
def test_the_gradient_is_that_of_whole_groups(levels: tuple[float, ...], strict: bool) -> None:
    whole, _ = groups(levels, strict, 0, 400_000, 0)
    begun, rule = groups(levels, strict, SIZE, 600_000, 1)
    estimate = rule.update(begun, PilotEstimate.start(1, SIZE))
    expected = gradient(whole, np.ones(len(whole)), levels)
    found = gradient(begun, loss_weights(begun, estimate), levels)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=0.01)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.9999
    unweighted = gradient(begun, np.ones(len(begun)), levels)
    assert unweighted @ expected / np.linalg.norm(unweighted) / np.linalg.norm(expected) < cosine


@pytest.mark.parametrize("levels", list(KINDS))
def test_whole_groups_and_pilots_say_the_same_of_pilots(levels: tuple[float, ...]) -> None:
    whole, rule = groups(levels, True, 0, 200_000, 2)
    begun, _ = groups(levels, True, SIZE, 200_000, 3)
    watched, used = (rule.update(facts, PilotEstimate.start(1, SIZE)) for facts in (whole, begun))
    np.testing.assert_allclose(watched.sums / watched.sums[:, :1], used.sums / used.sums[:, :1], atol=0.01)
    assert watched.saving[0] == pytest.approx(used.saving[0], abs=0.01)
    assert watched.mean_weight[0] == pytest.approx(used.mean_weight[0], rel=0.01)
    # The cost that is foreseen is the one that is paid.
    assert begun.members.mean() / WHOLE == pytest.approx(watched.sums[0, 1] / watched.sums[0, 0], abs=0.005)


def test_only_the_pilot_says_how_good_a_task_is() -> None:
    begun, _ = groups((0.0, 1.0), True, SIZE, 200_000, 4)
    accuracy = KINDS[0.0, 1.0][:, 1].mean()
    assert np.nanmean(begun.success) == pytest.approx(accuracy, abs=0.003)
    assert np.nanmean(begun.told_reward) == pytest.approx(accuracy, abs=0.003)
    assert abs(np.nanmean(begun.reward) - accuracy) > 0.01  # completed ones are in between


def test_the_share_of_solved_groups_is_that_of_whole_ones() -> None:
    whole, rule = groups((0.0, 1.0), True, 0, 200_000, 5)
    begun, _ = groups((0.0, 1.0), True, SIZE, 200_000, 6)
    solved = (whole.outcome == OUTCOMES.index("solved")).mean()
    for belief in (PilotEstimate.start(1, SIZE), rule.update(begun, PilotEstimate.start(1, SIZE))):
        share = rule.solved_share(begun, belief)
        assert share is not None
        assert share[0] == pytest.approx(solved, abs=0.01)  # right whatever is believed
    assert (begun.outcome == OUTCOMES.index("solved")).mean() > solved + 0.02
    assert rule.solved_share(whole, belief) is None


def test_a_stopped_group_is_its_pilot_and_trains_not() -> None:
    begun, _ = groups((0.0, 1.0), True, SIZE, 2_000, 7)
    stopped = begun.select(begun.stopped)
    assert 0.2 < begun.stopped.mean() < 0.9
    assert not stopped.accepted.any()
    assert (stopped.members == SIZE).all()
    assert (stopped.tokens == SIZE).all()
    assert (stopped.place[:, SIZE:] == NOWHERE).all()
    assert set(stopped.outcome) == {OUTCOMES.index("solved"), OUTCOMES.index("failed")}
    completed = begun.select(~begun.stopped)
    assert (completed.members == WHOLE).all()
    assert (completed.place[:, :, 1] != NOWHERE).all()
    assert not np.isnan(completed.reward).any()


def test_rollouts_are_made_in_two_calls() -> None:
    calls = []
    rng = np.random.default_rng(8)
    make = maker((0.0, 1.0), rng)

    def counting(task: NDArray[np.int64], row: NDArray[np.int64]) -> Rollouts:
        calls.append(len(task))
        return make(task, row)

    none = np.zeros(100, dtype=np.int64)
    pilot = np.where(np.arange(100) < 60, SIZE, 0)
    rule = PilotRule(SIZE, True, np.array([True]), "all")
    facts = rule.produce(Prompts(none, none, none + 1.0, pilot), WHOLE, rng, counting, judge(True), judge(True), 0)
    completed = (~facts.stopped & (facts.pilot > 0)).sum()
    assert calls == [60 * SIZE + 40 * WHOLE, completed * (WHOLE - SIZE)]
    assert (facts.weight[60:] == 1.0).all()


def test_weights_of_groups_that_were_begun_whole_are_one() -> None:
    whole, rule = groups((0.0, 1.0), True, 0, 1_000, 9)
    assert (loss_weights(whole, rule.update(whole, PilotEstimate.start(1, SIZE))) == 1.0).all()


def halves(step: int, task: int) -> NDArray[np.float64]:
    """Half of the prompts are solved, the others in between."""
    return np.repeat([0.999, 0.5], 500)


def run(number: int, limit: int | None = None, age: int = 2, pilots: bool = True) -> list[Any]:
    sampler = RatioPreservingSampler(8, max_surplus_age=age, max_groups=limit)
    rule = PilotRule(SIZE, True, np.ones(2, dtype=bool), "all") if pilots else None
    loop = BatchLoop(sampler, RememberedPrompts([1000, 1000]), WHOLE, max_surplus_age=age, pilots=rule)
    source = PopulationRollouts([halves(0, 0), halves(0, 1)], pilots=rule)
    state, batches = SimulatedState.start(2, SimulatedDraws((0, 0), PromptMemory.start(2))), []
    for step in range(number):
        source.step = step
        batch, state = loop.collect(state, np.array([0.5, 0.5]), source)
        for ledger in (state.groups, state.tokens, state.rollouts):
            assert (ledger.imbalance == 0).all()
        batches.append(batch)
    return batches


@pytest.mark.parametrize("age", [0, 2])
def test_the_mix_is_exact_and_every_rollout_accounted_for(age: int) -> None:
    batches = run(60, age=age)
    assert all(batch.group_ledger.trained.tolist() == batch.plan.desired.tolist() for batch in batches)
    assert sum(batch.group_ledger.filtered[:, REASONS.index("pilot")].sum() for batch in batches) > 60
    for batch in batches:
        made = batch.rollout_ledger.generated.sum()
        assert made == batch.generated.members.sum() <= WHOLE * len(batch.generated)
        spared = batch.plan.generated.sum() - batch.plan.spared
        assert spared * WHOLE == pytest.approx(made)
    # Those that wait keep their weight.
    assert age == 0 or any((batch.surplus.weight != 1.0).any() for batch in batches)


def test_the_ceiling_counts_rollouts() -> None:
    batches = run(60, limit=14, age=0)
    rollouts = [batch.rollout_ledger.generated.sum() for batch in batches]
    assert max(rollouts) <= 14 * WHOLE
    assert max(len(batch.generated) for batch in batches) > 14


def test_rounds_are_as_many_as_without() -> None:
    rounds = [np.mean([batch.plan.rounds for batch in run(150, pilots=pilots)]) for pilots in (True, False)]
    assert rounds[0] <= rounds[1] + 0.05


def test_where_it_does_not_pay_no_task_begins_with_a_pilot() -> None:
    def even(step: int, task: int) -> NDArray[np.float64]:
        return np.full(200, 0.5)

    weights = np.ones((60, 1))
    auto, plain = (
        simulate_prompts(weights, [200], even, RatioPreservingSampler(8), WHOLE, pilot_generations=pilot)
        for pilot in (SIZE, None)
    )
    assert not auto.piloted.any()
    np.testing.assert_array_equal(auto.generated, plain.generated)
    np.testing.assert_array_equal(auto.measured, plain.measured)


def test_where_it_pays_rollouts_are_saved() -> None:
    weights = np.ones((80, 1))
    auto, plain = (
        simulate_prompts(weights, [1000], halves, RatioPreservingSampler(16), 32, pilot_generations=pilot)
        for pilot in (8, None)
    )
    assert auto.piloted[20:].all()
    assert auto.rollouts.sum() < 0.75 * plain.rollouts.sum()
    assert auto.pilot_saving[-1, 0] > 0.1
    assert np.nanmean(auto.measured - auto.accuracy) == pytest.approx(0.0, abs=0.01)
    assert np.nanstd(auto.measured) <= 1.25 * np.nanstd(plain.measured)
