"""Decides what is wrong with a run that could be understood: between its tasks, in its rows, in its batch.

Every defect is found and named; nothing here raises.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from datasets import Dataset

from trl_mtgrpo import MultiTaskGRPOConfig, Task

from .batch import Batch
from .named_rewards import NAMED_REWARDS
from .task_file import LocalFiles, ReasoningGym, Seeds, TaskEntry, TaskFile, VerlFiles, as_list
from .task_rows import sources_of, training_rows


# Tasks may share a few prompts by chance; from here on it is the same set.
_SAME_SET = 0.5


def file_defects(file: TaskFile, settings: MultiTaskGRPOConfig | None) -> list[str]:
    """
    What can be seen without loading a row.

    Args:
        file ([`TaskFile`]):
            The file.
        settings ([`MultiTaskGRPOConfig`], *optional*):
            Its settings, where they could be built.

    Returns:
        `list[str]`: one sentence or two per defect.
    """
    return [
        *_repeated_names(file),
        *_repeated_sources(file),
        *_weight_defects(file),
        *_missing_evaluation(file, settings),
        *_threshold_defects(file),
        *_weights_of_functions(settings),
    ]


def _weights_of_functions(settings: MultiTaskGRPOConfig | None) -> list[str]:
    if settings is None or settings.reward_weights is None:
        return []
    return [
        f"`reward_weights` must be left out of `trainer`, got {settings.reward_weights}. Give each reward of a task "
        "its own: `reward: [{use: ..., weight: ...}]`."
    ]


def batch_defects(file: TaskFile, batch: Batch) -> list[str]:
    """
    What is wrong with the size of a batch.

    Args:
        file ([`TaskFile`]):
            The file.
        batch ([`Batch`]):
            The batch.

    Returns:
        `list[str]`: one sentence or two per defect.
    """
    if batch.groups < len(file.tasks):
        return [
            f"`per_device_train_batch_size` must give at least one group per task and batch, got {batch.groups} "
            "groups "
            f"for {len(file.tasks)} tasks. Raise it, or `steps_per_generation`, so that there are "
            f"{2 * len(file.tasks)} groups or more."
        ]
    return []


def row_defects(file: TaskFile, tasks: Sequence[Task]) -> list[str]:
    """
    What is wrong with rows, within and between tasks.

    Args:
        file ([`TaskFile`]):
            The file.
        tasks (`Sequence[Task]`):
            Those tasks whose rows could be loaded.

    Returns:
        `list[str]`: one sentence or two per defect.
    """
    defects: list[str] = []
    keys: dict[str, frozenset[str]] = {}
    for task in tasks:
        train = frozenset(prompt_keys(task, training_rows(task)))
        if task.name not in keys:
            keys[task.name] = train
        defects += _empty_values(task)
        if task.eval_dataset is not None:
            shared = len(train & frozenset(prompt_keys(task, task.eval_dataset)))
            if shared:
                defects.append(
                    f"`eval` of task '{task.name}' must hold other prompts than its training rows, got {shared} "
                    "prompts "
                    "in both. Remove them from one of the two."
                )
    known = {tuple(sorted((one.name, other.name))) for one, other, _ in _pairs_with_one_source(file)}
    for first, second in combinations(keys, 2):
        shared = len(keys[first] & keys[second])
        least = min(len(keys[first]), len(keys[second]))
        if least and shared >= _SAME_SET * least and tuple(sorted((first, second))) not in known:
            defects.append(
                f"`tasks` must have rows of their own, got {shared} of {least} prompts of '{first}' and '{second}' in "
                "both. Remove one of the tasks, or read other rows."
            )
    return defects


def prompt_keys(task: Task, rows: Dataset) -> list[str]:
    """
    A text per prompt by which equal prompts are found.

    Args:
        task ([`Task`]):
            Their task. With an environment a prompt is what its whole row makes of it.
        rows ([`~datasets.Dataset`]):
            Rows with a column `prompt`. Rows that are made when they are read are left out: their source sees to it
            that none repeats.

    Returns:
        `list[str]`
    """
    if rows.format["type"] == "custom":
        return []
    if task.environment_factory is not None:
        return [f"{task.environment_class.__qualname__} {dict(row)}" for row in rows]
    return [str(prompt) for prompt in rows["prompt"]]


def _repeated_names(file: TaskFile) -> list[str]:
    counts = Counter(task.name for task in file.tasks)
    return [
        f"`tasks` must have distinct names, got '{name}' {count} times (lines "
        f"{', '.join(str(task.line) for task in file.tasks if task.name == name)}). Rename or remove one."
        for name, count in counts.items()
        if count > 1
    ]


def _repeated_sources(file: TaskFile) -> list[str]:
    defects = [
        f"`tasks` must have rows of their own, got the same set under '{first.name}' and '{second.name}' (lines "
        f"{first.line} and {second.line}): {shared}. Remove one of the two, or read the set that was meant."
        for first, second, shared in _pairs_with_one_source(file)
    ]
    for task in file.tasks:
        for source, count in Counter(sources_of(file, task)).items():
            if count > 1:
                defects.append(
                    f"`files` of task '{task.name}' must name each set once, got '{source}' {count} times. Remove one."
                )
    return defects


def _pairs_with_one_source(file: TaskFile) -> list[tuple[TaskEntry, TaskEntry, str]]:
    pairs = []
    for first, second in combinations(file.tasks, 2):
        shared = sorted(set(sources_of(file, first)) & set(sources_of(file, second)))
        if shared:
            pairs.append((first, second, ", ".join(shared)))
    return pairs


def _weight_defects(file: TaskFile) -> list[str]:
    names = [task.name for task in file.tasks]
    given = file.shares
    if not given:
        return []
    defects = []
    absent = [name for name in names if name not in given]
    if absent:
        defects.append(
            f"`weight` must be given for every task or for none, got none for {absent}. Add the missing ones."
        )
    strange = [name for name in given if name not in names]
    if strange:
        defects.append(
            f"`fixed_task_weights` must name tasks of the file, got {strange} beside {names}. Add the missing tasks, "
            "or "
            "remove their weights."
        )
    numbers = {name: weight for name, weight in given.items() if isinstance(weight, int | float)}
    wrong = {name: weight for name, weight in numbers.items() if not 0 <= weight <= 1}
    if wrong:
        defects.append(f"`weight` must be a share between 0 and 1, got {wrong}. Write shares that sum to 1.")
    # Counted by task, since two tasks of one name have two weights.
    total = math.fsum([task.weight or 0.0 for task in file.tasks] if file.weights else numbers.values())
    if abs(total - 1.0) > 1e-6:
        defects.append(
            f"`weight` must sum to 1 over the tasks, got {total:g} from {numbers}. A task may be missing, or the "
            "numbers "
            "are relative: write shares of the whole batch."
        )
    return defects


def _missing_evaluation(file: TaskFile, settings: MultiTaskGRPOConfig | None) -> list[str]:
    without = [task.name for task in file.tasks if not _is_evaluated(task)]
    if not without:
        return []
    if len(without) < len(file.tasks):
        return [
            f"`tasks` must all have evaluation rows or none, got none for {without}. Give them `eval_size`, or a "
            "split "
            "of their own; the worst task is that of all tasks only when all are evaluated."
        ]
    strategy = getattr(getattr(settings, "eval_strategy", "no"), "value", "no")
    if strategy != "no":
        return [
            f"`eval_strategy` must be 'no' without evaluation rows, got {strategy!r}. Give the tasks `eval_size`, or "
            "a "
            "split of their own."
        ]
    return []


def _is_evaluated(task: TaskEntry) -> bool:
    source = task.source
    if task.eval_size is not None:
        return True
    if isinstance(source, ReasoningGym):
        return source.eval_size > 0
    if isinstance(source, Seeds):
        return source.eval > 0
    return bool(as_list(source.eval)) if isinstance(source, LocalFiles | VerlFiles) else source.eval_split is not None


def unreachable_threshold(entry: TaskEntry) -> float | None:
    """
    The greatest reward of a task whose threshold is above it.

    Args:
        entry ([`TaskEntry`]):
            The task.

    Returns:
        `float` or `None`: `None` where the threshold can be reached, or the range of the rewards is not known.
    """
    greatest = None
    if entry.reward_range is not None and len(entry.reward_range) == 2:
        greatest = float(entry.reward_range[1])
    elif all(reward.use in NAMED_REWARDS for reward in entry.reward):
        greatest = math.fsum(max(reward.weight, 0.0) for reward in entry.reward) if entry.reward else 1.0
    threshold = entry.success_threshold
    return greatest if threshold is not None and greatest is not None and threshold > greatest else None


def _threshold_defects(file: TaskFile) -> list[str]:
    return [
        f"`success_threshold` of task '{task.name}' must be within the rewards' range, got "
        f"{task.success_threshold:g} above {greatest:g}. No completion would count as correct; lower it."
        for task in file.tasks
        if (greatest := unreachable_threshold(task)) is not None
    ]


def _empty_values(task: Task) -> list[str]:
    defects = []
    for split, rows in (("train", training_rows(task)), ("eval", task.eval_dataset)):
        if rows is None or rows.format["type"] == "custom" or "answer" not in rows.column_names:
            continue
        empty = [i for i, answer in enumerate(rows["answer"]) if answer is None or not str(answer).strip()]
        if empty:
            defects.append(
                f"`answer` of task '{task.name}' must be in every row, got {len(empty)} empty ones in its {split} "
                "rows, "
                f"the first in row {empty[0]}. Filter such rows out, or correct `answer` and `answer_after`."
            )
    return defects
