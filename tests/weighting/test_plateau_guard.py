"""When the guard holds a task, how it bounds the share, and when it lets go."""

import json
import re

import numpy as np
import pytest

from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.weighting import GuardState, PlateauGuard


WEIGHTS = np.array([0.7, 0.2, 0.1])


def watch(guard, rewards, weights=WEIGHTS, state=None):
    state = state or guard.init(len(weights))
    for reward in rewards:
        state = guard.update(weights, np.array([reward, 0.6, 0.7]), state)
    return state


def test_a_large_share_without_gain_is_held_after_the_patience():
    guard = PlateauGuard(patience=10)
    assert not watch(guard, [0.05] * 9).held.any()
    assert watch(guard, [0.05] * 10).held.tolist() == [True, False, False]


def test_a_task_that_improves_is_never_held():
    assert not watch(PlateauGuard(patience=10), np.linspace(0.05, 0.9, 200)).held.any()


def test_a_small_share_is_never_held():
    assert not watch(PlateauGuard(patience=10), [0.05] * 100, weights=np.array([0.4, 0.3, 0.3])).held.any()


def test_noise_alone_does_not_look_like_learning():
    noise = 0.05 + 0.02 * np.random.default_rng(0).standard_normal(120)
    assert watch(PlateauGuard(), noise).held[0]


def test_the_noisier_a_task_is_measured_the_later_it_is_held():
    steps = [0, 0]
    for i, noise in enumerate((0.01, 0.04)):
        guard, state = PlateauGuard(), PlateauGuard().init(3)
        rng = np.random.default_rng(0)
        while not state.held[0]:
            state = watch(guard, [0.3 + noise * rng.standard_normal()], state=state)
            steps[i] += 1
    assert PlateauGuard().patience <= steps[0] < steps[1]


def noisy_rewards(means, groups, rng, spread=0.25, generations=8):
    """J of one task as the trainer has it, when the prompts differ: the average with a factor of 0.5."""
    average = None
    for mean in means:
        rates = rng.beta(mean * (1 / spread - 1), (1 - mean) * (1 / spread - 1), groups)
        accuracy = rng.binomial(generations, rates).mean() / generations
        average = accuracy if average is None else 0.5 * average + 0.5 * accuracy
        yield average


def test_a_slow_and_badly_measured_learner_beside_fast_ones_keeps_its_share():
    """Countdown in the three-task world: 0.1 to 0.5 in 100 steps, from ten groups a step, while the others rise."""
    steps = np.arange(100)
    held = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        guard, state = PlateauGuard(), PlateauGuard().init(3)
        others = 0.4 + 0.4 * (1 - np.exp(-steps / 25))
        for reward, other in zip(noisy_rewards(0.1 + 0.004 * steps, 10, rng), others, strict=True):
            state = guard.update(WEIGHTS, np.array([reward, other, other]), state)
            held.append(state.held[0])
    assert np.mean(held) < 0.01


def test_a_held_task_is_released_when_it_starts_to_move():
    guard = PlateauGuard(patience=10)
    state = watch(guard, [0.3] * 10)
    state = watch(guard, [0.1] * 40, state=state)
    assert state.held[0]
    released = []
    for reward in np.linspace(0.1, 0.4, 40):
        state = watch(guard, [reward], state=state)
        released.append(not state.held[0])
    assert released[-1]
    assert released.index(True) < 15


def test_the_bound_of_a_released_task_grows_instead_of_vanishing():
    guard = PlateauGuard(patience=10, growth=1.1)
    state = watch(guard, [0.1] * 20)
    shares = []
    for reward in np.linspace(0.1, 0.9, 60):
        state = watch(guard, [reward], state=state)
        shares.append(guard.bound(WEIGHTS, state)[0])
    assert shares[0] == pytest.approx(1 / 3)
    assert shares[-1] == WEIGHTS[0]
    steps = np.diff(shares)
    assert (steps >= 0).all()
    assert steps.max() < 0.07


def test_a_task_is_held_early_when_only_the_others_gain():
    guard, state = PlateauGuard(), PlateauGuard().init(3)
    weights = np.array([0.6, 0.2, 0.2])
    held_after = None
    for step in range(50):
        others = 0.3 + 0.01 * step
        state = guard.update(weights, np.array([0.05, others, others]), state)
        if state.held[0] and held_after is None:
            held_after = step
    assert held_after is not None
    assert 10 <= held_after < guard.patience
    assert not state.held[1:].any()


def test_a_task_that_gains_beside_the_others_keeps_its_share():
    guard, state = PlateauGuard(), PlateauGuard().init(3)
    for step in range(60):
        rewards = np.array([0.05 + 0.004 * step, 0.3 + 0.01 * step, 0.3 + 0.01 * step])
        state = guard.update(np.array([0.6, 0.2, 0.2]), rewards, state)
        assert not state.held.any()


def test_a_fair_share_is_not_held_whatever_the_others_gain():
    guard, state = PlateauGuard(), PlateauGuard().init(3)
    for step in range(60):
        state = guard.update(np.array([0.4, 0.3, 0.3]), np.array([0.05, *[0.01 * step] * 2]), state)
    assert not state.held.any()


# What is measured worse is held later and less: of 24 completions at 0.3 about half of the time.
@pytest.mark.parametrize(
    ("accuracy", "completions", "since", "at_most"),
    [(0.04, 24, 100, 0.35), (0.04, 200, 100, 0.35), (0.3, 200, 150, 0.35), (0.3, 24, 300, 0.6)],
)
def test_noise_neither_saves_nor_releases_a_task_that_cannot_be_learned(accuracy, completions, since, at_most):
    """J as the trainer has it: the share of right completions, averaged with a factor of 0.5."""
    free = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        guard, state, average = PlateauGuard(), PlateauGuard().init(3), accuracy
        for step in range(since + 200):
            average = 0.5 * average + 0.5 * rng.binomial(completions, accuracy) / completions
            state = guard.update(WEIGHTS, np.array([average, 0.6, 0.7]), state)
            if step >= since:
                free.append(not state.held[0])
    assert np.mean(free) < at_most


def test_the_share_of_a_held_task_goes_to_the_others_in_proportion():
    guard = PlateauGuard(patience=1)
    np.testing.assert_allclose(guard.bound(WEIGHTS, watch(guard, [0.1] * 2)), [1 / 3, 4 / 9, 2 / 9])


def test_nothing_held_leaves_the_weights_as_they_are():
    guard = PlateauGuard()
    assert guard.bound(WEIGHTS, guard.init(3)) is WEIGHTS


def test_a_single_task_is_never_held():
    guard = PlateauGuard(patience=1)
    state = guard.init(1)
    for _ in range(5):
        state = guard.update(np.ones(1), np.zeros(1), state)
    assert not state.held.any()


def test_an_unseen_task_waits():
    guard = PlateauGuard(patience=2)
    state = guard.init(3)
    for _ in range(5):
        state = guard.update(WEIGHTS, np.array([np.nan, 0.6, 0.7]), state)
    assert np.isnan(state.smoothed[0])


def test_state_survives_json():
    state = watch(PlateauGuard(patience=2), [0.05, np.nan, 0.06])
    back = from_json(GuardState, json.loads(json.dumps(to_json(state))))
    for name in ("held", "cap", "age", "streak", "reward", "smoothed", "spread", "anchor", "others"):
        np.testing.assert_array_equal(getattr(back, name), getattr(state, name))


def test_state_of_an_unseen_task_survives_json():
    state = PlateauGuard().init(2)
    assert np.isnan(from_json(GuardState, json.loads(json.dumps(to_json(state)))).anchor).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"large_share": 1.0}, "`large_share` must be in (0, 1), got 1.0"),
        ({"patience": 0}, "`patience` must be at least 1, got 0"),
        ({"min_gain": 0.0}, "`min_gain` must be positive, got 0.0"),
        ({"more_than_fair": 0.5}, "`more_than_fair` must be at least 1, got 0.5"),
        ({"others_gain": 0.0}, "`others_gain` must be positive, got 0.0"),
        ({"errors": -1.0}, "`errors` must be at least 0, got -1.0"),
        ({"held_share": 2.0}, "`held_share` must be above 0 and at most 1, got 2.0"),
        ({"held_share": 0.0}, "`held_share` must be above 0 and at most 1, got 0.0"),
        ({"release": 0.9}, "`release` must be at least 1, got 0.9"),
        ({"growth": 1.0}, "`growth` must be above 1, got 1.0"),
        ({"smoothing": 1.0}, "`smoothing` must be in [0, 1), got 1.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PlateauGuard(**arguments)
