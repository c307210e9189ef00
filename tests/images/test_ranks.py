"""Ranks of which some have no image in a batch train together, also where parameters are split over them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.launching import launch


pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "worker.py"


def launched(launcher: str, scenario: str, folder: Path) -> list[dict[str, Any]]:
    return launch(launcher, scenario, folder, worker=WORKER)


def test_ranks_without_images_train_beside_one_that_has_some(tmp_path: Path) -> None:
    ranks = launched("torchrun", "train", tmp_path)
    assert any((one == 0) != (other == 0) for one, other in zip(ranks[0]["images"], ranks[1]["images"], strict=True))
    assert all(count > 0 for count in ranks[0]["trained"])
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert ranks[0]["evaluated"] == 4 * 4
    assert any(rank["waited"][-1] for rank in ranks)


def test_zero3_equals_ddp(tmp_path: Path) -> None:
    split = launched("cpu_zero3", "train", tmp_path / "split")
    whole = launched("torchrun", "train", tmp_path / "whole")
    assert split[0]["optimizer"] == "DeepSpeedZeroOptimizer_Stage3"
    assert any((one == 0) != (other == 0) for one, other in zip(split[0]["images"], split[1]["images"], strict=True))
    for one, other in zip(split, whole, strict=True):
        assert one["images"] == other["images"]
        assert one["trained"] == other["trained"]
        assert one["weights"] == pytest.approx(other["weights"], abs=1e-4)


def test_two_ranks_resume_with_images_that_wait(tmp_path: Path) -> None:
    straight = launched("torchrun", "straight", tmp_path)
    resumed = launched("torchrun", "resumed", tmp_path)
    rows = json.loads((tmp_path / "checkpoint-3" / "multi_task_grpo_state.json").read_text())["body"]["payload"]
    assert any("image_digests" in row for group in rows for row in group["rows"])
    for one, other in zip(straight, resumed, strict=True):
        assert one["state"] == other["state"]
        assert one["logs"] == other["logs"]
        assert one["images"][6:] == other["images"]
