"""
Two hundred steps of a plain task, a tool and two environments whose acceptance differs tenfold.

    python -m pytest -m slow -o log_cli=true --log-cli-level=INFO tests/environments/test_long_run.py
"""

import logging
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.environments.test_mixed_run import CALL_IDS
from tests.environments.world import Count, Guess, add, agent_trainer, chat_rows, guess_rows, mul, tool_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.host.run import MixtureRun
from trl_mtgrpo.rollouts import CollectedBatch


pytestmark = pytest.mark.slow

logger = logging.getLogger(__name__)

STEPS, ROWS, ROUNDS = 200, 32, 10
SCHEMAS = {"plain": "", "sum": "mul;add;", "guess": "fail;guess;", "count": "step;"}
# Chances of a reward; of groups of four .88, .59, .28 and .09 are then neither solved nor failed.
CHANCES = {"plain": 0.5, "sum": 0.2, "guess": 0.08, "count": 0.023}


def by_chance(name: str, seed: int) -> Any:
    """A reward that no text moves, so that the acceptance of a task stays where it is."""
    rng = random.Random(seed)

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [float(rng.random() < CHANCES[name]) for _ in completions]

    return reward


class Lottery:
    """Adds a reward of its own to an environment, and counts its life."""

    chance, rng, lives, starts, ends = "", random.Random(0), 0, 0, 0

    def __init__(self) -> None:
        type(self).lives += 1

    def reset(self, **row: Any) -> Any:
        type(self).starts += 1
        return super().reset(**row)  # type: ignore[misc]

    def get_reward(self) -> float:
        return float(self.rng.random() < CHANCES[self.chance])

    def close(self) -> None:
        type(self).ends += 1


class LuckyGuess(Lottery, Guess):
    chance, rng = "guess", random.Random(3)


class LuckyCount(Lottery, Count):
    chance, rng = "count", random.Random(4)


@dataclass
class Audit:
    """Looks at every generated row and every batch while the run goes on."""

    inner: Any = None
    names: tuple[str, ...] = ()
    rows: np.ndarray = field(default_factory=lambda: np.zeros(4, dtype=int))
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(4, dtype=int))
    foreign_schemas: int = 0
    wrong_masks: int = 0
    foreign_turns: int = 0
    calls_in_plain_text: int = 0
    batches: list[CollectedBatch] = field(default_factory=list)

    def produce(self, prompts: Any, episodes: int, rng: Any) -> Any:
        facts = self.inner.produce(prompts, episodes, rng)
        for slot in facts.place[:, :, 1].ravel().tolist():
            self.look(self.inner.store[slot])
        return facts

    def look(self, row: Any) -> None:
        decode, name = tool_tokenizer_once().decode, self.names[row.task_id]
        self.rows[row.task_id] += 1
        self.tokens[row.task_id] += sum(row.loss_mask)
        self.foreign_schemas += not decode(row.prompt_ids).startswith(f"{SCHEMAS[name]}U")
        answers = [message["content"] for message in row.completion if message["role"] == "tool"]
        shown = "".join(decode([i]) for i, own in zip(row.completion_ids, row.loss_mask, strict=True) if not own)
        aligned = len(row.loss_mask) == len(row.completion_ids)
        self.wrong_masks += not (aligned and shown.replace("A", "").replace("R", "") == "".join(answers))
        if name == "plain":
            self.foreign_turns += len(row.completion) != 1
            self.calls_in_plain_text += bool(set(row.completion_ids) & CALL_IDS)


_TOKENIZERS: list[Any] = []


def tool_tokenizer_once() -> Any:
    if not _TOKENIZERS:
        _TOKENIZERS.append(tool_tokenizer())
    return _TOKENIZERS[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiTaskGRPOTrainer, Audit]:
    audit = Audit()

    def watch(inner: Any) -> Audit:
        audit.inner = inner
        return audit

    tasks = [
        Task("plain", chat_rows("p"), by_chance("plain", 1), success_threshold=1.0),
        Task("sum", chat_rows("s"), by_chance("sum", 2), tools=[mul, add], success_threshold=1.0),
        Task("guess", guess_rows(), environment_factory=LuckyGuess, success_threshold=1.0),
        Task("count", None, environment_factory=LuckyCount, num_rows=12, success_threshold=1.0),
    ]
    folder: Path = tmp_path_factory.mktemp("long")
    trainer = agent_trainer(
        folder,
        tasks,
        rollout_source=watch,
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        max_resampling_rounds=ROUNDS,
        max_completion_length=48,
        max_tool_calling_iterations=3,
        learning_rate=1e-4,
        logging_steps=50,
    )
    audit.names = trainer.mixture.names
    prepare = MixtureRun._prepare_loss

    def noting(self: MixtureRun, host: Any, batch: CollectedBatch, state: Any) -> Any:
        audit.batches.append(batch)
        return prepare(self, host, batch, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixtureRun, "_prepare_loss", noting)
        trainer.train()
    return trainer, audit


def test_acceptance_differs_tenfold(run: Any) -> None:
    groups = run[0].multi_task_state.groups
    acceptance = 1 - groups.filtered.sum(axis=1) / groups.generated
    logger.info("acceptance %s", dict(zip(run[1].names, acceptance.round(3).tolist(), strict=True)))
    assert acceptance.max() >= 9 * acceptance.min()
    assert groups.carried_out.sum() + groups.expired.sum() > 0


def test_the_mix_is_exact_unless_the_rounds_were_used_up(run: Any) -> None:
    batches = run[1].batches
    assert len(batches) == STEPS
    used_up = np.array([batch.plan.rounds > ROUNDS for batch in batches])
    exact = np.array([np.array_equal(batch.plan.desired, batch.group_ledger.trained) for batch in batches])
    logger.info("%d steps used up their rounds, exact in %d of the others", used_up.sum(), exact[~used_up].sum())
    logger.info("%.2f rounds per step, exact in %d of all", np.mean([b.plan.rounds for b in batches]), exact.sum())
    assert (~used_up).sum() >= STEPS / 2
    assert exact[~used_up].mean() >= 0.99


def test_groups_and_tokens_are_conserved_in_every_step(run: Any) -> None:
    trainer, audit = run
    for batch in audit.batches:
        assert batch.group_ledger.imbalance.tolist() == [0, 0, 0, 0]
        assert batch.token_ledger.imbalance.tolist() == [0, 0, 0, 0]
    state = trainer.multi_task_state
    assert state.groups.imbalance.tolist() == state.tokens.imbalance.tolist() == [0, 0, 0, 0]
    assert np.array_equal(state.groups.generated * 4, audit.rows)
    assert np.array_equal(state.tokens.generated, audit.tokens)
    logger.info("%d rows, %d tokens that the model wrote", audit.rows.sum(), audit.tokens.sum())


@pytest.mark.parametrize(("task_id", "kind"), [(2, LuckyGuess), (3, LuckyCount)])
def test_environments_are_reset_once_per_row_and_built_once_per_place(run: Any, task_id: int, kind: Any) -> None:
    logger.info("%s: %d resets, %d rows, %d made", kind.__name__, kind.starts, run[1].rows[task_id], kind.lives)
    assert kind.starts == run[1].rows[task_id] + 2  # of the first look
    assert kind.lives <= ROWS
    assert kind.ends == kind.lives


def test_no_row_has_a_foreign_schema_or_a_wrong_mask(run: Any) -> None:
    audit = run[1]
    assert audit.foreign_schemas == 0
    assert audit.wrong_masks == 0
    assert audit.foreign_turns == 0
    assert audit.calls_in_plain_text > 100
