"""What multi-task training costs besides the training itself: paired against TRL, and its parts at a full-size batch.

    python benchmarks/overhead.py

All times are CPU seconds of one thread, which other jobs on the machine do not move.
"""

import os


os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import functools
import logging
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.tiny import rows, text_of, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task
from trl_mtgrpo import collector as collector_module
from trl_mtgrpo import trainer as trainer_module
from trl_mtgrpo.state import write_state


OWN_PARTS = ("planning", "filtering", "replay", "state")


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
        return [after - before for before, after in zip(ends, ends[1:], strict=False)]


def share_of_digits(completions: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.isdigit() for c in text_of(completion)) / 10 for completion in completions]


def paired(hidden: int, layers: int, num_rows: int, tokens: int, steps: int, repeats: int) -> tuple[float, float]:
    """Median seconds per step of TRL and of this library, one task and no filter, in alternation."""
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
                times[trainer_class].extend(timer.steps())
    return statistics.median(times[GRPOTrainer]), statistics.median(times[MultiTaskGRPOTrainer])


class Clock:
    """Books CPU time on the innermost open part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = ["host"]
        self._since = time.process_time()

    def _book(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Books every call of `owner.name` on a part."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        object.__setattr__(owner, name, timed) if not isinstance(owner, type) else setattr(owner, name, timed)

    def close(self) -> dict[str, float]:
        self._book()
        return dict(self.seconds)


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


def parts(num_groups: int, generations: int, tokens: int, batches: int) -> tuple[dict[str, float], float, float]:
    """CPU seconds per part and generation batch, seconds of one checkpoint of the state, and generated per trained."""
    tasks = [
        Task(name, rows(name[0], size=400), starts_below(bound), success_threshold=1.0)
        for name, bound in (("easy", 91), ("medium", 40), ("hard", 2))
    ]
    num_rows = num_groups * generations
    micro = num_rows // (4 * 18) if num_rows % 72 == 0 else num_rows // 4
    window = num_rows // (4 * micro)
    with tempfile.TemporaryDirectory() as folder:
        changes = {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": window,
            "steps_per_generation": 4 * window,
            "num_generations": generations,
            "max_completion_length": tokens,
            "max_steps": 4 * batches,
        }
        trainer = MultiTaskGRPOTrainer(
            model=model(32, 2),
            tasks=tasks,
            args=MultiTaskGRPOConfig(**settings(folder, task_table=False, **changes)),
            processing_class=tiny_tokenizer(),
            rollout_func=synthetic_rollouts(tokens),
        )
        clock = Clock()
        clock.wrap(trainer_module.BatchCollector, "collect", "planning")
        clock.wrap(trainer_module.BatchCollector, "_fetch", "replay")
        clock.wrap(trainer._collector, "judge", "filtering")
        for name in ("split_generation", "merge_extra_fields", "build_replay", "add_behaviour_policy", "mark_rows"):
            clock.wrap(trainer_module, name, "replay")
        for name in ("_prepare_for_loss",):
            clock.wrap(MultiTaskGRPOTrainer, name, "replay")
        for name in ("update_task_weights", "_generate_and_score_completions"):
            clock.wrap(MultiTaskGRPOTrainer, name, "state")
        clock.wrap(trainer_module, "record_forward", "improvement")
        clock.wrap(trainer_module, "measure_change", "improvement")
        clock.wrap(trainer_module, "with_behaviour_policy", "behaviour policy of carried groups")
        clock.wrap(GRPOTrainer, "_generate", "generation")
        clock.wrap(GRPOTrainer, "_calculate_rewards", "rewards")
        clock.wrap(GRPOTrainer, "_generate_and_score_completions", "host")
        trainer.train()
        seconds = {name: value / batches for name, value in clock.close().items()}
        started = time.process_time()
        write_state(Path(folder) / "state.json", trainer.multi_task_state, 0, 1)
        return seconds, time.process_time() - started, trainer.multi_task_state.groups.waste


def table(header: tuple[str, ...], lines: list[tuple[Any, ...]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="alternations of the paired runs")
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
    for hidden, layers, num_rows, tokens in ((32, 2, 64, 10), (128, 3, 192, 10), (128, 3, 192, 24)):
        host, own = paired(hidden, layers, num_rows, tokens, arguments.steps, arguments.repeats)
        cells.append((hidden, layers, num_rows, tokens, f"{host:.4f}", f"{own:.4f}", f"{100 * (own / host - 1):+.1f} %"))
        print(cells[-1], flush=True)
    lines += table(("width", "layers", "rows", "tokens", "GRPOTrainer s/step", "this library s/step", "more"), cells)
    num_rows = arguments.groups * arguments.generations
    seconds, checkpoint, waste = parts(arguments.groups, arguments.generations, arguments.tokens, batches=2)
    total = sum(seconds.values())
    own_total = sum(seconds.get(name, 0.0) for name in OWN_PARTS)
    lines += [
        f"## Three tasks, {num_rows} rows x {arguments.tokens} tokens per generation batch",
        "",
        f"Synthetic rollouts (no model generates), {waste:.2f} groups generated per trained one, four updates by a model of "
        "20,000 parameters. With any larger model the host's part grows and the others stay.",
        "",
    ]
    order = sorted(seconds.items(), key=lambda item: -item[1])
    lines += table(
        ("part", "s per batch", "share"),
        [(name, f"{value:.3f}", f"{100 * value / total:.2f} %") for name, value in order]
        + [(f"**{' + '.join(OWN_PARTS)}**", f"**{own_total:.3f}**", f"**{100 * own_total / total:.2f} %**")],
    )
    lines += [f"Writing the state at a checkpoint: {checkpoint:.3f} s.", ""]
    text = "\n".join(lines)
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
