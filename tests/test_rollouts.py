"""Rollouts and groups: taken apart, kept, put together."""

import json

import numpy as np
import pytest

from trl_mtgrpo.rollouts.groups import Group, Rollout, join_generation, merge_extra_fields, split_generation


ROWS = [{"prompt": "a"}, {"prompt": "b"}]
OUTPUT = ([[1], [2]], [[3, 4], [5]], None, ["x", "y"], [[-0.1, -0.2], [-0.3]], {}, None, None)


def test_each_rollout_gets_its_entry_of_every_list() -> None:
    first, second = split_generation(OUTPUT, ROWS, {"note": [7, 8]})
    assert first == Rollout({"prompt": "a"}, ([1], [3, 4], None, "x", [-0.1, -0.2], None, None, None), {"note": 7})
    assert second.num_tokens == 1


def test_columns_of_another_length_are_left_out() -> None:
    assert split_generation(OUTPUT, ROWS, {"note": [7]})[0].logged == {}


def test_an_output_without_a_list_per_row_names_what_was_found() -> None:
    with pytest.raises(RuntimeError, match="`_generate` must return one list of token ids per prompt, got 2 prompts"):
        split_generation(([[1]], *OUTPUT[1:]), ROWS, {})


def test_joining_restores_the_tuple() -> None:
    rollouts = split_generation(OUTPUT, ROWS, {})
    assert join_generation(rollouts, [False, False]) == (*OUTPUT[:5], None, None, None)


def test_a_masked_row_has_no_token_in_the_loss() -> None:
    rollouts = split_generation(OUTPUT, ROWS, {})
    assert join_generation(rollouts, [True, False])[2] == [[0, 0], [1]]


def test_a_mask_of_tools_is_kept_beside_masked_rows() -> None:
    rollouts = split_generation((*OUTPUT[:2], [[1, 0], [1]], *OUTPUT[3:]), ROWS, {})
    assert join_generation(rollouts, [False, True])[2] == [[1, 0], [0]]


def test_extra_fields_of_a_rollout_function_reach_the_rows() -> None:
    merged = merge_extra_fields((*OUTPUT[:5], {"steps": [3, 4], "env": "web"}), ROWS)
    assert merged == [{"prompt": "a", "steps": 3, "env": "web"}, {"prompt": "b", "steps": 4, "env": "web"}]
    assert ROWS[0] == {"prompt": "a"}


def test_a_group_survives_json_with_unscored_rows() -> None:
    rewards = np.array([[0.1, np.nan], [np.nan, np.nan]], dtype=np.float32)
    group = Group(1, 2, 3, rewards, 3).with_rollouts(split_generation(OUTPUT, ROWS, {})).with_logps([[-0.5], [-1.0]])
    again = Group.from_json(json.loads(json.dumps(group.to_json())), {"prompt": "found"})
    np.testing.assert_array_equal(again.rewards, rewards)
    assert again.logps == ((-0.5,), (-1.0,))
    assert again.rollouts[1].row == {"prompt": "found"}
    assert again.rollouts[1].fields == group.rollouts[1].fields
    assert (again.task_id, again.row_index, again.generation, again.num_tokens) == (1, 2, 3, 3)


def test_a_group_without_behaviour_policy_stays_without_one() -> None:
    group = Group(0, 0, 0, np.zeros((1, 1), np.float32), 1)
    assert Group.from_json(group.to_json(), {}).logps is None
