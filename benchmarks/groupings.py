"""
What a group of a program's calls should be: three ways on the program that checks itself, from one warm start.

    python benchmarks/groupings.py            # runs what is missing, one process after another
    python benchmarks/groupings.py --report   # docs/data/groupings.md from the stored runs

Fixed before the first run:

- `examples/train_program.py --self_check`, 80 steps of 12 groups of 8, seeds 0, 1 and 2, one warm start for all.
- `members`: a call is compared with the calls of the same module and occurrence (mmGRPO; the default). `rollouts`:
  the reward of every rollout of the prompt takes part in its baseline. `complete`: as `members`, and a group that not
  every rollout has reached is left out.
- Differences are paired by seed, at the number of generated tokens that the cheapest of a seed's three runs has
  reached, by linear interpolation between evaluations (every 20 steps, 200 held-out prompts with 4 rollouts each,
  whose standard error is about 2 points). Half of a 95 % interval is Student's t with two degrees of freedom.
- The stored runs are of the warm start that the example had then: half of the rules and 30 % of the grids wrong.
- Said beside it: groups trained from as many generated tokens, as a ratio.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.agents import execute, history_of, interval


RESULTS = ROOT / "benchmarks" / "results" / "groupings"
PAGE = ROOT / "docs" / "data" / "groupings.md"
SEEDS = (0, 1, 2)
ARMS = {"members": (), "rollouts": ("--group_baseline", "rollouts"), "complete": ("--drop_incomplete",)}
STEPS, EVAL_STEPS, ROWS = 80, 20, 96


def path_of(arm: str, seed: int) -> Path:
    return RESULTS / f"{arm}-seed{seed}.json"


def run(arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """Runs one command to its end and keeps what it measured."""
    output = folder / f"{arm}-seed{seed}"
    command = [
        *("examples/train_program.py", "--self_check", "--seed", str(seed), "--output_dir", str(output)),
        *("--max_steps", str(STEPS), "--eval_steps", str(EVAL_STEPS), "--batch_size", str(ROWS), *ARMS[arm]),
    ]
    cost = execute(command, output, folder)[1]
    points, tokens, unfilled = [], 0.0, 0.0
    for log in history_of(output):
        tokens = log.get("sampling/total_generated_tokens", tokens)
        unfilled += 10 * log.get("sampling/unfilled_groups", 0.0)  # each the mean of ten steps
        if "eval_tasks/arc/accuracy" in log:
            points.append(
                {
                    "step": log["step"],
                    "tokens": round(tokens),
                    "trained_groups": round(log["step"] * ROWS / 8 - unfilled),
                    "program": round(log["eval_tasks/arc/accuracy"], 4),
                    "rule": round(log["eval_rule_accuracy"], 4),
                }
            )
    return cost | {"points": points}


def at(points: list[dict[str, Any]], key: str, tokens: float) -> float:
    """A figure where a run had generated `tokens`."""
    return float(np.interp(tokens, [point["tokens"] for point in points], [point[key] for point in points]))


def report() -> str:
    """The tables of docs/data/groupings.md."""
    runs = {(arm, seed): path_of(arm, seed) for arm in ARMS for seed in SEEDS}
    found = {key: json.loads(path.read_text())["points"] for key, path in runs.items() if path.exists()}
    seeds = [seed for seed in SEEDS if all((arm, seed) in found for arm in ARMS)]
    lines = [
        "# Which calls of a program are compared with each other",
        "",
        "Written by `python benchmarks/groupings.py --report`; what was fixed before the first run stands in that "
        "file. Accuracy on held-out prompts at equal generated tokens.",
        "",
        "| seed | tokens | " + " | ".join(f"`{arm}`" for arm in ARMS) + " |",
        "| ---: | ---: |" + " ---: |" * len(ARMS),
    ]
    ends = {seed: min(found[arm, seed][-1]["tokens"] for arm in ARMS) for seed in seeds}
    for seed in seeds:
        start = found["members", seed][0]["program"]
        cells = [f"{start:.2f} → {at(found[arm, seed], 'program', ends[seed]):.2f}" for arm in ARMS]
        lines.append(f"| {seed} | {ends[seed]:,} | " + " | ".join(cells) + " |")
    lines += ["", "| `members` less | program, points | rule, points | groups trained per token, ratio |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for arm in list(ARMS)[1:] if seeds else []:
        cells = []
        for key in ("program", "rule"):
            gaps = [at(found["members", s], key, ends[s]) - at(found[arm, s], key, ends[s]) for s in seeds]
            cells.append(interval(gaps))
        ratios = [
            at(found["members", s], "trained_groups", ends[s]) / at(found[arm, s], "trained_groups", ends[s])
            for s in seeds
        ]
        lines.append(f"| `{arm}` | {cells[0]} | {cells[1]} | {float(np.mean(ratios)):.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true")
    parser.add_argument(
        "--outputs", type=Path, default=ROOT / "outputs" / "groupings", help="where the example writes"
    )
    args = parser.parse_args()
    if not args.report:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for seed in SEEDS:
            for arm in ARMS:
                if not path_of(arm, seed).exists():
                    result = run(arm, seed, args.outputs)
                    path_of(arm, seed).write_text(json.dumps(result) + "\n")
    PAGE.write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
