"""What the task weights listen to, with the arithmetic beside it."""

import numpy as np
import pytest

from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.weighting.signals import RewardAverage, mix_distance, summarize_accuracy, task_means


NAN = float("nan")
BOTH = np.array([True, True])


def test_the_first_value_of_an_average_is_the_value_itself() -> None:
    average = RewardAverage.start(2).update(np.array([0.4, 0.8]), BOTH, 0.5)
    assert average.values == pytest.approx([0.4, 0.8])


def test_the_average_is_corrected_for_its_start() -> None:
    average = RewardAverage.start(1).update(np.array([0.4]), BOTH[:1], 0.5).update(np.array([1.0]), BOTH[:1], 0.5)
    # m = 0.5 * 0.2 + 0.5 * 1.0 = 0.6, w = 0.5 * 0.5 + 0.5 = 0.75
    assert average.values == pytest.approx([0.8])
    assert average.changes == pytest.approx([0.4])


def test_a_task_that_was_not_generated_keeps_its_value_and_has_no_change() -> None:
    first = RewardAverage.start(2).update(np.array([0.4, 0.8]), BOTH, 0.5)
    second = first.update(np.array([NAN, 0.0]), np.array([False, True]), 0.5)
    assert second.values[0] == first.values[0]
    assert second.changes[0] == 0.0


def test_a_task_never_observed_counts_as_the_mean_of_the_others() -> None:
    average = RewardAverage.start(3).update(np.array([0.2, 0.6, NAN]), np.array([True, True, False]), 0.5)
    assert average.values == pytest.approx([0.2, 0.6, 0.4])
    assert RewardAverage.start(3).values.tolist() == [0.0, 0.0, 0.0]


def test_a_first_observation_is_no_change() -> None:
    assert RewardAverage.start(1).update(np.array([0.7]), BOTH[:1], 0.5).changes.tolist() == [0.0]


def test_the_factor_zero_follows_the_last_value() -> None:
    average = RewardAverage.start(1).update(np.array([0.1]), BOTH[:1], 0.0).update(np.array([0.9]), BOTH[:1], 0.0)
    assert average.values == pytest.approx([0.9])


def test_the_json_form_keeps_what_is_unknown() -> None:
    average = RewardAverage.start(2).update(np.array([0.4, NAN]), np.array([True, False]), 0.5)
    again = from_json(RewardAverage, to_json(average))
    np.testing.assert_array_equal(again.previous, average.previous)
    np.testing.assert_array_equal(again.values, average.values)


def test_means_are_per_task_and_leave_unknown_rows_out() -> None:
    means, counts = task_means(np.array([1.0, 0.0, NAN, 0.5]), np.array([0, 0, 0, 2]), 3)
    assert means[[0, 2]].tolist() == [0.5, 0.5]
    assert np.isnan(means[1])
    assert counts.tolist() == [2, 0, 1]


def test_the_summary_is_worst_average_and_spread() -> None:
    summary = summarize_accuracy({"a": 0.2, "b": 0.8, "unknown": NAN})
    assert summary == {
        "worst_task_accuracy": 0.2,
        "average_accuracy": 0.5,
        "task_accuracy_spread": pytest.approx(0.6),
    }


def test_the_relative_change_leaves_out_tasks_at_zero() -> None:
    # (0.3 - 0.2) / 0.2 = 50 %, (0.6 - 0.8) / 0.8 = -25 %; the mean is 12.5 %
    accuracy, baseline = {"a": 0.3, "b": 0.6, "c": 0.5}, {"a": 0.2, "b": 0.8, "c": 0.0}
    assert summarize_accuracy(accuracy, baseline)["relative_change"] == pytest.approx(12.5)
    assert "relative_change" not in summarize_accuracy(accuracy, {})


def test_nothing_known_gives_no_summary() -> None:
    assert summarize_accuracy({"a": NAN}) == {}


def test_the_distance_of_a_mix_is_the_sum_of_absolute_differences() -> None:
    # shares 3/4 and 1/4 against 1/2 and 1/2
    assert mix_distance(np.array([3, 1]), np.array([0.5, 0.5])) == pytest.approx(0.5)
    assert mix_distance(np.array([0, 0]), np.array([0.5, 0.5])) == 0.0
