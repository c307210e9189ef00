"""Columns that would hide what the trainer passes to reward functions."""

import pytest
from datasets import Dataset

from tests.tiny import contains_a
from trl_mtgrpo import Task


@pytest.mark.parametrize("column", ["completions", "task_id", "trainer_state", "log_extra"])
def test_columns_named_like_arguments_of_reward_functions_are_refused(column: str) -> None:
    dataset = Dataset.from_dict({"prompt": ["a"], column: ["b"]})
    expected = rf"must not have columns that the trainer passes to reward functions itself, got \['{column}'\]"
    with pytest.raises(ValueError, match=expected):
        Task("t", dataset, contains_a)
