"""The state file: every bit comes back, and a file that is not what was written is refused by name."""

import json
import math
import struct
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_mtgrpo.rollouts import GroupFacts, Row
from trl_mtgrpo.sampling.accounting import REASONS, RolloutLedger
from trl_mtgrpo.state.branches import Branch
from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.state.run_state import MultiTaskState, start_state
from trl_mtgrpo.state.state_file import (
    SCHEMA,
    StateFileError,
    read_lineage,
    read_state,
    read_state_file,
    write_state,
)
from trl_mtgrpo.weighting import FixedWeighting, ImprovementAwareWeighting, TaskSignal, WeightingState


NAMES = ("countdown", "zebra")
floats = st.floats(allow_nan=False, allow_infinity=False, width=64)


ROW = Row(
    task_id=1,
    index=7,
    prompt="p",
    prompt_ids=[1, 2],
    completion_ids=[3, 4, 5],
    completion="abc",
    behaviour=[-0.1, -2.5, -math.pi],
    logged={"parsed": "3"},
)


def carried_group() -> GroupFacts:
    one = np.ones(1, dtype=np.int64)
    return GroupFacts(
        task=one,
        prompt=7 * one,
        role=0 * one,
        occurrence=0 * one,
        bundle=0 * one,
        members=2 * one,
        generation=3 * one,
        tokens=6 * one,
        outcome=0 * one,
        accepted=one > 0,
        reward=np.array([[1.0, np.nan]]),
        success=np.array([[1.0, np.nan]]),
        parts=np.array([[[1.0, np.nan], [0.1, np.nan]]], dtype=np.float32),
        place=np.zeros((1, 2, 2), dtype=np.int64),
    )


def a_state(**changes: object) -> MultiTaskState:
    return replace(start_state(NAMES, ImprovementAwareWeighting()), **changes)


def saved(folder: Path, state: MultiTaskState, **options: Any) -> Path:
    path = folder / "checkpoint-4" / "state.json"
    path.parent.mkdir(exist_ok=True)
    write_state(path, state, [{"rows": [ROW.to_json()] * 2}] * len(state.carried), **options)
    return path


def round_trip(folder: Path, state: MultiTaskState) -> MultiTaskState:
    return from_json(MultiTaskState, read_state(saved(folder, state)).state)


def bits(values: np.ndarray) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


@given(st.lists(floats, min_size=2, max_size=2), st.lists(floats, min_size=2, max_size=2))
@settings(max_examples=25)
def test_every_bit_of_the_weights_comes_back(
    tmp_path_factory: pytest.TempPathFactory, values: list, moments: list
) -> None:
    weighting = WeightingState(np.array(values), np.array(moments), np.array(moments), step=3)
    after = round_trip(tmp_path_factory.mktemp("state"), a_state(weighting=weighting)).weighting
    assert bits(after.values) == bits(weighting.values)
    assert bits(after.first_moment) == bits(weighting.first_moment)
    assert after.step == 3


def test_a_carried_group_comes_back_with_its_log_probabilities(tmp_path: Path) -> None:
    before = carried_group()
    path = saved(tmp_path, a_state(carried=before))
    after = round_trip(tmp_path, a_state(carried=before)).carried
    for part in fields(GroupFacts):
        np.testing.assert_array_equal(getattr(after, part.name), getattr(before, part.name))
        assert getattr(after, part.name).dtype == getattr(before, part.name).dtype
    rows = [Row.from_json(row) for row in read_state(path).payload[0]["rows"]]
    assert [row.behaviour for row in rows] == [ROW.behaviour] * 2
    assert rows[0].to_json() == ROW.to_json()


def test_whatever_a_reward_function_logged_can_be_written() -> None:
    logged = {"score": np.float32(0.5), "array": np.arange(2), "object": Path("x"), "nested": [{1: (2, None)}]}
    after = Row.from_json(json.loads(json.dumps(replace(ROW, logged=logged).to_json()))).logged
    assert after == {"score": 0.5, "array": [0, 1], "object": "x", "nested": [{"1": [2, None]}]}


def test_a_started_state_is_balanced_and_uniform() -> None:
    state = start_state(NAMES, FixedWeighting())
    assert (state.groups.imbalance == 0).all()
    assert state.draws.cursors == (0, 0)
    assert FixedWeighting().weights(state.weighting).tolist() == [0.5, 0.5]


def test_the_state_is_unchanged_by_an_update_of_its_weighting() -> None:
    state, weighting = a_state(), ImprovementAwareWeighting()
    before = json.dumps(to_json(state))
    weighting.update(TaskSignal(rewards=np.array([0.1, 0.9])), state.weighting)
    assert json.dumps(to_json(state)) == before


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    path = saved(tmp_path, a_state())
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, a_state(generation=1))

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_state(path, a_state(generation=2))
    assert read_state(path).state["generation"] == 1


def test_the_file_says_where_in_a_generation_it_was_written(tmp_path: Path) -> None:
    lineage = (Branch("a", 0), Branch("b", 4))
    path = saved(tmp_path, a_state(carried=carried_group()), steps_left=3, num_ranks=2, lineage=lineage)
    file = read_state_file(path)
    assert (file.steps_left, file.num_ranks, file.lineage) == (3, 2, lineage)
    assert read_lineage(path) == lineage


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema": 4, "body": {"num_ranks": 1}}', '"body": {"lineage": [{"name']
)
def test_a_file_without_lineage_has_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(content)
    assert read_lineage(tmp_path / "state.json") == ()
    assert read_lineage(tmp_path / "absent.json") == ()


def test_a_state_inside_a_generation_is_not_resumed(tmp_path: Path) -> None:
    path = saved(tmp_path, a_state(), steps_left=3)
    with pytest.raises(StateFileError, match="checkpoint-4` must lie between two generation batches, got one with 3"):
        read_state(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        StateFileError, match=r"`state.json` must be in the checkpoint, got none in .*Resume from another"
    ):
        read_state(tmp_path / "state.json")


@given(st.data())
@settings(max_examples=50)
def test_a_truncated_file_is_refused_at_any_length(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = saved(tmp_path_factory.mktemp("state"), a_state(carried=carried_group()))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 2))])  # the last byte is a line end
    with pytest.raises(StateFileError, match="must be a complete state file, got a damaged one"):
        read_state(path)


@given(st.data())
@settings(max_examples=100)
def test_a_changed_byte_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = saved(tmp_path_factory.mktemp("state"), a_state(carried=carried_group()))
    content, before = bytearray(path.read_bytes()), read_state(path)
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        after: object = read_state(path)
    except StateFileError as error:
        after = str(error)
    assert after == before or str(path) in str(after)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, a_state())
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', '"schema": 99'))
    with pytest.raises(StateFileError, match=f"must have schema {SCHEMA} or 4, got 99. Resume with the version"):
        read_state(path)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"schema": 1}'])
def test_json_that_is_no_state_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(StateFileError, match="must have the fields schema, checksum and body"):
        read_state(path)


def test_altered_contents_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, a_state(generation=1))
    path.write_text(path.read_text().replace('"generation": 1', '"generation": 2'))
    with pytest.raises(StateFileError, match="must match its checksum, got altered contents"):
        read_state(path)


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("[" * 200_000)
    with pytest.raises(StateFileError, match="got a damaged one"):
        read_state(path)


def test_a_hundred_tasks_take_less_than_a_megabyte(tmp_path: Path) -> None:
    names = tuple(f"a task with a name of usual length {k}" for k in range(100))
    state = start_state(names, ImprovementAwareWeighting())
    rng = np.random.default_rng(0)
    full = RolloutLedger(
        *(rng.integers(10**9, size=(100, len(REASONS)) if i == 3 else 100) for i in range(6)),
    )
    weighting = WeightingState(rng.normal(size=100), rng.normal(size=100), rng.normal(size=100), step=10**6)
    path = saved(tmp_path, replace(state, groups=full, tokens=full, weighting=weighting))
    assert path.stat().st_size < 100_000
