"""The books balance in every simulated step, and the planner is as near to the theoretical least as it promises."""

import functools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sampling._worlds import collapsing_world, falling_world, many_tasks_world, paper_world, thorough
from trl_mtgrpo.rollouts import SimulationResult, simulate
from trl_mtgrpo.sampling import BatchLedger, RatioPreservingSampler, StallDoctor


settings = st.sampled_from(
    [
        {},
        {"oversampling": 3.0},
        {"preserve_ratio": False},
        {"group_multiple": 4},
        {"max_rounds": 1},
        {"max_tokens": 90.0},
    ]
)


@thorough
@given(st.integers(1, 5), st.integers(1, 24), st.integers(0, 3), settings, st.integers(0, 2**32 - 1))
def test_generated_groups_are_all_accounted_for(num_tasks, num_groups, age, options, seed):
    rng = np.random.default_rng(seed)
    weights, acceptance = rng.dirichlet(np.ones(num_tasks), 12), rng.uniform(0, 1, (12, num_tasks))
    result = simulate(weights, acceptance, RatioPreservingSampler(num_groups, **options), age, seed)
    came = result.carried_in + result.generated
    np.testing.assert_array_equal(came, result.trained + result.filtered + result.expired + result.carried_out)
    np.testing.assert_array_equal(result.carried_in[1:], result.carried_out[:-1])
    assert (result.trained.sum(axis=1) <= num_groups).all()
    assert (result.rounds <= 1 + options.get("max_rounds", 10)).all()
    if age == 0:
        assert not result.carried_out.any()


def test_nothing_is_kept_longer_than_its_age():
    weights, acceptance = np.array([[1.0, 0.0], *[[0.0, 1.0]] * 3]), np.full((4, 2), 1.0)
    sampler = RatioPreservingSampler(4, oversampling=3.0)
    result = simulate(weights, acceptance, sampler, max_surplus_age=2)
    assert result.carried_out[:, 0].tolist() == [8, 8, 0, 0]
    assert result.expired[:, 0].tolist() == [0, 0, 8, 0]


def test_a_surplus_trains_in_the_next_step():
    weights, acceptance = np.ones((2, 1)), np.ones((2, 1))
    result = simulate(weights, acceptance, RatioPreservingSampler(4, oversampling=3.0), max_surplus_age=1)
    assert result.generated[:, 0].tolist() == [12, 0]
    assert result.trained[:, 0].tolist() == [4, 4]


def test_the_same_seed_gives_the_same_run():
    weights, acceptance = paper_world(50)
    runs = [simulate(weights, acceptance, RatioPreservingSampler(32), seed=3).generated for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_tokens_follow_the_groups():
    weights, acceptance = paper_world(50)
    result = simulate(weights, acceptance, RatioPreservingSampler(32), tokens_per_group=[100.0, 100.0, 100.0])
    assert result.tokens_per_least == pytest.approx(result.generated_per_least)


class DrawsWhatItWants:
    """A sampler of the user's own, as small as the protocol allows."""

    def open(self, task_weights, rng, carried=None):
        return BatchLedger.start(task_weights, rng.multinomial(8, task_weights), carried)

    def plan(self, ledger, acceptance, rng):
        return ledger.deficits + ledger.probes if ledger.deficits.any() and ledger.rounds < 3 else None

    def select(self, task_ids, ledger, rng):
        return np.arange(min(len(task_ids), 8))


def test_a_sampler_of_the_users_own_runs_with_a_doctor():
    weights, acceptance = np.full((40, 2), 0.5), np.tile([0.0, 0.9], (40, 1))
    result = simulate(weights, acceptance, DrawsWhatItWants(), doctor=StallDoctor(), tokens_per_group=[1.0, 2.0])
    assert (result.trained[20:, 1] == 8).mean() > 0.9
    assert result.desired[20:, 0].sum() == 0


def test_a_doctor_lets_the_others_have_the_share_of_a_dead_task():
    weights, acceptance = np.full((100, 2), 0.5), np.tile([0.0, 0.5], (100, 1))
    alone = simulate(weights, acceptance, RatioPreservingSampler(32))
    treated = simulate(weights, acceptance, RatioPreservingSampler(32), doctor=StallDoctor())
    assert treated.generated[20:, 0].sum() == 8 * StallDoctor().probe_groups
    assert (treated.trained[20:, 1] == 32).all()
    assert treated.generated[:, 0].sum() < 0.1 * alone.generated[:, 0].sum()


@pytest.mark.parametrize("limit", [120.0, 400.0])
def test_a_token_budget_holds_in_every_step_whose_costs_are_known(limit):
    weights, acceptance = collapsing_world()
    sampler = RatioPreservingSampler(32, max_tokens=limit)
    result = simulate(weights, acceptance, sampler, tokens_per_group=[1.0, 2.0, 3.0])
    assert ((result.generated @ result.tokens_per_group)[1:] <= limit).all()


@pytest.mark.parametrize("preserve_ratio", [True, False])
def test_a_world_without_an_informative_group_ends_each_step_early(preserve_ratio):
    weights, acceptance = np.full((5, 2), 0.5), np.zeros((5, 2))
    result = simulate(weights, acceptance, RatioPreservingSampler(32, preserve_ratio=preserve_ratio))
    assert (result.rounds <= 2).all()


@functools.cache
def paper_runs(max_surplus_age: int) -> list[SimulationResult]:
    """The paper's series, five seeds of the whole of it."""
    sampler = RatioPreservingSampler(32)
    return [simulate(*paper_world(), sampler, max_surplus_age=max_surplus_age, seed=seed) for seed in range(5)]


# The numbers that the documentation states.
@pytest.mark.slow
def test_mean_cost_on_the_paper_series_with_carry_over():
    results = paper_runs(max_surplus_age=2)
    assert np.mean([result.generated_per_least for result in results]) <= 1.03
    assert np.mean([result.rounds_per_step for result in results]) <= 1.3
    assert min(result.exact_mix_ratio for result in results) >= 0.99


@pytest.mark.slow
def test_mean_cost_on_the_paper_series_without_carry_over():
    results = paper_runs(max_surplus_age=0)
    assert np.mean([result.generated_per_least for result in results]) <= 1.30
    assert np.mean([result.rounds_per_step for result in results]) <= 1.30


@pytest.mark.parametrize("world", [falling_world, collapsing_world, many_tasks_world])
@pytest.mark.parametrize("num_groups", [32, 1024])
def test_harder_worlds_cost_at_most_fifteen_percent_with_carry_over(world, num_groups):
    result = simulate(*world(), RatioPreservingSampler(num_groups), max_surplus_age=2)
    assert result.generated_per_least <= 1.15
    assert result.exact_mix_ratio >= 0.99


def test_long_run_mix_is_that_of_the_weights():
    weights, _ = paper_world()
    trained = sum(result.trained.sum(axis=0) for result in paper_runs(max_surplus_age=2))
    assert np.abs(trained / trained.sum() - weights.mean(axis=0)).sum() < 0.01


@pytest.mark.parametrize(
    ("weights", "acceptance", "message"),
    [
        (np.ones((3, 1)), np.ones((2, 1)), "`task_weights` and `acceptance` must be of one shape (T, K), got (3, 1)"),
        (np.ones((2, 1)), np.full((2, 1), 1.5), "`acceptance` must be between 0 and 1"),
    ],
)
def test_wrong_arguments_are_refused(weights, acceptance, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(weights, acceptance, RatioPreservingSampler(4))
