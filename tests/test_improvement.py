"""The improvement of each task: objective after minus before, with as many forwards on every rank."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trl_mtgrpo.improvement.loss_inputs import ClipRange
from trl_mtgrpo.improvement.measure import MeasuredChange, measure_change


CLIP = ClipRange(0.2, 0.28, None, "token")
RANKS = SimpleNamespace(sum=lambda values: values)


def micro_batch(tasks: list[int], measured: list[bool], advantage: float = 1.0) -> dict[str, torch.Tensor]:
    size = len(tasks)
    return {
        "prompt_ids": torch.ones(size, 2, dtype=torch.long),
        "prompt_mask": torch.ones(size, 2, dtype=torch.long),
        "completion_ids": torch.ones(size, 3, dtype=torch.long),
        "completion_mask": torch.ones(size, 3, dtype=torch.long),
        "advantages": torch.full((size,), advantage),
        "task_ids": torch.tensor(tasks),
        "is_measured": torch.tensor(measured),
        "surrogate_before": torch.full((size,), advantage),
        "train_per_token_logps": torch.zeros(size, 3),
    }


def measure(batches: list[dict[str, torch.Tensor]], ratio: float, num_calls: int = 2, **options: object) -> tuple:
    sizes = []

    def forward(tokens: torch.Tensor, attention: torch.Tensor, num_tokens: int) -> torch.Tensor:
        sizes.append(len(tokens))
        return torch.full((len(tokens), num_tokens), float(np.log(ratio)))

    change = measure_change(batches, forward, RANKS, 3, CLIP, num_calls=num_calls, batch_size=2, **options)
    return change, sizes


def test_each_sequence_adds_its_change_to_its_task() -> None:
    change, _ = measure([micro_batch([0, 0, 2], [True, True, True])], ratio=1.1)
    # two sequences of task 0 and one of task 2, each from 1.0 to 1.1
    assert change.sums == pytest.approx([0.2, 0.0, 0.1])
    assert change.counts.tolist() == [2, 0, 1]


def test_the_change_is_clipped_like_the_loss() -> None:
    change, _ = measure([micro_batch([0], [True])], ratio=3.0)
    assert change.sums[0] == pytest.approx(0.28)


def test_rows_that_are_not_measured_take_no_forward() -> None:
    change, sizes = measure([micro_batch([0, 1, 1, 0], [True, False, True, False])], ratio=1.1)
    assert change.counts.tolist() == [1, 1, 0]
    assert sizes == [2, 1]  # the second call only keeps step with other ranks


def test_fillers_count_for_no_task() -> None:
    change, _ = measure([micro_batch([-1, 1], [True, True])], ratio=1.1)
    assert change.counts.tolist() == [0, 1, 0]


def test_a_rank_without_rows_still_makes_every_call() -> None:
    change, sizes = measure([micro_batch([0], [False])], ratio=1.1, num_calls=3)
    assert sizes == [1, 1, 1]
    assert change.sums.tolist() == [0.0, 0.0, 0.0]


def test_the_last_minibatch_is_measured_from_its_own_forward() -> None:
    batch = micro_batch([0], [True])
    batch["old_per_token_logps"] = torch.full((1, 3), -float(np.log(1.05)))
    batch["train_per_token_logps"] = torch.zeros(1, 3)
    change, _ = measure([batch], ratio=1.1, num_calls=1, since_generation=False)
    # ratios to the behaviour policy: 1.05 before and 1.05 * 1.1 after
    assert change.sums[0] == pytest.approx(1.05 * 1.1 - 1.05, abs=1e-6)


def test_a_sum_is_extrapolated_to_the_rows_of_the_batch() -> None:
    change = MeasuredChange(np.array([0.2, 0.0]), np.array([2, 0]))
    assert change.reduced("mean", np.array([8, 4])).tolist() == [0.1, 0.0]
    assert change.reduced("sum", np.array([8, 4])).tolist() == [0.8, 0.0]
