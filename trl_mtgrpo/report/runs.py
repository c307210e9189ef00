"""Decides what a finished run is to the report: the series of its log, its tasks, and where its rollouts went."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling.accounting import RolloutLedger
from ..state.codec import from_json
from ..state.state_file import STATE_FILE, read_state_file
from .curves import Curve, carried_forward, smoothed
from .run_card import RunCard, read_run_card


TRAINER_STATE = "trainer_state.json"

_SEED = re.compile(r"(?:[-_.]?seed|[-_.]s)[-_]?\d+$", re.IGNORECASE)
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_TASK_KEY = re.compile(r"(?:eval_)?tasks/([^/]+)/")


@dataclass(frozen=True, eq=False)
class Run:
    """
    One finished or interrupted run.

    Args:
        label (`str`):
            What the run is an example of; runs of one label are shown together, as seeds of one method.
        name (`str`):
            Name of its output folder.
        tasks (`tuple[str, ...]`):
            Task names in order.
        log (`list[dict[str, Any]]`):
            The log history, one dict per entry, each with a `step`.
        groups ([`RolloutLedger`], *optional*):
            Totals in groups, when the folder holds a checkpoint.
        tokens ([`RolloutLedger`], *optional*):
            Totals in completion tokens, when the folder holds a checkpoint.
        last_step (`int`, *optional*):
            The optimizer step up to which the run was saved.
        card ([`RunCard`], *optional*):
            Method, model, settings, versions and date, where the run wrote them.
    """

    label: str
    name: str
    tasks: tuple[str, ...]
    log: list[dict[str, Any]]
    groups: RolloutLedger | None = None
    tokens: RolloutLedger | None = None
    last_step: int | None = None
    card: RunCard | None = None

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
        return any(self.series(f"eval_tasks/{task}/accuracy").x.size > 0 for task in self.tasks)

    @property
    def scored(self) -> tuple[str, ...]:
        """The tasks whose accuracy is known, in order."""
        return tuple(task for task in self.tasks if self.accuracy(task).x.size)

    def accuracy(self, task: str) -> Curve:
        """
        Accuracy of a task over the optimizer steps, in 0..1.

        Args:
            task (`str`):
                Task name.

        Returns:
            [`Curve`]: from evaluations in a run that has any, otherwise the moving mean over all generated training
            completions, which keeps its last value while the task is not generated. Empty for a task never scored.
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
            [`Curve`]: over the tasks that were ever scored; empty when none was.
        """
        curves = [self.accuracy(task) for task in self.scored]
        if not curves:
            return Curve(np.empty(0), np.empty(0))
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

    @property
    def end(self) -> int | None:
        """The last optimizer step that is known of."""
        if self.last_step is not None:
            return self.last_step
        return int(self.log[-1]["step"]) if self.log else None

    @property
    def generated_tokens(self) -> float | None:
        """Completion tokens generated in all."""
        if self.tokens is not None:
            return float(self.tokens.generated.sum())
        logged = self.series("sampling/total_generated_tokens").y
        return float(logged[-1]) if logged.size else None

    @property
    def waste(self) -> float | None:
        """Groups generated per group trained; the mean over logged steps where no totals are known."""
        if self.groups is not None:
            return self.groups.waste
        logged = self.series("sampling/waste").y
        return float(logged.mean()) if logged.size else None


def read_runs(arguments: Sequence[str]) -> list[Run]:
    """
    Reads the runs named on a command line.

    Args:
        arguments (`Sequence[str]`):
            Folders, or `LABEL=FOLDER`. Runs without a label are seeds of one method when their folders have the same
            name apart from an ending such as `-seed3`; they are labelled with the run's or the method's name, and with
            the folder's where other folders have that name too.

    Returns:
        `list[Run]`: in the given order.

    Raises:
        ValueError: when a folder holds no log of a multi-task run, or runs have different tasks.
    """
    runs, stems = [], []
    for argument in arguments:
        label, equals, folder = ("", "", "") if Path(argument).exists() else argument.partition("=")
        runs.append(read_run(Path(folder), label) if equals else read_run(Path(argument)))
        stems.append(label if equals else _stem(runs[-1].name))
    for run in runs[1:]:
        if set(run.tasks) != set(runs[0].tasks):
            raise ValueError(
                f"`RUN` must have the same tasks in one report, got {list(runs[0].tasks)} in '{runs[0].name}' and "
                f"{list(run.tasks)} in '{run.name}'. Write one report for each set of tasks."
            )
    names = [run.label for run in runs]
    for place, (name, stem) in enumerate(zip(names, stems, strict=True)):
        same_name = {other for other, label in zip(stems, names, strict=True) if label == name}
        same_stem = {label for other, label in zip(stems, names, strict=True) if other == stem}
        if len(same_name) > 1 and name != stem:
            runs[place] = replace(runs[place], label=f"{name} ({stem})")
        elif len(same_stem) > 1:  # seeds of one method that call themselves differently
            runs[place] = replace(runs[place], label=stem)
    return runs


def read_run(folder: Path, label: str | None = None) -> Run:
    """
    Reads one run.

    Args:
        folder (`Path`):
            An output folder with checkpoints, one checkpoint, or any folder with a `trainer_state.json`.
        label (`str`, *optional*):
            What the run is an example of; by default the name of the run or of its method, and of its folder where the
            run wrote none.

    Returns:
        [`Run`]

    Raises:
        ValueError: when the folder holds no log of a multi-task run.
    """
    source = _latest(folder)
    saved = _trainer_state(source / TRAINER_STATE)
    log = [entry for entry in saved["log_history"] if "step" in entry]
    card = next((card for place in (folder, source, source.parent) if (card := read_run_card(place))), None)
    tasks = tuple(dict.fromkeys(m.group(1) for entry in log for key in entry if (m := _TASK_KEY.match(key))))
    tasks = card.tasks if card is not None else tasks
    groups = tokens = None
    if (source / STATE_FILE).is_file():
        state = read_state_file(source / STATE_FILE).state
        tasks = tuple(state["task_names"])
        groups, tokens = (from_json(RolloutLedger, state[unit]) for unit in ("groups", "tokens"))
    if not tasks:
        raise ValueError(
            f"`RUN` must be a folder of a run with tasks, got '{folder}' whose log has no metric 'tasks/...'. Train "
            "with `MultiTaskGRPOTrainer`; with `method='grpo'` it is the plain baseline."
        )
    place = folder.resolve()
    name = place.parent.name if _CHECKPOINT.fullmatch(place.name) else place.name
    shown = label or (card.title if card is not None else _stem(name))
    return Run(shown, name, tasks, log, groups, tokens, int(saved["global_step"]), card)


def _stem(name: str) -> str:
    """A folder's name without the ending that numbers a seed."""
    return _SEED.sub("", name) or name


def _latest(folder: Path) -> Path:
    states = [*folder.glob(TRAINER_STATE), *folder.glob(f"checkpoint-*/{TRAINER_STATE}")]
    if not states:
        raise ValueError(
            f"`RUN` must be a folder with a '{TRAINER_STATE}' or with checkpoints, got '{folder}'. Save checkpoints "
            "(`save_strategy='steps'`) or call `trainer.save_state()` after training."
        )
    return max(states, key=lambda path: _trainer_state(path)["global_step"]).parent


def _trainer_state(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # cut off, or no text
        raise ValueError(f"`RUN` must have a readable log, got '{path}' ({error}). Name another checkpoint.") from None
    if not isinstance(saved, dict) or not {"log_history", "global_step"} <= saved.keys():
        raise ValueError(
            f"`RUN` must have a log with a 'log_history' and a 'global_step', got '{path}'. Name a folder that a "
            "trainer wrote."
        )
    return saved


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and np.isfinite(value)
