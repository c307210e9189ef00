"""Evaluation through the real trainer: one mixed set, sets by name, samples per prompt, and the best checkpoint."""

from typing import Any

import pandas as pd
import pytest
from datasets import Dataset, concatenate_datasets
from tiny import contains_a, contains_digit, contains_lower, rows, three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOTrainer, Task


FUNCTIONS = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a}


def trainer(output_dir: Any, options: dict[str, Any] | None = None, **arguments: Any) -> MultiTaskGRPOTrainer:
    return MultiTaskGRPOTrainer(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        args=tiny_config(output_dir, **(options or {})),
        **arguments,
    )


def mixed(size: int, names: tuple[str, ...] = tuple(FUNCTIONS)) -> Dataset:
    return concatenate_datasets([rows(name[0], size=size, task=[name] * size) for name in names])


def test_one_mixed_set_is_reported_per_task(tmp_path: Any) -> None:
    run = trainer(tmp_path, reward_funcs=FUNCTIONS, train_dataset=mixed(8), eval_dataset=mixed(4))
    metrics = run.evaluate()
    accuracies = [metrics[f"eval_tasks/{name}/accuracy"] for name in FUNCTIONS]
    assert metrics["eval_worst_task_accuracy"] == pytest.approx(min(accuracies))
    assert metrics["eval_average_accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert all(metrics[f"eval_tasks/{name}/completions"] == 4 * 4 for name in FUNCTIONS)


def test_sets_by_task_name_are_one_evaluation(tmp_path: Any) -> None:
    sets = {"easy": rows("e", size=3), "hard": rows("h", size=5, task=["hard"] * 5)}
    run = trainer(tmp_path, reward_funcs=FUNCTIONS, train_dataset=mixed(8), eval_dataset=sets)
    metrics = run.evaluate()
    assert metrics["eval_tasks/easy/completions"] == 3 * 4
    assert metrics["eval_tasks/hard/completions"] == 5 * 4
    assert "eval_tasks/medium/completions" not in metrics
    assert "eval_worst_task_accuracy" in metrics


def test_a_set_whose_name_is_no_task_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"`eval_dataset` must have names of tasks as its keys, got \['hrad'\]"):
        trainer(tmp_path, reward_funcs=FUNCTIONS, train_dataset=mixed(8), eval_dataset={"hrad": rows("h")})


def test_sets_given_to_evaluate_are_reported_by_name_and_task(tmp_path: Any) -> None:
    run = trainer(tmp_path, tasks=three_tasks(with_eval=True))
    metrics = run.evaluate({"near": mixed(2, ("easy", "hard")), "far": mixed(4, ("hard",))})
    assert metrics["eval_near_tasks/easy/completions"] == 2 * 4
    assert metrics["eval_near_tasks/hard/completions"] == 2 * 4
    assert metrics["eval_far_tasks/hard/completions"] == 4 * 4
    assert metrics["eval_far_worst_task_accuracy"] == metrics["eval_far_tasks/hard/accuracy"]


def test_rows_without_their_task_are_refused_before_they_are_generated(tmp_path: Any) -> None:
    run = trainer(tmp_path, tasks=three_tasks())
    with pytest.raises(ValueError, match=r"`eval_dataset` must have a column 'task' that names"):
        run.evaluate(rows("e"))


def test_more_samples_per_prompt_give_more_completions(tmp_path: Any) -> None:
    run = trainer(tmp_path, {"num_generations_eval": 8}, tasks=three_tasks(with_eval=True))
    assert run.evaluate()["eval_tasks/easy/completions"] == 6 * 8


def test_relative_change_is_measured_against_the_given_baseline(tmp_path: Any) -> None:
    baseline = {"easy": 0.5, "medium": 0.25, "hard": 0.125}
    metrics = trainer(tmp_path, tasks=three_tasks(with_eval=True), baseline_accuracy=baseline).evaluate()
    changes = [(metrics[f"eval_tasks/{name}/accuracy"] - base) / base for name, base in baseline.items()]
    assert metrics["eval_relative_change"] == pytest.approx(100.0 * sum(changes) / 3)


def test_the_best_checkpoint_can_be_that_of_the_worst_task(tmp_path: Any) -> None:
    options = {
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_worst_task_accuracy",
        "learning_rate": 3e-2,
    }
    run = trainer(tmp_path, options, tasks=three_tasks(with_eval=True))
    run.train()
    by_step = {
        entry["step"]: entry["eval_worst_task_accuracy"] for entry in run.state.log_history if "eval_loss" in entry
    }
    assert run.state.best_metric == max(by_step.values())
    assert by_step[int(run.state.best_model_checkpoint.rpartition("-")[2])] == run.state.best_metric


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_completions_table_names_the_task(tmp_path: Any, mode: str) -> None:
    options = {
        "log_completions": True,
        "max_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_on_start": True,
    }
    run = trainer(tmp_path, options, tasks=three_tasks(with_eval=True))
    run.train() if mode == "train" else run.evaluate()
    table = pd.read_parquet(sorted((tmp_path / "completions").glob("*.parquet"))[-1])
    assert len(table) > 0
    assert (table["task"].str[0] == table["prompt"].str[0]).all()


def test_a_task_alone_takes_evaluation_rows_without_a_name(tmp_path: Any) -> None:
    run = trainer(tmp_path, tasks=[Task("easy", rows("e"), contains_lower, success_threshold=1.0)])
    assert run.evaluate(rows("e", size=3))["eval_tasks/easy/completions"] == 3 * 4
