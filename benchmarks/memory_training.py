"""
Through the real trainer: what `prompt_memory="solved"` saves where prompts come several times, and what is learned.

    python benchmarks/memory_training.py --seeds 0 1 2 3 4

World `three` with 100 prompts per task. Both runs of a seed start from the same model and make equally many steps;
each appends a line to `docs/data/memory_training.jsonl`, and runs that are there are skipped.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "data" / "memory_training.jsonl"
PROMPTS, NUM_GROUPS, GENERATIONS = 100, 12, 8
HELD_OUT = {"prompts": 300, "samples": 4}


def run(memory: str, seed: int, steps: int) -> dict[str, Any]:
    """One training run: what it generated, and accuracy on held-out rows."""
    sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
    import torch
    from datasets import Dataset
    from tiny_world import WORLDS, evaluate_tasks, tiny_task_reward, tiny_task_rows, warm_start
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task

    torch.set_num_threads(1)
    world = WORLDS["three"]
    folder = warm_start("three", progress=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tasks = [
        Task(
            name,
            # Other prompts with every seed.
            Dataset.from_list(tiny_task_rows(name, "train", 4000, seed=0)[seed * PROMPTS : (seed + 1) * PROMPTS]),
            tiny_task_reward(name),
            success_threshold=1.0,
        )
        for name in world.task_names
    ]
    with tempfile.TemporaryDirectory() as output:
        trainer = MultiTaskGRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            tasks=tasks,
            processing_class=tokenizer,
            args=MultiTaskGRPOConfig(
                output_dir=output,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                per_device_train_batch_size=NUM_GROUPS * GENERATIONS,
                num_generations=GENERATIONS,
                max_completion_length=world.max_completion_length,
                learning_rate=3e-4,
                lr_scheduler_type="constant",
                adam_beta2=0.98,
                max_steps=steps,
                seed=seed,
                save_strategy="no",
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
                task_table=False,
                prompt_memory=memory,
            ),
        )
        trainer.train()
    accuracy = evaluate_tasks(
        trainer.model,
        tokenizer,
        {name: tiny_task_rows(name, "test", HELD_OUT["prompts"], seed=0) for name in world.task_names},
        samples=HELD_OUT["samples"],
        seed=1,
        max_new_tokens=world.max_completion_length,
    )
    state, logs = trainer.multi_task_state, trainer.state.log_history
    assert state is not None
    savings = [entry["sampling/memory_saving"] for entry in logs if "sampling/memory_saving" in entry]
    return {
        "memory": memory,
        "seed": seed,
        "steps": steps,
        "generated": state.groups.generated.tolist(),
        "trained": state.groups.trained.tolist(),
        "passes": [round(cursor / PROMPTS, 2) for cursor in state.draws.cursors],
        "believed_saving": round(sum(savings) / max(len(savings), 1), 3),
        "accuracy": {name: round(value, 4) for name, value in accuracy.items()},
    }


def summary(lines: list[str]) -> str:
    """One row per seed: groups generated with and without memory, and held-out accuracy of the worst task."""
    runs = {(entry["seed"], entry["memory"]): entry for entry in map(json.loads, lines)}
    table = ["| seed | groups, uniform | with memory | ratio | worst task, uniform | with memory |"]
    table.append("|---|---:|---:|---:|---:|---:|")
    for seed in sorted({seed for seed, _ in runs}):
        if (seed, "solved") in runs:
            off, on = runs[seed, "off"], runs[seed, "solved"]
            groups = [sum(entry["generated"]) for entry in (off, on)]
            worst = [min(entry["accuracy"].values()) for entry in (off, on)]
            cells = [f"{seed}", *(f"{n:,}" for n in groups), f"{groups[1] / groups[0]:.2f}"]
            table.append(f"| {' | '.join([*cells, *(f'{value:.1%}' for value in worst)])} |")
    return "\n".join(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    lines = options.output.read_text(encoding="utf-8").splitlines() if options.output.exists() else []
    done = {(entry["memory"], entry["seed"]) for entry in map(json.loads, lines)}
    for seed in options.seeds:
        for memory in ("off", "solved"):
            if (memory, seed) not in done:
                line = json.dumps(run(memory, seed, options.steps))
                with options.output.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
