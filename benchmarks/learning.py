"""
Does it work: every method of the paper on small worlds, over steps, generated completions, tokens and time.

    python benchmarks/learning.py --world three --seeds 0 1 2 3 4 --processes 2
    python benchmarks/learning.py --table

Each run is a process of one thread with the public trainer and writes one JSON file; runs that are there are skipped,
so a killed benchmark goes on where it stopped. Each seed has its own warm start, prompt order and sampling, shared by
all methods.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "learning"

# Methods with the batch size (prompts per step) that is part of their name; everything else is the same for all.
ARMS: dict[str, dict[str, Any]] = {
    "grpo-b24": {"method": "grpo"},
    "grpo-b12": {"method": "grpo"},
    "dapo-b12": {"method": "dapo"},
    "dapo-b24": {"method": "dapo"},
    "sec_grpo-b24": {"method": "sec_grpo"},
    "sec_dapo-b12": {"method": "sec_dapo"},
    "mt_grpo-b12": {"method": "mt_grpo"},
    "mt_grpo-b24": {"method": "mt_grpo"},
    "mt_grpo_0.5-b12": {"method": "mt_grpo", "task_weight_tradeoff": 0.5},
    "mt_grpo_neutral-b12": {"method": "mt_grpo", "absent_improvement": "neutral"},
    "mt_grpo_no_carry-b12": {"method": "mt_grpo", "max_surplus_age": 0},
    "sampler_only-b12": {"method": "mt_grpo", "task_weighting": "fixed"},
    "weights_only-b12": {"method": "mt_grpo", "group_filter": "none", "oversampling": 1.0},
    "reward_only-b12": {"method": "mt_grpo", "task_weighting": "reward_only", "task_weight_decay": 1e-2},
    "mt_grpo_guard-b12": {"method": "mt_grpo", "plateau_guard": True},
    "mt_grpo_cap-b12": {"method": "mt_grpo", "task_weight_cap": 0.5},
}
MAIN_ARMS = ("grpo-b24", "grpo-b12", "dapo-b12", "mt_grpo-b12")

GENERATIONS = 8
CURVE = {"prompts": 128, "samples": 4}
FINAL = {"prompts": 500, "samples": 8}


def run_one(world: str, arm: str, seed: int, budget: int, cache_dir: str | None, eval_steps: int) -> dict[str, Any]:
    """Trains one method on one seed until `budget` completions are generated, and measures it on the way."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    sys.path.insert(0, str(ROOT / "examples"))
    from tiny_world import WORLDS, evaluate_tasks, tiny_task_reward, tiny_task_rows, warm_start

    from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task

    torch.set_num_threads(1)
    definition = WORLDS[world]
    folder = warm_start(world, seed=seed, cache_dir=cache_dir, progress=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cache = None if cache_dir is None else Path(cache_dir)
    names = definition.task_names
    held_out = {name: tiny_task_rows(name, "test", FINAL["prompts"], seed=0, cache_dir=cache) for name in names}
    tasks = [
        Task(
            name,
            Dataset.from_list(tiny_task_rows(name, "train", 4000, seed=seed, cache_dir=cache)),
            tiny_task_reward(name),
            success_threshold=1.0,
        )
        for name in names
    ]
    num_groups = int(arm.rsplit("-b", 1)[1])
    trainer = MultiTaskGRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        tasks=tasks,
        processing_class=tokenizer,
        args=MultiTaskGRPOConfig(
            output_dir=str(RESULTS / "scratch" / f"{world}-{arm}-{seed}"),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=num_groups * GENERATIONS,
            num_generations=GENERATIONS,
            max_completion_length=definition.max_completion_length,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            adam_beta2=0.98,
            max_steps=100_000,
            seed=seed,
            save_strategy="no",
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            task_table=False,
            **ARMS[arm],
        ),
    )
    curve: list[dict[str, Any]] = []
    clock = {"training": 0.0, "since": time.perf_counter()}

    def measure(prompts: int, samples: int, step: int) -> dict[str, Any]:
        clock["training"] += time.perf_counter() - clock["since"]
        state = trainer.multi_task_state
        rows = {name: rows[:prompts] for name, rows in held_out.items()}
        accuracy = evaluate_tasks(
            trainer.model, tokenizer, rows, samples=samples, seed=1, max_new_tokens=definition.max_completion_length
        )
        clock["since"] = time.perf_counter()
        return {
            "step": step,
            "completions": int(state.groups.generated.sum()) * GENERATIONS,
            "tokens": int(state.tokens.generated.sum()),
            "seconds": clock["training"],
            "accuracy": accuracy,
            "weights": trainer.task_weights,
        }

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            done = int(trainer.multi_task_state.groups.generated.sum()) * GENERATIONS >= budget
            control.should_training_stop = done
            if done or state.global_step % eval_steps == 0:
                curve.append(measure(**CURVE, step=state.global_step))

    curve.append(measure(**CURVE, step=0))
    trainer.add_callback(Watch())
    trainer.train()
    totals = trainer.multi_task_state
    return {
        "world": world,
        "arm": arm,
        "seed": seed,
        "budget": budget,
        "curve": curve,
        "final": measure(**FINAL, step=trainer.state.global_step),
        "groups": totals.groups.to_json(),
        "tokens": totals.tokens.to_json(),
        "history": [
            {key: value for key, value in log.items() if key.startswith(("tasks/", "sampling/", "step"))}
            for log in trainer.state.log_history
        ],
    }


def result_path(world: str, arm: str, seed: int) -> Path:
    return RESULTS / world / arm / f"seed{seed}.json"


def run_all(args: argparse.Namespace) -> None:
    """Runs what is missing, seed by seed so that a stopped benchmark has whole seeds."""
    waiting = [
        (args.world, arm, seed)
        for seed in args.seeds
        for arm in args.arms
        if not result_path(args.world, arm, seed).exists()
    ]
    total, running = len(waiting), {}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    while waiting or running:
        # The first run of a seed makes its warm start; the others of that seed wait for it.
        busy_seeds = {job[2] for job in running.values() if not _warm(job, args)}
        for job in list(waiting):
            if len(running) >= args.processes:
                break
            if job[2] in busy_seeds and not _warm(job, args):
                continue
            waiting.remove(job)
            command = [sys.executable, __file__, "--one", *map(str, job), "--budget", str(args.budget)]
            command += ["--eval-steps", str(args.eval_steps)]
            command += ["--cache-dir", args.cache_dir] if args.cache_dir else []
            path = result_path(*job)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".log").open("w") as log:
                running[subprocess.Popen(command, env=environment, stdout=log, stderr=log)] = job
            busy_seeds.add(job[2])
        for process in [p for p in running if p.poll() is not None]:
            job = running.pop(process)
            state = "done" if process.returncode == 0 else f"FAILED ({process.returncode})"
            done = total - len(waiting) - len(running)
            print(f"[{done}/{total}] {job[0]} {job[1]} seed {job[2]}: {state}", flush=True)
        time.sleep(1.0)


def _warm(job: tuple[str, str, int], args: argparse.Namespace) -> bool:
    sys.path.insert(0, str(ROOT / "examples"))
    from tiny_world import default_cache_dir

    root = Path(args.cache_dir) if args.cache_dir else default_cache_dir()
    return any((root / "warm_starts").glob(f"{job[0]}-seed{job[2]}-*"))


def load(world: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Finished runs of a world by method and seed."""
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted((RESULTS / world).glob("*/seed*.json")):
        run = json.loads(path.read_text())
        runs.setdefault(run["arm"], {})[run["seed"]] = run
    return runs


def at(run: dict[str, Any], axis: str, value: float) -> dict[str, float] | None:
    """Accuracy per task at a point of an axis, interpolated between evaluations; None beyond the run's end."""
    import numpy as np

    points = [point[axis] for point in run["curve"]]
    if value > points[-1]:
        return None
    return {
        name: float(np.interp(value, points, [point["accuracy"][name] for point in run["curve"]]))
        for name in run["curve"][0]["accuracy"]
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % confidence interval (Student's t); infinite for a single value."""
    import numpy as np

    # Two-sided 95 % quantiles of Student's t by degrees of freedom.
    quantiles = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("inf")
    return float(np.mean(values)), quantiles.get(n - 1, 1.96) * float(np.std(values, ddof=1)) / n**0.5


def table(world: str, completions: int, steps: int) -> str:
    """Worst and average accuracy per method on both axes, and differences paired by seed."""
    runs = load(world)
    lines = [
        f"### World `{world}`",
        "",
        f"| method | seeds | worst at {steps} steps | average | worst at {completions:,} completions | average "
        "| completions per step | tokens | final worst (500 x 8) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cells: dict[tuple[str, str, str], dict[int, float]] = {}
    for arm, by_seed in runs.items():
        for seed, run in by_seed.items():
            for axis, value in (("step", steps), ("completions", completions)):
                accuracy = at(run, axis, value)
                if accuracy is not None:
                    cells.setdefault((arm, axis, "worst"), {})[seed] = min(accuracy.values())
                    cells.setdefault((arm, axis, "average"), {})[seed] = sum(accuracy.values()) / len(accuracy)

        def cell(axis: str, what: str, arm: str = arm) -> str:
            values = list(cells.get((arm, axis, what), {}).values())
            if not values:
                return "-"
            mean, half = interval(values)
            return f"{mean:.3f}" + (f" ± {half:.3f}" if len(values) > 1 else "")

        last = [run["curve"][-1] for run in by_seed.values()]
        per_step = sum(point["completions"] / point["step"] for point in last) / len(last)
        tokens = sum(point["tokens"] for point in last) / len(last)
        final = interval([min(run["final"]["accuracy"].values()) for run in by_seed.values()])
        lines.append(
            f"| {arm} | {len(by_seed)} | {cell('step', 'worst')} | {cell('step', 'average')} "
            f"| {cell('completions', 'worst')} | {cell('completions', 'average')} | {per_step:.0f} | {tokens:,.0f} "
            f"| {final[0]:.3f} |"
        )
    lines += ["", "Paired by seed, difference ± half of its 95 % interval:", ""]
    lines += ["| difference | axis | worst task | average |", "|---|---|---|---|"]
    for ours in [arm for arm in runs if arm.startswith("mt_grpo")]:
        for other in [arm for arm in runs if arm.startswith(("grpo", "dapo"))]:
            for axis in ("step", "completions"):
                row = []
                for what in ("worst", "average"):
                    a, b = cells.get((ours, axis, what), {}), cells.get((other, axis, what), {})
                    shared = sorted(a.keys() & b.keys())
                    mean, half = interval([a[s] - b[s] for s in shared]) if shared else (float("nan"), float("nan"))
                    row.append(f"{mean:+.3f} ± {half:.3f} ({len(shared)})")
                lines.append(f"| {ours} - {other} | {axis} | {row[0]} | {row[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="three")
    parser.add_argument("--arms", nargs="+", default=list(MAIN_ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--budget", type=int, default=20_000, help="completions per run")
    parser.add_argument("--eval-steps", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache-dir", default=None)
    parser.add_argument("--table", action="store_true", help="only print the tables of what is there")
    parser.add_argument("--at-steps", type=int, default=100)
    parser.add_argument("--at-completions", type=int, default=19_200)
    parser.add_argument("--one", nargs=3, metavar=("WORLD", "ARM", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        world, arm, seed = args.one
        result = run_one(world, arm, int(seed), args.budget, args.cache_dir, args.eval_steps)
        path = result_path(world, arm, int(seed))
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.replace(path)
        return
    if not args.table:
        run_all(args)
    for folder in sorted(path for path in RESULTS.glob("*") if path.is_dir() and path.name != "scratch"):
        print(table(folder.name, args.at_completions, args.at_steps))


if __name__ == "__main__":
    main()
