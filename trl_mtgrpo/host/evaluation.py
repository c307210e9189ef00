"""Evaluation per task: every row counted once, then the worst, the average and the spread over tasks."""

from collections.abc import Mapping, MutableMapping
from dataclasses import replace

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..tasks.mixture import TaskMixture
from ..tasks.names import close_names
from ..weighting.signals import summarize_accuracy, task_means
from .config import MultiTaskGRPOConfig


class TaskEvaluation:
    """
    Collects the rewards of one evaluation and turns them into metrics.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        num_rows (`int`):
            Completions to be scored, `len(eval_dataset) * num_generations_eval`. Further rows are the padding by which
            the loader evens out ranks; they are dropped.
        baseline (`dict[str, float]`, *optional*):
            Accuracy by task name to compare with.
    """

    def __init__(self, mixture: TaskMixture, num_rows: int, baseline: Mapping[str, float] | None = None) -> None:
        self.mixture, self.rows_left, self.baseline = mixture, num_rows, baseline
        self._rewards: list[NDArray[np.float32]] = []
        self._task_ids: list[NDArray[np.int64]] = []
        self._lengths: list[NDArray[np.int64]] = []

    def add(self, rewards: NDArray[np.float32], task_ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """
        Adds the rows of one batch of all ranks.

        Args:
            rewards (`np.ndarray`):
                Rewards in global row order, shape `(N, F)`.
            task_ids (`np.ndarray`):
                Task of each row, shape `(N,)`.
            lengths (`np.ndarray`):
                Completion tokens of each row, shape `(N,)`.
        """
        take = min(self.rows_left, len(rewards))
        self.rows_left -= take
        self._rewards.append(rewards[:take])
        self._task_ids.append(task_ids[:take])
        self._lengths.append(lengths[:take])

    def metrics(self) -> dict[str, float]:
        """
        The metrics, without the `eval_` prefix.

        Returns:
            `dict[str, float]`: `tasks/<name>/{accuracy,reward,completion_length,completions}` for every task with
            rows, and `worst_task_accuracy`, `average_accuracy`, `task_accuracy_spread`, `relative_change` over them.
        """
        if not self._rewards:
            return {}
        rewards, task_ids = np.concatenate(self._rewards), np.concatenate(self._task_ids)
        num_tasks = self.mixture.num_tasks
        scores = self.mixture.scoring.score(rewards, task_ids)
        accuracy, _ = task_means(scores.success, task_ids, num_tasks)
        reward, _ = task_means(scores.reward, task_ids, num_tasks)
        length, counts = task_means(np.concatenate(self._lengths).astype(np.float64), task_ids, num_tasks)
        metrics: dict[str, float] = {}
        for k, name in enumerate(self.mixture.names):
            if counts[k]:
                metrics[f"tasks/{name}/accuracy"] = float(accuracy[k])
                metrics[f"tasks/{name}/reward"] = float(reward[k])
                metrics[f"tasks/{name}/completion_length"] = float(length[k])
                metrics[f"tasks/{name}/completions"] = float(counts[k])
        by_name = {name: float(accuracy[k]) for k, name in enumerate(self.mixture.names) if counts[k]}
        return metrics | summarize_accuracy(by_name, self.baseline)


def name_evaluation(metrics: MutableMapping[str, list[float]], prefix: str) -> None:
    """
    Puts the name of an evaluation set into the names of its metrics.

    Args:
        metrics (`dict[str, list[float]]`):
            What the evaluation has measured, without `eval_`; changed in place.
        prefix (`str`):
            The host's `metric_key_prefix`: `eval_<name>` for one of several sets, `eval` for the only one.
    """
    name = prefix.removeprefix("eval").lstrip("_")
    if name:
        for key in list(metrics):
            metrics[f"{name}_{key}"] = metrics.pop(key)


def with_evaluation_sets(
    mixture: TaskMixture, datasets: Mapping[str, Dataset], settings: MultiTaskGRPOConfig
) -> TaskMixture:
    """
    The same tasks with evaluation sets given by name.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        datasets (`dict[str, Dataset]`):
            Evaluation rows by task name; a task may be absent.
        settings ([`MultiTaskGRPOConfig`]):
            The run's settings.

    Returns:
        [`TaskMixture`]

    Raises:
        ValueError: for a name that is no task.
    """
    unknown = sorted(set(datasets) - set(mixture.names))
    if unknown:
        raise ValueError(
            f"`eval_dataset` must have names of tasks as its keys, got {unknown} beside the tasks "
            f"{list(mixture.names)}.{close_names(unknown, mixture.names)} "
            "Rename them; other sets can be given to `trainer.evaluate`, with a column 'task'."
        )
    return TaskMixture(
        [replace(task, eval_dataset=datasets.get(task.name)) for task in mixture.tasks],
        on_error=settings.reward_on_error,
        timeout=settings.reward_timeout,
    )
