"""Two ranks whose episodes have differently many turns stay together, also when one of them fails."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.launching import _free_port


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent


def launched(scenario: str, folder: Path, *options: str, timeout: float = 240.0) -> list[Any]:
    """What each of two ranks wrote; a run that hangs is an error."""
    port = str(_free_port())
    start = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    command = [sys.executable, *start, str(Path(__file__).parent / "worker.py"), scenario, str(folder), *options]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CI": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    results = [folder / f"rank{rank}.json" for rank in range(2)]
    if not all(result.exists() for result in results):
        raise RuntimeError((folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-4000:])
    return [json.loads(result.read_text(encoding="utf-8")) for result in results]


@pytest.mark.parametrize("scenario", ["train", "lengths", "programs"])
def test_ranks_generate_together_and_stay_equal(scenario: str, tmp_path: Path) -> None:
    first, second = launched(scenario, tmp_path)
    assert first["error"] is second["error"] is None
    assert first["calls"] == second["calls"]
    assert len(first["calls"]) > 8
    assert first["parameters"] == second["parameters"]
    assert first["weights"] == second["weights"]
    assert first["groups"] == second["groups"]
    assert first["closed"] > 0


def test_evaluation_rows_of_each_kind_are_shared_by_ranks(tmp_path: Path) -> None:
    first, second = launched("programs", tmp_path)
    assert first["error"] is second["error"] is None
    counts = {task: first["evaluation"][f"eval_tasks/{task}/completions"] for task in ("plain", "prog", "guess")}
    assert counts == {"plain": 4, "prog": 12, "guess": 8}
    assert first["evaluation"]["eval_tools/call_frequency"] > 0


def test_thirty_runs_with_uneven_turns_and_late_tools_leave_equal_parameters(tmp_path: Path) -> None:
    first, second = launched("late", tmp_path, "--repeats", "30", timeout=900.0)
    assert len(first) == len(second) == 30
    for one, other in zip(first, second, strict=True):
        assert one["error"] is other["error"] is None
        assert one["calls"] == other["calls"]
        assert one["parameters"] == other["parameters"]
        assert one["weights"] == other["weights"]
    turns = [(len(one["own"]), len(other["own"])) for one, other in zip(first, second, strict=True)]
    assert sum(here != there for here, there in turns) >= 10, turns
    assert len({tuple(one["parameters"]) for one in first}) == 30


def test_a_reset_that_fails_on_one_rank_is_one_error_on_both(tmp_path: Path) -> None:
    first, second = launched("reset", tmp_path)
    assert first["error"] == second["error"]
    assert "`environment_factory` of task 'guess' must make environments that can be reset" in first["error"]
    assert "LookupError: no such room" in first["error"]
    assert first["closed"] > 0


def test_a_tool_that_hangs_on_one_rank_is_ended_by_its_limit(tmp_path: Path) -> None:
    first, second = launched("hang", tmp_path)
    assert first["error"] is second["error"] is None
    assert first["parameters"] == second["parameters"]


def test_a_failure_of_the_host_on_one_rank_ends_both(tmp_path: Path) -> None:
    first, second = launched("broken", tmp_path)
    assert second["error"] == "ArithmeticError: no suffix"
    assert "failed on another rank" in first["error"]
