"""What a run will not do as it may have been meant is said when the trainer is built, once, at the user's line."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset

from tests.tiny import contains_a, contains_digit, rows, three_tasks, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task, TaskMixture


def said(folder: Path, tasks: list[Task] | None = None, **settings: Any) -> list[warnings.WarningMessage]:
    """Warnings of this library when a trainer is built."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        MultiTaskGRPOTrainer(
            tiny_model(),
            tasks=tasks or three_tasks(),
            args=tiny_config(folder, **settings),
            processing_class=tiny_tokenizer(),
        )
    return [warning for warning in found if warning.category is UserWarning]


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({"fixed_task_weights": {"easy": 1, "medium": 1, "hard": 1}}, "fixed_task_weights"),
        ({"method": "grpo", "task_weight_lr": 0.1}, "task_weight_lr"),
        ({"task_weighting": "fixed", "sec_alpha": 0.3}, "sec_alpha"),
        ({"method": "grpo", "max_resampling_rounds": 3}, "max_resampling_rounds"),
    ],
)
def test_a_setting_without_effect_is_said_at_the_users_line(
    tmp_path: Path, settings: dict[str, Any], idle: str
) -> None:
    (warning,) = said(tmp_path, **settings)
    assert f"The settings ['{idle}'] have no effect: this run has method=" in str(warning.message)
    assert warning.filename == __file__


@pytest.mark.parametrize("num_tasks", [5, 9])
@pytest.mark.parametrize("generations", [2, 4, 8])
def test_a_batch_with_fewer_prompts_than_tasks_names_a_number_that_ends_it(
    tmp_path: Path, num_tasks: int, generations: int
) -> None:
    tasks = [Task(f"t{k}", rows("t"), contains_a) for k in range(num_tasks)]
    sizes = {"per_device_train_batch_size": 8, "num_generations": generations}
    (warning,) = said(tmp_path, tasks, **sizes)
    text = str(warning.message)
    assert text.startswith(f"A batch has {8 // generations} prompts for {num_tasks} tasks")
    number = int(text.partition("per_device_train_batch_size=")[2].partition("`")[0])
    assert number == 2 * num_tasks * generations
    assert not said(tmp_path, tasks, **(sizes | {"per_device_train_batch_size": number}))


def test_defaults_say_nothing(tmp_path: Path) -> None:
    assert not said(tmp_path)
    assert not said(tmp_path, method="dapo")
    assert not said(tmp_path, three_tasks(with_eval=True), eval_strategy="steps", eval_steps=2)


def test_an_evaluation_needs_rows(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`eval_strategy` must be 'no' for tasks without evaluation rows, got 'steps'"
    ):
        said(tmp_path, eval_strategy="steps", eval_steps=2)


def test_evaluation_rows_for_some_tasks_only_are_said(tmp_path: Path) -> None:
    tasks = [Task("a", rows("a"), contains_a, eval_dataset=rows("e")), Task("b", rows("b"), contains_a)]
    (warning,) = said(tmp_path, tasks, eval_strategy="epoch")
    assert "Tasks ['b'] have no evaluation rows" in str(warning.message)


@pytest.mark.parametrize("functions", [[contains_a], [contains_a, contains_digit]])
def test_a_list_of_functions_beside_a_column_task_is_said(tmp_path: Path, functions: list[Any]) -> None:
    data = rows("p").add_column("task", ["a", "b"] * 15)
    with pytest.warns(UserWarning, match="`reward_funcs` is a list, so the column 'task' of `train_dataset` makes no"):
        MultiTaskGRPOTrainer(tiny_model(), functions, tiny_config(tmp_path), data, processing_class=tiny_tokenizer())


@pytest.mark.parametrize(
    "data",
    [
        Dataset.from_dict({"prompt": ["x", "y"], "task": [0, 1]}),
        Dataset.from_dict({"prompt": ["x", "y"], "task": [True, False]}),
        Dataset.from_dict({"prompt": ["x", "y"], "task": ["a", "b"]}).cast_column(
            "task", ClassLabel(names=["a", "b"])
        ),
    ],
)
def test_names_of_tasks_are_text(data: Dataset) -> None:
    with pytest.raises(
        ValueError, match=r"must have names of tasks in its column 'task', got .* of type (int|bool) in row 0"
    ):
        TaskMixture.from_dataset(data, {"a": contains_a, "b": contains_a})


def test_rows_of_one_task_are_not_evaluated_as_anothers() -> None:
    data = Dataset.from_dict({"prompt": ["x", "y"], "task": ["a", "b"]})
    functions = {"a": contains_a, "b": contains_a}
    with pytest.raises(
        ValueError, match=r"`eval_dataset` must hold under 'a' rows of that task only, got rows of \['b'\]"
    ):
        TaskMixture.from_dataset(data, functions, {"a": data})
    own = {name: data.filter(lambda row, name=name: row["task"] == name) for name in functions}
    assert TaskMixture.from_dataset(data, functions, own).num_rows("eval").tolist() == [1, 1]


def test_a_config_of_the_hosts_is_not_told_of_settings_that_it_lacks(tmp_path: Path) -> None:
    assert MultiTaskGRPOConfig.__mro__[1].__name__ == "GRPOConfig"
    from trl import GRPOConfig

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        MultiTaskGRPOTrainer(
            tiny_model(),
            tasks=three_tasks(),
            args=GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=64, report_to="none"),
            processing_class=tiny_tokenizer(),
        )
