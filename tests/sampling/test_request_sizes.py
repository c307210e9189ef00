"""The distribution behind adaptive requests against sums written out, and what the requests promise."""

from math import comb, exp, lgamma

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import RequestGoal, apportion, size_requests
from trl_mtgrpo.sampling.requests import _fill_table


def fill_probability(n, need, a, b):
    """P(at least `need` of n accepted) for a beta-binomial, term by term."""

    def log_beta(x, y):
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    below = sum(comb(n, j) * exp(log_beta(a + j, b + n - j) - log_beta(a, b)) for j in range(need))
    return 1 - below


def goal(**changes):
    values = {"round_cost": 50.0, "fill_probability": None, "max_waste": 100.0, "rounds_left": 11}
    values |= {"reuse_mean": np.zeros(9), "reuse_variance": np.zeros(9)} | changes
    return RequestGoal(**values)


def sized(deficits, rates, strength=1e5, caps=15, multiple=1, **changes):
    deficits, rates = np.array(deficits), np.array(rates)
    return size_requests(
        deficits, caps * deficits, strength * rates, strength * (1 - rates), goal(**changes), multiple
    )


@thorough
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(1, 60), st.floats(1, 60)), min_size=1, max_size=5))
def test_fill_table_is_the_beta_binomial_tail(tasks):
    need = np.array([row[0] for row in tasks])
    a, b = np.array([row[1] for row in tasks]), np.array([row[2] for row in tasks])
    task, size, filled, first = _fill_table(need, need + 20, a, b)
    assert (size[first] == need).all()
    expected = [fill_probability(int(n), int(need[k]), a[k], b[k]) for k, n in zip(task, size, strict=True)]
    np.testing.assert_allclose(filled, expected, atol=1e-8)


@pytest.mark.parametrize("probability", [0.5, 0.75, 0.9, 0.99])
def test_a_request_is_the_smallest_that_fills_one_task_with_the_chosen_probability(probability):
    request = int(sized([12], [0.2], strength=40.0, fill_probability=probability)[0])
    assert fill_probability(request, 12, 8.0, 32.0) >= probability
    assert fill_probability(request - 1, 12, 8.0, 32.0) < probability


@thorough
@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0.1, 0.95)), min_size=1, max_size=6),
    st.sampled_from([0.5, 0.75, 0.9]),
)
def test_a_request_fills_all_tasks_with_the_chosen_probability(tasks, probability):
    need, rates = [row[0] for row in tasks], [row[1] for row in tasks]
    request = sized(need, rates, strength=50.0, caps=50, fill_probability=probability)
    filled = [
        fill_probability(int(n), d, 50 * p, 50 * (1 - p)) for n, d, p in zip(request, need, rates, strict=True) if d
    ]
    assert np.prod(filled) >= probability - 1e-3


def test_a_filled_task_gets_no_group():
    assert sized([0, 3, 0], [0.5, 0.5, 0.5]).tolist()[::2] == [0, 0]


def test_certain_acceptance_asks_for_the_deficit():
    assert sized([5, 2], [1 - 1e-9, 1 - 1e-9]).tolist() == [5, 2]


def test_a_request_never_exceeds_its_cap():
    assert (sized([3, 1], [0.01, 0.5], caps=5) <= [15, 5]).all()


def test_a_hopeless_task_gets_its_cap():
    assert sized([30], [1e-4], caps=5).tolist() == [150]


def test_dearer_rounds_make_larger_requests():
    sizes = [int(sized([8], [0.3], round_cost=cost)[0]) for cost in (1.0, 10.0, 100.0)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_less_allowed_waste_makes_smaller_requests():
    sizes = [int(sized([8], [0.3], max_waste=share)[0]) for share in (0.0, 0.1, 1.0)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_an_uncertain_estimate_asks_for_more():
    assert sized([8], [0.3], strength=10.0)[0] > sized([8], [0.3], strength=1000.0)[0]


def test_a_surplus_that_will_be_used_costs_nothing():
    kept = sized([8], [0.3], reuse_mean=np.full(9, 16.0), reuse_variance=np.full(9, 8.0), max_waste=0.1)
    assert kept[0] > sized([8], [0.3], max_waste=0.1)[0]


def test_the_last_round_leaves_little_to_chance():
    request = int(sized([8], [0.3], strength=100.0, rounds_left=1, round_cost=0.0)[0])
    assert fill_probability(request, 8, 30.0, 70.0) >= 0.99


@thorough
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_totals_are_multiples_where_the_caps_allow(need, multiple, seed):
    rates = np.random.default_rng(seed).uniform(0.2, 0.8, len(need))
    request = sized(need, rates, multiple=multiple, caps=50)
    assert request.sum() % multiple == 0
    assert ((request >= need) & ((np.array(need) > 0) | (request == 0))).all()


@thorough
@given(st.integers(0, 1000), st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 1e-3))
def test_apportioned_counts_add_up_and_stay_within_one_of_their_share(total, shares):
    shares = np.array(shares)
    counts = apportion(total, shares)
    assert counts.sum() == total
    assert (np.abs(counts - total * shares / shares.sum()) < 1 + 1e-9).all()


def test_apportioning_by_hand():
    # 7 groups at .5, .3, .2 are 3.5, 2.1, 1.4: the one left over goes to the largest remainder.
    assert apportion(7, np.array([0.5, 0.3, 0.2])).tolist() == [4, 2, 1]
