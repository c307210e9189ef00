"""Kills training processes at random moments and resumes them: `python -m tests.kill_runs FOLDER NUM_KILLS SEED`.

Each run is a fork of this process, which has imported everything and touched nothing, so that a kill costs a second.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.resume_runs import final_facts, recorded_tasks
from tests.tiny import tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.state.checkpoints import last_complete_checkpoint


SETTINGS: dict[str, Any] = {
    "max_steps": 8,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "oversampling": 3.0,
}


def train(folder: Path) -> None:
    """Trains to the end, from the last complete checkpoint where there is one, and writes what came of it."""
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    save = MultiTaskGRPOTrainer._save_checkpoint

    def journaled(self: MultiTaskGRPOTrainer, model: Any, trial: Any) -> None:
        os.write(journal, f"begin {self.state.global_step}\n".encode())
        save(self, model, trial)
        os.write(journal, f"end {self.state.global_step}\n".encode())

    MultiTaskGRPOTrainer._save_checkpoint = journaled  # type: ignore[method-assign]
    trainer = tiny_trainer(folder, recorded_tasks([]), **SETTINGS)
    newest = last_complete_checkpoint(folder)
    os.write(journal, f"start {0 if newest is None else int(newest.name.split('-')[1])}\n".encode())
    trainer.train(resume_from_checkpoint=newest is not None)
    (folder / "result").write_text(_digest(final_facts(trainer)))


def _digest(value: Any) -> str:
    """A hash that differs when any bit of a nested value does."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return [
                str(value.dtype),
                list(value.shape),
                hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest(),
            ]
        if isinstance(value, dict):
            return sorted([str(key), plain(element)] for key, element in value.items())
        return [plain(element) for element in value] if isinstance(value, list | tuple) else repr(value)

    return hashlib.sha256(json.dumps(plain(value)).encode()).hexdigest()


def forked(folder: Path) -> int:
    """Starts `train` in a process of its own and returns its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train(folder)
        code = 0
    finally:
        os._exit(code)


def journal(folder: Path) -> list[tuple[str, int]]:
    path = folder / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def at_time(seconds: float) -> Callable[[Path], bool]:
    end = time.monotonic() + seconds
    return lambda folder: time.monotonic() >= end


def in_checkpoint(step: int, seconds: float) -> Callable[[Path], bool]:
    """When writing the checkpoint of `step` has gone on for some seconds."""

    def is_now(folder: Path) -> bool:
        if ("begin", step) not in journal(folder):
            return False
        time.sleep(seconds)
        return True

    return is_now


def kill(folder: Path, is_time: Callable[[Path], bool]) -> bool:
    """Trains and kills; whether the process was still running."""
    process = forked(folder)
    while not is_time(folder):
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def main(folder: Path, num_kills: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    started = time.monotonic()
    assert os.waitpid(forked(folder / "straight"), 0)[1] == 0, (folder / "straight" / "log").read_text()
    whole = time.monotonic() - started
    expected = (folder / "straight" / "result").read_text()
    runs: list[dict[str, Any]] = []
    attempt = 0
    while len(runs) < num_kills:
        attempt += 1
        run = folder / f"run{attempt}"
        moment = rng.uniform(0.1, 0.95)
        step = rng.choice([2, 4, 6, 8])
        in_save = in_checkpoint(step, moment * 0.06)
        if not kill(run, in_save if attempt % 2 == 0 else at_time(moment * whole)):
            continue  # it had ended before
        before = journal(run)
        code = os.waitpid(forked(run), 0)[1]
        runs.append(
            {
                "in_checkpoint": bool(before) and before[-1][0] == "begin",
                "last_complete": max((step for event, step in before if event == "end"), default=0),
                "resumed_at": [step for event, step in journal(run) if event == "start"][-1],
                "equal": code == 0 and (run / "result").read_text() == expected,
            }
        )
    return {"runs": runs, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
