"""What is of the wrong kind is refused at construction, with its value in short and the cure that fits it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import DatasetDict
from transformers import TrainingArguments

from tests.programs.program_runs import lower_share, one_call
from tests.tiny import contains_a, rows, tiny_config, tiny_model, tiny_tokenizer, tiny_trainer
from trl_mtgrpo import FixedWeighting, MultiTaskGRPOTrainer, Task


def two() -> list[Task]:
    return [Task("a", rows("a"), contains_a), Task("b", rows("b"), contains_a)]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "weighting",
            "fixed",
            r"an object with the methods \['init', 'update', 'weights'\], got 'fixed'.*`task_weighting`",
        ),
        ("weighting", FixedWeighting, r"got <class .*Make one: `weighting=FixedWeighting\(...\)`"),
        ("sampler", "adaptive", r"\['open', 'plan', 'select'\], got 'adaptive'. Leave it out"),
        ("group_filter", "none", "a function where it is given, got .none..*named in the config: `group_filter`"),
        ("guard", False, "got False. The config switches it: `plateau_guard`"),
        ("guard", True, "got True. The config switches it"),
        ("prompt_source", [1, 2], r"\['draw', 'observe'\], got \[1, 2\]"),
        ("rollout_source", 3, "a function where it is given, got 3"),
        ("rollout_source", lambda source: None, "an object with the method `produce`, got None"),
    ],
)
def test_a_part_of_another_kind_is_named_with_what_it_needs(tmp_path: Path, name: str, value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=rf"(?s)`{name}` must .*{text}"):
        tiny_trainer(tmp_path, two(), **{name: value})


@pytest.mark.parametrize(
    "make", [lambda folder: {"output_dir": folder}, str, lambda f: TrainingArguments(f, use_cpu=True)]
)
def test_settings_of_another_kind_are_refused(tmp_path: Path, make: Any) -> None:
    with pytest.raises(
        TypeError, match=r"`args` must be a `MultiTaskGRPOConfig` or a `GRPOConfig`, got (dict|str|Train)"
    ):
        MultiTaskGRPOTrainer(tiny_model(), tasks=two(), args=make(str(tmp_path)), processing_class=tiny_tokenizer())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda tasks: tasks[0], r"got Task. Put it into a list: `tasks=\[task\]`"),
        (lambda tasks: {"a": tasks[0]}, r"got dict. A name stands in its task"),
        (lambda tasks: (task for task in tasks), "got generator. Make a list of it"),
        (lambda tasks: [*tasks, None], r"got \[`a`, `b`, None\]. Build them with `Task`"),
        (lambda tasks: "a", "got str. Build them with `Task`"),
        (lambda tasks: [], r"got \[\]. Build them"),
    ],
)
def test_tasks_in_another_form_are_told_how_to_become_a_list(tmp_path: Path, make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"`tasks` must be a list of at least one `Task`, {text}"):
        MultiTaskGRPOTrainer(
            tiny_model(), tasks=make(two()), args=tiny_config(tmp_path), processing_class=tiny_tokenizer()
        )


@pytest.mark.parametrize(
    ("rows_given", "text"),
    [
        ([{"prompt": "x"}], r"got list. Build one: `Dataset.from_list\(rows\)`"),
        ({"prompt": ["x"]}, r"got dict. Build one: `Dataset.from_dict\(columns\)`"),
        (pd.DataFrame({"prompt": ["x"]}), r"got DataFrame. Build one: `Dataset.from_pandas\(frame\)`"),
        ("openai/gsm8k", r"got str. Load it first: `datasets.load_dataset\("),
        (None, "got NoneType. Give its rows.*`num_rows`"),
        (DatasetDict(), r"got DatasetDict with the splits \[\]. Load one that has some"),
        (
            {"train": rows("a"), "test": rows("b")},
            r"got dict with the splits \['train', 'test'\]. Name one of them: `dataset\['train'\]`",
        ),
    ],
)
def test_rows_in_another_form_are_told_how_to_become_a_dataset(rows_given: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"`train_dataset` of task 'a' must be a `datasets.Dataset`, {text}"):
        Task("a", rows_given, contains_a)


def test_a_task_shows_itself_in_one_line() -> None:
    task = Task("a", rows("a"), [contains_a, lambda completions, **kwargs: []], eval_dataset=rows("e", size=2))
    assert repr(task) == "Task('a', 30 train rows, 2 eval rows, reward_funcs=[contains_a, <lambda>])"
    program = Task("p", rows("p", size=1200), lower_share, program=one_call, success_threshold=0.5)
    assert repr(program) == (
        "Task('p', 1,200 train rows, reward_funcs=[lower_share], program=[one_call], success_threshold=0.5)"
    )
