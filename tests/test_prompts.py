"""Columns that would hide what the trainer passes to reward functions."""

import pytest
from datasets import Dataset

from tests.tiny import contains_a
from trl_mtgrpo import Task


@pytest.mark.parametrize(
    "column", ["prompts", "completions", "trainer_state", "log_extra", "log_metric", "environments"]
)
def test_columns_named_like_arguments_of_reward_functions_are_refused(column: str) -> None:
    dataset = Dataset.from_dict({"prompt": ["a"], column: ["b"]})
    expected = rf"must not have columns that the trainer passes to reward functions itself, got \['{column}'\]. Rename"
    with pytest.raises(ValueError, match=expected):
        Task("t", dataset, contains_a)


def test_such_a_column_is_found_behind_a_transform() -> None:
    made = Dataset.from_dict({"prompt": ["a"]}).with_transform(lambda batch: {**batch, "completions": batch["prompt"]})
    with pytest.raises(ValueError, match=r"passes to reward functions itself, got \['completions'\]"):
        Task("t", made, contains_a)


@pytest.mark.parametrize("column", ["task", "task_id", "row", "self", "func", "completion", "completion_ids", "name"])
def test_other_columns_are_the_user_s(column: str) -> None:
    dataset = Dataset.from_dict({"prompt": ["a"], column: ["b"]})
    assert Task("t", dataset, contains_a, eval_dataset=dataset).splits["eval_dataset"] is dataset
