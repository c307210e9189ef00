"""After which optimizer steps a checkpoint can be resumed exactly: those at which a generation batch ends."""

import math
from dataclasses import dataclass
from typing import Any

from trl import GRPOConfig


@dataclass(frozen=True)
class Schedule:
    """
    When optimizer steps and generation batches of a run end, in micro-steps of the host.

    Every epoch starts with a new generation batch and a new accumulation window; a window that an epoch cuts short is
    an optimizer step all the same.

    Args:
        per_batch (`int`):
            Micro-steps of a generation batch.
        window (`int`):
            Micro-steps of an optimizer step (`gradient_accumulation_steps`).
        batches_per_epoch (`int`):
            Generation batches of an epoch.
        max_steps (`int`):
            Optimizer steps of the run.
    """

    per_batch: int
    window: int
    batches_per_epoch: int
    max_steps: int

    @classmethod
    def of(cls, args: GRPOConfig, batches_per_epoch: int) -> "Schedule":
        """The schedule of a run with these settings."""
        assert args.steps_per_generation is not None  # the host's config fills it
        per_batch, window = args.steps_per_generation * args.num_iterations, args.gradient_accumulation_steps
        per_epoch = math.ceil(batches_per_epoch * per_batch / window)
        steps = args.max_steps if args.max_steps > 0 else math.ceil(per_epoch * args.num_train_epochs)
        return cls(per_batch, window, batches_per_epoch, steps)

    def fits(self, step: int) -> bool:
        """Whether a generation batch ends with optimizer step `step`."""
        length = self.batches_per_epoch * self.per_batch
        in_epoch = step % math.ceil(length / self.window)
        return min(in_epoch * self.window, length) % self.per_batch == 0

    def misses(self, every: int) -> list[int]:
        """Steps of the run, `every` so many, that lie inside a generation batch."""
        return [step for step in range(every, self.max_steps + 1, every) if not self.fits(step)]

    def next_interval(self, every: int) -> int | None:
        """The smallest interval from `every` on that misses nothing, if there is one within the run."""
        longest = min(self.max_steps, every + 4 * self.batches_per_epoch * self.per_batch)
        return next((value for value in range(every, longest + 1) if not self.misses(value)), None)


def check_boundaries(args: GRPOConfig, schedule: Schedule) -> None:
    """
    Refuses checkpoints inside a generation batch, the rest of which would be lost on resume.

    Args:
        args ([`~trl.GRPOConfig`]):
            What was given.
        schedule ([`Schedule`]):
            The run's schedule.

    Raises:
        ValueError: naming the setting, the first step that misses and an interval that does not.
    """
    for switch, name in (("save_strategy", "save_steps"), ("eval_strategy", "eval_steps")):
        every = getattr(args, name)
        # Evaluation writes a checkpoint only where the best one is kept.
        saves = name == "save_steps" or _value(args.save_strategy) == "best"
        if not saves or _value(getattr(args, switch)) != "steps" or not every:
            continue
        steps = math.ceil(every * schedule.max_steps) if every < 1 else int(every)
        missed = schedule.misses(steps)
        if missed:
            fitting = schedule.next_interval(steps)
            cure = (
                f"Use {fitting}."
                if fitting is not None
                else f"Let `gradient_accumulation_steps` ({schedule.window}) divide the {schedule.per_batch} "
                "micro-steps of a generation batch."
            )
            raise ValueError(
                f"`{name}` must be an interval at whose steps generation batches end, got {every}: step {missed[0]} "
                f"lies inside one, and a checkpoint there cannot be resumed exactly. {cure}"
            )


def _value(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))
