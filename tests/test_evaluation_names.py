"""Under which names an evaluation or a prediction reports."""

from pathlib import Path
from typing import Any

import pytest
from tiny import rows, three_tasks, tiny_trainer


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_trainer(tmp_path_factory.mktemp("run"), three_tasks(with_eval=True))


@pytest.mark.parametrize("prefix", ["eval", "test", "eval_near"])
def test_an_evaluation_reports_under_its_prefix(trainer: Any, prefix: str) -> None:
    metrics = trainer.evaluate(metric_key_prefix=prefix)
    assert {key.split("tasks/")[0] for key in metrics if "/accuracy" in key} == {f"{prefix}_"}
    assert f"{prefix}_worst_task_accuracy" in metrics
    assert f"{prefix}_reward" in metrics


def test_a_prediction_has_accuracy_and_leaves_nothing_for_the_next_evaluation(trainer: Any) -> None:
    mixed = rows("e", size=3).add_column("task", ["easy"] * 3)
    metrics = trainer.predict(mixed).metrics
    assert metrics["test_tasks/easy/completions"] == 3 * trainer.num_generations_eval
    assert 0.0 <= metrics["test_worst_task_accuracy"] <= 1.0
    later = trainer.evaluate()
    assert later["eval_tasks/easy/completions"] == 6 * trainer.num_generations_eval
    assert not any("test_" in key for key in later)


def test_sets_by_name_are_logged_apart(trainer: Any, tmp_path: Path) -> None:
    near = rows("e", size=2).add_column("task", ["easy"] * 2)
    far = rows("h", size=2).add_column("task", ["hard"] * 2)
    metrics = trainer.evaluate({"near": near, "far": far})
    assert "eval_near_tasks/easy/accuracy" in metrics
    assert "eval_far_tasks/hard/accuracy" in metrics
    assert "eval_far_tasks/easy/accuracy" not in metrics
