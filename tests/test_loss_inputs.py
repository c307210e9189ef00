"""What is added to the rows of the loss: behaviour policy, measured rows, objective before the update."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.improvement.loss_inputs import (
    BEFORE,
    OLD_LOGPS,
    TRAINED_LOGPS,
    ClipRange,
    add_behaviour_policy,
    loss_mask,
    measured_groups,
    record_forward,
)


CLIP = ClipRange(0.2, 0.28, None, "token")


def inputs(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "completion_ids": torch.tensor([[3, 4, 5], [6, 7, 0]]),
        "completion_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "advantages": torch.tensor([1.0, -0.5]),
        **changes,
    }


def test_masks_of_tools_and_padding_multiply() -> None:
    mask = loss_mask(inputs(tool_mask=torch.tensor([[1, 0, 1], [0, 0, 0]])))
    assert mask.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_without_carried_rows_nothing_is_added_but_the_objective() -> None:
    batch = inputs()
    add_behaviour_policy(batch, [None, None], CLIP)
    assert OLD_LOGPS not in batch
    assert batch[BEFORE].tolist() == [1.0, -0.5]


def test_a_row_outside_the_loss_has_no_objective() -> None:
    batch = inputs(tool_mask=torch.tensor([[0, 0, 0], [1, 1, 0]]))
    add_behaviour_policy(batch, [None, None], CLIP)
    assert batch[BEFORE].tolist() == [0.0, -0.5]


def test_beside_carried_rows_fresh_ones_wait_for_the_forward() -> None:
    batch = inputs()
    add_behaviour_policy(batch, [None, [-1.0, -2.0]], CLIP)
    assert batch[OLD_LOGPS][0].isnan().all()
    assert batch[OLD_LOGPS][1].tolist() == [-1.0, -2.0, 0.0]
    assert batch[BEFORE][0] == 1.0
    assert batch[BEFORE][1].isnan()
    now = torch.tensor([[-0.5, -0.6, -0.7], [-1.0, -2.0, 9.0]])
    record_forward(batch, now, CLIP)
    assert torch.equal(batch[OLD_LOGPS][0], now[0])  # the policy that generated is the one that trains
    assert batch[OLD_LOGPS][1].tolist() == [-1.0, -2.0, 0.0]
    assert batch[BEFORE].tolist() == pytest.approx([1.0, -0.5])  # ratios are 1
    assert torch.equal(batch[TRAINED_LOGPS], now)


def test_with_log_probabilities_of_the_host_carried_rows_get_theirs() -> None:
    current = torch.tensor([[-0.5, -0.6, -0.7], [-1.0, -2.0, 0.0]])
    batch = inputs(**{OLD_LOGPS: current})
    shift = float(np.log(1.1))
    add_behaviour_policy(batch, [None, [-1.0 - shift, -2.0 - shift]], CLIP)
    assert torch.equal(batch[OLD_LOGPS][0], current[0])
    # ratio 1.1 on both tokens: -0.5 * 1.1
    assert batch[BEFORE].tolist() == pytest.approx([1.0, -0.55])
    assert torch.equal(current, torch.tensor([[-0.5, -0.6, -0.7], [-1.0, -2.0, 0.0]]))


def test_later_forwards_change_neither_the_behaviour_policy_nor_the_start() -> None:
    batch = inputs()
    add_behaviour_policy(batch, [None, [-1.0, -2.0]], CLIP)
    record_forward(batch, torch.full((2, 3), -1.0), CLIP)
    old, before = batch[OLD_LOGPS].clone(), batch[BEFORE].clone()
    record_forward(batch, torch.full((2, 3), -3.0), CLIP)
    assert torch.equal(batch[OLD_LOGPS], old)
    assert torch.equal(batch[BEFORE], before)


def test_the_first_groups_of_each_task_are_measured() -> None:
    filler = np.array([False, False, False, True, False])
    measured = measured_groups(np.array([0, 0, 1, 1, 0]), filler, per_task=1)
    assert measured.tolist() == [True, False, True, False, False]
    assert measured_groups(np.array([0, 0, 1, 1, 0]), filler, None).tolist() == (~filler).tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12), st.integers(1, 4))
def test_no_task_is_measured_on_more_than_it_may(groups: list[tuple[int, bool]], per_task: int) -> None:
    tasks = np.array([task for task, _ in groups])
    filler = np.array([is_filler for _, is_filler in groups])
    measured = measured_groups(tasks, filler, per_task)
    counts = np.bincount(tasks[measured], minlength=4)
    assert counts.tolist() == np.minimum(np.bincount(tasks[~filler], minlength=4), per_task).tolist()
    assert not (measured & filler).any()
