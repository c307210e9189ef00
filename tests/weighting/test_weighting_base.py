"""Signals, states, the simplex with bounds, and the gradient that all strategies share."""

import re

import numpy as np
import pytest
from _asserts import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.weighting import TaskSignal, WeightingState, bounded_simplex, softmax, softmax_gradient


weights = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=12).filter(lambda w: sum(w) > 1e-6)


def test_gradient_by_hand():
    # z = (.5, .3, .2), s = (1, 0, 2): the average is .5 + .4 = .9, so g = z (s - .9) = (.05, -.27, .22).
    gradient = softmax_gradient(np.array([1.0, 0.0, 2.0]), np.array([0.5, 0.3, 0.2]))
    np.testing.assert_allclose(gradient, [0.05, -0.27, 0.22], atol=1e-12)


@thorough
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_gradient_is_the_derivative_of_the_expected_signal(signal, seed):
    signal = np.array(signal)
    logits = np.random.default_rng(seed).normal(size=signal.size)
    step = 1e-6 * np.eye(signal.size)
    numeric = [(softmax(logits + d) @ signal - softmax(logits - d) @ signal) / 2e-6 for d in step]
    np.testing.assert_allclose(softmax_gradient(signal, softmax(logits)), numeric, atol=1e-7)


def test_softmax_of_huge_logits_is_finite():
    np.testing.assert_array_equal(softmax(np.array([1e300, -1e300])), [1.0, 0.0])


def test_floor_mixes_with_uniform():
    # floor .1, K = 2: z = .1 + .8 w.
    np.testing.assert_allclose(bounded_simplex(np.array([1.0, 0.0]), floor=0.1), [0.9, 0.1])


def test_cap_gives_the_excess_to_the_others_in_proportion():
    # .8 is cut to .5; the others, .15 and .05, share the other half 3 : 1.
    np.testing.assert_allclose(bounded_simplex(np.array([0.8, 0.15, 0.05]), cap=0.5), [0.5, 0.375, 0.125])


def test_cap_of_a_one_hot_weight_spreads_evenly():
    np.testing.assert_allclose(bounded_simplex(np.array([1.0, 0.0, 0.0]), cap=0.5), [0.5, 0.25, 0.25])


@thorough
@given(weights, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_bounded_weights_respect_both_bounds_and_keep_the_order(raw, low, high):
    raw = np.array(raw) / sum(raw)
    floor, cap = low / raw.size, (1 + high * (raw.size - 1)) / raw.size
    bounded = bounded_simplex(raw, floor, cap)
    assert abs(bounded.sum() - 1) < 1e-9
    assert (bounded >= floor - 1e-9).all()
    assert (bounded <= cap + 1e-9).all()
    assert (np.diff(bounded[np.argsort(raw)]) >= -1e-9).all()


@thorough
@given(weights)
def test_no_bounds_change_nothing(raw):
    raw = np.array(raw) / sum(raw)
    np.testing.assert_allclose(bounded_simplex(raw), raw, atol=1e-12)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"floor": 0.6}, "`floor` must be at most 1/K = 0.5 for 2 tasks, got 0.6"),
        ({"floor": -0.1}, "`floor` must be between 0 and 1, got -0.1"),
        ({"cap": 0.4}, "`cap` must be at least 1/K = 0.5 for 2 tasks, got 0.4"),
        ({"cap": 1.5}, "`cap` must be between 0 and 1, got 1.5"),
    ],
)
def test_impossible_bounds_are_refused(bounds, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bounded_simplex(np.array([0.5, 0.5]), **bounds)


def test_signal_fills_in_what_is_not_given():
    signal = TaskSignal(np.array([0.1, 0.2]))
    assert signal.improvements.tolist() == [0.0, 0.0]
    assert signal.counts.tolist() == [1.0, 1.0]
    assert signal.observed.tolist() == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"improvements": np.zeros(3)}, "`improvements` must be of shape (2,) like `rewards`, got (3,)"),
        ({"advantages": np.array([np.inf, 0.0])}, "`advantages` must be finite or NaN, got [inf, 0.0]"),
        ({"counts": np.array([1, -1])}, "`counts` must be non-negative, got [1.0, -1.0]"),
    ],
)
def test_wrong_signals_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TaskSignal(np.zeros(2), **arguments)


def test_state_of_no_tasks_is_refused():
    with pytest.raises(ValueError, match=r"`num_tasks` must be at least 1, got 0\. Pass the number of tasks\."):
        WeightingState.zeros(0)


def test_state_with_other_fields_is_refused():
    data = to_json(WeightingState.zeros(2))
    del data["step"]
    with pytest.raises(ValueError, match=r"`WeightingState` must be read from the fields .*'step'.* got"):
        from_json(WeightingState, data)
