"""Where a step's time goes on a GPU: three tasks, a decoder from scratch in bf16, beside plain GRPOTrainer.

    python benchmarks/gpu.py

The model is untrained, so rewards succeed at chosen rates; prompts are those of the three-task example. The table is
added to `docs/research/benchmarks.md` with date and hardware.
"""

import argparse
import datetime
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer


sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from tiny_world import WORLDS, build_model, build_tokenizer, tiny_task_rows

from benchmarks.step_clock import OWN_PARTS, StepClock, markdown_table
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


ROOT = Path(__file__).parent.parent
RATES = (0.9, 0.4, 0.05)
WARM_UP = 2


def seconds() -> float:
    """Wall-clock seconds after all queued work on the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def succeeds_at(rate: float) -> Callable[..., list[float]]:
    """A reward that a completion's first token decides, correct at about this rate for an untrained model."""

    def reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float((7919 * ids[0] + 31 * len(ids)) % 100 < 100 * rate) for ids in completion_ids]

    return reward


def measure(method: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds per generation batch and part; `method="TRL"` is GRPOTrainer on the rows of all tasks."""
    prompts = {
        name: [row["prompt"] for row in tiny_task_rows(name, "train", arguments.prompts, seed=0)]
        for name in WORLDS["three"].task_names
    }
    datasets = {name: Dataset.from_dict({"prompt": rows}) for name, rows in prompts.items()}
    on_gpu = torch.cuda.is_available()
    settings: dict[str, Any] = {
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "per_device_train_batch_size": arguments.micro_batch,
        "gradient_accumulation_steps": arguments.rows // arguments.micro_batch // 4,
        "steps_per_generation": arguments.rows // arguments.micro_batch,
        "num_generations": arguments.generations,
        "max_completion_length": arguments.tokens,
        "generation_kwargs": {"min_new_tokens": arguments.tokens},
        "max_steps": 4 * (WARM_UP + arguments.batches),
        "logging_steps": 1000,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    model = build_model(0, arguments.width, arguments.layers, arguments.heads)
    model.config.max_position_embeddings = 8192
    with tempfile.TemporaryDirectory() as folder:
        if method == "TRL":
            rows = Dataset.from_dict({"prompt": [p for part in zip(*prompts.values(), strict=True) for p in part]})
            trainer: GRPOTrainer = GRPOTrainer(
                model=model,
                reward_funcs=[succeeds_at(RATES[1])],
                args=GRPOConfig(output_dir=folder, **settings),
                train_dataset=rows,
                processing_class=build_tokenizer(),
            )
        else:
            tasks = [
                Task(name, rows, succeeds_at(rate), success_threshold=1.0)
                for (name, rows), rate in zip(datasets.items(), RATES, strict=True)
            ]
            trainer = MultiTaskGRPOTrainer(
                model=model,
                tasks=tasks,
                args=MultiTaskGRPOConfig(output_dir=folder, task_table=False, method=method, **settings),
                processing_class=build_tokenizer(),
            )
        clock = StepClock(seconds)
        with clock.watching(trainer):
            trainer.add_callback(_ForgetsWarmUp(clock))
            trainer.train()
    return {name: value / arguments.batches for name, value in clock.seconds.items()}


class _ForgetsWarmUp(transformers.TrainerCallback):
    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4 * WARM_UP:
            self.clock._book()
            self.clock.seconds.clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--rows", type=int, default=512, help="rollouts per generation batch")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--micro-batch", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=1000, help="prompts per task")
    parser.add_argument("--batches", type=int, default=5, help="generation batches that are measured")
    parser.add_argument("--cpu", action="store_true", help="run without CUDA, to try the script with small numbers")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "research" / "benchmarks.md")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.cpu:
        print("no CUDA device here: nothing measured, nothing written")
        return 0
    logging.disable(logging.WARNING)
    methods = ("TRL", "grpo", "dapo", "mt_grpo")
    found = {method: measure(method, arguments) for method in methods}
    names = sorted({name for parts in found.values() for name in parts}, key=lambda n: -found["mt_grpo"].get(n, 0.0))
    lines = [(name, *(f"{found[m].get(name, 0.0):.3f}" for m in methods)) for name in names]
    lines.append(("**all**", *(f"**{sum(found[m].values()):.3f}**" for m in methods)))
    own = {m: sum(found[m].get(name, 0.0) for name in OWN_PARTS) for m in methods}
    shares = (f"{100 * own[m] / sum(found[m].values()):.2f} %" for m in methods)
    lines.append((" + ".join(OWN_PARTS), *shares))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    parameters = sum(
        p.numel() for p in build_model(0, arguments.width, arguments.layers, arguments.heads).parameters()
    )
    text = "\n".join(
        [
            "",
            f"## Step time on one {device}",
            "",
            f"{datetime.date.today()}, torch {torch.__version__}, trl {trl.__version__}; {parameters / 1e6:.0f} M "
            f"parameters, {arguments.rows} rows of {arguments.tokens} tokens per generation batch in groups of "
            f"{arguments.generations}, four updates, `generate` of transformers. Seconds per generation "
            "batch (`python benchmarks/gpu.py`).",
            "",
            *markdown_table(("part", "GRPOTrainer", *methods[1:]), lines),
        ]
    )
    print(text)
    with arguments.output.open("a", encoding="utf-8") as output:
        output.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
