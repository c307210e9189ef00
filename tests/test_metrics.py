"""The numbers of a step under the names that users see."""

from types import SimpleNamespace

import numpy as np
import pytest

from trl_mtgrpo.report.metrics import averaged, batch_metrics, leave_out_unmeasured, update_metrics
from trl_mtgrpo.sampling.accounting import REASONS, RolloutLedger


NAMES = ("easy", "hard")


def metrics() -> dict[str, float]:
    filtered = np.zeros((2, len(REASONS)), dtype=np.int64)
    filtered[0, REASONS.index("solved")] = 3
    filtered[0, REASONS.index("failed")] = 1
    step = RolloutLedger(
        carried_in=np.array([0, 1]),
        generated=np.array([8, 0]),
        trained=np.array([3, 1]),
        filtered=filtered,
        expired=np.array([1, 0]),
        carried_out=np.array([0, 0]),
    )
    batch = SimpleNamespace(
        group_ledger=step,
        token_ledger=step,
        outcomes=np.array([[4, 3, 1, 0, 0], [0, 0, 0, 0, 0]]),
        reward=np.array([0.6, np.nan]),
        accuracy=np.array([0.5, np.nan]),
        plan=SimpleNamespace(rounds=2, weights=np.array([0.25, 0.75])),
        is_filler=np.array([False, False, False, False]),
    )
    return batch_metrics(NAMES, batch, np.array([0.5, 0.5]), np.array([False, True]))


def test_ratios_are_over_everything_generated() -> None:
    found = metrics()
    assert found["tasks/easy/filtered_ratio"] == 0.5
    assert found["tasks/easy/solved_ratio"] == 3 / 8
    assert found["tasks/easy/failed_ratio"] == 1 / 8
    assert found["tasks/easy/batch_share"] == 0.75
    assert found["tasks/hard/batch_share"] == 0.25
    assert found["tasks/hard/stalled"] == 1.0


def test_the_share_that_was_drawn_from_stands_beside_the_weight() -> None:
    found = metrics()
    assert [found[f"tasks/{name}/weight"] for name in NAMES] == [0.5, 0.5]
    assert [found[f"tasks/{name}/target_share"] for name in NAMES] == [0.25, 0.75]


def test_what_was_not_measured_is_absent_and_what_is_known_to_be_nothing_is_zero() -> None:
    found = metrics()
    absent = {"accuracy", "reward", "filtered_ratio", "solved_ratio", "failed_ratio"}
    assert {key.rpartition("/")[2] for key in metrics() if key.startswith("tasks/easy/")} >= absent
    assert not {f"tasks/hard/{column}" for column in absent} & found.keys()
    assert found["tasks/hard/generated_groups"] == 0.0
    assert not any(np.isnan(value) for value in found.values())


def test_a_mean_is_over_the_steps_that_measured_it() -> None:
    assert averaged({"a": [0.25, float("nan"), 0.75], "b": [float("nan")], "c": []}) == {"a": 0.5}


def test_only_metrics_without_any_value_are_left_out() -> None:
    logged = {"a": [0.5, float("nan")], "b": [float("nan"), float("nan")], "c": [np.float32(1.0)]}
    leave_out_unmeasured(logged)
    assert list(logged) == ["a", "c"]


def test_the_step_as_a_whole() -> None:
    found = metrics()
    assert found["sampling/rounds"] == 2.0
    assert found["sampling/generated_groups"] == 8.0
    assert found["sampling/accepted_groups"] == 4.0
    assert found["sampling/expired_groups"] == 1.0
    assert found["sampling/waste"] == 2.0
    assert found["sampling/mix_distance"] == pytest.approx(1.0)


def test_an_improvement_is_shown_before_and_after_the_clip() -> None:
    found = update_metrics(NAMES, np.array([0.3, 0.05]), 0.1, np.array([4.0, 2.0]), np.array([False, True]))
    assert found["tasks/easy/improvement_raw"] == 0.3
    assert found["tasks/easy/improvement"] == 0.1
    assert found["tasks/hard/improvement"] == 0.05
    assert found["tasks/hard/held"] == 1.0
    assert found["task_weights/clipped_ratio"] == 0.5


def test_an_absent_task_has_no_improvement() -> None:
    found = update_metrics(NAMES, np.array([0.3, 0.0]), None, np.array([4.0, 0.0]), np.zeros(2, bool))
    assert "tasks/hard/improvement" not in found
    assert found["tasks/hard/held"] == 0.0
    assert found["task_weights/clipped_ratio"] == 0.0
    nobody = update_metrics(NAMES, np.zeros(2), 0.1, np.zeros(2), np.zeros(2, bool))
    assert set(nobody) == {"tasks/easy/held", "tasks/hard/held"}
