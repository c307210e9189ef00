"""What multi-task training costs besides the training itself: paired against TRL, and its parts at a full-size batch.

    python benchmarks/overhead.py

All times are CPU seconds of one thread, which other jobs on the machine do not move.
"""

import os


os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.step_clock import OWN_PARTS, StepClock, markdown_table
from tests.tiny import rows, text_of, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


ROOT = Path(__file__).parent.parent


def model(hidden: int, layers: int, seed: int = 0) -> Qwen2ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=98,
                hidden_size=hidden,
                intermediate_size=2 * hidden,
                num_hidden_layers=layers,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=1024,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        )


def settings(folder: str, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1000,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-4,
    } | changes


class StepTimes(TrainerCallback):
    """CPU seconds between the ends of successive optimizer steps."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())

    def steps(self, warm_up: int = 2) -> list[float]:
        ends = self.ends[warm_up:]
        return [after - before for before, after in itertools.pairwise(ends)]


def share_of_digits(completions: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.isdigit() for c in text_of(completion)) / 10 for completion in completions]


def paired(
    hidden: int, layers: int, num_rows: int, tokens: int, steps: int, repeats: int
) -> tuple[float, float, list[float]]:
    """
    Seconds per step of TRL and of this library, one task and no filter, in alternation, and the ratio of each pair.

    A run counts by the lower quartile of its steps: other jobs on the machine only ever make a step slower. The ratio
    is taken within a pair, since the speed of the machine drifts.
    """
    times: dict[type, list[float]] = {GRPOTrainer: [], MultiTaskGRPOTrainer: []}
    for _ in range(repeats):
        for trainer_class, config_class in ((GRPOTrainer, GRPOConfig), (MultiTaskGRPOTrainer, MultiTaskGRPOConfig)):
            with tempfile.TemporaryDirectory() as folder:
                changes = {"per_device_train_batch_size": num_rows, "num_generations": 8}
                changes |= {"max_completion_length": tokens, "max_steps": steps}
                trainer = trainer_class(
                    model=model(hidden, layers),
                    reward_funcs=[share_of_digits],
                    args=config_class(**settings(folder, **changes)),
                    train_dataset=rows("p", size=200),
                    processing_class=tiny_tokenizer(),
                )
                timer = StepTimes()
                trainer.add_callback(timer)
                trainer.train()
                times[trainer_class].append(statistics.quantiles(timer.steps(), n=4)[0])
    host, own = times[GRPOTrainer], times[MultiTaskGRPOTrainer]
    ratios = sorted(ours / theirs for ours, theirs in zip(own, host, strict=True))
    return statistics.median(host), statistics.median(own), ratios


def synthetic_rollouts(tokens: int) -> Callable[[list[Any], Any], dict[str, Any]]:
    """Random completions of full length, so that no time goes into a model's generation."""

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        ids = torch.randint(3, 98, (len(prompts), tokens)).tolist()
        prompt_ids = trainer.processing_class(list(prompts))["input_ids"]
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": None}

    return rollout


def starts_below(bound: int) -> Callable[..., list[float]]:
    """A reward with a chosen rate of success."""

    def reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(ids[0] - 3 < bound) for ids in completion_ids]

    return reward


class Parts(NamedTuple):
    """CPU seconds per part of a generation batch and per checkpoint; groups generated per trained one."""

    seconds: dict[str, float]
    checkpoint: float
    waste: float

    def lines(self) -> list[str]:
        total = sum(self.seconds.values())
        own = sum(self.seconds.get(name, 0.0) for name in OWN_PARTS)
        order = sorted(self.seconds.items(), key=lambda item: -item[1])
        cells = [(name, f"{value:.4f}", f"{100 * value / total:.2f} %") for name, value in order]
        cells.append((f"**{' + '.join(OWN_PARTS)}**", f"**{own:.4f}**", f"**{100 * own / total:.2f} %**"))
        checkpoint = f"Writing the state at a checkpoint: {self.checkpoint:.3f} s."
        return [*markdown_table(("part", "s per batch", "share"), cells), checkpoint, ""]


def parts(
    decoder: Qwen2ForCausalLM,
    num_groups: int,
    generations: int,
    tokens: int,
    batches: int,
    updates: int,
    real: bool,
    **method: Any,
) -> Parts:
    """Three tasks with filter, refill and carry-over; the decoder generates where `real`, or else nobody does."""
    tasks = [
        Task(name, rows(name[0], size=400), starts_below(bound), success_threshold=1.0)
        for name, bound in (("easy", 91), ("medium", 40), ("hard", 5))
    ]
    num_rows = num_groups * generations
    # Micro-batches of 32 rows where that divides.
    window = num_rows // updates // 32 if num_rows % (updates * 32) == 0 else 1
    with tempfile.TemporaryDirectory() as folder:
        changes = {
            "per_device_train_batch_size": num_rows // (updates * window),
            "gradient_accumulation_steps": window,
            "steps_per_generation": updates * window,
            "num_generations": generations,
            "max_completion_length": tokens,
            "max_steps": updates * batches,
        }
        trainer = MultiTaskGRPOTrainer(
            model=decoder,
            tasks=tasks,
            args=MultiTaskGRPOConfig(**settings(folder, task_table=False, **changes), **method),
            processing_class=tiny_tokenizer(),
            **({} if real else {"rollout_func": synthetic_rollouts(tokens)}),
        )
        clock = StepClock(time.process_time)
        with clock.watching(trainer):
            trainer.train()
        started = time.process_time()
        trainer._run.checkpoints.write(Path(folder), trainer.multi_task_state, steps_left=0)
        return Parts(
            {name: value / batches for name, value in clock.seconds.items()},
            time.process_time() - started,
            trainer.multi_task_state.groups.waste,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="alternations of the paired runs")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps of a paired run")
    parser.add_argument("--groups", type=int, default=32, help="groups of the full-size batch")
    parser.add_argument("--generations", type=int, default=72, help="rollouts per group of the full-size batch")
    parser.add_argument("--tokens", type=int, default=512, help="tokens per completion of the full-size batch")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "data" / "overhead.md")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = [
        "# Overhead",
        "",
        "Written by `python benchmarks/overhead.py`; CPU seconds of one thread.",
        "",
        "## One task, nothing filtered, against GRPOTrainer",
        "",
    ]
    cells = []
    for hidden, layers, num_rows, tokens in ((32, 2, 64, 10), (128, 3, 96, 12), (128, 3, 192, 24)):
        host, own, ratios = paired(hidden, layers, num_rows, tokens, arguments.steps, arguments.repeats)
        more, low, high = (100 * (r - 1) for r in (statistics.median(ratios), ratios[0], ratios[-1]))
        cells.append(
            (
                hidden,
                layers,
                num_rows,
                tokens,
                f"{host:.4f}",
                f"{own:.4f}",
                f"{more:+.1f} % ({low:+.1f} to {high:+.1f})",
            )
        )
        print(cells[-1], flush=True)
    lines += markdown_table(
        (
            "width",
            "layers",
            "rows",
            "tokens",
            "GRPOTrainer s/step",
            "this library s/step",
            "more: median of the pairs (range)",
        ),
        cells,
    )
    small = parts(model(128, 3), 12, 8, 12, batches=15, updates=1, real=True)
    lines += [
        "## Three tasks on a model of 0.6 M parameters, 96 rows x 12 tokens per generation batch",
        "",
        f"The model generates; {small.waste:.2f} groups generated per trained one.",
        "",
        *small.lines(),
    ]
    cells = []
    for per_task in (None, 2, 1):
        timed = parts(model(128, 3), 32, 8, 64, batches=3, updates=4, real=False, improvement_groups=per_task).seconds
        share = 100 * timed["improvement"] / timed["update"]
        measured = "all groups" if per_task is None else f"{per_task} per task"
        cells.append((measured, f"{timed['update']:.3f}", f"{timed['improvement']:.3f}", f"{share:.1f} %"))
    lines += [
        "## The exact improvement signal: 256 rows x 64 tokens, three tasks, four updates per batch",
        "",
        "`improvement_groups` is how many groups of each task are measured.",
        "",
        *markdown_table(("measured", "update s", "improvement s", "of the update"), cells),
    ]
    num_rows = arguments.groups * arguments.generations
    large = parts(
        model(32, 2), arguments.groups, arguments.generations, arguments.tokens, batches=2, updates=4, real=False
    )
    lines += [
        f"## Three tasks, {num_rows} rows x {arguments.tokens} tokens per generation batch",
        "",
        f"Synthetic rollouts (no model generates), {large.waste:.2f} groups generated per trained one, four updates "
        "by a model of 20,000 parameters. With any larger model the update's part grows and the others stay.",
        "",
        *large.lines(),
    ]
    text = "\n".join(lines)
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
