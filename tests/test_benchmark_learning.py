"""The learning benchmark's tables follow from its runs, and the documentation shows its last result."""

import importlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import guard_replay, learning, learning_report, learning_runs


def point(step: int, tokens: int, **accuracy: float) -> dict[str, Any]:
    return {"step": step, "tokens": tokens, "accuracy": accuracy}


def run(seed: int, worst: float, budget: int = 1000) -> dict[str, Any]:
    """A run whose hard task ends at `worst`, with its evaluation at step 100 before the token budget."""
    curve = [point(0, 0, easy=0.5, hard=0.0), point(150, budget, easy=0.9, hard=worst)]
    full = [point(100, budget - 100, easy=0.8, hard=worst / 2), point(150, budget, easy=0.9, hard=worst)]
    return {"seed": seed, "token_budget": budget, "curve": curve, "full": full}


def test_steps_and_tokens_are_read_from_their_own_evaluations() -> None:
    found = run(0, worst=0.4)
    assert learning_report.at(found, "steps").worst == pytest.approx(0.2)
    assert learning_report.at(found, "tokens").worst == pytest.approx(0.4)
    assert learning_report.at(found, "tokens").average == pytest.approx(0.65)


def test_a_run_that_stopped_before_the_budget_has_no_result_there() -> None:
    found = run(0, worst=0.4) | {"token_budget": 2000}
    assert learning_report.at(found, "tokens") is None
    assert learning_report.at(found, "steps", steps=40) is None


def test_the_interval_is_students() -> None:
    mean, half = learning_report.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert half == pytest.approx(2.78 * math.sqrt(2.5 / 5))
    assert learning_report.interval([1.0])[1] == math.inf


def test_differences_pair_the_seeds_that_both_methods_have() -> None:
    runs = {
        "mt_grpo-b12": {0: run(0, 0.5), 1: run(1, 0.7), 2: run(2, 0.9)},
        "grpo-b12": {1: run(1, 0.4), 2: run(2, 0.5), 3: run(3, 0.0)},
    }
    found = learning_report.difference(runs, "mt_grpo-b12", "grpo-b12", "tokens", "worst")
    assert found["seeds"] == [1, 2]
    assert found["values"] == pytest.approx([0.3, 0.4])


def test_each_method_is_compared_at_the_batch_size_that_serves_it_best() -> None:
    runs = {"grpo-b12": {0: run(0, 0.3)}, "grpo-b24": {0: run(0, 0.4)}, "mt_grpo-b12": {0: run(0, 0.35)}}
    assert learning_report.best(runs, "grpo", "tokens") == "grpo-b24"
    assert learning_report.best(runs, "dapo", "tokens") is None


def test_tokens_to_the_final_accuracy_of_grpo_are_a_share_of_its_budget() -> None:
    runs = {"grpo-b24": {0: run(0, 0.3)}, "mt_grpo-b12": {0: run(0, 0.6)}}
    found = learning_report.tokens_to_final(runs)
    assert found["level"] == pytest.approx(0.3)
    assert found["share"] == pytest.approx(0.5, abs=0.01)


def test_seeds_on_which_a_default_was_chosen_enter_no_comparison(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for seed in (0, 1):
        path = tmp_path / "eight" / "grpo-b12" / f"seed{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run(seed, 0.3) | {"arm": "grpo-b12"}))
    monkeypatch.setattr(learning_runs, "NEW", tmp_path)
    monkeypatch.setattr(learning_runs, "PACKED", tmp_path / "packed")
    monkeypatch.setattr(learning_report, "DEVELOPMENT", {"eight": (0,)})
    assert list(learning_report.load("eight")["grpo-b12"]) == [1]
    assert list(learning_report.load("eight", "development")["grpo-b12"]) == [0]


def test_a_variant_is_compared_with_what_it_varies() -> None:
    runs = {
        "mt_grpo-b12": {0: run(0, 0.5)},
        "mt_grpo_exact_mix-b12": {0: run(0, 0.4)},
        "mt_grpo_exact_mix_no_carry-b12": {0: run(0, 0.1)},
        "mt_grpo_per_batch-b24": {0: run(0, 0.7)},
        "mt_grpo_fast-b24": {0: run(0, 0.9)},
        "alone:hard-b12": {0: run(0, 0.9)},
    }
    found = learning_report.ablation_rows(runs)
    gains = sorted(row["worst, equal tokens"]["mean"] for row in found.values())
    assert gains == pytest.approx([0.1 - 0.4, 0.4 - 0.5, 0.7 - 0.5])
    assert any(name.endswith(" - MT-GRPO, B = 12") for name in found)


def test_seeds_that_repeat_a_comparison_enter_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worst = {"dapo-b24": 0.4, "mt_grpo-b24": 0.6}
    for arm, value in worst.items():
        for seed in (0, 1, 2):
            path = tmp_path / "three" / arm / f"seed{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run(seed, value + 0.1 * seed * (arm == "mt_grpo-b24")) | {"arm": arm}))
    monkeypatch.setattr(learning_runs, "NEW", tmp_path)
    monkeypatch.setattr(learning_runs, "PACKED", tmp_path / "packed")
    monkeypatch.setattr(learning_report, "REPEATED", {"three": (2,)})
    planned, repeated = learning_report.load("three"), learning_report.load("three", "repeated")
    assert list(planned["dapo-b24"]) == [0, 1]
    assert list(repeated["dapo-b24"]) == [2]
    rows = learning_report.repeated_rows(planned, repeated)
    means = {name.rsplit(", ", 1)[1]: row["worst"]["mean"] for name, row in rows.items()}
    assert means == pytest.approx({"the planned seeds": 0.125, "the repetition": 0.2, "both": 0.15})


def test_what_shares_can_do_is_asked_against_dapo_at_the_same_batch_size_and_equal_steps() -> None:
    runs = {
        "dapo-b24": {0: run(0, 0.4), 1: run(1, 0.4)},
        "fixed_60_20_20-b24": {0: run(0, 0.6), 1: run(1, 0.8)},
        "mt_grpo-b24": {0: run(0, 0.7, budget=550), 1: run(1, 0.7, budget=550)},
        "mt_grpo-b12": {0: run(0, 0.9), 1: run(1, 0.9)},
        "mt_grpo_per_batch-b24": {0: run(0, 0.9), 1: run(1, 0.9)},
    }
    found = learning_report.reachable_rows(runs)
    assert set(found) == {"fixed_60_20_20-b24", "mt_grpo-b24"}
    assert found["fixed_60_20_20-b24"]["worst"]["values"] == pytest.approx([0.1, 0.2])
    assert found["mt_grpo-b24"]["tokens"] == pytest.approx(0.5)
    assert not learning_report.reachable_rows({arm: runs[arm] for arm in ("dapo-b24", "mt_grpo-b24")})


def test_every_arm_says_its_batch_size_and_has_a_name() -> None:
    for arm in learning.ARMS:
        assert learning_report.title(arm).endswith(f"B = {arm.rsplit('-b', 1)[1]}")


def test_the_documentation_shows_what_the_runs_say() -> None:
    stored = json.loads((learning_report.DATA / "learning.json").read_text(encoding="utf-8"))
    found = {world: learning_report.numbers(runs, world) for world in stored if (runs := learning_report.load(world))}
    assert json.loads(json.dumps(found)) == stored
    shown = learning_report.GUIDE.read_text(encoding="utf-8")
    assert learning_report.summary(found) in shown


@pytest.mark.parametrize("world", learning_report.WORLDS)
def test_the_kept_runs_of_a_world_are_drawn(world: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = learning_report.load(world)
    monkeypatch.setattr(learning_report, "IMAGES", tmp_path)
    arms = [arm for arm in runs if not arm.startswith("alone:")][:2]
    files = learning_report.draw(world, runs, arms)
    assert files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_packing_keeps_every_run_and_takes_the_new_one_of_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(learning_runs, "NEW", tmp_path / "new")
    monkeypatch.setattr(learning_runs, "PACKED", tmp_path / "packed")
    for value in (1, 2):
        for seed in (0, value):
            path = learning_runs.result_path("three", "alone:a-b12", seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"arm": "alone:a-b12", "seed": seed, "value": value}))
        learning_runs.pack("three")
        shutil.rmtree(tmp_path / "new")
    assert [(run["seed"], run["value"]) for run in learning_runs.read_runs("three")] == [(0, 2), (1, 1), (2, 2)]
    assert learning_runs.is_finished("three", "alone:a-b12", 1)
    assert not learning_runs.is_finished("three", "alone:a-b24", 1)


@pytest.mark.parametrize("path", sorted(Path(learning.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_can_be_imported(path: Path) -> None:
    assert importlib.import_module(f"benchmarks.{path.stem}").__doc__


def test_the_guard_is_replayed_on_the_kept_runs() -> None:
    run = next(run for run in learning_runs.read_runs("three") if run["arm"].startswith("mt_grpo"))
    names, held = guard_replay.held_steps(run, np.random.default_rng(0))
    assert held.shape[1] == len(names) == 3
