"""Shares of the batch: the task weights without what is solved."""

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import (
    AcceptanceEstimate,
    StallDoctor,
    batch_shares,
    count_unsolved,
    shares_without_refill,
    unsolved_shares,
)


tasks = st.lists(st.tuples(st.floats(0.01, 1.0), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8)


def estimate_and_weights(tasks):
    weights = np.array([task[0] for task in tasks])
    solved, rest = (np.array([task[i] for task in tasks]) for i in (1, 2))
    return weights / weights.sum(), AcceptanceEstimate.init(len(tasks)).update(solved + rest, rest)


@thorough
@given(tasks, st.floats(0.0, 3.0))
def test_shares_stand_in_the_ratios_of_weights_times_what_is_unsolved(tasks, discount):
    weights, unsolved = estimate_and_weights(tasks)
    shares = unsolved_shares(weights, unsolved, discount)
    solved, rest = (np.array([task[i] for task in tasks]) for i in (1, 2))
    wanted = weights * ((rest + 1) / (rest + solved + 1)) ** discount
    np.testing.assert_allclose(shares, wanted / wanted.sum(), rtol=1e-9)
    assert (shares > 0).all()


@thorough
@given(tasks)
def test_without_a_discount_shares_are_the_weights(tasks):
    weights, unsolved = estimate_and_weights(tasks)
    assert unsolved_shares(weights, unsolved, 0.0) is weights


@thorough
@given(tasks)
def test_shares_are_the_weights_while_nothing_is_solved_however_little_is_seen_of_a_task(tasks):
    weights, unsolved = estimate_and_weights([(weight, 0, rest) for weight, _, rest in tasks])
    assert unsolved_shares(weights, unsolved) is weights


@thorough
@given(tasks, st.integers(1, 40))
def test_more_solved_groups_of_a_task_never_raise_its_share(tasks, solved):
    weights, unsolved = estimate_and_weights(tasks)
    more = np.zeros(len(tasks), dtype=np.int64)
    more[0] = solved
    assert (
        unsolved_shares(weights, unsolved.update(more, 0 * more))[0] <= unsolved_shares(weights, unsolved)[0] + 1e-12
    )


@thorough
@given(tasks, st.integers(1, 40))
def test_failed_groups_never_lower_a_share(tasks, failed):
    weights, unsolved = estimate_and_weights(tasks)
    more = np.zeros(len(tasks), dtype=np.int64)
    more[0] = failed
    assert unsolved_shares(weights, unsolved.update(more, more))[0] >= unsolved_shares(weights, unsolved)[0] - 1e-12


def test_a_run_whose_tasks_have_no_weight_left_keeps_its_weights():
    none, solved = np.zeros(2), np.array([3, 3])
    assert unsolved_shares(none, AcceptanceEstimate.init(2).update(solved, 0 * solved)) is none


@thorough
@given(tasks, st.data())
def test_a_task_without_refill_takes_no_more_of_what_is_generated_than_its_share(tasks, data):
    shares, acceptance = estimate_and_weights([*tasks, (0.5, 3, 3)])
    bounded = np.array([*data.draw(st.lists(st.booleans(), min_size=len(tasks), max_size=len(tasks))), False])
    left = shares_without_refill(shares, bounded, acceptance)
    assert left.sum() == pytest.approx(1.0)
    generated = left / acceptance.rates
    assert (generated[bounded] / generated.sum() <= shares[bounded] + 1e-9).all()


@thorough
@given(tasks, st.data())
def test_the_other_tasks_keep_their_ratios_when_one_is_not_refilled(tasks, data):
    shares, acceptance = estimate_and_weights([*tasks, (0.5, 3, 3)])
    bounded = np.arange(shares.size) == data.draw(st.integers(0, len(tasks)))
    left = shares_without_refill(shares, bounded, acceptance)
    free = left[~bounded] / shares[~bounded]
    np.testing.assert_allclose(free, free[0], rtol=1e-9)


def test_nothing_bounded_and_everything_bounded_leave_the_shares():
    shares, acceptance = estimate_and_weights([(0.5, 3, 1), (0.5, 1, 3)])
    for value in (False, True):
        assert shares_without_refill(shares, np.full(2, value), acceptance) is shares


def test_nothing_known_leaves_the_weights_bit_for_bit():
    weights, none = np.array([0.3, 0.7]), AcceptanceEstimate.init(2)
    doctor = StallDoctor()
    shares = batch_shares(weights, unsolved=none, acceptance=none, stalls=doctor.init(2), doctor=doctor)
    np.testing.assert_array_equal(shares, weights)


def test_a_held_task_pays_for_all_that_is_filtered_and_not_twice_for_what_is_solved():
    # Both tasks: half of the groups solved. Task 0 is held: its share is its weight times its acceptance 4 / 12.
    unsolved = AcceptanceEstimate.init(2).update(np.array([10, 10]), np.array([5, 5]))
    acceptance = AcceptanceEstimate.init(2).update(np.array([10, 10]), np.array([3, 3]))
    shares = batch_shares(np.array([0.5, 0.5]), unsolved=unsolved, acceptance=acceptance, held=np.array([True, False]))
    np.testing.assert_allclose(shares[0] / shares[1], (4 / 12) / (6 / 11))


def test_groups_that_are_all_alike_are_neither_solved_nor_unsolved():
    # By outcome: informative, solved, failed, constant, unscored, masked.
    known = count_unsolved(AcceptanceEstimate.init(1), np.array([[3, 4, 2, 0, 0, 0]]))
    assert (known.accepted.tolist(), known.filtered.tolist()) == ([5.0], [4.0])
    after = count_unsolved(known, np.array([[0, 0, 0, 50, 60, 70]]))
    np.testing.assert_array_equal((after.accepted, after.filtered), (known.accepted, known.filtered))


def test_a_stalled_task_has_no_share():
    doctor, none = StallDoctor(patience=1, min_groups=1), AcceptanceEstimate.init(2)
    outcomes = np.zeros_like(doctor.init(2).outcomes)
    outcomes[:, :3] = [[0, 0, 60], [5, 0, 0]]
    stalls = doctor.update(outcomes, doctor.init(2))
    shares = batch_shares(np.array([0.4, 0.6]), unsolved=none, acceptance=none, stalls=stalls, doctor=doctor)
    assert shares.tolist() == [0.0, 1.0]


def test_a_doctor_without_its_state_is_refused():
    none = AcceptanceEstimate.init(1)
    with pytest.raises(ValueError, match="`stalls` must be given with `doctor`, got None"):
        batch_shares(np.ones(1), unsolved=none, acceptance=none, doctor=StallDoctor())
