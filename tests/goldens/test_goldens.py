"""A change of structure changes no decision, weight, metric or parameter of a multi-task run."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.goldens import runs
from tests.goldens.recording import differences
from tests.goldens.runs import GOLDENS, host_numbers, read_goldens, record
from tests.goldens.table import RUNS


# Run -> why it may come out differently than before. `python -m tests.goldens.runs --record` then records it anew.
PRICE = (
    "a step has a ceiling, what is not known is asked for in small, dry tasks are asked for as much again and found "
    "earlier"
)
ABSENT = "metrics that were never measured are not logged"
CHANGED: dict[str, str] = {
    "masked truncation": f"a group whose rows with an advantage are all masked is filtered and refilled; {PRICE}",
    "a sampler of the user": "the sampler alone says how long surplus is kept",
    "defaults": PRICE,
    "accumulation over two batches": PRICE,
    "summed rewards": PRICE,
    "guard acts without refill": PRICE,
    "no guard": PRICE,
    "sec_dapo": f"{ABSENT}; {PRICE}",
    "reward only": PRICE,
    "solved discount 0": PRICE,
    "solved discount 1": PRICE,
    "a task without any gain": f"{ABSENT}; {PRICE}",
    "improvement of rewards": PRICE,
    "no improvement": PRICE,
    "mean improvement of few": PRICE,
    "other weight optimizers": PRICE,
    "weights by gradient": PRICE,
    "unfilled batches, discounted": f"{ABSENT}; {PRICE}",
    "token budget": PRICE,
    "a filter of the user": PRICE,
    "two ranks": PRICE,
    "two ranks, normalised, guard, evaluation": PRICE,
}

# What a run says on its way is the business of other tests.
pytestmark = pytest.mark.filterwarnings("ignore:::trl_mtgrpo")

SINGLE = [name for name, run in RUNS.items() if run.ranks == 1]


@pytest.fixture(scope="module")
def goldens() -> dict[str, Any]:
    recorded = read_goldens()
    if host_numbers() != recorded["host"]:
        pytest.skip("GRPOTrainer itself computes other numbers here than where the goldens were recorded")
    return recorded["runs"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SINGLE else pytest.mark.slow, id=name) for name in RUNS]
)
def test_a_run_is_as_recorded(name: str, goldens: dict[str, Any]) -> None:
    golden = dict(goldens[name])
    assert golden.pop("changed", None) == CHANGED.get(name), "record it anew: python -m tests.goldens.runs --record"
    first = next(differences(golden, record(name)), None)
    assert first is None, f"{name}{first}"


def test_what_is_recorded_covers_every_run_and_stays_small() -> None:
    assert list(read_goldens()["runs"]) == list(RUNS)
    assert CHANGED.keys() <= RUNS.keys()
    assert GOLDENS.stat().st_size < 400_000


@pytest.mark.parametrize("changes", [{"task_weight_lr": 0.026}, {"max_surplus_age": 1}, {"learning_rate": 1.01e-2}])
def test_a_run_with_another_setting_is_noticed(changes: dict[str, Any], goldens: dict[str, Any]) -> None:
    name = "three times the batch"
    assert next(differences(goldens[name], record(name, **changes)), None) is not None


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, part in items for leaf in _leaves(part, (*path, key))]
    return [path]


def test_a_difference_in_any_recorded_value_is_named_with_its_place() -> None:
    golden = read_goldens()["runs"]["defaults"]
    for path in _leaves(golden):
        found = copy.deepcopy(golden)
        at = found
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = "other"
        place = "".join(f"/{key}" for key in path)
        assert [text.split(":")[0] for text in differences(golden, found)] == [place]


def test_a_run_that_came_out_differently_is_recorded_for_a_new_reason_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runs, "GOLDENS", tmp_path / "goldens.json")
    monkeypatch.setattr(runs, "host_numbers", lambda: "host")
    monkeypatch.setattr(runs, "record", lambda name: {"weights": [0.5]})
    runs.record_all(["grpo"], {})
    monkeypatch.setattr(runs, "record", lambda name: {"weights": [0.25]})
    with pytest.raises(SystemExit, match=r"grpo/weights/0: recorded 0.5, found 0.25"):
        runs.record_all(["grpo"], {})
    assert read_goldens()["runs"] == {"grpo": {"weights": [0.5]}}
    runs.record_all(["grpo"], {"grpo": "half as much"})
    assert read_goldens()["runs"] == {"grpo": {"weights": [0.25], "changed": "half as much"}}
    monkeypatch.setattr(runs, "record", lambda name: {"weights": [0.125]})
    with pytest.raises(SystemExit, match="Give a reason"):
        runs.record_all(["grpo"], {"grpo": "half as much"})
