"""A task that was good and is not any more is found, chance is not, and it gets its share back."""

import json

import numpy as np
import pytest

from trl_mtgrpo.sampling import AcceptanceEstimate, ForgettingAlarm, ForgettingState, batch_shares
from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.state.parts import move_tasks


UNKNOWN = np.array([np.nan])


def run(accuracies: list[float], groups: int = 8, tasks: int = 100) -> np.ndarray:
    """
    Whether the alarm of each of many alike tasks is on after each step, shape `(T, K)`. A group is all right or all
    wrong in nine cases of ten.
    """
    rng, alarm, found = np.random.default_rng(0), ForgettingAlarm(), []
    state = alarm.init(tasks)
    for accuracy in accuracies:
        same = rng.random((tasks, groups)) < 0.9
        alike = rng.random((tasks, groups)) < accuracy
        success = np.where(same, alike, rng.binomial(8, accuracy, (tasks, groups)) / 8)
        variance = success.var(axis=1, ddof=1) if groups > 1 else np.full(tasks, np.nan)
        state = alarm.update(success.mean(axis=1), np.full(tasks, groups), variance, state)
        found.append(state.regressed)
    return np.array(found)


@pytest.mark.parametrize("accuracy", [0.72, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("groups", [1, 8, 32])
def test_of_a_hundred_steady_tasks_two_at_most_give_an_alarm_in_two_thousand_steps(
    accuracy: float, groups: int
) -> None:
    assert run([accuracy] * 2_000, groups).any(axis=0).sum() <= 2


@pytest.mark.parametrize(("lost", "steps"), [(0.3, 20), (0.4, 8), (0.6, 4)])
def test_a_task_that_forgets_is_found_within_some_steps_of_eight_groups_and_released_when_it_is_back(
    lost: float, steps: int
) -> None:
    found = run([0.9] * 40 + [0.9 - lost] * 30 + [0.9] * 30)
    assert not found[:40].any()
    assert found[40 : 40 + steps].any(axis=0).mean() >= 0.9
    assert found[40:70].any(axis=0).mean() >= 0.95
    assert found[90:].mean() <= 0.02


def test_a_task_that_never_was_good_has_nothing_to_forget() -> None:
    assert not run([0.6] * 60 + [0.1] * 60).any()


def test_a_task_that_gets_better_or_is_not_generated_gives_no_alarm() -> None:
    assert not run(np.linspace(0.1, 0.95, 300).tolist()).any()
    alarm = ForgettingAlarm()
    state = alarm.init(1)
    for _ in range(50):
        state = alarm.update(np.array([0.95]), np.array([8]), UNKNOWN, state)
    for _ in range(50):
        state = alarm.update(np.array([np.nan]), np.array([8]), UNKNOWN, state)
        state = alarm.update(np.array([np.nan]), np.array([0]), UNKNOWN, state)
    assert not state.regressed.any()
    assert state.best[0] == pytest.approx(0.95)


def test_a_task_that_has_forgotten_gets_its_share_back() -> None:
    none = AcceptanceEstimate.init(2)
    unsolved = none.update(np.array([40, 40]), np.array([10, 40]))
    weights = np.array([0.5, 0.5])
    before = batch_shares(weights, unsolved=unsolved, acceptance=none)
    after = batch_shares(weights, unsolved=unsolved, acceptance=none, regressed=np.array([True, False]))
    assert before[0] < 0.25
    assert after.tolist() == [0.5, 0.5]


def test_what_is_known_comes_back_from_its_file_and_follows_its_tasks() -> None:
    alarm = ForgettingAlarm()
    state = alarm.init(2)
    for accuracy in [0.9] * 40 + [0.2] * 10:
        state = alarm.update(np.array([accuracy, 0.5]), np.array([8, 3]), np.full(2, 0.1), state)
    assert state.regressed.tolist() == [True, False]
    back = from_json(ForgettingState, json.loads(json.dumps(to_json(state))))
    assert to_json(back) == to_json(state)
    moved = move_tasks(state, np.array([-1, 0]))
    assert moved.regressed.tolist() == [False, True]
    assert moved.best.tolist() == [0.0, state.best[0]]


@pytest.mark.parametrize("name", ["high", "least_fall", "errors", "window"])
def test_an_alarm_without_a_positive_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be positive, got 0"):
        ForgettingAlarm(**{name: 0})
