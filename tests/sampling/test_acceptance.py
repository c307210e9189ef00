"""What the acceptance estimate believes, how fast it forgets, and how it is written down."""

import json
import re

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import AcceptanceEstimate
from trl_mtgrpo.state.codec import from_json, to_json


def test_nothing_seen_is_one_half():
    assert AcceptanceEstimate.init(2).rates.tolist() == [0.5, 0.5]


def test_first_counts_by_hand():
    # (2 + 1) / (10 + 2)
    assert AcceptanceEstimate.init(1).update(np.array([10]), np.array([2])).rates.tolist() == [0.25]


def test_a_task_that_was_not_generated_keeps_its_estimate():
    before = AcceptanceEstimate.init(2).update(np.array([10, 10]), np.array([5, 5]))
    after = before.update(np.array([10, 0]), np.array([5, 0]))
    assert after.accepted[1] == before.accepted[1]
    assert after.filtered[1] == before.filtered[1]


def test_memory_is_about_the_window():
    estimate = AcceptanceEstimate.init(1, window=60.0)
    for _ in range(200):
        estimate = estimate.update(np.array([6]), np.array([3]))
    assert 55 < float(estimate.accepted[0] + estimate.filtered[0]) < 70


def test_a_collapse_shows_after_one_round_of_normal_size():
    estimate = AcceptanceEstimate.init(1)
    for _ in range(50):
        estimate = estimate.update(np.array([16]), np.array([13]))
    assert estimate.rates[0] > 0.75
    assert estimate.update(np.array([16]), np.array([1])).rates[0] < 0.3
    assert estimate.update(np.array([16]), np.array([1])).update(np.array([16]), np.array([1])).rates[0] < 0.2


def test_ordinary_noise_is_not_taken_for_a_collapse():
    rng = np.random.default_rng(0)
    estimate = AcceptanceEstimate.init(1)
    rates = []
    for _ in range(400):
        estimate = estimate.update(np.array([16]), rng.binomial(16, 0.4, size=1))
        rates.append(estimate.rates[0])
    # The standard deviation of a mean over 240 groups is 0.032.
    assert np.abs(np.array(rates[50:]) - 0.4).max() < 0.15


@thorough
@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), min_size=1, max_size=20))
def test_rates_stay_strictly_inside_the_unit_interval_and_counts_finite(rounds):
    estimate = AcceptanceEstimate.init(1)
    for generated, share in rounds:
        estimate = estimate.update(np.array([generated]), np.array([int(generated * share)]))
        assert 0 < estimate.rates[0] < 1
        assert np.isfinite(estimate.alpha).all()
        assert (estimate.accepted >= 0).all()
        assert (estimate.filtered >= 0).all()


@thorough
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1)), min_size=1, max_size=8))
def test_json_brings_back_every_bit(rounds):
    estimate = AcceptanceEstimate.init(1)
    for generated, share in rounds:
        estimate = estimate.update(np.array([generated]), np.array([int(generated * share)]))
    back = from_json(AcceptanceEstimate, json.loads(json.dumps(to_json(estimate))))
    np.testing.assert_array_equal(back.accepted, estimate.accepted)
    np.testing.assert_array_equal(back.filtered, estimate.filtered)
    assert (back.window, back.surprise) == (estimate.window, estimate.surprise)


def test_other_fields_are_refused():
    with pytest.raises(ValueError, match=r"`AcceptanceEstimate` must be read from the fields .* got \['accepted'\]"):
        from_json(AcceptanceEstimate, {"accepted": [0.0]})


@pytest.mark.parametrize("name", ["window", "surprise"])
def test_wrong_arguments_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"`{name}` must be positive, got 0")):
        AcceptanceEstimate.init(2, **{name: 0})
