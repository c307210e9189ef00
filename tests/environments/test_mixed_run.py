"""Plain tasks, tools and environments in one run with filter, refill and carry-over."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.environments.world import (
    CALLS,
    Guess,
    agent_trainer,
    chat_rows,
    four_tasks,
    guess_rows,
    guess_task,
    has_a_letter,
    tool_tokenizer,
    written,
)
from tests.host_runs import parameters_of
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.rollouts import GroupFacts


CALL_IDS = set(tool_tokenizer().convert_tokens_to_ids(list(CALLS)))


class Watched:
    """Passes prompts on and keeps what came back, with the rows behind it."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.rows, self.facts = inner, [], []

    def produce(self, prompts: Any, episodes: int, rng: Any) -> GroupFacts:
        facts = self.inner.produce(prompts, episodes, rng)
        self.facts.append(facts)
        self.rows += [self.inner.store[slot] for slot in facts.place[:, :, 1].ravel().tolist()]
        return facts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiTaskGRPOTrainer, Watched]:
    """Eight steps over four tasks."""
    watched: list[Watched] = []

    def watch(inner: Any) -> Watched:
        watched.append(Watched(inner))
        return watched[0]

    Guess.made = Guess.resets = Guess.closed = 0
    trainer = agent_trainer(
        tmp_path_factory.mktemp("run"), four_tasks(), rollout_source=watch, max_steps=8, max_resampling_rounds=3
    )
    trainer.train()
    return trainer, watched[0]


def by_task(run: tuple[MultiTaskGRPOTrainer, Watched], name: str) -> list[Any]:
    trainer, watched = run
    return [row for row in watched.rows if trainer.mixture.names[row.task_id] == name]


@pytest.mark.parametrize(
    ("task", "schema"), [("plain", ""), ("sum", "mul;add;"), ("guess", "fail;guess;"), ("count", "step;")]
)
def test_a_row_is_told_of_the_tools_of_its_task_alone(run: Any, task: str, schema: str) -> None:
    rows = by_task(run, task)
    assert len(rows) > 8
    for row in rows:
        assert tool_tokenizer().decode(row.prompt_ids).startswith(f"{schema}U")


def test_every_task_was_generated_filtered_and_carried(run: Any) -> None:
    state = run[0].multi_task_state
    assert (state.groups.generated > 0).all()
    assert state.groups.filtered.sum() > 0
    assert max(line.get("sampling/carried_groups", 0.0) for line in run[0].state.log_history) > 0


def test_a_plain_task_has_no_tool_turns(run: Any) -> None:
    rows = by_task(run, "plain")
    assert any(set(row.completion_ids) & CALL_IDS for row in rows)
    for row in rows:
        assert [message["role"] for message in row.completion] == ["assistant"]
        assert set(row.completion[0]) == {"role", "content"}


def test_masks_mark_what_the_model_wrote(run: Any) -> None:
    decode = tool_tokenizer().decode
    for row in run[1].rows:
        assert len(row.loss_mask) == len(row.completion_ids)
        shown = "".join(decode([i]) for i, own in zip(row.completion_ids, row.loss_mask, strict=True) if not own)
        answers = [message["content"] for message in row.completion if message["role"] == "tool"]
        # What is not the model's are the answers, each as the template shows it, and the headers of its next turns.
        assert shown.replace("A", "").replace("R", "") == "".join(answers)


def test_groups_and_tokens_are_conserved(run: Any) -> None:
    trainer, watched = run
    state = trainer.multi_task_state
    for ledger in (state.groups, state.tokens):
        came = ledger.carried_in + ledger.generated
        went = ledger.trained + ledger.filtered.sum(axis=1) + ledger.expired + ledger.carried_out
        assert np.array_equal(came, went)
    tokens = np.zeros(4, dtype=int)
    for row in watched.rows:
        tokens[row.task_id] += sum(row.loss_mask)
    assert np.array_equal(state.tokens.generated, tokens)


def test_environments_are_reset_once_per_generated_row_and_reused(run: Any) -> None:
    generated = len(by_task(run, "guess"))
    assert Guess.resets == generated + 2  # of a first look
    assert Guess.made <= 16
    assert Guess.closed == Guess.made


def test_what_was_done_in_episodes_is_logged(run: Any) -> None:
    trainer, _ = run
    for line in trainer.state.log_history[:-1]:
        if "tasks/plain/turns" in line:
            assert line["tasks/plain/turns"] == 1.0
            assert line["tasks/plain/tool_calls"] == line["tasks/plain/tool_failures"] == 0.0
    for task in ("sum", "guess", "count"):
        for line in trainer.state.log_history:
            if f"tasks/{task}/turns" in line:  # a call whose answer no longer fits was made and may have failed
                assert line[f"tasks/{task}/tool_failures"] <= line[f"tasks/{task}/tool_calls"]
    sums = [line["tasks/guess/tool_failures"] for line in trainer.state.log_history if "tasks/guess/turns" in line]
    assert sums
    assert max(sums) > 0
    failures = sum(
        message["role"] == "tool" and ("error" in message["content"])
        for row in by_task(run, "guess")
        for message in row.completion
    )
    assert failures > 0


def test_what_looks_like_a_call_is_text_of_a_plain_task(tmp_path: Path) -> None:
    seen: list[str] = []

    def remember(completions: list[Any], **kwargs: Any) -> list[float]:
        seen.extend(written(completion) for completion in completions)
        return has_a_letter(completions)

    trainer = agent_trainer(tmp_path, [Task("plain", chat_rows("p"), remember), guess_task()], max_steps=1)
    trainer._run.turns.parses_responses = False  # as if the host had added what parses
    trainer.train()
    assert any("<call>guess n=" in text for text in seen)


def test_a_plain_task_is_trained_as_without_environments_where_the_plan_is_the_same(tmp_path: Path) -> None:
    def trained(other: Task, tokenizer: Any) -> MultiTaskGRPOTrainer:
        plain = Task("plain", chat_rows("p"), [has_a_letter, length], reward_range=(0.0, 10.0))
        torch.manual_seed(0)
        trainer = agent_trainer(
            tmp_path,
            [plain, other],
            max_steps=2,
            task_weighting="fixed",
            fixed_task_weights={"plain": 1.0, "other": 0.0},
            tokenizer=tokenizer,
        )
        trainer._run.turns.parses_responses = False
        trainer.train()
        return trainer

    without = trained(Task("other", chat_rows("o"), has_a_letter), tool_tokenizer(parses=False))
    beside = trained(Task("other", guess_rows(), environment_factory=Guess), tool_tokenizer())
    assert beside.tools
    assert not without.tools
    assert torch.equal(parameters_of(without), parameters_of(beside))


def length(completions: list[Any], **kwargs: Any) -> list[float]:
    return [len(written(completion)) / 100 for completion in completions]
