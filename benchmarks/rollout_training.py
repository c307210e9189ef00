"""The cost of filtering in the real trainer, with rewards of known acceptance, beside what the simulator predicts."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import PrinterCallback, TrainerCallback

from tests.tiny import rows, tiny_trainer
from trl_mtgrpo import Task
from trl_mtgrpo.rollouts import simulate
from trl_mtgrpo.sampling import BatchLedger, RatioPreservingSampler


NUM_GENERATIONS = 2


def known_acceptance(acceptance: float, seed: int) -> Callable[..., list[float]]:
    """
    A reward that the completions do not decide: of each group, with probability `acceptance` one rollout of two is
    right, otherwise both or none.
    """
    rng = np.random.default_rng(seed)

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        num_groups = len(completions) // NUM_GENERATIONS
        first = rng.random(num_groups) < 0.5
        second = first ^ (rng.random(num_groups) < acceptance)
        return np.stack([first, second], axis=1).astype(float).ravel().tolist()

    return reward


@dataclass(frozen=True)
class RecordingSampler(RatioPreservingSampler):
    """The planner, and each step's ledger with the groups per task that it chose to train."""

    steps: list[tuple[BatchLedger, NDArray[np.int64]]] = field(default_factory=list)

    def select(self, task_ids: ArrayLike, ledger: BatchLedger, rng: np.random.Generator) -> NDArray[np.int64]:
        keep = super().select(task_ids, ledger, rng)
        trained = np.bincount(np.asarray(task_ids)[keep], minlength=ledger.desired.size)
        self.steps.append((ledger, trained))
        return keep


class Bookkeeper(TrainerCallback):
    """Looks at the books after every step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.imbalances: list[tuple[int, int]] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        state = self.trainer.multi_task_state
        self.imbalances.append(tuple(int(np.abs(b.imbalance).max()) for b in (state.groups, state.tokens)))


def train_and_predict(
    num_steps: int = 200,
    num_groups: int = 32,
    acceptance: Sequence[float] = (0.9, 0.5, 0.1),
    max_surplus_age: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    """
    Trains a tiny model on tasks of known acceptance and simulates the same run from its logged weights.

    Returns:
        `dict`: `measured`; `predicted` from the weights and the true acceptance; `replayed` from the counts that were
        drawn and the acceptance that was seen, which leaves out the luck of the run; and how far the books and the
        mix of the run were off.
    """
    sampler, books = RecordingSampler(num_groups, max_surplus_age=max_surplus_age), Bookkeeper()
    names = [f"accepts {a:g}" for a in acceptance]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        trainer = tiny_trainer(
            Path(folder),
            tasks=[
                Task(name, rows(name[-1]), known_acceptance(a, seed=1000 * seed + k), success_threshold=1.0)
                for k, (name, a) in enumerate(zip(names, acceptance, strict=True))
            ],
            sampler=sampler,
            callbacks=[books],
            num_generations=NUM_GENERATIONS,
            per_device_train_batch_size=num_groups * NUM_GENERATIONS,
            max_completion_length=4,
            max_steps=num_steps,
            max_surplus_age=max_surplus_age,
            learning_rate=1e-5,
            seed=seed,
        )
        books.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logs = [line for line in trainer.state.log_history if f"tasks/{names[0]}/weight" in line]
    weights = np.array([[line[f"tasks/{name}/weight"] for name in names] for line in logs])  # (T, K)
    groups, tokens = trainer.multi_task_state.groups, trainer.multi_task_state.tokens
    seen = 1.0 - groups.filtered.sum(axis=1) / groups.generated
    per_group = tokens.generated / groups.generated

    drawn = np.array([ledger.desired for ledger, _ in sampler.steps])  # (T, K)

    def simulated(shares: NDArray[np.float64], rates: ArrayLike) -> dict[str, float]:
        runs = [
            simulate(
                shares / shares.sum(axis=1, keepdims=True),
                np.tile(rates, (len(shares), 1)),
                RatioPreservingSampler(num_groups),
                max_surplus_age=max_surplus_age,
                seed=run,
                tokens_per_group=per_group,
            )
            for run in range(10)
        ]
        tokens = [(run.generated @ per_group).sum() / (run.trained @ per_group).sum() for run in runs]
        return {
            "generated_per_trained": float(np.mean([run.generated_per_trained for run in runs])),
            "tokens_per_trained": float(np.mean(tokens)),
            "generated_per_least": float(np.mean([run.generated_per_least for run in runs])),
            "rounds": float(np.mean([run.rounds_per_step for run in runs])),
        }

    return {
        "num_steps": num_steps,
        "num_groups": num_groups,
        "acceptance": list(acceptance),
        "acceptance_seen": seen.tolist(),
        "measured": {
            "generated_per_trained": groups.waste,
            "tokens_per_trained": tokens.waste,
            "generated_per_least": float(groups.generated.sum() / (groups.trained / seen).sum()),
            "rounds": float(np.mean([ledger.rounds for ledger, _ in sampler.steps])),
        },
        "predicted": simulated(weights, acceptance),
        "replayed": simulated(drawn, seen),
        "exact_mix": float(np.mean([(trained == ledger.desired).all() for ledger, trained in sampler.steps])),
        "most_rounds": max(ledger.rounds for ledger, _ in sampler.steps),
        "largest_imbalance": max(groups for groups, _ in books.imbalances),
        "largest_token_imbalance": max(tokens for _, tokens in books.imbalances),
        "steps_checked": len(books.imbalances),
        "final_weights": weights[-1].tolist(),
    }
