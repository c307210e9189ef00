"""The completions table: whatever reward functions log, and whenever, a value stands beside its own completion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from tests.test_trainer import AllOnOne
from tests.tiny import contains_digit, contains_lower, rows, text_of, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


def logging(
    function: Callable[..., list[float]], column: str, is_time: Callable[[int, str], bool] = lambda step, prompt: True
) -> Callable[..., list[float]]:
    """A reward that logs each prompt with its completion, in a column of its own, when it is time."""

    def reward(
        prompts: list[str], completions: list[Any], log_extra: Any, trainer_state: Any, **_: Any
    ) -> list[float]:
        if is_time(trainer_state.global_step, prompts[0]):
            log_extra(column, [seen(*pair) for pair in zip(prompts, completions, strict=True)])
        return function(completions)

    return reward


def seen(prompt: str, completion: Any) -> str:
    return f"{prompt}|{text_of(completion)}"


class Tables(TrainerCallback):
    """Copies of the completions table after every step and every evaluation."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.copies: list[dict[str, list[Any]]] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        table = self.trainer._logs
        self.copies.append(
            {
                **{name: list(table[name]) for name in ("prompt", "completion")},
                **{name: list(values) for name, values in table["extra"].items()},
            }
        )

    on_evaluate = on_step_end


def tables(trainer: MultiTaskGRPOTrainer) -> list[dict[str, list[Any]]]:
    callback = Tables()
    callback.trainer = trainer
    trainer.add_callback(callback)
    trainer.train()
    return callback.copies


def assert_aligned(table: dict[str, list[Any]], columns: dict[str, str]) -> None:
    """Every column has an entry per row: its own completion, or nothing; rows of tasks that did not log have none."""
    for name, task in columns.items():
        assert len(table.get(name, table["prompt"])) == len(table["prompt"]), name
        for i, value in enumerate(table.get(name, [])):
            own = table["prompt"][i].startswith(task)
            assert value in ((None, seen(table["prompt"][i], table["completion"][i])) if own else (None,)), (name, i)
    names = {"a": "alpha", "b": "beta", "v": "alpha"}
    assert [names[prompt[0]] for prompt in table["prompt"]] == table["task"]


def alpha(**options: Any) -> Task:
    return Task("alpha", rows("a"), logging(contains_lower, "of_alpha", **options), success_threshold=1.0)


def beta(**options: Any) -> Task:
    return Task("beta", rows("b"), logging(contains_digit, "of_beta", **options), success_threshold=1.0)


def test_a_column_that_one_task_logs_has_nothing_for_rows_of_the_other(tmp_path: Path) -> None:
    plain = Task("beta", rows("b"), contains_digit, success_threshold=1.0)
    for table in tables(tiny_trainer(tmp_path, [alpha(), plain], max_steps=3)):
        assert_aligned(table, {"of_alpha": "a"})
        logged = [value is not None for value in table["of_alpha"]]
        assert logged == [task == "alpha" for task in table["task"]]


def test_a_column_that_comes_later_than_others_stands_beside_its_rows(tmp_path: Path) -> None:
    late = beta(is_time=lambda step, prompt: step >= 2)
    copies = tables(tiny_trainer(tmp_path, [alpha(), late], max_steps=4, max_surplus_age=0))
    assert ["of_beta" in table for table in copies] == [False, False, True, True]
    for table in copies:
        assert_aligned(table, {"of_alpha": "a", "of_beta": "b"})
    assert any(copies[-1]["of_beta"])


def test_a_column_that_is_no_longer_logged_has_nothing_for_later_rows(tmp_path: Path) -> None:
    early = alpha(is_time=lambda step, prompt: step < 1)
    copies = tables(tiny_trainer(tmp_path, [early, beta()], max_steps=3, max_surplus_age=0))
    for table in copies:
        assert_aligned(table, {"of_alpha": "a", "of_beta": "b"})
    assert any(copies[0]["of_alpha"])
    assert not any(copies[-1]["of_alpha"])


def test_columns_stay_beside_their_rows_where_a_step_has_one_task_only(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, [alpha(), beta()], max_steps=4, method="grpo", weighting=AllOnOne())
    copies = tables(trainer)
    assert [set(table["task"]) for table in copies] == [{"alpha"}, {"beta"}] * 2
    for table in copies:
        assert_aligned(table, {"of_alpha": "a", "of_beta": "b"})
        assert all(table["of_alpha" if table["task"][0] == "alpha" else "of_beta"])


def test_carried_rows_bring_what_was_logged_when_they_were_scored(tmp_path: Path) -> None:
    # Rounds of three batches leave some groups for the next step.
    options = {"oversampling": 3.0, "max_surplus_age": 2, "max_steps": 4}
    trainer = tiny_trainer(tmp_path, [alpha(), beta()], **options)
    copies = tables(trainer)
    assert any(line.get("sampling/carried_groups", 0) > 0 for line in trainer.state.log_history)
    for table in copies:
        assert_aligned(table, {"of_alpha": "a", "of_beta": "b"})
        for i, task in enumerate(table["task"]):
            assert table[f"of_{task}"][i] is not None


@pytest.mark.parametrize("on_start", [False, True], ids=["during training", "before it"])
def test_columns_logged_in_an_evaluation_stand_beside_its_rows(on_start: bool, tmp_path: Path) -> None:
    function = logging(contains_lower, "of_evaluation", is_time=lambda step, prompt: prompt.startswith("v"))
    evaluated = Task("alpha", rows("a"), function, eval_dataset=rows("v", size=3), success_threshold=1.0)
    settings = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": on_start, "max_steps": 4}
    copies = tables(tiny_trainer(tmp_path, [evaluated, beta()], **settings))
    for table in copies:
        assert_aligned(table, {"of_evaluation": "v", "of_beta": "b"})
    assert any(any(table.get("of_evaluation", ())) for table in copies)
    assert any("v" in {prompt[0] for prompt in table["prompt"]} for table in copies)
