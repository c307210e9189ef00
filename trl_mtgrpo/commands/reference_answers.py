"""Decides whether a task's rewards tell a right answer from a wrong one and from none, on a few of its own rows."""

import asyncio
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trl_mtgrpo import Task

from .defects import unreachable_threshold
from .named_rewards import FORMS, USUAL_FORMS
from .task_file import ReasoningGym, TaskEntry
from .task_rows import training_rows
from .templates import fill


_NUM_ROWS = 8


@dataclass(frozen=True)
class ReferenceScores:
    """
    Mean rewards of made-up completions of a task.

    Args:
        right (`float`, *optional*):
            Of right answers; `None` where no right answer is known.
        wrong (`float`, *optional*):
            Of other rows' answers; `None` where no right answer is known.
        empty (`float`, *optional*):
            Of empty completions.
        form (`str`):
            How the right answers were written.
        defects (`tuple[str, ...]`):
            What the scores say against the rewards.
    """

    right: float | None = None
    wrong: float | None = None
    empty: float | None = None
    form: str = ""
    defects: tuple[str, ...] = ()


def reference_scores(task: Task, entry: TaskEntry) -> ReferenceScores:
    """
    Scores right, wrong and empty completions.

    Args:
        task ([`Task`]):
            The task.
        entry ([`TaskEntry`]):
            What the file says of it.

    Returns:
        [`ReferenceScores`]
    """
    rows = [dict(training_rows(task)[i]) for i in range(min(_NUM_ROWS, len(training_rows(task))))]
    misfits = _signature_defects(task)
    if misfits:
        return ReferenceScores(defects=tuple(misfits))
    if task.environment_factory is not None or task.program is not None:
        return ReferenceScores(form="by playing" if task.program is None else "by its program")
    try:
        return _scored(task, entry, rows)
    except Exception as error:  # a user's function may raise anything; it becomes a defect
        return ReferenceScores(
            defects=(
                f"`reward` of task '{task.name}' must score any completion, got {type(error).__name__}: "
                f"{error!s:.200}. "
                "Handle the case in the function.",
            )
        )


def _scored(task: Task, entry: TaskEntry, rows: list[dict[str, Any]]) -> ReferenceScores:
    empty = _rewards(task, rows, [""] * len(rows))
    defects = []
    threshold = task.success_threshold
    if threshold is not None and any(_reaches(value, threshold) for value in empty):
        defects.append(
            f"`reward` of task '{task.name}' must not take an empty completion for right, got {max(empty):g} for one. "
            f"Raise `success_threshold` ({threshold:g}) or correct the reward."
        )
    answers = [_answer(row) for row in rows]
    if any(answer is None or not answer.strip() for answer in answers):
        return ReferenceScores(empty=_mean(empty), form="no answer column", defects=tuple(defects))
    forms = _forms(entry)
    right, form = max(((_rewards(task, rows, _written(f, answers)), f) for f in forms), key=lambda pair: sum(pair[0]))
    # Where all answers are alike none of them is wrong for another row.
    others = [next((o for o in answers[i:] + answers[:i] if o != a), None) for i, a in enumerate(answers)]
    wrong = [] if None in others else _rewards(task, rows, _written(form, others))
    shown = form.replace("{{{", "{").replace("}}}", "}")
    if threshold is not None:
        missed = [i for i, value in enumerate(right) if not _reaches(value, threshold)]
        if missed and unreachable_threshold(entry) is None:
            tried = (
                "the task's `reference`"
                if entry.reference
                else f"{len(forms)} usual forms"
                if len(forms) > 1
                else "its form"
            )
            defects.append(
                f"`reward` of task '{task.name}' must take the right answer for right, got {right[missed[0]]:g} for "
                f"{_written(form, answers)[missed[0]]!r:.80} in row {missed[0]} ({tried}). Correct `answer`, the "
                "threshold or the reward, or show a right completion with `reference`."
            )
        if sum(_reaches(value, threshold) for value in wrong) > len(wrong) / 2:
            defects.append(
                f"`reward` of task '{task.name}' must not take wrong answers for right, got {_mean(wrong):g} for the "
                "answers of other rows. Correct the reward."
            )
    elif not all(_mean(right) > _mean(values) for values in (wrong, empty) if values):
        defects.append(
            f"`reward` of task '{task.name}' must give right answers more than others, got {_mean(right):g} against "
            f"{_mean(wrong):g} for wrong ones and {_mean(empty):g} for empty ones. Correct `answer` or the reward."
        )
    return ReferenceScores(_mean(right), _mean(wrong) if wrong else None, _mean(empty), shown, tuple(defects))


def _signature_defects(task: Task) -> list[str]:
    try:
        task.check_signatures()
    except ValueError as error:
        return [str(error)]
    return []


def _rewards(task: Task, rows: list[dict[str, Any]], texts: list[str]) -> list[float]:
    """The task's reward of each text, NaN where nothing scored it. Shape `(N,)`."""
    chat = task.is_conversational
    completions: list[Any] = [[{"role": "assistant", "content": text}] if chat else text for text in texts]
    arguments: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
    arguments |= {
        "prompts": [row["prompt"] for row in rows],
        "completions": completions,
        "completion_ids": [[] for _ in rows],
        "trainer_state": None,
        "log_extra": lambda *_: None,
        "log_metric": lambda *_: None,
    }
    assert isinstance(task.reward_funcs, tuple)
    assert task.reward_weights is not None
    totals = [math.nan] * len(rows)
    for function, weight in zip(task.reward_funcs, task.reward_weights, strict=True):
        if not callable(function):
            continue
        values: Any = function(**arguments)
        if inspect.isawaitable(values):
            values = asyncio.run(_awaited(values))
        values = list(values)
        if len(values) != len(rows):
            raise ValueError(f"it returned {len(values)} values for {len(rows)} completions")
        for i, value in enumerate(values):
            if value is not None:
                totals[i] = (0.0 if math.isnan(totals[i]) else totals[i]) + weight * float(value)
    return totals


async def _awaited(values: Any) -> Any:
    return await values


def _answer(row: dict[str, Any]) -> str | None:
    for name in ("answer", "expected"):
        if row.get(name) is not None:
            return str(row[name])
    return None


def _forms(entry: TaskEntry) -> tuple[str, ...]:
    if entry.reference is not None:
        return (entry.reference,)
    if not entry.reward:
        boxed = not isinstance(entry.source, ReasoningGym) or entry.source.box
        return (FORMS["reasoning_gym"] if boxed else "{answer}",)
    found = FORMS.get(entry.reward[0].use)
    return USUAL_FORMS if found is None or len(entry.reward) > 1 else (found,)


def _written(form: str, answers: Sequence[str | None]) -> list[str]:
    return [fill(form, {"answer": answer}) for answer in answers]


def _reaches(value: float, threshold: float) -> bool:
    return value >= threshold - 1e-6 * max(1.0, abs(threshold))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
