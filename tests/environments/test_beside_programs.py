"""A plain task, tools, an environment and a program in one run."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from tests.environments.world import (
    CALLS,
    Guess,
    agent_trainer,
    answered,
    chat_rows,
    four_tasks,
    guess_task,
    has_a_letter,
    tool_tokenizer,
)
from tests.host_runs import parameters_of
from trl_mtgrpo import Task
from trl_mtgrpo.rollouts import GroupFacts, Row
from trl_mtgrpo.rollouts.facts import NOWHERE
from trl_mtgrpo.tasks.rows import KEY


CALL_IDS = set(tool_tokenizer().convert_tokens_to_ids(list(CALLS)))


def twice(example: dict[str, Any], call: Any) -> str:
    first = call("draft", example["prompt"])
    return call("final", [{"role": "user", "content": f"f{first}"}])


def in_text(example: dict[str, Any], call: Any) -> str:
    return call("draft", "d" + call("first", example["prompt"]))


def has_letter(outputs: list[Any], **kwargs: Any) -> list[float]:
    assert "environments" not in kwargs
    return [float(any(letter in output for letter in "abc")) for output in outputs]


def program_task(program: Any = twice, **options: Any) -> Task:
    return Task("prog", chat_rows("x"), has_letter, program=program, success_threshold=1.0, **options)


def tasks(program: Any = twice, **options: Any) -> list[Task]:
    plain, tool, environment, _ = four_tasks()
    return [plain, tool, program_task(program, **options), environment]


def evaluated_tasks() -> list[Task]:
    return [
        Task("plain", chat_rows("p"), has_a_letter, eval_dataset=chat_rows("p", 3)),
        program_task(eval_dataset=chat_rows("x", 5)),
        guess_task(eval_dataset=chat_rows("g", 4, number=[1, 2, 3, 4])),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    Guess.made = Guess.resets = Guess.closed = 0
    rows: list[Row] = []

    class Watched(NamedTuple):
        inner: Any

        def produce(self, prompts: Any, episodes: int, rng: Any) -> GroupFacts:
            facts = self.inner.produce(prompts, episodes, rng)
            rows.extend(self.inner.store[slot] for slot in facts.place[:, :, 1].ravel().tolist() if slot != NOWHERE)
            return facts

    folder = tmp_path_factory.mktemp("run")
    trainer = agent_trainer(folder, tasks(), rollout_source=Watched, max_steps=6, max_resampling_rounds=3)
    trainer.rows = rows
    trainer.train()
    return trainer


def test_every_task_trains_and_nothing_is_lost(run: Any) -> None:
    state = run.multi_task_state
    assert (state.groups.trained > 0).all()
    assert state.groups.imbalance.tolist() == state.tokens.imbalance.tolist() == [0, 0, 0, 0]
    tokens = np.zeros(4, dtype=int)
    for row in run.rows:
        tokens[row.task_id] += len(row.completion_ids) if row.loss_mask is None else sum(row.loss_mask)
    assert np.array_equal(state.tokens.generated, tokens)


@pytest.mark.parametrize(("task", "schema"), [("plain", ""), ("sum", "mul;add;"), ("prog", ""), ("guess", "fail;")])
def test_a_call_of_a_program_is_told_of_no_tools(run: Any, task: str, schema: str) -> None:
    rows = [row for row in run.rows if run.mixture.names[row.task_id] == task]
    assert len(rows) > 8
    for row in rows:
        assert tool_tokenizer().decode(row.prompt_ids).startswith(f"{schema}" if schema else "U")


def test_what_looks_like_a_call_of_a_tool_is_text_of_a_program(run: Any) -> None:
    rows = [row for row in run.rows if run.mixture.names[row.task_id] == "prog"]
    assert any(set(row.completion_ids) & CALL_IDS for row in rows)
    assert all([message["role"] for message in row.completion] == ["assistant"] for row in rows)
    assert all(row.loss_mask is None for row in rows)


def test_environments_are_reset_for_their_own_rows_alone(run: Any) -> None:
    assert Guess.resets == sum(run.mixture.names[row.task_id] == "guess" for row in run.rows) + 2  # of a first look
    assert Guess.closed == Guess.made > 0


def test_each_task_has_the_metrics_of_its_kind(run: Any) -> None:
    lines = run.state.log_history[:-1]
    assert any("tasks/prog/calls_per_rollout" in line for line in lines)
    assert any("tasks/guess/tool_calls" in line for line in lines)
    assert not any("tasks/prog/tool_calls" in line or "tasks/guess/calls_per_rollout" in line for line in lines)


def test_a_program_may_send_text_where_other_tasks_are_chats(tmp_path: Path) -> None:
    trainer = agent_trainer(tmp_path, tasks(in_text), max_steps=2)
    trainer.train()
    assert trainer.multi_task_state.groups.trained[2] > 0


def test_a_program_answers_within_the_length_of_its_task(tmp_path: Path) -> None:
    lengths: dict[str, int] = {}

    def watched(outputs: list[Any], traces: list[Any], **kwargs: Any) -> list[float]:
        for trace in traces:
            for call in trace:
                lengths[call.module] = max(lengths.get(call.module, 0), len(call.answer.completion_ids))
        return has_letter(outputs)

    short = Task("prog", chat_rows("x"), watched, program=twice, max_completion_length=2)
    trainer = agent_trainer(tmp_path, [four_tasks()[0], short, guess_task()], max_steps=1)
    trainer.train()
    assert lengths == {"draft": 2, "final": 2}
    assert trainer.max_completion_length > 2


def test_an_evaluation_rolls_out_each_row_in_its_own_way(tmp_path: Path) -> None:
    seen: list[tuple[str, Any]] = []

    def asked(environments: list[Any], completions: list[Any], number: list[int], **kwargs: Any) -> list[float]:
        for environment, completion, wanted in zip(environments, completions, number, strict=True):
            guesses = sum(message["role"] == "tool" and "error" not in message["content"] for message in completion)
            seen.append(("guess", (environment.number == wanted, environment.tries >= guesses)))
        return [float(environment.found) for environment in environments]

    guess = Task(
        "guess",
        chat_rows("g", number=[1 + i % 4 for i in range(24)]),
        asked,
        environment_factory=Guess,
        success_threshold=1.0,
        eval_dataset=chat_rows("g", 4, number=[1, 2, 3, 4]),
    )
    trainer = agent_trainer(tmp_path, [*evaluated_tasks()[:2], guess], max_steps=1)
    before = Guess.resets
    metrics = trainer.evaluate()
    rows = {name: metrics[f"eval_tasks/{name}/completions"] for name in ("plain", "prog", "guess")}
    assert rows == {"plain": 12.0, "prog": 20.0, "guess": 16.0}
    assert Guess.resets - before == 16
    assert len(seen) == 16
    assert {fact for _, fact in seen} == {(True, True)}
    assert metrics["eval_tasks/prog/calls_per_rollout"] == 2.0
    assert metrics["eval_tasks/prog/turns"] == 2.0
    assert metrics["eval_tasks/plain/turns"] == 1.0
    assert "eval_worst_task_accuracy" in metrics
    assert metrics["eval_tools/call_frequency"] > 0


def test_a_task_is_evaluated_beside_a_program_as_without_it(tmp_path: Path) -> None:
    """Greedily, so that the order of the draws does not matter."""
    settings = {"max_steps": 1, "generation_kwargs": {"do_sample": False}}
    plain, program, guess = evaluated_tasks()
    both = agent_trainer(tmp_path / "both", [plain, program, guess], **settings).evaluate()
    plain, _, guess = evaluated_tasks()
    alone = agent_trainer(tmp_path / "alone", [plain, guess], **settings).evaluate()
    own = [name for name in alone if name.startswith(("eval_tasks/plain/", "eval_tasks/guess/"))]
    assert len(own) == 14
    assert {name: both[name] for name in own} == {name: alone[name] for name in own}


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "max_resampling_rounds": 3}
    whole = agent_trainer(tmp_path / "whole", tasks(), **options)
    whole.train()
    resumed = agent_trainer(tmp_path / "resumed", tasks(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(parameters_of(whole), parameters_of(resumed))
    assert whole.task_weights == resumed.task_weights


def test_nothing_of_the_library_stands_among_what_reward_functions_get(tmp_path: Path) -> None:
    names: set[str] = set()

    def spy(completions: list[Any], **kwargs: Any) -> list[float]:
        names.update(kwargs)
        return answered(completions)

    agent_trainer(
        tmp_path, [program_task(), Task("sum", chat_rows("s"), spy, tools=four_tasks()[1].tools)], max_steps=1
    ).train()
    assert names
    assert KEY not in names
