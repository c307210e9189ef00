"""When a task counts as stalled, what it may still cost, and how it comes back."""

import json
import re

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.sampling import OUTCOMES, RatioPreservingSampler, StallDoctor, StallState
from trl_mtgrpo.state.codec import from_json, to_json


def step(**outcomes):
    """One row of outcome counts."""
    return [outcomes.get(name, 0) for name in OUTCOMES]


def watch(doctor, *steps, state=None):
    state = state or doctor.init(len(steps[0]))
    for outcomes in steps:
        state = doctor.update(np.array(outcomes), state)
    return state


GOOD = step(informative=5, failed=5)
DOCTOR = StallDoctor(patience=3, min_groups=60)
CELLS = 3 * len(OUTCOMES)


@pytest.mark.parametrize("cause", OUTCOMES[1:])
def test_a_stalled_task_is_named_with_its_cause(cause):
    state = watch(DOCTOR, *[[GOOD, step(**{cause: 20})]] * 3)
    assert state.causes() == [None, cause]
    (sentence,) = DOCTOR.diagnose(["arc", "zebra"], state)
    assert sentence.startswith(f"Task 'zebra' yielded nothing in 60 groups over 3 steps ({cause}).")


def test_a_stalled_task_with_few_rows_is_told_how_often_each_was_tried():
    state = watch(DOCTOR, *[[GOOD, step(failed=20)]] * 3)
    (sentence,) = DOCTOR.diagnose(["arc", "zebra"], state, num_rows=[5, 20])
    assert sentence.endswith("It has only 20 rows, each tried 3 times: add prompts.")
    (sentence,) = DOCTOR.diagnose(["arc", "zebra"], state, num_rows=[5, 31])
    assert "rows" not in sentence


def test_both_steps_and_groups_must_pass_before_a_task_is_stalled():
    assert not watch(DOCTOR, *[[GOOD, step(failed=30)]] * 2).stalled.any()
    assert not watch(DOCTOR, *[[GOOD, step(failed=2)]] * 5).stalled.any()


def test_steps_in_which_it_was_not_generated_do_not_count():
    assert not watch(DOCTOR, [GOOD, step(failed=80)], *[[GOOD, step()]] * 9).stalled.any()


def test_a_stalled_task_leaves_its_share_to_the_others():
    state = watch(DOCTOR, *[[GOOD, GOOD, step(failed=20)]] * 3)
    np.testing.assert_allclose(DOCTOR.adjust(np.array([0.3, 0.1, 0.6]), state), [0.75, 0.25, 0.0])


def test_one_accepted_group_ends_the_stall():
    state = watch(DOCTOR, *[[GOOD, step(failed=20)]] * 3)
    state = watch(DOCTOR, [GOOD, step(informative=1, failed=1)], state=state)
    assert not state.stalled.any()
    assert state.outcomes[1].sum() == 0


def test_a_stalled_task_is_tried_every_few_steps():
    doctor = StallDoctor(patience=3, min_groups=60, probe_interval=4, probe_groups=2)
    state = watch(doctor, *[[GOOD, step(failed=20)]] * 3)
    probes = []
    for _ in range(12):
        probe = doctor.probes(state)
        probes.append(int(probe[1]))
        state = doctor.update(np.array([GOOD, step(failed=int(probe[1]))]), state)
    assert probes == [0, 2, 0, 2] + [0, 0, 0, 2] * 2


def test_when_every_task_is_stalled_the_weights_stay():
    state = watch(DOCTOR, *[[step(solved=20), step(failed=20)]] * 3)
    assert state.stalled.all()
    assert DOCTOR.adjust(np.array([0.4, 0.6]), state).tolist() == [0.4, 0.6]
    assert not DOCTOR.probes(state).any()


@thorough
@given(st.lists(st.lists(st.integers(0, 20), min_size=CELLS, max_size=CELLS), max_size=12), st.integers(0, 2**32 - 1))
def test_adjusted_weights_stay_on_the_simplex(history, seed):
    state = watch(DOCTOR, *[np.array(row).reshape(3, -1).tolist() for row in history], state=DOCTOR.init(3))
    adjusted = DOCTOR.adjust(np.random.default_rng(seed).dirichlet(np.ones(3)), state)
    assert abs(adjusted.sum() - 1) < 1e-9
    assert (adjusted >= 0).all()


def test_a_dead_task_costs_little_and_the_others_fill_the_batch():
    rng = np.random.default_rng(0)
    sampler, doctor, acceptance = RatioPreservingSampler(32), StallDoctor(), np.array([0.0, 0.6, 0.6])
    state, spent, full = doctor.init(3), 0, 0
    for _ in range(100):
        weights = doctor.adjust(np.array([0.6, 0.2, 0.2]), state)
        ledger = sampler.open(weights, rng).with_context(doctor.probes(state), None, doctor.patience_left(state))
        while (request := sampler.plan(ledger, np.array([0.1, 0.6, 0.6]), rng)) is not None:
            ledger = ledger.record(request, rng.binomial(request, acceptance))
        outcomes = np.zeros((3, len(OUTCOMES)), dtype=int)
        outcomes[:, 0], outcomes[:, 2] = ledger.accepted, ledger.generated - ledger.accepted
        state = doctor.update(outcomes, state)
        spent += int(ledger.generated[0])
        full += int(ledger.accepted.sum() >= 32)
    assert spent < 1500
    assert full >= 95


def test_state_survives_json():
    state = watch(DOCTOR, *[[GOOD, step(failed=20)]] * 4)
    back = from_json(StallState, json.loads(json.dumps(to_json(state))))
    for name in ("empty_steps", "outcomes", "stalled_steps", "usual"):
        np.testing.assert_array_equal(getattr(back, name), getattr(state, name))


def test_other_fields_are_refused():
    with pytest.raises(ValueError, match=r"`StallState` must be read from the fields .* got \['outcomes'\]"):
        from_json(StallState, {"outcomes": []})


@pytest.mark.parametrize("name", ["patience", "min_groups", "probe_interval", "probe_groups"])
def test_wrong_arguments_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"`{name}` must be at least 1, got 0")):
        StallDoctor(**{name: 0})
