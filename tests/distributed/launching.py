"""Starts two ranks of the worker through a real launcher and reads what they wrote."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tiny import tiny_model


HERE = Path(__file__).parent
NUM_RANKS = 2


def launch(
    launcher: str, scenario: str, folder: Path, timeout: float = 420.0, worker: Path = HERE / "worker.py"
) -> list[dict[str, Any]]:
    """
    What each rank of a scenario wrote.

    Args:
        launcher (`str`): `"torchrun"`, or the name of a yaml file beside this module for `accelerate launch`.
        scenario (`str`): A scenario of the worker.
        folder (`Path`): Where results go.
        timeout (`float`): Seconds after which the run counts as hanging.
        worker (`Path`): What each rank runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    tiny_model().save_pretrained(model)
    port = str(_free_port())
    if launcher == "torchrun":
        start = ["-m", "torch.distributed.run", "--nproc_per_node", str(NUM_RANKS), "--master_port", port]
    else:
        config = str(HERE / f"{launcher}.yaml")
        start = ["-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", port]
    command = [sys.executable, *start, str(worker), scenario, str(model), str(folder)]
    root = str(HERE.parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CI": "1"}
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = -1
    results = [folder / f"rank{rank}.json" for rank in range(NUM_RANKS)]
    if code == -1 or not all(result.exists() for result in results):
        tail = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-4000:]
        raise RuntimeError(f"the run must end within {timeout} s with a result of each rank, got code {code}.\n{tail}")
    return [json.loads(result.read_text(encoding="utf-8")) for result in results]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
