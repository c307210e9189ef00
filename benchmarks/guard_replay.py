"""
When would the plateau guard have acted in runs that are there? Their logged weights and accuracies, through the guard.

    python benchmarks/guard_replay.py

A log entry is the mean of ten steps, so that the noise of single steps is not in it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning import RESULTS
from trl_mtgrpo import MultiTaskGRPOConfig
from trl_mtgrpo.method import build_guard


def held_steps(run: dict[str, Any]) -> dict[str, int]:
    """Steps for which the guard would have held each task, for the tasks that it would have held at all."""
    names = list(run["curve"][0]["accuracy"])
    log = [entry for entry in run["history"] if f"tasks/{names[0]}/weight" in entry]
    steps = np.arange(log[-1]["step"])

    def series(metric: str, name: str) -> Any:
        known = [entry for entry in log if f"tasks/{name}/{metric}" in entry]
        values = [entry[f"tasks/{name}/{metric}"] for entry in known]
        return np.interp(steps, [entry["step"] - 5 for entry in known], values)

    weights, accuracy = (np.stack([series(m, n) for n in names], axis=1) for m in ("weight", "accuracy"))
    guard = build_guard(MultiTaskGRPOConfig(use_cpu=True, bf16=False), len(names))
    assert guard is not None
    state, held = guard.init(len(names)), np.zeros(len(names), dtype=np.int64)
    for z, accuracies in zip(weights, accuracy, strict=True):
        state = guard.update(z, accuracies, state)
        held += state.held
    return {name: int(count) for name, count in zip(names, held, strict=True) if count}


def main() -> None:
    paths = [
        path for world in ("three", "eight", "even") for path in sorted((RESULTS / world).glob("mt_grpo*/*.json"))
    ]
    found = {path: held_steps(json.loads(path.read_text(encoding="utf-8"))) for path in paths}
    for path, held in found.items():
        if held:
            print(f"{path.relative_to(RESULTS)}: {held}")
    print(f"{len(found)} runs, held in {sum(map(bool, found.values()))}")


if __name__ == "__main__":
    main()
