"""Programs on two ranks: the same waves and parameters, whoever has calls to make, and errors on both."""

from pathlib import Path
from typing import Any

import pytest

from tests.distributed.launching import launch


pytestmark = pytest.mark.launch
WORKER = Path(__file__).parent / "rank_worker.py"


def ranks_of(launcher: str, scenario: str, folder: Path) -> list[dict[str, Any]]:
    return launch(launcher, scenario, folder, worker=WORKER)


def assert_ranks_agree(ranks: list[dict[str, Any]]) -> None:
    one, other = ranks
    assert repr(one["logs"]) == repr(other["logs"])
    assert one["sum"] == other["sum"]
    assert one["imbalance"] == [0] * len(one["imbalance"])


@pytest.mark.parametrize(
    "launcher", [pytest.param(name, marks=pytest.mark.slow) for name in ("torchrun", "cpu_zero2", "cpu_zero3")]
)
def test_a_rank_with_five_calls_and_one_with_none_make_the_same_waves(launcher: str, tmp_path: Path) -> None:
    ranks = ranks_of(launcher, "uneven", tmp_path)
    assert_ranks_agree(ranks)
    assert all(rank["error"] == "" for rank in ranks)
    assert ranks[0]["logs"][0]["sampling/waves"] % 5 == 0
    assert ranks[0]["logs"][0]["sampling/waves"] > 0


@pytest.mark.slow
def test_a_bug_on_one_rank_is_raised_on_both(tmp_path: Path) -> None:
    ranks = ranks_of("torchrun", "bug", tmp_path)
    for rank in ranks:
        assert "a bug of one rank" in rank["error"]
        assert "ZeroDivisionError" in rank["error"]
        assert rank["seconds"] < 60


def test_programs_beside_plain_tasks_take_the_same_decisions_on_both_ranks(tmp_path: Path) -> None:
    ranks = ranks_of("torchrun", "mixed", tmp_path)
    assert_ranks_agree(ranks)
    assert all(count > 0 for count in ranks[0]["groups"])


@pytest.mark.slow
def test_a_program_written_with_dspy_trains_on_two_ranks(tmp_path: Path) -> None:
    pytest.importorskip("dspy", reason="the extra [dspy] is not installed")
    ranks = ranks_of("torchrun", "dspy", tmp_path)
    assert_ranks_agree(ranks)
    assert [rank["error"] for rank in ranks] == ["", ""]
    assert all(ranks[0]["logs"][0][f"modules/dspy.{name}/groups"] > 0 for name in ("draft", "answer"))


@pytest.mark.slow
def test_a_program_of_one_call_on_two_ranks_is_the_hosts_run(tmp_path: Path) -> None:
    host, own = (ranks_of("torchrun", scenario, tmp_path / scenario)[0] for scenario in ("host", "one call"))
    assert host["sum"] == own["sum"]
    for theirs, ours in zip(host["logs"], own["logs"], strict=True):
        for name, value in theirs.items():
            if not name.startswith("rewards/"):
                assert ours[name] == value, name
