"""A training process may be killed at any moment; the newest complete checkpoint continues it to the same end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def kills(folder: Path, num_kills: int, seed: int) -> list[dict[str, Any]]:
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CI": "1"}
    command = [sys.executable, "-m", "tests.kill_runs", str(folder), str(num_kills), str(seed)]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=60 + 30 * num_kills, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])["runs"]


def check(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        assert run["equal"], runs
        # A kill may strike between the end of a checkpoint and the line that says so.
        assert run["resumed_at"] >= run["last_complete"], runs


@pytest.mark.slow
def test_two_killed_runs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    runs = kills(tmp_path, 2, seed=1)
    check(runs)
    assert len(runs) == 2


@pytest.mark.slow
def test_twenty_killed_runs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    runs = kills(tmp_path, 20, seed=0)
    check(runs)
    assert len(runs) == 20
    assert any(run["in_checkpoint"] for run in runs)
