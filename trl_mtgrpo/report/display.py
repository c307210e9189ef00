"""What a terminal shows while a run goes on: one table per logging step, one row per task."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


# Logged accuracies that a trend looks back on.
TREND_LENGTH = 10


class TaskTableCallback(TrainerCallback):
    """
    Shows a table at every logging step: weight, accuracy, trend, filtered, generated and share of each task.

    The trainer installs it unless `task_table=False`. It shows nothing where the output is not a terminal.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        console ([`rich.console.Console`], *optional*):
            Where to show the table; by default the standard output.
    """

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.names, self.console = tuple(names), console or Console()
        self._past: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=TREND_LENGTH))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows the table of the training metrics that were just logged."""
        if not self.console.is_terminal or not state.is_world_process_zero:
            return
        if not logs or f"tasks/{self.names[0]}/weight" not in logs:
            return
        table = task_table(
            self.names, logs, state.global_step, {name: list(past) for name, past in self._past.items()}
        )
        with tqdm.external_write_mode():  # the progress bar moves below the table
            self.console.print(table)
            self.console.print(total_line(logs), soft_wrap=True, highlight=False)
        for name in self.names:
            accuracy = logs.get(f"tasks/{name}/accuracy")
            if accuracy is not None:
                self._past[name].append(accuracy)


def task_table(
    names: Sequence[str], logs: Mapping[str, Any], step: int, past: Mapping[str, Sequence[float]] | None = None
) -> Table:
    """
    The table of one logging step.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        logs (`dict[str, float]`):
            Metrics as logged; `None` where nothing was measured.
        step (`int`):
            Optimizer step.
        past (`dict[str, Sequence[float]]`, *optional*):
            Earlier accuracies by task name. The trend is the accuracy minus their mean.

    Returns:
        [`rich.table.Table`]
    """
    table = Table(title=f"step {step}", title_justify="left")
    table.add_column("task")
    for column in ("weight", "accuracy", "trend", "filtered", "generated", "share"):
        table.add_column(column, justify="right")
    for name in names:
        value = {key: logs.get(f"tasks/{name}/{key}") for key in _KEYS}
        table.add_row(
            f"{name} (stalled)" if value["stalled"] else name,
            _percent(value["weight"]),
            _percent(value["accuracy"]),
            _trend(value["accuracy"], (past or {}).get(name, ())),
            _percent(value["filtered_ratio"]),
            f"{value['generated_groups'] or 0:,.0f}",
            _percent(value["batch_share"]),
        )
    return table


_KEYS = ("weight", "accuracy", "filtered_ratio", "generated_groups", "batch_share", "stalled")


def total_line(logs: Mapping[str, Any]) -> str:
    """What a step cost over all tasks, in one line."""
    generated, accepted, rounds, unfilled, waste = (
        logs.get(f"sampling/{key}") or 0.0
        for key in ("generated_groups", "accepted_groups", "rounds", "unfilled_groups", "waste")
    )
    missing = f", {unfilled:,.1f} missing" if unfilled else ""
    return (
        f"per step: {generated:,.1f} groups generated in {rounds:.1f} rounds, {accepted:,.1f} accepted{missing}; "
        f"{waste:.2f} generated per trained; {logs.get('sampling/total_generated_tokens') or 0:,.0f} tokens so far"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _trend(accuracy: float | None, past: Sequence[float]) -> str:
    if accuracy is None or not past:
        return "-"
    change = 100.0 * (accuracy - sum(past) / len(past))
    arrow = "↑" if change > 0.5 else "↓" if change < -0.5 else "→"
    return f"{arrow} {change:+.1f}"
