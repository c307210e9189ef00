"""With two ranks, too, a resumed run is the uninterrupted one, bit for bit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.launching import HERE, _free_port
from tests.resume_runs import differences
from tests.tiny import tiny_model
from trl_mtgrpo.state.state_file import STATE_FILE


def launched(launcher: str, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    folder.mkdir()
    root = str(HERE.parent.parent)
    port = str(_free_port())
    start = ["-m", "accelerate.commands.launch", "--config_file", str(HERE / f"{launcher}.yaml")]
    command = [*start, "--main_process_port", port, str(HERE / "resume_worker.py"), str(folder), *arguments]
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CI": "1"}
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            [sys.executable, *command],
            cwd=root,
            env=environment,
            stdout=output,
            stderr=output,
            timeout=400,
            check=False,
        )
    results = [folder / f"rank{rank}.json" for rank in range(2)]
    assert all(result.exists() for result in results), (folder / "output.txt").read_text()[-4000:]
    return [json.loads(result.read_text()) for result in results]


def saved(checkpoint: Path) -> dict[str, Any]:
    """Weights, optimizer and scheduler of a checkpoint."""
    files = [checkpoint / "scheduler.pt", *checkpoint.glob("optimizer.pt"), *checkpoint.glob("global_step*/*.pt")]
    loaded = {path.name: torch.load(path, weights_only=False) for path in files}
    for name in loaded:  # DeepSpeed saves its settings, too, and an object that equals nothing
        if "states" in name:
            kept = {key: loaded[name].get(key) for key in ("module", "optimizer_state_dict", "global_steps")}
            (kept["optimizer_state_dict"] or {}).pop("loss_scaler", None)
            loaded[name] = kept
    return loaded | {"weights": load_file(checkpoint / "model.safetensors")}


@pytest.mark.slow
@pytest.mark.launch
@pytest.mark.parametrize("launcher", ["cpu_ddp", "cpu_zero3"])
def test_two_ranks_resume_exactly(launcher: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    tiny_model().save_pretrained(model)
    straight = launched(launcher, tmp_path / "straight", str(model))
    cut = tmp_path / "checkpoint-4"
    shutil.copytree(tmp_path / "straight" / "checkpoint-4", cut)
    assert json.loads((cut / STATE_FILE).read_text())["body"]["payload"]
    resumed = launched(launcher, tmp_path / "resumed", str(model), str(cut))
    for before, after in zip(straight, resumed, strict=True):
        assert before["world_size"] == 2
        prompts, later = before.pop("prompts"), after.pop("prompts")
        assert later
        assert prompts[-len(later) :] == later
        assert list(differences(before, after)) == []
    facts, rows = zip(*(json.loads(rank["state"]) for rank in straight), strict=True)
    assert facts[0] == facts[1]
    assert rows[0] != rows[1]  # each rank keeps its own
    files = (saved(tmp_path / name / "checkpoint-8") for name in ("straight", "resumed"))
    assert list(differences(*files)) == []
