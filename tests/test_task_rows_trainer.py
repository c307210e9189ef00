"""Through the real trainer each task's functions see what they would see were their task alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForSequenceClassification
from trl import GRPOConfig, GRPOTrainer

from tests.tiny import contains_a, contains_digit, rows, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.tasks.judges import TaskJudge


def tiny_judge(folder: Path) -> str:
    """A reward model of a few parameters on disk."""
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=98,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        pad_token_id=0,
        num_labels=1,
    )
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def judge_tokenizer() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "right"
    return tokenizer


def trainer(folder: Path, tasks: list[Task], **options: Any) -> MultiTaskGRPOTrainer:
    settings = {"method": "grpo", "max_steps": 2, **options.pop("settings", {})}
    return MultiTaskGRPOTrainer(
        model=tiny_model(),
        tasks=tasks,
        args=tiny_config(folder, **settings),
        processing_class=tiny_tokenizer(),
        **options,
    )


class Spy:
    """A reward that remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, /, **kwargs: Any) -> list[float]:
        self.calls.append(kwargs)
        return [float(len(text) % 2) for text in kwargs["completions"]]


def test_columns_with_the_names_of_old_internals_are_the_user_s_in_training_and_evaluation(tmp_path: Path) -> None:
    spy = Spy()
    names = {name: [f"{name}{i}" for i in range(6)] for name in ("task", "task_id", "row", "completion", "self")}
    own = rows("e", size=6, **names)
    run = trainer(tmp_path, [Task("a", own, spy, eval_dataset=own), Task("b", rows("h"), contains_a)])
    run.train()
    run.evaluate()
    assert len(spy.calls) >= 3
    for call in spy.calls:
        numbers = [prompt[1:] for prompt in call["prompts"]]
        for name in ("task", "task_id", "row", "self"):
            assert call[name] == [f"{name}{number}" for number in numbers]
        assert set(call) == {
            *("task", "task_id", "row", "self"),
            *("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"),
        }


def test_rows_given_to_evaluate_keep_their_prompts_and_columns(tmp_path: Path) -> None:
    spy = Spy()
    run = trainer(tmp_path, [Task("a", rows("e"), spy), Task("b", rows("h"), contains_a)])
    given = Dataset.from_dict(
        {"prompt": ["x1", "x2", "x3"], "task": ["b", "a", "a"], "row": [7, 8, 9], "task_id": [1] * 3}
    )
    metrics = run.evaluate(given)
    seen = [(prompt, row) for call in spy.calls for prompt, row in zip(call["prompts"], call["row"], strict=True)]
    assert set(seen) == {("x2", 8), ("x3", 9)}
    assert metrics["eval_tasks/b/completions"] == 4


def test_a_shared_judge_scores_rows_as_the_host_does_with_this_task_alone(tmp_path: Path) -> None:
    path = tiny_judge(tmp_path / "judge")
    own = rows("e", size=4)
    alone = GRPOTrainer(
        model=tiny_model(),
        reward_funcs=path,
        args=GRPOConfig(
            str(tmp_path / "alone"),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=4,
            num_generations=4,
            report_to="none",
        ),
        train_dataset=own,
        processing_class=tiny_tokenizer(),
        reward_processing_classes=judge_tokenizer(),
    )
    run = trainer(
        tmp_path / "several",
        [
            Task("a", own, [contains_digit, path], reward_range=(-1, 2)),
            Task("b", rows("h"), path, reward_range=(-1, 1)),
            Task("c", rows("m"), contains_a, outcome_func=contains_digit),
        ],
        reward_processing_classes=[None, judge_tokenizer(), None, None],
    )
    assert run.reward_func_names == ["a/contains_digit", "judge", "c/contains_a", "c/contains_digit"]
    assert isinstance(run.reward_funcs[1], TaskJudge)
    assert sum(isinstance(function, torch.nn.Module) for function in run.reward_funcs) == 1
    mixture = run.mixture
    places = [(2, 0), (0, 1), (1, 3), (0, 2), (2, 5)]
    task_rows = mixture.rows(places)
    completions = ["a much longer answer than the others", "1", "22", "333", ""]
    mixture.bind(task_rows)
    host_rows = [row.for_host() for row in task_rows]
    prompts = [row["prompt"] for row in host_rows]
    ids = [[1]] * 5
    several = GRPOTrainer._calculate_rewards(run, host_rows, prompts, completions, ids)
    mine = [1, 3]
    expected = alone._calculate_rewards(
        [{"prompt": prompts[i]} for i in mine],
        [prompts[i] for i in mine],
        [completions[i] for i in mine],
        [ids[0]] * 2,
    )
    assert torch.equal(several[mine, 1], expected[:, 0])
    assert several[[0, 4], 1].isnan().all()
    assert not several[2, 1].isnan()
    run.train()


def test_a_reward_that_asks_for_a_column_of_another_task_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    def asks(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
        return [1.0] * len(completions)

    tasks = [Task("a", rows("e"), asks), Task("b", rows("h", answer=["x"] * 30), asks)]
    with pytest.raises(
        ValueError, match=r"`reward_funcs` of task 'a' must ask for columns of `train_dataset`, got \['ans"
    ):
        trainer(tmp_path, tasks)
    # A `rollout_func` may add it.
    trainer(tmp_path, tasks, rollout_func=lambda prompts, host: {})


def test_a_misspelt_baseline_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`baseline_accuracy` must name exactly the tasks \['a', 'b'\], got \['A', 'b'\]"
    ):
        trainer(
            tmp_path,
            [Task("a", rows("e"), contains_a), Task("b", rows("h"), contains_a)],
            baseline_accuracy={"A": 0.5, "b": 0.5},
        )
