"""What a reader sees while a run goes on: one table per logging step and per evaluation, one row per task."""

import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .screen import NAME_WIDTH, Screen


# Logged accuracies that a trend looks back on.
TREND_LENGTH = 10

# Numbers of the host that stay in view beside the table, with what they are called there.
HOST_NUMBERS = {
    "epoch": "epoch",
    "loss": "loss",
    "train_loss": "mean loss",
    "reward": "reward of trained rows",
    "kl": "KL",
    "entropy": "entropy",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
    "completions/mean_length": "mean length",
    "step_time": "seconds per step",
    "train_runtime": "seconds in all",
}

_COUNT = re.compile(r"^(?P<prefix>.+_)tasks/(?P<name>[^/]+)/completions$")


class TaskTableCallback(TrainerCallback):
    """
    Shows a table at every logging step, with weight, accuracy, trend, filtered, generated and share of each task, and
    one after every evaluation. Accuracies and shares are percent of what is logged as 0..1.

    The trainer installs it unless `task_table=False`, and the host then no longer prints the metrics that it shows.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        console ([`rich.console.Console`], *optional*):
            Where to show the tables; by default the standard output.
    """

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.names, self.screen = tuple(names), Screen(console)
        self._past: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=TREND_LENGTH))

    @property
    def console(self) -> Console:
        """Where the tables are shown."""
        return self.screen.console

    def shows(self, logs: Mapping[str, Any] | None) -> bool:
        """
        Whether a table holds what was logged, so that nobody else need print it.

        Args:
            logs (`dict[str, float]`):
                Metrics as logged.

        Returns:
            `bool`
        """
        return logs is not None and (is_training(self.names, logs) or bool(evaluations(self.names, logs)))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows the tables of what was just logged."""
        if logs is None or not state.is_world_process_zero:
            return
        for prefix in evaluations(self.names, logs):
            self.screen.show(evaluation_table(self.names, logs, prefix, state.global_step))
        if not is_training(self.names, logs):
            return
        past = {name: list(accuracies) for name, accuracies in self._past.items()}
        lines = [total_line(logs), *([line] if (line := host_line(logs)) else [])]
        self.screen.show(task_table(self.names, logs, state.global_step, past), *lines)
        for name in self.names:
            accuracy = logs.get(f"tasks/{name}/accuracy")
            if accuracy is not None:
                self._past[name].append(accuracy)


def is_training(names: Sequence[str], logs: Mapping[str, Any]) -> bool:
    """Whether the logged metrics are those of training steps."""
    return any(f"tasks/{name}/weight" in logs for name in names)


def evaluations(names: Sequence[str], logs: Mapping[str, Any]) -> list[str]:
    """The evaluations whose metrics were logged, by the prefix of their keys, such as `eval_` or `eval_near_`."""
    found = (_COUNT.match(key) for key in logs)
    return list(dict.fromkeys(m["prefix"] for m in found if m is not None and m["name"] in names))


def task_table(
    names: Sequence[str], logs: Mapping[str, Any], step: int, past: Mapping[str, Sequence[float]] | None = None
) -> Table:
    """
    The table of one logging step.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        logs (`dict[str, float]`):
            Metrics as logged; what was not measured is absent or `None`.
        step (`int`):
            Optimizer step.
        past (`dict[str, Sequence[float]]`, *optional*):
            Earlier accuracies by task name. The trend is the accuracy minus their mean, in percentage points.

    Returns:
        [`rich.table.Table`]
    """
    table = _table(f"step {step}", ("weight", "accuracy", "trend", "filtered", "generated", "share"))
    for name in names:
        value = {key: logs.get(f"tasks/{name}/{key}") for key in _KEYS}
        generated = value["generated_groups"]
        table.add_row(
            Text(f"{name} (stalled)" if value["stalled"] else name),
            percent(value["weight"]),
            percent(value["accuracy"]),
            _trend(value["accuracy"], (past or {}).get(name, ())),
            percent(value["filtered_ratio"]),
            "-" if generated is None else f"{generated:,.4g}" if generated < 1000 else f"{generated:,.0f}",
            percent(value["batch_share"]),
        )
    return table


_KEYS = ("weight", "accuracy", "filtered_ratio", "generated_groups", "batch_share", "stalled")


def evaluation_table(names: Sequence[str], logs: Mapping[str, Any], prefix: str, step: int) -> Table:
    """
    The table of one evaluation, with the worst task and the average below.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        logs (`dict[str, float]`):
            Metrics as logged.
        prefix (`str`):
            What their keys begin with, such as `eval_`.
        step (`int`):
            Optimizer step.

    Returns:
        [`rich.table.Table`]
    """
    label = prefix.removeprefix("eval_").rstrip("_")
    title = f"step {step}, evaluation" + (f" '{label}'" if label else "")
    table = _table(title, ("accuracy", "reward", "completions", "mean length"))
    for name in names:
        value = {key: logs.get(f"{prefix}tasks/{name}/{key}") for key in _EVALUATED}
        table.add_row(
            Text(name),
            percent(value["accuracy"]),
            _number(value["reward"], ".3f"),
            _number(value["completions"], ",.0f"),
            _number(value["completion_length"], ",.0f"),
        )
    table.add_section()
    for label, key in (("worst task", "worst_task_accuracy"), ("average", "average_accuracy")):
        table.add_row(label, percent(logs.get(f"{prefix}{key}")), "", "", "")
    return table


_EVALUATED = ("accuracy", "reward", "completions", "completion_length")


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


def host_line(logs: Mapping[str, Any]) -> str:
    """The host's most used numbers, in one line; empty when none was logged."""
    known = {shown: logs.get(key) for key, shown in HOST_NUMBERS.items()}
    return ", ".join(f"{shown} {value:.4g}" for shown, value in known.items() if isinstance(value, int | float))


def percent(value: float | None) -> str:
    """A share or an accuracy of 0..1 as readers see it everywhere."""
    return "-" if value is None else f"{value:.1%}"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("task", overflow="fold", max_width=NAME_WIDTH)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _trend(accuracy: float | None, past: Sequence[float]) -> str:
    if accuracy is None or not past:
        return "-"
    change = 100.0 * (accuracy - sum(past) / len(past))
    arrow = "↑" if change > 0.5 else "↓" if change < -0.5 else "→"
    return f"{arrow} {change:+.1f}"
