"""Every evaluated row counts once for its task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import three_tasks
from trl_mtgrpo import TaskMixture
from trl_mtgrpo.host.collecting import Scored
from trl_mtgrpo.host.evaluation import TaskEvaluation


NAN = np.nan
MIXTURE = TaskMixture(three_tasks())


def evaluated(
    values: list[tuple[int, float]], num_rows: int, batch: int = 2, baseline: dict[str, float] | None = None
) -> dict[str, float]:
    evaluation = TaskEvaluation(MIXTURE.names, range(num_rows), num_generations=1)
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        rewards = np.full((len(part), 3), NAN, dtype=np.float32)
        for i, (task, value) in enumerate(part):
            rewards[i, task] = value
        ids, zeros = np.array([task for task, _ in part]), np.zeros(len(part), dtype=np.int64)
        scores = MIXTURE.scoring.score(rewards, ids)
        activity = np.zeros((len(part), 0), dtype=np.int64)
        evaluation.add(Scored(ids, zeros, np.arange(len(part)) + 4, zeros == 0, scores, activity))
    return evaluation.metrics(baseline)


def test_accuracy_and_reward_are_per_task() -> None:
    metrics = evaluated([(0, 1.0), (0, 0.5), (1, 1.0), (1, 1.0)], 4)
    assert metrics["tasks/easy/accuracy"] == 0.5
    assert metrics["tasks/easy/reward"] == 0.75
    assert metrics["tasks/medium/accuracy"] == 1.0
    assert metrics["tasks/easy/completion_length"] == 4.5
    assert metrics["tasks/easy/completions"] == 2.0


def test_worst_average_and_spread_are_over_the_tasks_with_rows() -> None:
    metrics = evaluated([(0, 1.0), (1, 0.0)], 2)
    assert metrics["worst_task_accuracy"] == 0.0
    assert metrics["average_accuracy"] == 0.5
    assert metrics["task_accuracy_spread"] == 1.0
    assert "tasks/hard/accuracy" not in metrics


def test_rows_that_even_out_ranks_are_dropped() -> None:
    padded = [(0, 1.0), (0, 1.0), (1, 0.0), (0, 0.0)]  # the last one is a repetition
    assert evaluated(padded, 3)["tasks/easy/accuracy"] == 1.0
    assert evaluated(padded, 3)["tasks/easy/completions"] == 2.0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0])), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(0, 4),
)
def test_batches_and_padding_do_not_matter(values: list[tuple[int, float]], batch: int, padding: int) -> None:
    whole = evaluated(values, len(values), batch=len(values))
    cut = evaluated(values + values[:1] * padding, len(values), batch=batch)
    for name, value in whole.items():
        if not name.endswith("completion_length"):
            assert cut[name] == pytest.approx(value)


def test_unscored_rows_do_not_count() -> None:
    metrics = evaluated([(0, 1.0), (0, NAN)], 2)
    assert metrics["tasks/easy/accuracy"] == 1.0


def test_the_change_against_a_baseline_is_relative() -> None:
    metrics = evaluated([(0, 1.0), (1, 0.0)], 2, baseline={"easy": 0.5, "medium": 0.5})
    assert metrics["relative_change"] == pytest.approx(0.0)  # +100 % and -100 %


def test_an_evaluation_without_rows_has_no_metrics() -> None:
    assert TaskEvaluation(MIXTURE.names, range(4), num_generations=1).metrics() == {}


def test_what_is_not_known_may_be_the_worst() -> None:
    evaluation = {**evaluated([(0, 1.0), (1, NAN)], 2)}
    assert evaluation["tasks/easy/accuracy"] == 1.0
    assert "tasks/medium/accuracy" not in evaluation
    assert "worst_task_accuracy" not in evaluation
    assert "average_accuracy" not in evaluation
