"""`mtgrpo check`: what a task file means, and what is wrong with it, before any GPU time."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, AutoTokenizer

from trl_mtgrpo import MultiTaskGRPOConfig, Task

from ..host.agent_checks import check_agents, check_template
from ..report.forecast import POLICIES, RunOutline, forecast, format_tasks, text_table
from ..tasks import TaskMixture
from ..tasks.tools import tools_of
from .batch import Batch
from .defects import batch_defects, file_defects, row_defects
from .reading import read_task_file
from .reference_answers import ReferenceScores, reference_scores
from .run_settings import adapter_of, model_of, settings_of
from .task_file import TaskEntry, TaskFile
from .task_rows import load_task, training_rows


logger = logging.getLogger(__name__)

# Prompts of a task whose lengths are measured; rows of large sets are taken at equal distances.
_MEASURED = 2000
_FORECAST_STEPS = 200
_SHOWN_CHARS = 600
_POLICIES = {"grpo": "grpo", "sec_grpo": "grpo", "dapo": "dapo", "sec_dapo": "dapo"}


@dataclass(frozen=True)
class _Lengths:
    mean: float
    longest: int
    row: int
    example: str


def run(options: argparse.Namespace, overrides: Sequence[str]) -> tuple[str, int]:
    """
    Looks at a task file.

    Args:
        options (`argparse.Namespace`):
            `config`, `model`, `processes` and `acceptance`.
        overrides (`Sequence[str]`):
            Settings that win over the file.

    Returns:
        `tuple[str, int]`: what there is to say, and 1 with defects, otherwise 0.

    Raises:
        ValueError: for a file that cannot be understood.
    """
    file = read_task_file(Path(options.config), options.model)
    processes = options.processes or file.processes or 1
    defects: list[str] = []
    settings = None
    try:
        settings = settings_of(file, overrides, elsewhere=processes)
    except ValueError as error:  # what the config refuses is one defect among the others
        defects.append(str(error))
    try:
        adapter_of(file)
    except (ValueError, ImportError) as error:
        defects.append(str(error))
    defects += file_defects(file, settings)
    loaded: list[tuple[TaskEntry, Task]] = []
    for entry in file.tasks:
        try:
            loaded.append((entry, load_task(file, entry)))
        except ValueError as error:
            defects.append(str(error))
    defects += row_defects(file, [task for _, task in loaded])
    scores = [reference_scores(task, entry) for entry, task in loaded]
    defects += [defect for one in scores for defect in one.defects]
    sections = [f"{file.path.name}: {len(file.tasks)} tasks, model {file.model}"]
    tokenizer = _tokenizer(file, defects)
    misfits = []
    if settings is not None and tokenizer is not None:
        misfits = _agent_defects(file, [task for _, task in loaded], settings, tokenizer)
        defects += misfits
    if loaded and tokenizer is not None:
        lengths = [_lengths(task, tokenizer, with_tools=not misfits) for _, task in loaded]
        limits = _prompt_limits(file, settings, tokenizer, [entry for entry, _ in loaded])
        defects += _long_prompts(loaded, lengths, limits)
        sections += [_rows_table(loaded, lengths, limits), _examples(loaded, lengths)]
    if loaded:
        sections.append(_scores_table(loaded, scores))
    if settings is not None:
        batch = Batch.of(settings, processes, sum(len(training_rows(task)) for _, task in loaded))
        defects += batch_defects(file, batch)
        sections += [
            _batch_text(batch, len(file.tasks)),
            _forecast_text(file, settings, batch, dict(options.acceptance)),
        ]
    if defects:
        numbered = [f"  {number}. {defect}" for number, defect in enumerate(dict.fromkeys(defects), start=1)]
        sections.append("\n".join([f"DEFECTS: {len(numbered)}", *numbered]))
    else:
        sections.append("No defects found.")
    return "\n\n".join(sections), int(bool(defects))


def _tokenizer(file: TaskFile, defects: list[str]) -> Any:
    try:
        return AutoTokenizer.from_pretrained(model_of(file))
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        defects.append(
            f"`model` must have a tokenizer that can be loaded, got '{file.model}' ({text:.200}). Correct the name "
            "or folder."
        )
        return None


def _lengths(task: Task, tokenizer: Any, with_tools: bool) -> _Lengths:
    size = len(training_rows(task))
    tools = [tool for _, tool in tools_of(task)] if with_tools else []
    positions = np.unique(np.linspace(0, size - 1, min(size, _MEASURED)).astype(int)).tolist()
    texts = [_shown(training_rows(task)[i]["prompt"], tokenizer, tools) for i in positions]
    counts = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    longest = int(np.argmax(counts))
    return _Lengths(float(np.mean(counts)), counts[longest], positions[longest], texts[0])


def _shown(prompt: Any, tokenizer: Any, tools: list[Any]) -> str:
    """A prompt as the model sees it, without what an environment adds when it is reset."""
    if isinstance(prompt, str) or tokenizer.chat_template is None:
        return str(prompt)
    text: str = tokenizer.apply_chat_template(prompt, tools=tools or None, tokenize=False, add_generation_prompt=True)
    return text


def _agent_defects(file: TaskFile, tasks: Sequence[Task], settings: MultiTaskGRPOConfig, tokenizer: Any) -> list[str]:
    """What does not fit together of tools, environments and programs."""
    if len(tasks) < len(file.tasks) or len({task.name for task in tasks}) < len(tasks):
        return []  # said already
    try:
        check_template(tasks, tokenizer)
        check_agents(TaskMixture(tasks), settings, {"processing_class": tokenizer})
    except ValueError as error:
        return [str(error)]
    return []


def _prompt_limits(
    file: TaskFile, settings: MultiTaskGRPOConfig | None, tokenizer: Any, entries: Sequence[TaskEntry]
) -> list[int | None]:
    """Per task the longest prompt that leaves room for a completion, and that the file allows."""
    room = [tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None]
    try:
        room.append(getattr(AutoConfig.from_pretrained(model_of(file)), "max_position_embeddings", None))
    except (OSError, ValueError):
        logger.info("The model's configuration could not be read; its longest sequence is not known.")
    room.append(settings and settings.vllm_max_model_length)
    context = min((length for length in room if length is not None), default=None)
    limits = []
    for entry in entries:
        completion = entry.max_completion_length or (settings and settings.max_completion_length) or 0
        given = [file.max_prompt_tokens, None if context is None else context - completion]
        limits.append(min((limit for limit in given if limit is not None), default=None))
    return limits


def _long_prompts(
    loaded: Sequence[tuple[TaskEntry, Task]], lengths: Sequence[_Lengths], limits: Sequence[int | None]
) -> list[str]:
    return [
        f"`prompt` of task '{task.name}' must leave room for a completion, got {one.longest} tokens in row {one.row} "
        f"against a limit of {limit}. Filter long rows out, lower `max_completion_length`, or raise "
        "`max_prompt_tokens`."
        for (_, task), one, limit in zip(loaded, lengths, limits, strict=True)
        if limit is not None and one.longest > limit
    ]


def _rows_table(
    loaded: Sequence[tuple[TaskEntry, Task]], lengths: Sequence[_Lengths], limits: Sequence[int | None]
) -> str:
    header = ["task", "train rows", "eval rows", "prompt tokens, mean", "longest", "limit", "correct from"]
    rows = [
        [
            task.name,
            f"{len(training_rows(task)):,}",
            "none" if task.eval_dataset is None else f"{len(task.eval_dataset):,}",
            f"{one.mean:,.0f}",
            f"{one.longest:,}",
            "none" if limit is None else f"{limit:,}",
            "mean reward" if task.success_threshold is None else f"{task.success_threshold:g}",
        ]
        for (_, task), one, limit in zip(loaded, lengths, limits, strict=True)
    ]
    return f"Rows\n{text_table(header, rows)}"


def _examples(loaded: Sequence[tuple[TaskEntry, Task]], lengths: Sequence[_Lengths]) -> str:
    parts = ["First prompt of each task, as the model sees it"]
    for (_, task), one in zip(loaded, lengths, strict=True):
        cut = one.example[:_SHOWN_CHARS]
        left = len(one.example) - len(cut)
        text = "\n".join(f"  | {line}" for line in cut.split("\n"))
        asked = {"program": " (its program asks in its own words)", "environment": " (its environment adds to it)"}
        kind = "program" if task.program is not None else "environment" if task.environment_factory else ""
        parts.append(
            f"{task.name}{asked.get(kind, '')}\n{text}" + (f"\n  ... {left:,} more characters" if left else "")
        )
    return "\n".join(parts)


def _scores_table(loaded: Sequence[tuple[TaskEntry, Task]], scores: Sequence[ReferenceScores]) -> str:
    def number(value: float | None) -> str:
        return "not known" if value is None else f"{value:.2f}"

    rows = [
        [task.name, number(one.right), number(one.wrong), number(one.empty), one.form]
        for (_, task), one in zip(loaded, scores, strict=True)
    ]
    return f"Rewards of made-up completions\n{text_table(['task', 'right', 'wrong', 'empty', 'written as'], rows)}"


def _batch_text(batch: Batch, num_tasks: int) -> str:
    return (
        f"Batch on {batch.processes} process{'es' if batch.processes > 1 else ''}\n"
        f"  {batch.groups} groups of {batch.generations} rollouts per batch, {batch.groups / num_tasks:.1f} groups "
        "per task "
        f"on average; {batch.updates} optimizer step{'s' if batch.updates > 1 else ''} per batch\n"
        f"  {batch.optimizer_steps:,} optimizer steps in all; {batch.steps_per_epoch:,} of them see as many groups as "
        "there are rows"
    )


def _forecast_text(file: TaskFile, settings: MultiTaskGRPOConfig, batch: Batch, guesses: Mapping[str, float]) -> str:
    names = list(dict.fromkeys(task.name for task in file.tasks))
    unknown = [name for name in guesses if name not in names]
    if unknown:
        raise ValueError(
            f"`--acceptance` must name tasks of the file, got {unknown} beside {names}. Correct the names."
        )
    weights = {name: max(file.shares.get(name, 0.0), 0.0) for name in names}
    steps = min(batch.batches, _FORECAST_STEPS)
    outline = RunOutline.guessed(
        {name: guesses.get(name, 0.5) for name in names},
        weights if sum(weights.values()) > 0 else {},
        float(settings.max_completion_length or 0),
        batch.groups,
        batch.generations,
        steps,
    )
    policy = _POLICIES.get(settings.method or "", "mt_grpo")
    if policy == "mt_grpo" and settings.oversampling not in (None, "adaptive"):
        policy = "paper"
    result = forecast(outline, POLICIES[policy])
    return (
        f"Forecast of {steps} batches: {POLICIES[policy].meaning}\n{format_tasks(outline, result)}\n"
        f"  {result.generated.sum() / steps:,.1f} groups generated per batch in {result.rounds_per_step:.1f} rounds. "
        "Acceptance is a guess, 0.5 unless given with `--acceptance TASK=SHARE`; tokens are those of completions of "
        "full "
        "length."
    )
