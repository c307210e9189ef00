"""
What environments cost besides the host's own tool loop: the same environment under TRL and under this library.

    python benchmarks/tool_loop.py

One task, nothing filtered, 512 rows per step. Both trainers take turns in one process, and every second is one of the
processor. Three measures:

- *whole step*: both with a real model of 0.4 M parameters that samples every turn; the ratio of each pair.
- *without the model*: turns are answered by a script and the loss is not computed, so that what is left is the loops'
  own work. The difference of the two is what this library adds, and it is shown as a share of TRL's whole step.
- forwards of the model per step, turns and rows generated, which must be the same.
"""

import os


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import argparse
import contextlib
import logging
import statistics
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer


sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.overhead import StepTimes, settings
from benchmarks.step_clock import markdown_table
from tests.environments.world import CALLS, SUPPRESSED, OpenGuess, guess_rows, tool_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


ROOT = Path(__file__).parent.parent
TURNS = 3
TOKENIZER = tool_tokenizer()
GUESSES = TOKENIZER.convert_tokens_to_ids(list(CALLS[:4]))


def model() -> Qwen2ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=98 + len(CALLS),
                hidden_size=128,
                intermediate_size=256,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=512,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        )


def scripted(self: Any, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
    """A guess in three of four turns, by what was said before, and else a digit."""
    chosen = [zlib.crc32(bytes(i % 256 for i in ids)) for ids in prompt_ids]
    return [[GUESSES[value // 4 % 4], 1] if value % 4 else [3 + 16 + value // 4 % 4, 1] for value in chosen], None


class Counts(NamedTuple):
    """Forwards, turns and rows of all turns, of a whole run."""

    forwards: int
    turns: int
    rows: int


@contextlib.contextmanager
def counting(trainer: GRPOTrainer, found: list[int]) -> Iterator[None]:
    single = GRPOTrainer._generate_single_turn

    def turn(self: Any, prompt_ids: list[Any], *args: Any, **kwargs: Any) -> Any:
        found[1] += 1
        found[2] += len(prompt_ids)
        return single(self, prompt_ids, *args, **kwargs)

    def forward(*args: Any) -> None:
        found[0] += 1

    handle = trainer.model.register_forward_pre_hook(forward)
    with mock.patch.object(GRPOTrainer, "_generate_single_turn", turn):
        yield
    handle.remove()


def no_loss(self: Any, model: Any, inputs: Any) -> torch.Tensor:
    return 0.0 * next(iter(model.parameters())).sum()


def run(own: bool, rows: int, steps: int, real: bool) -> tuple[float, Counts]:
    """Seconds per step, by the lower quartile of the steps, and what was called."""
    changes: dict[str, Any] = {
        "per_device_train_batch_size": rows,
        "num_generations": 8,
        "max_completion_length": 64,
        "max_tool_calling_iterations": TURNS,
        "max_steps": steps,
        "generation_kwargs": {"suppress_tokens": SUPPRESSED},
    }
    found = [0, 0, 0]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if not real:
            stack.enter_context(mock.patch.object(GRPOTrainer, "_generate_single_turn", scripted))
            stack.enter_context(mock.patch.object(GRPOTrainer, "_compute_loss", no_loss))
        if own:
            trainer: GRPOTrainer = MultiTaskGRPOTrainer(
                model=model(),
                tasks=[Task("guess", guess_rows(200), environment_factory=OpenGuess)],
                args=MultiTaskGRPOConfig(method="grpo", task_table=False, **settings(folder, **changes)),
                processing_class=tool_tokenizer(),
            )
        else:
            trainer = GRPOTrainer(
                model=model(),
                reward_funcs=[],
                environment_factory=OpenGuess,
                args=GRPOConfig(**settings(folder, **changes)),
                train_dataset=guess_rows(200),
                processing_class=tool_tokenizer(),
            )
        timer = StepTimes()
        trainer.add_callback(timer)
        torch.manual_seed(0)
        with counting(trainer, found):
            trainer.train()
    return statistics.quantiles(timer.steps(warm_up=1), n=4)[0], Counts(*found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs without the model")
    parser.add_argument("--whole", type=int, default=3, help="pairs of runs with it")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "data" / "tool_loop.md")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    cells, host_step = [], 0.0
    for real in (True, False):
        host, own, counts = [], [], set()
        for _ in range(given.whole if real else given.repeats):
            for seconds, ours in ((host, False), (own, True)):
                step, counted = run(ours, given.rows, given.steps, real)
                seconds.append(step)
                counts.add((ours, counted))
        (_, theirs), (_, mine) = sorted(counts)
        more = sorted(o - h for o, h in zip(own, host, strict=True))
        host_step = host_step or statistics.median(host)
        shares = [f"{100 * value / host_step:+.2f}" for value in (statistics.median(more), more[0], more[-1])]
        cells.append(
            (
                "whole step" if real else "without the model",
                f"{statistics.median(host):.3f}",
                f"{statistics.median(own):.3f}",
                f"{shares[0]} % ({shares[1]} to {shares[2]})",
                f"{theirs.forwards} / {mine.forwards}",
                f"{theirs.turns} / {mine.turns}",
                f"{theirs.rows} / {mine.rows}",
            )
        )
        print(cells[-1], flush=True)
    header = (
        *("measure", "TRL s/step", "this library s/step", "more, of TRL's whole step: median (range)"),
        *("forwards", "turns", "rows of all turns"),
    )
    lines = [
        "# The tool loop",
        "",
        f"Written by `python benchmarks/tool_loop.py`: one environment, {given.rows} rows a step, up to {TURNS} "
        f"rounds of tool calls, {given.steps} steps, pairs of runs: {given.whole} whole and {given.repeats} without "
        "the model; CPU seconds of one thread. Counts are TRL's / this library's over a run. *Without the model* a "
        "script answers every turn and no loss is computed: the difference there is this library's own work.",
        "",
        *markdown_table(header, cells),
    ]
    given.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
