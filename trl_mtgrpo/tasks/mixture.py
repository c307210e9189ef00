"""Decides how tasks look to the trainer: one order, one index of rows, one list of rewards with a column for each.

Task k is the task at position k of the mixture, everywhere.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn

from .failures import RewardFailures
from .prompts import kind_name, rows_by_task
from .rewards import AsyncTaskReward, RewardFunc, TaskReward, function_name, is_async
from .task import AnyReward, Task


class TaskMixture:
    """
    Tasks in a fixed order, as the trainer sees them: rows, rewards and measures.

    Args:
        tasks (`Sequence[Task]`):
            At least one task, with distinct names and the same kind of prompts.
        on_error (`str`, *optional*, defaults to `"raise"`):
            What a failing reward function does: `"raise"` stops training on all ranks, `"drop"` leaves its rows
            unscored.
        timeout (`float`, *optional*):
            Seconds that one call of a reward function may take. No limit by default.
        qualified_names (`bool`, *optional*, defaults to `True`):
            Whether rewards are logged as `<task>/<function>`; otherwise by the function's name alone, as TRL does.

    Attributes:
        tasks (`tuple[Task, ...]`):
            The tasks.
        names (`tuple[str, ...]`):
            Their names.
        columns (`tuple[str, ...]`):
            Union of the columns of all tasks.
        reward_funcs (`list`):
            All rewards of all tasks, each answering `None` for rows of other tasks; reward models as they were given.
            `F` of them.
        reward_weights (`list[float]`):
            Their weights, 0.0 for outcome functions. Shape `(F,)`.
        column_task (`NDArray[np.int64]`):
            The task that each reward belongs to, shape `(F,)`. Reward models score every row: the columns they fill
            for other tasks' rows are to be ignored.
        outcome_column (`NDArray[np.int64]`):
            Position of each task's outcome function among the rewards, -1 for none, shape `(K,)`.
        failures (`RewardFailures`):
            What went wrong in reward functions on this rank.

    Raises:
        `ValueError`: when there is no task, names repeat, or prompts differ in kind.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        on_error: Literal["raise", "drop"] = "raise",
        timeout: float | None = None,
        qualified_names: bool = True,
    ) -> None:
        self.tasks = tuple(tasks)
        _check_mixture(self.tasks, on_error, timeout)
        self.names = tuple(task.name for task in self.tasks)
        self.columns = tuple(dict.fromkeys(column for task in self.tasks for column in task.columns))
        self.failures = RewardFailures()
        self.reward_funcs: list[AnyReward] = []
        self.reward_weights: list[float] = []
        column_task: list[int] = []
        self.outcome_column = np.full(len(self.tasks), -1, dtype=np.int64)
        taken: set[str] = set()
        for task_id, task in enumerate(self.tasks):
            foreign = frozenset(self.columns) - {"task", *task.columns}
            for function, weight, source in task.sources():
                if source == "outcome_func":
                    self.outcome_column[task_id] = len(self.reward_funcs)
                if not isinstance(function, str | nn.Module):
                    name = function_name(function)
                    name = _distinct(f"{task.name}/{name}" if qualified_names else name, taken)
                    function = (AsyncTaskReward if is_async(function) else TaskReward)(
                        function,
                        task.name,
                        task_id,
                        name,
                        self.failures,
                        source=source,
                        foreign_columns=foreign,
                        on_error=on_error,
                        timeout=timeout,
                    )
                self.reward_funcs.append(function)
                self.reward_weights.append(weight)
                column_task.append(task_id)
        self.column_task = np.asarray(column_task, dtype=np.int64)

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        reward_funcs: Mapping[str, AnyReward | Sequence[AnyReward]],
        eval_dataset: Dataset | None = None,
        success_threshold: float | Mapping[str, float] | None = None,
        reward_range: tuple[float, float] | Mapping[str, tuple[float, float]] = (0.0, 1.0),
        outcome_func: Mapping[str, RewardFunc] | None = None,
        **options: Any,
    ) -> "TaskMixture":
        """
        One task per name in the column `task` of a dataset.

        Args:
            dataset ([`~datasets.Dataset`]):
                Rows of all tasks with the columns `prompt` and `task`.
            reward_funcs (`Mapping`):
                From task name to its function or functions. Its order is the order of the tasks.
            eval_dataset ([`~datasets.Dataset`], *optional*):
                Evaluation rows with the same two columns; a task may be absent from it.
            success_threshold (`float` or `Mapping[str, float]`, *optional*):
                See [`Task`]; one value for all tasks, or one per name.
            reward_range (`tuple[float, float]` or `Mapping`, *optional*, defaults to `(0.0, 1.0)`):
                See [`Task`]; one value for all tasks, or one per name.
            outcome_func (`Mapping[str, Callable]`, *optional*):
                See [`Task`]; one per name.
            **options:
                Passed to [`TaskMixture`].

        Returns:
            [`TaskMixture`]: the tasks in the order of `reward_funcs`.

        Raises:
            `ValueError`: when the names in the data and in `reward_funcs` differ.

        Example:

        ```python
        >>> from datasets import Dataset
        >>> data = Dataset.from_dict({"prompt": ["1+1=", "a, b,"], "task": ["sum", "letters"]})
        >>> mixture = TaskMixture.from_dataset(data, {"sum": sum_reward, "letters": letter_reward})
        >>> mixture.names
        ('sum', 'letters')
        ```
        """
        rows = rows_by_task(dataset, "train_dataset", tuple(reward_funcs), must_cover=True)
        eval_rows = {}
        if eval_dataset is not None:
            eval_rows = rows_by_task(eval_dataset, "eval_dataset", tuple(reward_funcs), must_cover=False)
        return cls(
            [
                Task(
                    name,
                    dataset.select(rows[name]).remove_columns("task"),
                    functions,
                    eval_dataset=(
                        eval_dataset.select(eval_rows[name]).remove_columns("task")
                        if eval_dataset is not None and name in eval_rows
                        else None
                    ),
                    success_threshold=_one_of(success_threshold, name),
                    reward_range=_one_of(reward_range, name),
                    outcome_func=_one_of(outcome_func, name),
                )
                for name, functions in reward_funcs.items()
            ],
            **options,
        )

    @property
    def num_tasks(self) -> int:
        """Number of tasks, K."""
        return len(self.tasks)

    @property
    def prompt_is_conversational(self) -> bool:
        """Whether prompts are lists of messages."""
        return self.tasks[0].is_conversational

    def row(self, task_id: int, index: int, split: Literal["train", "eval"] = "train") -> dict[str, Any]:
        """
        One row as the trainer feeds it to generation and rewards.

        Args:
            task_id (`int`):
                Position of the task.
            index (`int`):
                Row of its dataset.
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`.

        Returns:
            `dict`: every column of the mixture, `None` where the task has none, with the task's name under `task` and
            its position under `task_id`.
        """
        row: dict[str, Any] = dict.fromkeys(self.columns) | self._dataset(task_id, split)[int(index)]
        return row | {"task": self.names[task_id], "task_id": int(task_id)}

    def num_rows(self, split: Literal["train", "eval"] = "train") -> NDArray[np.int64]:
        """
        Rows per task.

        Args:
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`; a task without evaluation rows has 0.

        Returns:
            `NDArray[np.int64]`: shape `(K,)`.
        """
        datasets = [task.train_dataset if split == "train" else task.eval_dataset for task in self.tasks]
        return np.asarray([0 if dataset is None else len(dataset) for dataset in datasets], dtype=np.int64)

    def index_dataset(self, split: Literal["train", "eval"] = "train") -> Dataset | None:
        """
        A dataset that names every row of every task, for a host that only needs to count and shuffle.

        The tasks' own datasets are not concatenated, because their columns may have types that do not agree. The
        trainer expands `task_id` and `row` with [`TaskMixture.row`]; the prompt here is an empty one of the right
        kind.

        Args:
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`.

        Returns:
            [`~datasets.Dataset`] or `None`: columns `prompt`, `task_id` and `row`, task after task, or `None` when no
            task has such rows.
        """
        counts = self.num_rows(split)
        if counts.sum() == 0:
            return None
        empty = [{"role": "user", "content": ""}] if self.prompt_is_conversational else ""
        return Dataset.from_dict(
            {
                "prompt": [empty] * int(counts.sum()),
                "task_id": np.repeat(np.arange(self.num_tasks), counts),
                "row": np.concatenate([np.arange(count) for count in counts]),
            }
        )

    def task_rewards(self, rewards: NDArray[np.floating], task_ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """
        The reward each completion trains on.

        Args:
            rewards (`NDArray`):
                Values of all rewards, `NaN` where not scored, shape `(N, F)`. Columns of other tasks are ignored.
            task_ids (`NDArray`):
                Task of each row, shape `(N,)`.

        Returns:
            `NDArray[np.float64]`: weighted sum over the task's own rewards, shape `(N,)`; `NaN` where none scored the
            row.
        """
        outcomes = np.isin(np.arange(len(self.column_task)), self.outcome_column)
        own = (self.column_task[None, :] == np.asarray(task_ids)[:, None]) & ~outcomes[None, :]  # (N, F)
        scored = own & ~np.isnan(rewards)
        values = np.where(scored, np.asarray(rewards, dtype=np.float64), 0.0) @ np.asarray(self.reward_weights)
        return np.where(scored.any(axis=1), values, np.nan)

    def correctness(self, rewards: NDArray[np.floating], task_ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """
        What each completion counts for when tasks are compared, between 0 and 1.

        Args:
            rewards (`NDArray`):
                As for [`TaskMixture.task_rewards`], shape `(N, F)`.
            task_ids (`NDArray`):
                Task of each row, shape `(N,)`.

        Returns:
            `NDArray[np.float64]`: shape `(N,)`. 1 or 0 for tasks with an outcome function or a threshold, otherwise
            the reward mapped from the task's range to 0..1; `NaN` where not scored.
        """
        task_ids = np.asarray(task_ids)
        summed = self.task_rewards(rewards, task_ids)
        result = np.full(len(task_ids), np.nan)
        for task_id in np.unique(task_ids):
            task, mine = self.tasks[task_id], task_ids == task_id
            values = summed[mine]
            if self.outcome_column[task_id] >= 0:
                result[mine] = rewards[mine, self.outcome_column[task_id]]
            elif task.success_threshold is not None:
                # Rewards arrive in single precision, where 0.9 is a little less than 0.9.
                reached = values >= task.success_threshold - 1e-6 * max(1.0, abs(task.success_threshold))
                result[mine] = np.where(np.isnan(values), np.nan, reached)
            else:
                low, high = task.reward_range
                scaled = (values - low) / (high - low)
                # A single task is compared with no other, so its units favour nobody.
                if self.num_tasks > 1 and np.any((scaled < -1e-6) | (scaled > 1 + 1e-6)):
                    warnings.warn(
                        f"rewards of task '{task.name}' leave its `reward_range` {task.reward_range} and are cut to "
                        "it. Give the task the range its rewards really have, or a `success_threshold`.",
                        stacklevel=2,
                    )
                result[mine] = np.clip(scaled, 0.0, 1.0)
        return result

    def has_outcome(self) -> NDArray[np.bool_]:
        """
        Which tasks say of each completion whether it is correct.

        Returns:
            `NDArray[np.bool_]`: `True` for tasks with a threshold or an outcome function, shape `(K,)`.
        """
        thresholds = np.asarray([task.success_threshold is not None for task in self.tasks], dtype=bool)
        return thresholds | (self.outcome_column >= 0)

    def _dataset(self, task_id: int, split: Literal["train", "eval"]) -> Dataset:
        task = self.tasks[task_id]
        dataset = task.train_dataset if split == "train" else task.eval_dataset
        if dataset is None:
            raise ValueError(
                f"`split` must be 'train' for task '{task.name}', got {split!r}. Give the task an `eval_dataset` to "
                "evaluate it."
            )
        return dataset


def _check_mixture(tasks: tuple[Task, ...], on_error: str, timeout: float | None) -> None:
    if not tasks or not all(isinstance(task, Task) for task in tasks):
        raise ValueError(
            f"`tasks` must be a list of at least one `Task`, got {list(tasks)!r}. Build them with `Task`."
        )
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"`tasks` must have distinct names, got {repeated} more than once. Rename one of each.")
    kinds = {task.name: task.is_conversational for task in tasks}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            "`tasks` must all have prompts of one kind, got "
            + ", ".join(f"{kind_name(kind)} in '{name}'" for name, kind in kinds.items())
            + ". Convert the prompts of one kind with `dataset.map`."
        )
    if on_error not in ("raise", "drop"):
        raise ValueError(f"`reward_on_error` must be 'raise' or 'drop', got {on_error!r}. Use 'raise' when in doubt.")
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(
            f"`reward_timeout` must be a positive number of seconds, got {timeout}. Use None for no limit."
        )


def _one_of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else value


def _distinct(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate
