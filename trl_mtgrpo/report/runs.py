"""Decides what a finished run is to the report: the series of its log, its tasks, and where its rollouts went."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling.accounting import RolloutLedger
from ..state.codec import from_json
from ..state.state_file import STATE_FILE, read_state_file
from .curves import Curve, carried_forward, smoothed


TRAINER_STATE = "trainer_state.json"

_SEED = re.compile(r"[-_.]?(?:seed|s)[-_]?\d+$", re.IGNORECASE)
_TASK_KEY = re.compile(r"(?:eval_)?tasks/([^/]+)/")


@dataclass(frozen=True, eq=False)
class Run:
    """
    One finished or interrupted run.

    Args:
        label (`str`):
            What the run is an example of; runs of one label are shown together, as seeds of one method.
        name (`str`):
            Name of its folder.
        tasks (`tuple[str, ...]`):
            Task names in order.
        log (`list[dict[str, Any]]`):
            The log history, one dict per entry, each with a `step`.
        groups ([`RolloutLedger`], *optional*):
            Totals in groups, when the folder holds a checkpoint.
        tokens ([`RolloutLedger`], *optional*):
            Totals in completion tokens, when the folder holds a checkpoint.
    """

    label: str
    name: str
    tasks: tuple[str, ...]
    log: list[dict[str, Any]]
    groups: RolloutLedger | None = None
    tokens: RolloutLedger | None = None

    def series(self, key: str) -> Curve:
        """
        One logged number over the optimizer steps, without the entries that lack it.

        Args:
            key (`str`):
                A metric name, such as `tasks/countdown/weight`.

        Returns:
            [`Curve`]: steps and values; the last one where a step has several.
        """
        found = {entry["step"]: entry[key] for entry in self.log if _is_number(entry.get(key))}
        return Curve(np.array(list(found), dtype=np.float64), np.array(list(found.values()), dtype=np.float64))

    def asked_share(self, task: str) -> Curve:
        """
        Share of the batch that was asked for a task, in 0..1.

        Args:
            task (`str`):
                Task name.

        Returns:
            [`Curve`]: the target share, or the weight in a log that has no target shares.
        """
        found = self.series(f"tasks/{task}/target_share")
        return found if found.x.size else self.series(f"tasks/{task}/weight")

    @property
    def is_evaluated(self) -> bool:
        """Whether accuracies come from evaluations; otherwise they are those of the training prompts."""
        return all(self.series(f"eval_tasks/{task}/accuracy").x.size > 0 for task in self.tasks)

    def accuracy(self, task: str) -> Curve:
        """
        Accuracy of a task over the optimizer steps, in 0..1.

        Args:
            task (`str`):
                Task name.

        Returns:
            [`Curve`]: from evaluations where all tasks were evaluated, otherwise the moving mean over all generated
            training completions, which keeps its last value while the task is not generated.
        """
        if self.is_evaluated:
            return self.series(f"eval_tasks/{task}/accuracy")
        return carried_forward(self.smoothed_ratio(task, "accuracy"), self.steps)

    def smoothed_ratio(self, task: str, column: str) -> Curve:
        """
        Moving mean of a ratio over a task's generated groups, each group counting the same.

        Args:
            task (`str`):
                Task name.
            column (`str`):
                `accuracy`, `filtered_ratio`, `solved_ratio` or `failed_ratio`.

        Returns:
            [`Curve`]: over the steps in which the task was generated.
        """
        curve, groups = self.series(f"tasks/{task}/{column}"), self.series(f"tasks/{task}/generated_groups")
        return smoothed(curve, np.interp(curve.x, groups.x, groups.y) if groups.x.size else None)

    def over_tasks(self, reduce: Any) -> Curve:
        """
        A summary of the tasks' accuracies over the steps at which all are known.

        Args:
            reduce (`Callable`):
                `np.min`, `np.mean` or `np.max`, called with `axis=0`.

        Returns:
            [`Curve`]
        """
        curves = [self.accuracy(task) for task in self.tasks]
        shared = curves[0].x
        for curve in curves[1:]:
            shared = np.intersect1d(shared, curve.x)
        values = [curve.y[np.isin(curve.x, shared)] for curve in curves]
        return Curve(shared, reduce(np.stack(values), axis=0))

    def against_tokens(self, curve: Curve) -> Curve:
        """
        The same values over completion tokens generated so far.

        Args:
            curve ([`Curve`]):
                Values over steps.

        Returns:
            [`Curve`]: empty when the log does not hold the total.
        """
        total = self.series("sampling/total_generated_tokens")
        if not total.x.size:
            return Curve(np.empty(0), np.empty(0))
        steps, tokens = np.append(0.0, total.x), np.append(0.0, total.y)
        return Curve(np.interp(curve.x, steps, tokens), curve.y)

    @property
    def steps(self) -> NDArray[np.float64]:
        """The optimizer steps at which training metrics were logged."""
        return self.series("sampling/generated_groups").x


def read_runs(arguments: Sequence[str]) -> list[Run]:
    """
    Reads the runs named on a command line.

    Args:
        arguments (`Sequence[str]`):
            Folders, or `LABEL=FOLDER`. Without a label it is the folder's name without an ending such as `-seed3`.

    Returns:
        `list[Run]`: in the given order.

    Raises:
        ValueError: when a folder holds no log of a multi-task run, or runs have different tasks.
    """
    runs = []
    for argument in arguments:
        label, equals, folder = argument.partition("=")
        runs.append(read_run(Path(folder), label) if equals else read_run(Path(argument)))
    for run in runs[1:]:
        if set(run.tasks) != set(runs[0].tasks):
            raise ValueError(
                f"`RUN` must have the same tasks in one report, got {list(runs[0].tasks)} in '{runs[0].name}' and "
                f"{list(run.tasks)} in '{run.name}'. Write one report for each set of tasks."
            )
    return runs


def read_run(folder: Path, label: str | None = None) -> Run:
    """
    Reads one run.

    Args:
        folder (`Path`):
            An output folder with checkpoints, one checkpoint, or any folder with a `trainer_state.json`.
        label (`str`, *optional*):
            What the run is an example of.

    Returns:
        [`Run`]

    Raises:
        ValueError: when the folder holds no log of a multi-task run.
    """
    source = _latest(folder)
    log = json.loads((source / TRAINER_STATE).read_text(encoding="utf-8"))["log_history"]
    log = [entry for entry in log if "step" in entry]
    tasks = tuple(dict.fromkeys(m.group(1) for entry in log for key in entry if (m := _TASK_KEY.match(key))))
    if not tasks:
        raise ValueError(
            f"`RUN` must be a folder of a run with tasks, got '{folder}' whose log has no metric 'tasks/...'. Train "
            "with "
            "`MultiTaskGRPOTrainer`; with `method='grpo'` it is the plain baseline."
        )
    groups = tokens = None
    if (source / STATE_FILE).is_file():
        state = read_state_file(source / STATE_FILE).state
        tasks = tuple(state["task_names"])
        groups, tokens = (from_json(RolloutLedger, state[unit]) for unit in ("groups", "tokens"))
    name = folder.resolve().name
    return Run(label or _SEED.sub("", name) or name, name, tasks, log, groups, tokens)


def _latest(folder: Path) -> Path:
    states = [*folder.glob(TRAINER_STATE), *folder.glob(f"checkpoint-*/{TRAINER_STATE}")]
    if not states:
        raise ValueError(
            f"`RUN` must be a folder with a '{TRAINER_STATE}' or with checkpoints, got '{folder}'. Save checkpoints "
            "(`save_strategy='steps'`) or call `trainer.save_state()` after training."
        )
    return max(states, key=lambda path: json.loads(path.read_text(encoding="utf-8"))["global_step"]).parent


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and np.isfinite(value)
