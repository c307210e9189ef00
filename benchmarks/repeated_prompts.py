"""
What is learned where prompts come several times: memory, pilots, and two ideas from elsewhere, at equal tokens.

    python benchmarks/repeated_prompts.py            # runs what is missing, one after another, hours
    python benchmarks/repeated_prompts.py --report   # docs/data/repeated_prompts.md from the stored runs

Fixed before the first run:

- World `three` with 100 prompts per task, so that a run passes over countdown's some twenty times. Everything else
  is as in `benchmarks/learning.py`: warm starts by seed, held-out accuracy of 500 prompts x 8 per task.
- Pairs, each of equal B and G: `mt_grpo_solved` (memory) less `mt_grpo`, both 12 x 8; `mt_grpo_g32_pilot` (pilots of
  8, "auto") less `mt_grpo_g32`, both 6 x 32; `weights_only_zvp` (RL-ZVP's advantage for groups whose rewards are all
  alike, nothing filtered) less `mt_grpo`, which filters them; `one_task_steps` less `three_steps`, both three
  optimizer steps per batch of 12 x 8. Memory with pilots is refused by the library and has no arm.
- 160 thousand generated tokens, and the batches of `BATCHES`: compared at either. Seeds 0, 1 and 2 for all arms, in
  the order of `ARMS`; then seeds 3 and 4 for the first four arms as far as time allows.
- Changed while it ran: `mt_grpo_g32_pilot` was stopped on seed 2, since on seeds 0 and 1 no pilot had begun ("auto")
  and both runs were those of `mt_grpo_g32` to the last bit.
- Asked of the best arm: worst task +3 points over `mt_grpo` at equal tokens, the interval above 0.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning_report import at, difference, load
from benchmarks.learning_runs import is_finished, result_path


WORLD, TOKENS = "three-100", 160_000
# Optimizer steps of the comparison at equal steps. A batch of `three_steps` is three of them.
BATCHES = {"mt_grpo_g32-b6": 50, "mt_grpo_g32_pilot-b6": 50, "three_steps-b12": 300, "one_task_steps-b12": 300}
PAIRS = (
    ("memory of solved prompts", "mt_grpo_solved-b12", "mt_grpo-b12"),
    ("pilots of 8 of 32", "mt_grpo_g32_pilot-b6", "mt_grpo_g32-b6"),
    ("RL-ZVP in place of the filter", "weights_only_zvp-b12", "mt_grpo-b12"),
    ("steps of one task", "one_task_steps-b12", "three_steps-b12"),
)
ARMS = (
    *("mt_grpo-b12", "mt_grpo_solved-b12", "mt_grpo_g32-b6", "mt_grpo_g32_pilot-b6"),
    *("weights_only_zvp-b12", "three_steps-b12", "one_task_steps-b12"),
)
ORDER = [(arm, seed) for seed in (0, 1, 2) for arm in ARMS] + [(arm, seed) for seed in (3, 4) for arm in ARMS[:4]]
PAGE = ROOT / "docs" / "data" / "repeated_prompts.md"


def run_missing() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for arm, seed in ORDER:
        if is_finished(WORLD, arm, seed):
            continue
        log = result_path(WORLD, arm, seed).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "benchmarks" / "learning.py"), "--one", WORLD, arm, str(seed)]
        command += ["--steps", str(BATCHES.get(arm, 100)), "--tokens", str(TOKENS), "--curve-points", "4"]
        with log.open("w") as file:
            code = subprocess.run(command, env=environment, stdout=file, stderr=file).returncode
        print(f"{arm} seed {seed}: {'done' if code == 0 else f'FAILED ({code})'}", flush=True)


def shown(found: dict[str, Any] | None) -> str:
    """A difference in points with half of its interval."""
    if found is None or len(found["values"]) < 2:
        return "-"
    return f"{100 * found['mean']:+.1f} ± {100 * found['half']:.1f}"


def report() -> str:
    runs = load(WORLD)
    lines = [
        "# What is learned where prompts come several times",
        "",
        "Written by `python benchmarks/repeated_prompts.py --report`; what was fixed before the first run stands in "
        "that file. World `three` with 100 prompts per task, held-out accuracy. Differences in points, paired by "
        "seed, with half of the 95 % interval.",
        "",
        "| what | at equal | seeds | worst task | average |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, arm, base in PAIRS:
        for axis in ("tokens", "steps"):
            worst, average = (difference(runs, arm, base, axis, what) for what in ("worst", "average"))
            seeds = 0 if worst is None else len(worst["seeds"])
            lines.append(f"| {name} | {axis} | {seeds} | {shown(worst)} | {shown(average)} |")
    lines += [
        "",
        "| arm | seed | steps | worst task | average | groups per trained one |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm in ARMS:
        for seed, run in sorted(runs.get(arm, {}).items()):
            if end := at(run, "tokens"):
                step = next(point["step"] for point in run["full"] if point["tokens"] >= run["token_budget"])
                paid = sum(run["groups"]["generated"]) / sum(run["groups"]["trained"])
                lines.append(f"| `{arm}` | {seed} | {step} | {end.worst:.3f} | {end.average:.3f} | {paid:.2f} |")
    lines += ["", "Steps, accuracies: when 160 thousand tokens are generated."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="write the page from the stored runs and stop")
    if not parser.parse_args().report:
        run_missing()
    PAGE.write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
