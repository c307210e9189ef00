"""Whether a long run keeps its memory: resident size over 2,000 steps, and the size of the state file for 100 tasks.

python benchmarks/soak.py            # 2,000 steps, a few minutes on one core
python benchmarks/soak.py --steps 200
"""

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from transformers import TrainerCallback


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.tiny import three_tasks, tiny_trainer
from trl_mtgrpo import ImprovementAwareWeighting, TaskSignal
from trl_mtgrpo.state.run_state import start_state
from trl_mtgrpo.state.state_file import STATE_FILE, write_state


class MemoryLog(TrainerCallback):
    """Resident size of the process in bytes, every few steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.sizes: list[tuple[int, int]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            gc.collect()
            self.sizes.append((state.global_step, psutil.Process().memory_info().rss))


def soak(steps: int, warm_up: int) -> None:
    memory = MemoryLog(every=max(steps // 40, 1))
    with tempfile.TemporaryDirectory() as folder:
        trainer = tiny_trainer(
            folder,
            three_tasks()[:2],  # the hard one would only cost time
            max_steps=steps,
            logging_steps=100,
            save_strategy="steps",
            save_steps=steps // 4,
            save_total_limit=1,
            learning_rate=1e-6,  # so that the tasks stay as hard as they are
            callbacks=[memory],
        )
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
        state_size = (Path(folder) / f"checkpoint-{steps}" / STATE_FILE).stat().st_size
    after = [(step, size) for step, size in memory.sizes if step >= warm_up]
    first, last = after[0][1], after[-1][1]
    print(f"{steps} steps in {seconds:.0f} s")
    for step, size in memory.sizes[:: max(len(memory.sizes) // 10, 1)]:
        print(f"  step {step:5d}: {size / 2**20:8.1f} MiB")
    print(f"resident size from step {after[0][0]} to {after[-1][0]}: {first / 2**20:.1f} to {last / 2**20:.1f} MiB")
    print(f"growth after warm-up: {100 * (last - first) / first:+.2f} % (bound: 2 %)")
    print(f"state file of 2 tasks with carried groups: {state_size / 1024:.1f} KiB")


def size_of_many_tasks(num_tasks: int = 100, updates: int = 200) -> None:
    """The state file of a run with many tasks, without carried groups."""
    rng, weighting = np.random.default_rng(0), ImprovementAwareWeighting()
    state = start_state(tuple(f"task number {k} of many" for k in range(num_tasks)), weighting)
    values = state.weighting
    for _ in range(updates):
        signal = TaskSignal(rewards=rng.random(num_tasks), improvements=rng.normal(size=num_tasks))
        values = weighting.update(signal, values)
    average = state.reward_average.update(rng.random(num_tasks), np.ones(num_tasks, dtype=bool), 0.5)
    state = type(state)(**{**vars(state), "weighting": values, "reward_average": average})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STATE_FILE
        write_state(path, state)
        size = path.stat().st_size / 1024
    print(f"state file of {num_tasks} tasks without carried groups: {size:.1f} KiB (bound: 1024 KiB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=None, help="first step that counts; a tenth of the run")
    arguments = parser.parse_args()
    size_of_many_tasks()
    soak(arguments.steps, arguments.warm_up or arguments.steps // 10)


if __name__ == "__main__":
    main()
