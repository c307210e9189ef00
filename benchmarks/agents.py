"""
Do tasks with tools, environments and programs learn on a laptop: both examples on three seeds, one beside GRPO.

    python benchmarks/agents.py            # runs what is missing, one process after another, about an hour
    python benchmarks/agents.py --report   # the table of docs/results.md from the stored runs

Fixed before the first run:

- Seeds 0, 1 and 2, each example with its own settings and nothing else. The order is `ORDER`.
- `examples/train_environments.py`: 80 steps; every seed has its own warm start. Asked: the worst of the three tasks at
  least 0.6 on the held-out prompts in the last evaluation, on each seed.
- GRPO beside it: the same command with `--method grpo` from the same warm start, for as many steps as the completions
  that the other run of the seed generated are worth, rounded up to the next evaluation (every 20 steps). Both are
  compared where the shorter of the two has its last generated token, by linear interpolation between evaluations.
  Differences are paired by seed, with half of the 95 % interval (Student's t, two degrees of freedom).
- `examples/train_program.py`: 150 steps; one warm start (seed 0) for all seeds. Asked, on each seed and on held-out
  prompts: program accuracy at most 0.30 before, at least 0.50 after; the module that no reward looks at 0.15 higher.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "agents"
SEEDS = (0, 1, 2)
ORDER = [(name, seed) for name in ("environments", "program", "environments-grpo") for seed in SEEDS]
STEPS, EVAL_STEPS, ROWS = 80, 20, 96
STUDENT = 4.302653  # 97.5 % of Student's t with two degrees of freedom


def command_of(name: str, seed: int, output: Path) -> list[str]:
    given = ["--seed", str(seed), "--output_dir", str(output)]
    if name == "program":
        return ["examples/train_program.py", *given]
    if name == "environments":
        return ["examples/train_environments.py", *given]
    completions = stored("environments", seed)["completions"]
    steps = math.ceil(completions / ROWS / EVAL_STEPS) * EVAL_STEPS
    return ["examples/train_environments.py", *given, "--method", "grpo", "--max_steps", str(steps)]


def path_of(name: str, seed: int) -> Path:
    return RESULTS / f"{name}-seed{seed}.json"


def stored(name: str, seed: int) -> dict[str, Any]:
    return json.loads(path_of(name, seed).read_text())


def run(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Runs one command to its end and keeps what it measured."""
    output = folder / f"{name}-seed{seed}"
    if name == "environments-grpo":
        shutil.copytree(
            folder / f"environments-seed{seed}" / "warm_starts", output / "warm_starts", dirs_exist_ok=True
        )
    command = command_of(name, seed, output)
    output.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
    since, spent = time.perf_counter(), os.times()
    with (output / "errors.txt").open("w") as errors:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    (output / "output.txt").write_text(done.stdout)
    done.check_returncode()
    cost = os.times()
    result: dict[str, Any] = {
        "command": " ".join(command).replace(str(folder), "outputs"),
        "wall_seconds": round(time.perf_counter() - since),
        "cpu_seconds": round(cost.children_user + cost.children_system - spent.children_user - spent.children_system),
    }
    if name == "program":
        lines = re.findall(r"^ *(\d+) +([\d.]+) +([\d.]+) *$", done.stdout, re.MULTILINE)
        return result | {"points": [{"step": int(s), "program": float(p), "rule": float(r)} for s, p, r in lines]}
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    points, tokens, completions = [], 0.0, 0.0
    for log in history:
        tokens = log.get("sampling/total_generated_tokens", tokens)
        completions = 8 * log.get("sampling/total_generated_groups", completions / 8)
        if "eval_worst_task_accuracy" in log:
            accuracy = {
                key.split("/")[1]: round(value, 4)
                for key, value in log.items()
                if key.startswith("eval_tasks/") and key.endswith("/accuracy")
            }
            points.append({"step": log["step"], "tokens": round(tokens), "accuracy": accuracy})
    return result | {"completions": round(completions), "points": points}


def interval(values: list[float]) -> str:
    sample = 100 * np.array(values)
    return f"{sample.mean():+.1f} ± {STUDENT * sample.std(ddof=1) / math.sqrt(len(sample)):.1f}"


def report() -> str:
    """The tables of docs/results.md."""
    runs = {(name, seed): stored(name, seed) for name, seed in ORDER if path_of(name, seed).exists()}
    lines = ["| run | seed | before | after | minutes |", "| --- | ---: | --- | --- | ---: |"]
    for (name, seed), found in runs.items():
        first, last = found["points"][0], found["points"][-1]
        before, after = (
            " / ".join(
                f"{value:.2f}"
                for value in point.get("accuracy", {k: point.get(k) for k in ("program", "rule")}).values()
            )
            for point in (first, last)
        )
        lines.append(f"| {name} | {seed} | {before} | {after} | {found['wall_seconds'] / 60:.1f} |")
    pairs = [seed for seed in SEEDS if ("environments-grpo", seed) in runs and ("environments", seed) in runs]
    worst, average = [], []
    for seed in pairs:
        ours, theirs = runs["environments", seed]["points"], runs["environments-grpo", seed]["points"]
        tokens = min(ours[-1]["tokens"], theirs[-1]["tokens"])
        at = [
            [
                float(np.interp(tokens, [p["tokens"] for p in points], [p["accuracy"][task] for p in points]))
                for task in ours[0]["accuracy"]
            ]
            for points in (ours, theirs)
        ]
        worst.append(min(at[0]) - min(at[1]))
        average.append(float(np.mean(at[0]) - np.mean(at[1])))
        lines.append(f"seed {seed}, {tokens:,} tokens: worst {min(at[0]):.3f} against {min(at[1]):.3f}")
    if len(pairs) > 1:
        lines.append(f"MT-GRPO - GRPO at equal tokens: worst {interval(worst)}, average {interval(average)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "agents", help="where the examples write")
    args = parser.parse_args()
    if not args.report:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for name, seed in ORDER:
            if not path_of(name, seed).exists():
                result = run(name, seed, args.outputs)
                path_of(name, seed).write_text(json.dumps(result) + "\n")
    print(report())


if __name__ == "__main__":
    main()
