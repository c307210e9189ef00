"""Evaluation per task: every row counted once, then the worst, the average and the spread over tasks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..report.metrics import episode_metrics
from ..tasks import TaskMixture
from ..tasks.rows import KEY
from ..weighting.signals import summarize_accuracy, task_means
from .collecting import Scored, Scorer
from .doors import Generation, Live, read_generation
from .reward_calls import calculate_rewards


class TaskEvaluation:
    """
    Collects what one evaluation scored and turns it into metrics.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        dataset (`Any`):
            What is evaluated. Where it has a length, rows beyond it are the padding by which the loader evens out
            ranks, and are dropped.
        num_generations (`int`):
            Completions per row.
    """

    def __init__(self, names: tuple[str, ...], dataset: Any, num_generations: int) -> None:
        self.names = names
        self.rows_left = len(dataset) * num_generations if hasattr(dataset, "__len__") else None
        self._scored: list[Scored] = []

    def add(self, scored: Scored) -> None:
        """Adds the rows of one batch of all ranks, in global order."""
        take = len(scored.task_ids) if self.rows_left is None else min(self.rows_left, len(scored.task_ids))
        if self.rows_left is not None:
            self.rows_left -= take
        self._scored.append(
            scored._replace(
                task_ids=scored.task_ids[:take],
                tokens=scored.tokens[:take],
                activity=scored.activity[:take],
                scores=type(scored.scores)(*(column[:take] for column in scored.scores)),
            )
        )

    def metrics(self, baseline: Mapping[str, float] | None = None) -> dict[str, float]:
        """
        The metrics, without the `eval_` prefix.

        Args:
            baseline (`dict[str, float]`, *optional*):
                Accuracy by task name to compare with.

        Returns:
            `dict[str, float]`: `tasks/<name>/{accuracy,reward,completion_length,completions}` for every task with
            rows, where they are known; where tasks have tools also `tasks/<name>/{turns,tool_calls,tool_failures}`;
            and over the tasks `worst_task_accuracy`, `average_accuracy`, `task_accuracy_spread` and
            `relative_change`. Where a task with rows has no known accuracy there is no worst task and no average: what
            is not known may be the worst.
        """
        if not self._scored:
            return {}
        task_ids = np.concatenate([scored.task_ids for scored in self._scored])

        def means(values: list[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
            return task_means(np.concatenate(values).astype(np.float64), task_ids, len(self.names))

        accuracy, _ = means([scored.scores.success for scored in self._scored])
        reward, _ = means([scored.scores.reward for scored in self._scored])
        length, counts = means([scored.tokens for scored in self._scored])
        metrics: dict[str, float] = {}
        for k, name in enumerate(self.names):
            if counts[k]:
                measured = {"accuracy": accuracy[k], "reward": reward[k], "completion_length": length[k]}
                metrics |= {f"tasks/{name}/{key}": float(v) for key, v in measured.items() if not np.isnan(v)}
                metrics[f"tasks/{name}/completions"] = float(counts[k])
        activity = np.concatenate([scored.activity for scored in self._scored])
        if activity.shape[1]:
            metrics |= episode_metrics(self.names, task_ids, activity)
        return metrics | summarize_accuracy(self._by_name(accuracy, counts), baseline)

    @property
    def unscored(self) -> list[str]:
        """Tasks with rows of which no accuracy is known."""
        if not self._scored:
            return []
        task_ids = np.concatenate([scored.task_ids for scored in self._scored])
        success = np.concatenate([scored.scores.success for scored in self._scored])
        known = np.bincount(task_ids[~np.isnan(success)], minlength=len(self.names))
        rows = np.bincount(task_ids, minlength=len(self.names))
        return [name for k, name in enumerate(self.names) if rows[k] and not known[k]]

    def _by_name(self, accuracy: NDArray[np.float64], counts: NDArray[np.int64]) -> dict[str, float]:
        by_name = {name: float(accuracy[k]) for k, name in enumerate(self.names) if counts[k]}
        return {} if self.unscored else by_name


class ScoredDoor(Live):
    """The host's own answers, listened to by an evaluation."""

    def __init__(self, scorer: Scorer, mixture: TaskMixture, evaluation: TaskEvaluation) -> None:
        self.scorer, self.mixture, self.evaluation = scorer, mixture, evaluation
        self._generation = Generation([], [], [])

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        output = host._generate(prompts)
        self._generation = read_generation(prompts, output)
        return output

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        rows = [row[KEY] for row in arguments[0]]
        inputs, prompts, *further = arguments
        prompts = self.mixture.images.prompts(rows, prompts)
        values = calculate_rewards(host, self.mixture, rows, inputs, prompts, *further)
        scored = self.scorer.score(values, rows, self._generation)
        self.evaluation.add(scored)
        known = self.mixture.scoring.host_values(scored.scores.parts, scored.task_ids, scored.scores.reward)
        return torch.tensor(known, dtype=values.dtype, device=values.device)
