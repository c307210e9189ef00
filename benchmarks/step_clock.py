"""Where the time of a training run goes: calls are booked on named parts, nested ones on the innermost."""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from trl import GRPOTrainer

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.host import run as run_module
from trl_mtgrpo.host.collecting import HostRollouts
from trl_mtgrpo.host.run import MixtureRun
from trl_mtgrpo.rollouts import BatchLoop, Judge


# What multi-task training adds without running the model.
OWN_PARTS = ("planning", "filtering", "replay", "state")


class StepClock:
    """
    Books time on the innermost open part.

    Args:
        now (`Callable[[], float]`): Seconds, of the processor or of the wall.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = ["update"]
        self._since = now()

    def _book(self) -> None:
        now = self.now()
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

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        return call

    @contextmanager
    def watching(self, trainer: GRPOTrainer) -> Iterator[None]:
        """Books the parts of a trainer's steps while open; what is not named here is the update."""
        parts: list[tuple[Any, str, str]] = [
            (GRPOTrainer, "_generate", "generation"),
            (GRPOTrainer, "_calculate_rewards", "rewards"),
            (GRPOTrainer, "_generate_and_score_completions", "preparation by TRL"),
        ]
        if isinstance(trainer, MultiTaskGRPOTrainer):
            parts += [
                (BatchLoop, "collect", "planning"),
                (HostRollouts, "produce", "replay"),
                (Judge, "__call__", "filtering"),
                (MixtureRun, "prepare", "state"),
                (MixtureRun, "step_end", "state"),
                (MixtureRun, "_prepare_loss", "replay"),
                (run_module, "record_forward", "improvement"),
                (run_module, "measure_change", "improvement"),
                (run_module, "keep_surplus", "behaviour policy of carried groups"),
            ]
        with ExitStack() as stack:
            for owner, name, part in parts:
                stack.enter_context(mock.patch.object(owner, name, self.timed(getattr(owner, name), part)))
            self._since = self.now()
            yield
            self._book()


def markdown_table(header: tuple[str, ...], lines: list[tuple[Any, ...]]) -> list[str]:
    """A Markdown table as lines, an empty one at the end."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines),
        "",
    ]
