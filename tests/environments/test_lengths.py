"""Each task's completions end at its own length, and nothing is generated beyond it."""

import functools
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2ForCausalLM
from trl import GRPOTrainer

from tests.environments.world import add, agent_trainer, answered, chat_rows, guess_task, has_a_letter, tool_tokenizer
from tests.tiny import three_tasks, tiny_model, tiny_tokenizer
from trl_mtgrpo import Task


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and new tokens of every call of the model's `generate`."""
    calls: list[tuple[int, int]] = []
    generate = Qwen2ForCausalLM.generate

    def counted(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        output = generate(self, input_ids=input_ids, **kwargs)
        calls.append((len(output), output.shape[1] - input_ids.shape[1]))
        return output

    monkeypatch.setattr(Qwen2ForCausalLM, "generate", counted)
    return calls


def watch(seen: list[Any]) -> Any:
    def reward(completions: list[Any], completion_ids: list[Any], **kwargs: Any) -> list[float]:
        seen.extend(completion_ids)
        return (
            has_a_letter(completions)
            if isinstance(completions[0], list)
            else [float(i % 2) for i, _ in enumerate(completions)]
        )

    return reward


def test_no_token_beyond_a_tasks_length_is_generated(generated: list[Any], tmp_path: Path) -> None:
    seen: dict[str, list[Any]] = {"short": [], "long": [], "default": []}
    tasks = [
        Task("short", chat_rows("s"), watch(seen["short"]), max_completion_length=3),
        Task("long", chat_rows("l"), watch(seen["long"]), max_completion_length=7),
        Task("default", chat_rows("d"), watch(seen["default"])),
    ]
    trainer = agent_trainer(tmp_path, tasks, max_steps=2, max_completion_length=9, tokenizer=tool_tokenizer(False))
    trainer.train()
    assert {new for _, new in generated} <= {3, 7, 9}
    for name, limit in (("short", 3), ("long", 7), ("default", 9)):
        assert max(map(len, seen[name])) == limit
    rows = {limit: sum(n for n, new in generated if new == limit) for limit in (3, 7, 9)}
    assert rows == {3: len(seen["short"]), 7: len(seen["long"]), 9: len(seen["default"])}
    assert trainer.max_completion_length == trainer.generation_config.max_new_tokens == 9


def test_without_lengths_of_tasks_calls_are_as_they_were(generated: list[Any], tmp_path: Path) -> None:
    tasks = three_tasks(chat=True)
    agent_trainer(
        tmp_path, tasks, model=tiny_model(), tokenizer=tiny_tokenizer(True), max_steps=1, generation_kwargs=None
    ).train()
    assert generated[0][0] == 16


def test_an_environment_ends_at_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    turns: list[tuple[int, int]] = []
    generate = GRPOTrainer._generate_single_turn

    @functools.wraps(generate)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids, logps = generate(self, *args, **kwargs)
        turns.append((self.max_completion_length, max(map(len, ids))))
        return ids, logps

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", counted)

    class Watched:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def produce(self, *args: Any) -> Any:
            facts = self.inner.produce(*args)
            rows.extend(self.inner.store[slot] for slot in facts.place[:, :, 1].ravel().tolist())
            return facts

    tasks = [
        guess_task(max_completion_length=14),
        Task("sum", chat_rows("s"), answered, tools=[add], success_threshold=1.0),
    ]
    trainer = agent_trainer(tmp_path, tasks, max_steps=3, rollout_source=Watched)
    trainer.train()
    limits = {0: 14, 1: 40}
    for row in rows:
        assert len(row.completion_ids) <= limits[row.task_id]
        assert len(row.completion_ids) == len(row.loss_mask)
        answers = sum(message["role"] == "tool" for message in row.completion)
        assert answers == 0 or 0 in row.loss_mask
    assert any(0 in row.loss_mask for row in rows if row.task_id == 0)
    assert max(len(row.completion_ids) for row in rows if row.task_id == 1) > 14
    assert all(longest <= limit for limit, longest in turns)
    assert {limit for limit, _ in turns} == {14, 40}


def test_an_evaluation_keeps_to_the_lengths(generated: list[Any], tmp_path: Path) -> None:
    tasks = [
        Task("short", chat_rows("s"), has_a_letter, eval_dataset=chat_rows("e", 2), max_completion_length=3),
        Task("long", chat_rows("l"), has_a_letter, eval_dataset=chat_rows("f", 2)),
    ]
    metrics = agent_trainer(tmp_path, tasks, max_completion_length=8, tokenizer=tool_tokenizer(False)).evaluate()
    assert {new for _, new in generated} == {3, 8}
    assert metrics["eval_tasks/short/completion_length"] <= 3 < metrics["eval_tasks/long/completion_length"]
