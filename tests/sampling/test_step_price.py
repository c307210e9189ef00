"""What a step may cost: its ceiling, its first request, what a short budget serves, and when a task is dropped."""

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import AcceptanceEstimate, RatioPreservingSampler, StallDoctor
from trl_mtgrpo.sampling.requests import fair_cut


def play(sampler, acceptance, seed=0, estimate=None, **context):
    """One step with equal weights; the ledger and all requests."""
    rng, rates = np.random.default_rng(seed), np.asarray(acceptance)
    estimate = AcceptanceEstimate.init(rates.size) if estimate is None else estimate
    ledger = sampler.open(np.full(rates.size, 1 / rates.size), rng).with_context(**context)
    requests = []
    while (request := sampler.plan(ledger, estimate, rng)) is not None:
        accepted = rng.binomial(request, rates)
        ledger = ledger.record(request, accepted)
        estimate = estimate.update(request, accepted)
        requests.append(request)
    return ledger, requests


rates = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6)
options = st.sampled_from([{}, {"preserve_ratio": False}, {"max_surplus_age": 2}, {"acceptance_aware": False}])


@thorough
@given(rates, options, st.integers(1, 40), st.integers(0, 11), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_no_step_generates_more_than_its_limit(acceptance, settings, num_groups, max_rounds, multiple, seed):
    sampler = RatioPreservingSampler(num_groups, max_rounds=max_rounds, group_multiple=multiple, **settings)
    ledger, requests = play(sampler, acceptance, seed, probes=np.ones(len(acceptance), dtype=int))
    assert ledger.generated.sum() <= max(min(16, 3 * (1 + max_rounds)) * num_groups, multiple)
    assert all(request.sum() % multiple == 0 for request in requests)


@thorough
@given(rates, st.sampled_from(["adaptive", 3.0]), st.integers(1, 200), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_a_limit_of_the_users_own_holds_under_every_rule(acceptance, oversampling, limit, multiple, seed):
    sampler = RatioPreservingSampler(
        16, oversampling=oversampling, max_groups=limit, group_multiple=multiple, max_surplus_age=2
    )
    ledger, requests = play(sampler, acceptance, seed)
    assert 0 < ledger.generated.sum() <= max(limit, multiple)
    assert all(request.sum() % multiple == 0 for request in requests)


@pytest.mark.parametrize("max_rounds", [0, 1, 10])
@pytest.mark.parametrize("num_groups", [3, 6, 32])
@pytest.mark.parametrize("preserve_ratio", [True, False])
@pytest.mark.parametrize("multiple", [1, 4])
def test_while_nothing_is_known_the_first_request_is_three_batches_at_most(
    max_rounds, num_groups, preserve_ratio, multiple
):
    sampler = RatioPreservingSampler(
        num_groups, max_rounds=max_rounds, preserve_ratio=preserve_ratio, group_multiple=multiple, max_surplus_age=2
    )
    _, requests = play(sampler, [0.5, 0.3, 0.1])
    assert requests[0].sum() <= 3 * num_groups


def test_a_new_task_beside_known_ones_gets_three_groups_per_place():
    known = AcceptanceEstimate.init(2).update(np.array([300, 0]), np.array([15, 0]))
    ledger, requests = play(RatioPreservingSampler(32, max_surplus_age=2), [0.05, 0.5], estimate=known)
    assert requests[0][1] <= 3 * ledger.desired[1]
    assert requests[0][0] > 15 * ledger.desired[0]


@thorough
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=8), st.data())
def test_a_cut_gives_every_place_the_same_number_of_groups(tasks, data):
    request, owed = np.array([task[0] for task in tasks]), np.array([float(task[1]) for task in tasks])
    total = data.draw(st.integers(0, int(request.sum())))
    cut = fair_cut(request, owed, total)
    assert cut.sum() == total
    assert ((cut >= 0) & (cut <= request)).all()
    # Who gets less per place than another got all that it asked for, but for the rounding to whole groups.
    highest = ((cut - 1) / owed).max()
    assert ((cut == request) | ((cut + 1) / owed > highest)).all()


def test_a_cut_by_hand():
    # Ten groups for 2 + 3 places are two each; the first task asks for three only, so the second gets seven.
    assert fair_cut(np.array([3, 90]), np.array([2.0, 3.0]), 10).tolist() == [3, 7]
    assert fair_cut(np.array([80, 90]), np.array([2.0, 3.0]), 10).tolist() == [4, 6]


def test_a_hopeless_task_does_not_take_the_places_of_an_easy_one():
    known = AcceptanceEstimate.init(2).update(np.array([200, 200]), np.array([2, 100]))
    sampler = RatioPreservingSampler(32, max_surplus_age=2, max_groups=96)
    owed = [play(sampler, [0.01, 0.5], seed, estimate=known)[0].owed for seed in range(20)]
    assert np.mean(owed, axis=0)[1] < 1
    assert np.mean(owed, axis=0)[0] > 10


@pytest.mark.parametrize("num_groups", [1, 3, 6, 32])
def test_the_rounds_of_a_task_that_yields_nothing_grow_with_the_log_of_its_cost(num_groups):
    _, requests = play(RatioPreservingSampler(num_groups, max_surplus_age=2), [0.0])
    assert len(requests) <= 2 + np.log2(16)
    assert all((np.diff([request[0] for request in requests])[:-1] >= 0).tolist())


def test_what_yields_nothing_is_dropped_in_the_step_after_its_patience():
    known = AcceptanceEstimate.init(2).update(np.array([60, 60]), np.array([30, 30]))
    sampler = RatioPreservingSampler(6, max_surplus_age=2)
    ledger, _ = play(sampler, [0.0, 0.5], estimate=known, patience=[18, 60])
    assert 18 <= ledger.generated[0] <= 24
    assert ledger.owed[1] == 0


@pytest.mark.parametrize("num_groups", [1, 3, 6, 20, 32, 1024])
def test_a_task_that_always_yielded_is_dropped_within_a_few_batches(num_groups):
    doctor = StallDoctor.for_batch(num_groups)
    good, dead = np.array([[5, 5, 0, 0, 0, 0, 0]]), np.array([[0, 0, 0, 1, 0, 0, 0]])
    state = doctor.init(1)
    for _ in range(20):
        state = doctor.update(good, state)
    left, groups = int(doctor.patience_left(state)[0]), 0
    while not state.stalled[0]:
        state, groups = doctor.update(dead, state), groups + 1
    assert groups == left <= max(3 * num_groups, 13)
    assert groups <= 60
    assert state.causes() == ["constant"]


def test_a_task_that_always_was_hard_is_given_the_time_that_it_takes():
    doctor = StallDoctor.for_batch(6)
    state = doctor.update(np.array([[1, 0, 49, 0, 0, 0, 0]]), doctor.init(1))
    assert doctor.patience_left(state)[0] == 250
    state = doctor.update(np.array([[0, 0, 100, 0, 0, 0, 0]]), state)
    assert not state.stalled[0]
    assert doctor.patience_left(state)[0] == 150


def test_when_all_tasks_are_stalled_a_step_still_tries():
    doctor = StallDoctor.for_batch(6)
    state = doctor.update(np.array([[0, 0, 80, 0, 0, 0, 0]] * 2), doctor.init(2))
    assert state.stalled.all()
    ledger, _ = play(RatioPreservingSampler(6), [0.0, 0.0], patience=doctor.patience_left(state))
    assert ledger.generated.sum() > 0
