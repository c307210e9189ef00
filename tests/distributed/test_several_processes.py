"""Two ranks through the real launchers take the same decisions, under every backend, and never wait for each other."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.launching import NUM_RANKS, launch


pytestmark = pytest.mark.launch

Results = list[dict[str, Any]]
DECISIONS = ("selections", "fillers", "calls", "groups", "tokens", "imbalance")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Results]:
    """Each run is made once and compared by several tests."""
    runs: dict[tuple[str, str], Results] = {}

    def run(launcher: str, scenario: str) -> Results:
        if (launcher, scenario) not in runs:
            runs[launcher, scenario] = launch(launcher, scenario, tmp_path_factory.mktemp(f"{launcher}_{scenario}"))
        return runs[launcher, scenario]

    return run


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not any(t in name for t in ("time", "per_second"))}


def assert_ranks_agree(ranks: Results) -> None:
    first, second = ranks
    for name in (*DECISIONS, "weights", "final_weights"):
        assert first[name] == second[name], name
    assert [repr(timeless(line)) for line in first["logs"]] == [repr(timeless(line)) for line in second["logs"]]
    assert first["imbalance"] == [0] * len(first["imbalance"])
    assert first["world_size"] == NUM_RANKS


def assert_same_run(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same decisions, and losses and weights but for the order of float additions."""
    for name in DECISIONS:
        assert one[name] == other[name], name
    for ours, theirs in zip(one["weights"], other["weights"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    for ours, theirs in zip(one["logs"], other["logs"], strict=True):
        assert ours.get("loss", 0.0) == pytest.approx(theirs.get("loss", 0.0), rel=1e-6, abs=1e-6)
        assert ours.get("grad_norm", 0.0) == pytest.approx(theirs.get("grad_norm", 0.0), rel=1e-5)


def test_two_ranks_under_torchrun_take_the_same_decisions(launched: Callable[[str, str], Results]) -> None:
    ranks = launched("torchrun", "train")
    assert_ranks_agree(ranks)
    assert ranks[0]["wrapped"] == "DistributedDataParallel"
    assert sum(ranks[0]["groups"]["generated"]) > sum(ranks[0]["groups"]["trained"]) > 0
    assert ranks[0]["weights"][0] != ranks[0]["weights"][-1]


@pytest.mark.slow
def test_two_ranks_stop_and_complete_the_same_groups(launched: Callable[[str, str], Results]) -> None:
    ranks = launched("torchrun", "pilots")
    assert_ranks_agree(ranks)
    stopped = [line["sampling/pilot_stopped"] for line in ranks[0]["logs"] if "sampling/pilot_stopped" in line]
    made = [line["sampling/generated_rollouts"] for line in ranks[0]["logs"] if "sampling/generated_rollouts" in line]
    assert sum(stopped) > 0
    # Each rank makes half of the rows, and of an odd number one more.
    assert sum(made) <= 2 * sum(ranks[0]["calls"]) <= sum(made) + 2 * len(ranks[0]["calls"])


@pytest.mark.slow
def test_the_improvement_of_two_ranks_is_the_change_of_their_loss(launched: Callable[[str, str], Results]) -> None:
    first, second = (ranks["changes"] for ranks in launched("torchrun", "surrogate"))
    assert len(first) == len(second) == 3
    for (improvement, num_rows, decrease), (other_improvement, _, other_decrease) in zip(first, second, strict=True):
        assert improvement == other_improvement
        assert improvement / num_rows == pytest.approx((decrease + other_decrease) / 2, abs=1e-6)
        assert abs(decrease) > 1e-4


@pytest.mark.slow
def test_accelerate_starts_the_same_run_as_torchrun(launched: Callable[[str, str], Results]) -> None:
    ranks = launched("cpu_ddp", "train")
    assert_ranks_agree(ranks)
    assert_same_run(ranks[0], launched("torchrun", "train")[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "optimizer"),
    [("cpu_zero2", "DeepSpeedZeroOptimizer"), ("cpu_zero3", "DeepSpeedZeroOptimizer_Stage3")],
)
def test_deepspeed_equals_ddp(launcher: str, optimizer: str, launched: Callable[[str, str], Results]) -> None:
    ranks = launched(launcher, "train")
    assert_ranks_agree(ranks)
    assert (ranks[0]["wrapped"], ranks[0]["optimizer"]) == ("DeepSpeedEngine", optimizer)
    assert_same_run(ranks[0], launched("torchrun", "train")[0])


@pytest.mark.slow
def test_zero3_with_lora_and_kl_equals_ddp(launched: Callable[[str, str], Results]) -> None:
    ranks = launched("cpu_zero3", "lora_kl")
    assert_ranks_agree(ranks)
    assert any(line.get("kl", 0.0) > 0 for line in ranks[0]["logs"])
    assert_same_run(ranks[0], launched("torchrun", "lora_kl")[0])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "cpu_zero3"])
def test_a_rank_without_informative_rows_trains_with_the_other(
    launcher: str, launched: Callable[[str, str], Results]
) -> None:
    ranks = launched(launcher, "uninformative")
    assert_ranks_agree(ranks)
    groups = ranks[0]["groups"]
    # Half of what is generated lies on the rank whose rewards never vary.
    assert groups["filtered"][0][1] >= groups["generated"][0] // 2
    assert groups["trained"][0] > 0
    assert all(line["grad_norm"] > 0 for line in ranks[0]["logs"] if "grad_norm" in line)


@pytest.mark.slow
def test_ranks_generate_the_same_number_of_rows_whatever_they_hold(launched: Callable[[str, str], Results]) -> None:
    ranks = launched("torchrun", "uneven")
    assert_ranks_agree(ranks)
    assert len(set(ranks[0]["calls"])) > 1
    evaluations = [line for line in ranks[0]["logs"] if "eval_loss" in line]
    sizes = {"easy": 3, "medium": 4, "hard": 5}
    assert len(evaluations) == 2
    for line in evaluations:
        assert {name: line[f"eval_tasks/{name}/completions"] for name in sizes} == {n: 2 * s for n, s in sizes.items()}


@pytest.mark.slow
def test_a_reward_that_fails_on_one_rank_stops_both_with_its_place(launched: Callable[[str, str], Results]) -> None:
    errors = [rank["error"] for rank in launched("torchrun", "raise")]
    assert errors[0] == errors[1]
    assert re.search(r"task 'medium'.*no digit to divide by.*fails_on_rank_one.*row \d+", errors[0])


@pytest.mark.slow
def test_a_run_without_results_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="with a result of each rank, got code"):
        launch("torchrun", "no such scenario", tmp_path, timeout=120)
