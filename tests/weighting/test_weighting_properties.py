"""The property battery, once per strategy."""

import numpy as np
import pytest
from _asserts import (
    NEUTRAL,
    STRATEGIES,
    assert_on_simplex,
    assert_permutation_equivariant,
    assert_round_trip,
    assert_shift_invariant,
    assert_update_leaves_arguments,
    change,
    histories,
    run,
    thorough,
    unit,
)
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.weighting import TaskSignal


every_strategy = pytest.mark.parametrize("weighting", STRATEGIES.values(), ids=STRATEGIES.keys())
neutral_strategy = pytest.mark.parametrize("weighting", [STRATEGIES[name] for name in NEUTRAL], ids=NEUTRAL)


@every_strategy
@thorough
@given(history=histories())
def test_weights_stay_on_the_simplex(weighting, history):
    assert_on_simplex(weighting.weights(run(weighting, history)), history[0].num_tasks)


@every_strategy
@thorough
@given(history=histories(), data=st.data())
def test_permuting_tasks_permutes_weights(weighting, history, data):
    order = np.array(data.draw(st.permutations(range(history[0].num_tasks))))
    assert_permutation_equivariant(weighting, history, order)


@every_strategy
@thorough
@given(history=histories(), shift=st.floats(-1.0, 1.0))
def test_a_constant_added_to_all_rewards_changes_nothing(weighting, history, shift):
    assert_shift_invariant(weighting, history, shift)


@every_strategy
@thorough
@given(history=histories())
def test_state_survives_json_bit_for_bit(weighting, history):
    assert_round_trip(weighting, history)


@every_strategy
@thorough
@given(history=histories())
def test_update_leaves_its_arguments_as_they_were(weighting, history):
    assert_update_leaves_arguments(weighting, history)


@every_strategy
@thorough
@given(history=histories(st.floats(-1e100, 1e100), st.floats(-1e100, 1e100)))
def test_weights_are_finite_for_extreme_signals(weighting, history):
    assert_on_simplex(weighting.weights(run(weighting, history)), history[0].num_tasks)


@every_strategy
@thorough
@given(history=histories())
def test_a_task_of_unknown_reward_keeps_the_weights_finite(weighting, history):
    rewards = history[0].rewards.copy()
    rewards[0] = np.nan
    unknown = TaskSignal(rewards, history[0].improvements, history[0].advantages, history[0].counts)
    assert_on_simplex(weighting.weights(run(weighting, [unknown, *history])), history[0].num_tasks)


@neutral_strategy
@thorough
@given(reward=unit, improvement=change, data=st.data())
def test_unobserved_tasks_do_not_drift(weighting, reward, improvement, data):
    num_tasks = data.draw(st.integers(2, 9))
    full = np.full(num_tasks, 1.0)
    history = []
    for _ in range(data.draw(st.integers(1, 20))):
        counts = np.array(data.draw(st.lists(st.integers(0, 2), min_size=num_tasks, max_size=num_tasks)))
        advantages = np.where(counts > 0, 0.0, np.nan)
        improvements = np.where(counts > 0, improvement, np.nan)
        history.append(TaskSignal(reward * full, improvements, advantages, counts))
    weights = weighting.weights(run(weighting, history))
    np.testing.assert_allclose(weights, full / num_tasks, atol=1e-6)


@neutral_strategy
@thorough
@given(history=histories())
def test_what_is_said_of_an_unobserved_task_is_not_heard(weighting, history):
    def with_noise(signal, noise):
        absent = signal.counts == 0
        return TaskSignal(
            signal.rewards,
            np.where(absent, noise, signal.improvements),
            np.where(absent, noise, signal.advantages),
            signal.counts,
        )

    quiet = run(weighting, [with_noise(signal, 0.0) for signal in history])
    loud = run(weighting, [with_noise(signal, 7.0) for signal in history])
    np.testing.assert_array_equal(weighting.weights(quiet), weighting.weights(loud))


@pytest.mark.parametrize(
    "weighting", [STRATEGIES["improvement_aware"], STRATEGIES["reward_only"], STRATEGIES["reward_only_sgd"]]
)
@thorough
@given(rewards=st.lists(st.sampled_from(np.linspace(0, 1, 11)), min_size=2, max_size=9))
def test_first_update_orders_weights_opposite_to_rewards(weighting, rewards):
    rewards = np.array(rewards)
    weights = weighting.weights(weighting.update(TaskSignal(rewards), weighting.init(rewards.size)))
    order = np.argsort(rewards)
    assert (np.diff(weights[order]) <= 1e-9).all()
