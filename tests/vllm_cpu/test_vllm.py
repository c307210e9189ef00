"""vLLM generates a round in one call, is sent new weights once per step, and its log-probabilities reach the loss."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vllm_cpu.fake_server import fake_server


pytestmark = pytest.mark.vllm

WORKER = Path(__file__).parent / "worker.py"


def start(scenario: str, folder: Path, *options: str) -> dict[str, Any]:
    root = str(WORKER.parent.parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1", "CI": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    ended = subprocess.run(
        [sys.executable, str(WORKER), scenario, str(folder), *options],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    result = folder / "result.json"
    if not result.exists():
        raise RuntimeError(f"the worker must write a result, got code {ended.returncode}.\n{ended.stderr[-4000:]}")
    return json.loads(result.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def colocated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Each scenario is run once: an engine takes half a minute to start."""
    runs: dict[str, dict[str, Any]] = {}

    def run(scenario: str) -> dict[str, Any]:
        if scenario not in runs:
            runs[scenario] = start(scenario, tmp_path_factory.mktemp(scenario))
        return runs[scenario]

    return run


SCENARIOS = ["corrected", "corrected_tokens", "uncorrected"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_round_is_one_call_after_one_sync_per_step(
    scenario: str, colocated: Callable[[str], dict[str, Any]]
) -> None:
    found = colocated(scenario)
    for batch in found["batches"]:
        calls = [kind for kind, step, _ in found["calls"] if step == batch["step"]]
        # A batch that the step before left enough for needs no round.
        assert calls == ["sync"][: batch["rounds"]] + ["generate"] * batch["rounds"]
    assert sum(rows for _, _, rows in found["calls"]) == 4 * found["generated"]
    assert found["imbalance"] == [0] * 6


@pytest.mark.parametrize("scenario", ["corrected", "uncorrected"])
def test_a_step_takes_several_rounds(scenario: str, colocated: Callable[[str], dict[str, Any]]) -> None:
    assert max(batch["rounds"] for batch in colocated(scenario)["batches"]) > 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sampling_log_probabilities_reach_the_loss_through_replay_and_carry_over(
    scenario: str, colocated: Callable[[str], dict[str, Any]]
) -> None:
    batches = colocated(scenario)["batches"]
    assert any(any(batch["carried"]) for batch in batches)
    assert max(batch["sampling_difference"] for batch in batches) < 1e-6


@pytest.mark.parametrize("scenario", SCENARIOS[:2])
def test_the_correction_relates_every_row_to_the_sampling_policy(
    scenario: str, colocated: Callable[[str], dict[str, Any]]
) -> None:
    found = colocated(scenario)
    assert all(batch["has_ratio"] for batch in found["batches"])
    ratios = [line["sampling/importance_sampling_ratio/mean"] for line in found["logs"] if "sampling/rounds" in line]
    assert len(ratios) == len(found["batches"])
    assert all(0.5 < ratio < 2.0 for ratio in ratios)


def test_without_correction_carried_rows_keep_the_log_probabilities_of_the_engine(
    colocated: Callable[[str], dict[str, Any]],
) -> None:
    batches = colocated("uncorrected")["batches"]
    assert not any(batch["has_ratio"] for batch in batches)
    assert max(batch["old_difference_carried"] for batch in batches) < 1e-6


def test_server_mode_asks_for_each_group_once(tmp_path: Path) -> None:
    with fake_server() as (address, requests):
        found = start("server", tmp_path, "--base-url", address)
    asked = [body for path, body in requests if path == "/v1/completions"]
    assert {body["n"] for body in asked} == {4}
    assert sum(len(body["prompt"]) for body in asked) == found["generated"]
    assert len(asked) == sum(batch["rounds"] for batch in found["batches"])
    for batch in found["batches"]:
        syncs = [kind for kind, step, _ in found["calls"] if step == batch["step"]].count("sync")
        assert syncs == min(batch["rounds"], 1)
    assert max(batch["sampling_difference"] for batch in found["batches"]) < 1e-6
    assert found["imbalance"] == [0] * 6


def test_a_turn_is_one_call_and_weights_are_sent_once_per_step(
    colocated: Callable[[str], dict[str, Any]],
) -> None:
    found = colocated("tools")
    by_step = [[kind for kind, at, _ in found["calls"] if at == step] for step in range(6)]
    # A step that the one before left enough for makes no calls.
    made = [calls for calls in by_step if calls]
    assert len(made) >= 3
    for calls in made:
        assert calls[0] == "sync"
        assert calls.count("sync") == 1
    # Where no rollout calls a tool its first turn is its last.
    assert max(calls.count("generate") for calls in made) > 1
    assert found["imbalance"] == [0] * 8


def test_tools_answered_and_their_tokens_have_no_log_probability(colocated: Callable[[str], dict[str, Any]]) -> None:
    found = colocated("tools")
    assert sum(batch["not_written"] for batch in found["batches"]) > 0
    assert all(batch["sampled_elsewhere"] == 0 for batch in found["batches"])


@pytest.mark.parametrize("scenario", ["tools", "program", "pilots"])
def test_the_engine_and_the_model_agree_on_what_the_model_wrote(
    scenario: str, colocated: Callable[[str], dict[str, Any]]
) -> None:
    batches = colocated(scenario)["batches"]
    assert all(batch["written"] > 0 for batch in batches)
    assert max(batch["difference"] for batch in batches) < 0.05


def test_new_calls_of_a_ragged_program_have_ratios_near_one_and_filler_rows_exactly_one(
    colocated: Callable[[str], dict[str, Any]],
) -> None:
    batches = colocated("program")["batches"]
    assert sum(batch["fillers"] for batch in batches) > 0
    assert any(batch["ratios"][0] is not None for batch in batches)
    for batch in batches:
        low, high = batch["ratios"]
        assert low is None or 0.8 < low <= high < 1.2
        assert not batch["fillers"] or batch["filler_ratios"] == [1.0, 1.0]


def test_pilots_and_what_completes_them_are_two_calls_after_one_sync(
    colocated: Callable[[str], dict[str, Any]],
) -> None:
    found = colocated("pilots")
    by_step = [[kind for kind, at, _ in found["calls"] if at == step] for step in range(6)]
    made = [calls for calls in by_step if calls]
    for calls in made:
        assert calls[0] == "sync"
        assert calls.count("sync") == 1
    assert max(calls.count("generate") for calls in made) > 1
    assert sum(rows for _, _, rows in found["calls"]) == found["rollouts"] < 4 * found["generated"]
    assert found["imbalance"] == [0] * 6
