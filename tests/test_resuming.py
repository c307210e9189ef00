"""What a resumed run keeps, what it starts anew and what it refuses, on states without a trainer."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trl_mtgrpo.rollouts import GroupFacts
from trl_mtgrpo.sampling import OUTCOMES
from trl_mtgrpo.sampling.accounting import REASONS, RolloutLedger
from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.state.parts import MEAN, NEW_TASK, can_move, move_tasks
from trl_mtgrpo.state.resuming import Resumed, resume_exceptions, resume_state
from trl_mtgrpo.state.run_state import MultiTaskState, start_state
from trl_mtgrpo.state.state_file import StateFileError, read_state_file, write_state
from trl_mtgrpo.weighting import (
    FixedWeighting,
    ImprovementAwareWeighting,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    TaskSignal,
    TaskWeighting,
)


SCHEMA_4 = Path(__file__).parent / "data" / "state_schema_4.json"
NAMES = ("a", "b")
FACTS: dict[str, Any] = {
    "num_rows": (10, 20),
    "fingerprints": ("print a", "print b"),
    "functions": (("f",), ("g", "h")),
}


def started(weighting: TaskWeighting | None = None, names: Sequence[str] = NAMES, **facts: Any) -> MultiTaskState:
    return start_state(tuple(names), weighting or ImprovementAwareWeighting(), **(FACTS | facts))


def group(task: int, prompt: int = 0) -> dict[str, Any]:
    """What lies in the rows of a carried group of four."""
    row = {"task_id": task, "index": prompt, "prompt": "p", "prompt_ids": [1], "completion_ids": [2, 3]}
    return {"rows": [row] * 4}


def facts(payload: Sequence[dict[str, Any]]) -> GroupFacts:
    """What is known of carried groups, of seven tokens each."""
    rows = [entry["rows"][0] for entry in payload]
    tasks, size = np.array([row["task_id"] for row in rows], dtype=np.int64), len(payload)
    zeros = np.zeros(size, dtype=np.int64)
    return GroupFacts(
        task=tasks,
        prompt=np.array([row["index"] for row in rows], dtype=np.int64),
        role=zeros,
        occurrence=zeros,
        bundle=zeros,
        members=zeros + 4,
        generation=zeros,
        tokens=zeros + 7,
        outcome=zeros,
        accepted=zeros == 0,
        reward=np.ones((size, 4)),
        success=np.ones((size, 4)),
        parts=np.ones((size, 4, 1), dtype=np.float32),
        place=np.zeros((size, 4, 2), dtype=np.int64),
    )


def trained(weighting: TaskWeighting, payload: Sequence[dict[str, Any]] = (), steps: int = 3) -> MultiTaskState:
    """A state after some updates, whose ledgers know of the carried groups."""
    state = started(weighting)
    memory = state.weighting
    signal = TaskSignal(np.array([0.9, 0.1]), np.array([0.05, -0.02]), np.array([0.3, 0.6]), np.array([2, 2]))
    for _ in range(steps):
        memory = weighting.update(signal, memory)

    def ledger(counts: list[int]) -> RolloutLedger:
        empty = RolloutLedger.empty(2)
        carried = np.bincount(facts(payload).task, counts, minlength=2).astype(np.int64)
        return replace(empty, generated=carried + 5, trained=empty.trained + 5, carried_out=carried)

    return replace(
        state,
        generation=steps,
        weighting=memory,
        draws=replace(state.draws, cursors=(3, 8)),
        groups=ledger([1] * len(payload)),
        tokens=ledger([7] * len(payload)),
        empty_steps=1,
        carried=facts(payload),
    )


def resumed(
    folder: Path,
    state: MultiTaskState,
    start: MultiTaskState,
    payload: Sequence[dict[str, Any]] = (),
    num_generations: int = 4,
    **options: bool,
) -> Resumed:
    write_state(folder / "state.json", state, payload)
    return resume_state(folder / "state.json", start, num_generations, **options)


def test_the_same_run_goes_on_with_every_bit_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payload = [group(0, 9), group(1, 19)]
    before = trained(ImprovementAwareWeighting(), payload)
    with caplog.at_level(logging.WARNING):
        after = resumed(tmp_path, before, started(), payload)
    assert json.dumps(to_json(after.state)) == json.dumps(to_json(before))
    assert after.payload == payload
    assert caplog.text == ""


# Whose memory the weights are.

ADAM, SGD = ImprovementAwareWeighting(), ImprovementAwareWeighting(optimizer="sgd")
SEC, FIXED = SelfEvolvingCurriculum(), FixedWeighting([0.75, 0.25])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FIXED, ADAM),
        (FIXED, SEC),
        (SEC, ADAM),
        (SEC, FIXED),
        (ADAM, SEC),
        (ADAM, FIXED),
        (ADAM, RewardOnlyWeighting()),
    ],
)
def test_the_weights_of_another_strategy_start_anew_and_everything_else_is_kept(
    before: TaskWeighting, after: TaskWeighting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = trained(before)
    with caplog.at_level(logging.WARNING):
        state = resumed(tmp_path, saved, started(after)).state
    assert to_json(state.weighting) == to_json(after.init(2))
    assert state.owner == started(after).owner
    assert to_json(state.groups) == to_json(saved.groups)
    assert state.draws.cursors == (3, 8)
    kinds = f"are those of {type(before).__name__}, the run's are those of {type(after).__name__}: they start anew"
    assert kinds in caplog.text
    assert len(caplog.records) == 1


def test_fixed_weights_come_from_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        state = resumed(tmp_path, trained(FIXED), started(FixedWeighting([0.5, 0.5]))).state
    assert state.weighting.values.tolist() == [0.5, 0.5]
    assert state.weighting.step == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SGD, ADAM),
        (ADAM, SGD),
        (ADAM, ImprovementAwareWeighting(optimizer="adamw")),
        (RewardOnlyWeighting(optimizer="sgd"), RewardOnlyWeighting()),
    ],
)
def test_another_optimizer_starts_its_moments_and_its_step_together(
    before: Any, after: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = trained(before)
    with caplog.at_level(logging.WARNING):
        memory = resumed(tmp_path, saved, started(after)).state.weighting
    assert memory.values.tolist() == saved.weighting.values.tolist()
    assert not memory.first_moment.any()
    assert not memory.second_moment.any()
    assert memory.step == 0
    assert (
        f"`task_weight_optimizer` is '{after.optimizer}' instead of '{before.optimizer}': its moments" in caplog.text
    )


def test_weights_that_never_moved_keep_their_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Of one task the gradient is zero, and so are the moments of Adam.
    start = start_state(("a",), ADAM)
    still = replace(start, weighting=replace(start.weighting, step=5))
    with caplog.at_level(logging.WARNING):
        assert resumed(tmp_path, still, start).state.weighting.step == 5
    assert caplog.text == ""


@dataclass(frozen=True, eq=False)
class Seen:
    counts: NDArray[np.float64] = field(metadata={NEW_TASK: 0.0})


@dataclass(frozen=True, eq=False)
class Undeclared:
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class OwnWeighting:
    kind: type

    def init(self, num_tasks: int) -> Any:
        return self.kind(np.zeros(num_tasks))

    def update(self, signal: TaskSignal, state: Any) -> Any:
        return self.kind(state.counts + signal.counts)

    def weights(self, state: Any) -> Any:
        return (state.counts + 1) / (state.counts + 1).sum()


@pytest.mark.parametrize("kind", [Seen, Undeclared])
def test_a_strategy_of_the_users_own_keeps_its_own_memory(kind: type, tmp_path: Path) -> None:
    weighting = OwnWeighting(kind)
    state = resumed(tmp_path, trained(weighting), started(weighting)).state
    assert type(state.weighting) is kind
    assert state.weighting.counts.tolist() == [6, 6]


def test_its_memory_follows_a_change_of_tasks_where_it_says_how(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts = {"num_rows": (20, 5), "fingerprints": ("print b", "c"), "functions": (("g", "h"), ("f",))}
    for kind, expected in ((Seen, [6, 0]), (Undeclared, [0, 0])):
        weighting = OwnWeighting(kind)
        start = started(weighting, ("b", "c"), **facts)
        with caplog.at_level(logging.WARNING):
            state = resumed(tmp_path, trained(weighting), start, allow_task_changes=True).state
        assert state.weighting.counts.tolist() == expected
    assert "Undeclared does not say what a new task gets: the task weights start anew" in caplog.text
    assert "Seen does not say" not in caplog.text


def test_a_memory_with_other_fields_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StateFileError, match=r"must hold what this run remembers, .*`Renamed` must be read from the f"
    ):
        resumed(tmp_path, trained(OwnWeighting(Seen)), started(OwnWeighting(Renamed)))


@dataclass(frozen=True, eq=False)
class Renamed:
    totals: NDArray[np.float64]


# Carried groups that do not fit.


def expired(tmp_path: Path, payload: list[dict[str, Any]], start: MultiTaskState, **options: Any) -> Resumed:
    after = resumed(tmp_path, trained(ADAM, payload), start, payload, **options)
    assert (after.state.groups.imbalance == 0).all()
    assert (after.state.tokens.imbalance == 0).all()
    assert after.state.groups.carried_out.sum() == len(after.payload)
    assert after.state.groups.expired.sum() == len(payload) - len(after.payload)
    return after


def test_groups_of_another_size_expire(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        after = expired(tmp_path, [group(0), group(1), group(1)], started(), num_generations=8)
    assert after.payload == []
    assert after.state.groups.expired.tolist() == [1, 2]
    assert after.state.tokens.expired.tolist() == [7, 14]
    assert "3 carried groups expire (1 of 'a', 2 of 'b'): `num_generations` is 8 instead of 4." in caplog.text
    assert len(caplog.records) == 1


def test_another_function_of_as_many_expires_the_groups_of_its_task_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payload = [group(0), group(1, 3)]
    with caplog.at_level(logging.WARNING):
        after = expired(tmp_path, payload, started(functions=(("other",), ("g", "h"))))
    assert after.payload == payload[1:]
    assert "task 'a' is scored by ['other'] instead of ['f']" in caplog.text
    assert "1 carried groups expire (1 of 'a'): reward functions are others." in caplog.text


@pytest.mark.parametrize(
    ("functions", "kept"), [((("f", "more"), ("g", "h")), 1), ((("f",), ("g",)), 0), (((), ("g", "h")), 1)]
)
def test_a_function_more_or_less_expires_the_groups_of_its_task(functions: Any, kept: int, tmp_path: Path) -> None:
    payload = [group(0), group(1)]
    assert expired(tmp_path, payload, started(functions=functions)).payload == [payload[kept]]


def test_other_functions_are_said_also_where_nothing_is_carried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        after = expired(tmp_path, [], started(functions=(("f",), ("h", "g"))))
    assert "task 'b' is scored by ['h', 'g'] instead of ['g', 'h']" in caplog.text
    assert after.state.functions == (("f",), ("h", "g"))


def test_other_rows_are_refused_whether_or_not_a_group_is_carried(tmp_path: Path) -> None:
    for payload in ([], [group(1)]):
        expected = r"of task 'b' must have the rows of the checkpoint, got other or reordered rows, as a sample"
        with pytest.raises(StateFileError, match=expected):
            resumed(tmp_path, trained(ADAM, payload), started(fingerprints=("print a", "new")), payload)
        with pytest.raises(StateFileError, match=r"of task 'a' must have the rows .*, got 11 rows instead of 10"):
            resumed(tmp_path, trained(ADAM, payload), started(num_rows=(11, 20)), payload)


def test_with_other_rows_on_request_the_groups_of_their_task_expire(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payload = [group(0), group(1)]
    start = started(fingerprints=("print a", "new"))
    with caplog.at_level(logging.WARNING):
        after = expired(tmp_path, payload, start, allow_task_changes=True)
    assert after.payload == payload[:1]
    assert after.state.draws.fingerprints == ("print a", "new")
    assert "task 'b' has other or reordered rows, as a sample of them shows: it goes on at the same" in caplog.text


def test_a_group_whose_row_is_gone_expires(tmp_path: Path) -> None:
    start = started(num_rows=(10, 20), fingerprints=())
    payload = [group(0, 3), group(0, 10)]
    assert expired(tmp_path, payload, start).payload == payload[:1]


def test_rows_and_functions_that_are_not_known_change_nothing(tmp_path: Path) -> None:
    payload = [group(0, -1)]
    start = start_state(NAMES, ADAM)
    after = resumed(tmp_path, replace(trained(ADAM, payload), draws=start.draws, functions=()), start, payload)
    assert after.payload == payload


# Other tasks.


def test_other_tasks_are_refused_with_both_lists(tmp_path: Path) -> None:
    with pytest.raises(
        StateFileError, match=r"of the checkpoint \['a', 'b'\], got \['b', 'a'\]\. Give the same tasks"
    ):
        resumed(tmp_path, trained(ADAM), started(names=("b", "a")))


def test_a_task_keeps_what_is_its_own_and_a_new_one_gets_what_each_field_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    payload = [group(0), group(1)]
    before = trained(ADAM, payload)
    start = started(
        names=("new", "b"), num_rows=(4, 20), fingerprints=("n", "print b"), functions=(("f",), ("g", "h"))
    )
    with caplog.at_level(logging.WARNING):
        after = expired(tmp_path, payload[1:], start, allow_task_changes=True).state
    assert after.task_names == ("new", "b")
    assert after.weighting.values.tolist() == [before.weighting.values[1]] * 2
    assert after.weighting.second_moment[0] == before.weighting.second_moment[1]
    assert after.weighting.first_moment[0] == 0.0
    assert after.weighting.step == before.weighting.step
    assert after.draws.cursors == (0, 8)
    assert after.draws.num_rows == (4, 20)
    assert after.guard.cap.tolist() == [1.0, 1.0]
    assert np.isnan(after.guard.anchor[0])
    assert after.groups.filtered.shape == (2, len(REASONS))
    assert after.stalls.outcomes.shape == (2, len(OUTCOMES))
    assert after.empty_steps == 0
    for sentence in ("task 'new' is new", "task 'a' is removed after 5", "the list of tasks is another one"):
        assert sentence in caplog.text


def parts(value: Any) -> list[Any]:
    """A state and every part in it."""
    inside = [getattr(value, place.name) for place in fields(value)]
    return [value, *(part for one in inside if is_dataclass(one) for part in parts(one))]


def test_every_field_with_one_entry_per_task_says_what_a_new_task_gets() -> None:
    state = start_state(tuple("abcdefg"), ADAM, (1,) * 7, ("x",) * 7, (("f",),) * 7)
    for part in parts(state):
        undeclared = replace(part, task_names=()) if isinstance(part, MultiTaskState) else part
        assert can_move(undeclared, 7), type(part).__name__


@dataclass(frozen=True, eq=False)
class Kinds:
    mean: NDArray[np.float64] = field(metadata={NEW_TASK: MEAN})
    unknown: NDArray[np.float64] = field(metadata={NEW_TASK: np.nan})
    flag: NDArray[np.bool_] = field(metadata={NEW_TASK: True})
    rows: NDArray[np.int64] = field(metadata={NEW_TASK: np.array([7, 8])})
    names: tuple[str, ...] = field(metadata={NEW_TASK: "new"})
    total: int = 5


def test_a_field_is_moved_by_what_it_declares() -> None:
    part = Kinds(np.array([1.0, 3.0]), np.zeros(2), np.array([False, False]), np.array([[1, 2], [3, 4]]), ("a", "b"))
    moved = move_tasks(part, np.array([1, -1, 0]))
    assert moved.mean.tolist() == [3.0, 2.0, 1.0]
    assert np.isnan(moved.unknown).tolist() == [False, True, False]
    assert moved.flag.tolist() == [False, True, False]
    assert moved.rows.tolist() == [[3, 4], [7, 8], [1, 2]]
    assert moved.names == ("b", "new", "a")
    assert moved.total == 5
    nobody = move_tasks(part, np.array([-1]))
    assert (nobody.mean.tolist(), nobody.names) == ([0.0], ("new",))


# Version 0.1.

OLD_NAMES = ("easy", "medium", "hard")


def old_start(weighting: TaskWeighting = ADAM) -> MultiTaskState:
    return start_state(OLD_NAMES, weighting, (30, 30, 30), ("x", "y", "z"), (("f",), ("g",), ("h",)))


def test_a_state_of_version_0_1_goes_on_and_its_carried_groups_expire(caplog: pytest.LogCaptureFixture) -> None:
    old = json.loads(SCHEMA_4.read_text())["body"]["state"]
    assert len(old["carried"]) == 3
    with caplog.at_level(logging.WARNING):
        after = resume_state(SCHEMA_4, old_start(), 2)
    state = after.state
    assert after.payload == []
    assert after.lineage == ()
    assert state.generation == old["generation"]
    assert state.weighting.values.tolist() == old["weighting"]["values"]
    assert state.weighting.second_moment.tolist() == old["weighting"]["second_moment"]
    assert state.weighting.step == old["weighting"]["step"]
    assert list(state.draws.cursors) == old["cursors"]
    assert state.groups.generated.tolist() == old["groups"]["generated"]
    assert state.groups.expired.tolist() == old["groups"]["carried_out"]
    assert state.tokens.expired.tolist() == old["tokens"]["carried_out"]
    assert (state.groups.imbalance == 0).all()
    assert (state.tokens.imbalance == 0).all()
    assert len(caplog.records) == 1
    assert "3 carried groups expire (1 of 'easy', 2 of 'medium'): version 0.1 stored them" in caplog.text


def rewritten(folder: Path, **changes: Any) -> Path:
    """The file of version 0.1 with another state in it."""
    document = json.loads(SCHEMA_4.read_text())
    document["body"]["state"] |= changes
    body = json.dumps(document["body"], sort_keys=True)
    document["checksum"] = hashlib.sha256(body.encode()).hexdigest()
    (folder / "state.json").write_text(json.dumps(document))
    return folder / "state.json"


@pytest.mark.parametrize(
    ("memory", "strategy", "kept"),
    [
        ({"values": [0.5, 0.25, 0.25]}, FIXED, False),
        ({"values": [0.5, 0.25, 0.25]}, ADAM, False),
        ({"values": [0.3, 0.1, 0.2]}, SEC, True),
        ({"values": [0.3, 0.1, 0.2]}, ADAM, False),
        ({"values": [0.3, -0.1, -0.2]}, SGD, True),
        ({"values": [0.3, -0.1, -0.2]}, SEC, False),
        ({"values": [0.3, -0.1, -0.2], "second_moment": [1.0, 1.0, 1.0]}, RewardOnlyWeighting(), True),
        ({"values": [0.3, -0.1, -0.2], "second_moment": [1.0, 1.0, 1.0]}, SEC, False),
    ],
)
def test_whose_memory_a_state_of_version_0_1_is_shows_in_its_numbers(
    memory: dict[str, Any], strategy: TaskWeighting, kept: bool, tmp_path: Path
) -> None:
    zero = {"first_moment": [0.0] * 3, "second_moment": [0.0] * 3, "step": 4}
    strategy = FixedWeighting() if isinstance(strategy, FixedWeighting) else strategy
    state = resume_state(rewritten(tmp_path, weighting=zero | memory), old_start(strategy), 2).state
    expected = memory["values"] if kept else strategy.init(3).values.tolist()
    assert state.weighting.values.tolist() == expected


def test_moments_that_version_0_1_did_not_have_start_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = {"values": [0.3, -0.1, -0.2], "first_moment": [0.0] * 3, "second_moment": [0.0] * 3, "step": 4}
    with caplog.at_level(logging.WARNING):
        state = resume_state(rewritten(tmp_path, weighting=memory), old_start(), 2).state
    assert state.weighting.step == 0
    assert "`task_weight_optimizer` is 'adam' instead of 'another'" in caplog.text


def test_a_state_of_version_0_1_may_have_unseen_tasks(tmp_path: Path) -> None:
    guard = json.loads(SCHEMA_4.read_text())["body"]["state"]["guard"] | {"anchor": [None, 0.5, None]}
    file = read_state_file(rewritten(tmp_path, guard=guard, carried=[]))
    state = from_json(MultiTaskState, file.state)
    assert np.isnan(state.guard.anchor).tolist() == [True, False, True]
    assert file.notes == ()


# What is promised without exception has none.

EXACT = {"beta": 0.04, "sync_ref_model": False, "save_only_model": False, "ignore_data_skip": False}


def test_an_exact_resume_has_no_exceptions() -> None:
    assert resume_exceptions(SimpleNamespace(**EXACT)) == []
    assert resume_exceptions(SimpleNamespace(**EXACT | {"sync_ref_model": True, "beta": 0.0})) == []


@pytest.mark.parametrize("name", ["sync_ref_model", "save_only_model", "ignore_data_skip"])
def test_each_exception_from_an_exact_resume_is_named(name: str) -> None:
    (sentence,) = resume_exceptions(SimpleNamespace(**EXACT | {name: True}))
    assert sentence.startswith(f"`{name}=True`: ")
