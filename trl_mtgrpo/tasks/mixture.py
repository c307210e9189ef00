"""Decides how tasks look to the trainer: one order, one list of reward functions, one scoring.

Task k is the task at position k of the mixture, everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn

from .checks import check_mixture_options, checked_tasks
from .columns import RewardColumns
from .environments import TaskEnvironments
from .failures import RewardFailures
from .images import TaskImages
from .judges import BoundRows, TaskJudge
from .names import by_name, check_known, close_names
from .prompts import rows_by_task, sets_by_task
from .rewards import RewardFunc
from .rows import HostRows, TaskRow, read_places, read_rows, task_row
from .scoring import Scoring, TaskScoring
from .task import AnyReward, Task


Split = Literal["train", "eval"]


class TaskMixture:
    """
    Tasks in a fixed order, as the trainer sees them: rows, reward functions and scoring.

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
        scoring ([`Scoring`]):
            From what the functions give to rewards and successes.
        function_names (`tuple[str, ...]`):
            Names under which rewards are logged, one per column.
        weights (`list[float]`):
            TRL's weight of each column, 0.0 for outcome functions.
        failures (`RewardFailures`):
            What went wrong in reward functions on this rank.
        environments ([`TaskEnvironments`], *optional*):
            The tasks' tools and environments as the host gets them; `None` where no task has any.
        images ([`TaskImages`]):
            Which tasks have images.

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
        self.tasks = checked_tasks(tasks)
        check_mixture_options(on_error, timeout)
        self.names = tuple(task.name for task in self.tasks)
        self.on_error, self.timeout = on_error, timeout
        self.failures = RewardFailures()
        agentic = any(task.is_agentic for task in self.tasks)
        self.images = TaskImages(self.tasks)
        self.environments = TaskEnvironments(self.tasks, self.failures) if agentic else None
        self._columns = RewardColumns(self.tasks, self.failures, on_error, timeout, qualified_names)
        self._bound = BoundRows()
        self.function_names = self._columns.names
        self.weights = list(self._columns.weights)
        self.scoring = Scoring(
            tuple(
                TaskScoring(
                    name=task.name,
                    columns=self._columns.of_task[k],
                    weights=tuple(weight for _, weight, _ in task.sources()),
                    outcome=len(task.sources()) - 1 if task.outcome_func is not None else None,
                    threshold=task.success_threshold,
                    reward_range=task.reward_range,
                )
                for k, task in enumerate(self.tasks)
            ),
            num_columns=len(self.function_names),
        )

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        reward_funcs: Mapping[str, AnyReward | Sequence[AnyReward]],
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        success_threshold: float | Mapping[str, float | None] | None = None,
        reward_range: tuple[float, float] | Mapping[str, tuple[float, float] | None] = (0.0, 1.0),
        outcome_func: RewardFunc | Mapping[str, RewardFunc | None] | None = None,
        tools: Mapping[str, Sequence[Callable[..., Any]]] | None = None,
        environment_factory: Mapping[str, Callable[[], Any]] | None = None,
        **options: Any,
    ) -> "TaskMixture":
        """
        One task per name in the column `task` of a dataset.

        The column stays among the columns that reward functions get. Every dict by task name has exactly the names of
        the tasks as its keys; `None` in it stands for a task without.

        Args:
            dataset ([`~datasets.Dataset`]):
                Rows of all tasks with the columns `prompt` and `task`.
            reward_funcs (`Mapping`):
                From task name to its function or functions. Its order is the order of the tasks.
            eval_dataset ([`~datasets.Dataset`] or `Mapping[str, Dataset]`, *optional*):
                Evaluation rows with the same two columns, or one set per task name; a task may be absent.
            success_threshold (`float` or `Mapping[str, float]`, *optional*):
                See [`Task`]; one value for all tasks, or one per name.
            reward_range (`tuple[float, float]` or `Mapping`, *optional*, defaults to `(0.0, 1.0)`):
                See [`Task`]; one value for all tasks, or one per name.
            outcome_func (`Callable` or `Mapping[str, Callable]`, *optional*):
                See [`Task`]; one function for all tasks, or one per name.
            tools (`Mapping[str, list[Callable]]`, *optional*):
                See [`Task`]; by name of the tasks that have some.
            environment_factory (`Mapping[str, Callable]`, *optional*):
                See [`Task`]; by name of the tasks that have one. Such a task may be left out of `reward_funcs`.
            **options:
                Passed to [`TaskMixture`].

        Returns:
            [`TaskMixture`]: the tasks in the order of `reward_funcs`.

        Raises:
            `ValueError` or `TypeError`: when the names in the data and in the dicts differ.

        Example:

        ```python
        >>> from datasets import Dataset
        >>> data = Dataset.from_dict({"prompt": ["1+1=", "a, b,"], "task": ["sum", "letters"]})
        >>> mixture = TaskMixture.from_dataset(data, {"sum": sum_reward, "letters": letter_reward})
        >>> mixture.names
        ('sum', 'letters')
        ```
        """
        if not isinstance(reward_funcs, Mapping) or not (reward_funcs or environment_factory):
            raise TypeError(
                "`reward_funcs` must be a dict from task name to reward function(s) for a dataset with a column "
                f"'task', got {reward_funcs!r}. Write `{{'<task>': <function>, ...}}`."
            )
        factories, tool_lists = environment_factory or {}, tools or {}
        functions_of = {**reward_funcs, **{name: () for name in factories if name not in reward_funcs}}
        names = tuple(functions_of)
        check_known(tool_lists, names, "tools")
        rows = rows_by_task(dataset, "train_dataset", names, must_cover=True)
        eval_sets = sets_by_task(eval_dataset, names)
        thresholds = by_name(success_threshold, names, "success_threshold")
        ranges = by_name(reward_range, names, "reward_range")
        outcomes = by_name(outcome_func, names, "outcome_func")
        return cls(
            [
                Task(
                    name,
                    dataset.select(rows[name]),
                    functions,
                    eval_dataset=eval_sets.get(name),
                    success_threshold=thresholds[name],
                    reward_range=(0.0, 1.0) if ranges[name] is None else ranges[name],
                    outcome_func=outcomes[name],
                    tools=tool_lists.get(name, ()),
                    environment_factory=factories.get(name),
                )
                for name, functions in functions_of.items()
            ],
            **options,
        )

    @property
    def num_tasks(self) -> int:
        """Number of tasks, K."""
        return len(self.tasks)

    @property
    def functions(self) -> list[AnyReward]:
        """TRL's `reward_funcs`, one per column: functions answer `None` for rows of other tasks. A new list."""
        return list(self._columns.functions)

    def check_signatures(self, may_add_columns: bool = False) -> None:
        """
        Check that every function can be called with the rows of its task.

        Args:
            may_add_columns (`bool`, *optional*, defaults to `False`):
                Whether a `rollout_func` may add columns to the rows.

        Raises:
            `ValueError`: when a function asks for a column that nothing can add, or does not take what it is given.
        """
        for task in self.tasks:
            task.check_signatures(may_add_columns)

    def row(self, task_id: int, row: int, split: Split = "train") -> TaskRow:
        """
        One row of one task.

        Args:
            task_id (`int`):
                Position of the task.
            row (`int`):
                Row of its dataset.
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`.

        Returns:
            [`TaskRow`]: with the task's own columns only.
        """
        return self.rows([(task_id, row)], split)[0]

    def rows(self, places: Sequence[tuple[int, int]], split: Split = "train") -> list[TaskRow]:
        """
        Rows of several tasks. A task's rows are read together, so that a transform sees them as one batch.

        Args:
            places (`list[tuple[int, int]]`):
                Task and row of each.
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`.

        Returns:
            `list[TaskRow]`: in the order of `places`.
        """
        datasets = self._datasets(split)
        for task_id, _ in places:
            if datasets[task_id] is None:
                raise ValueError(
                    f"`split` must be 'train' for task '{self.names[task_id]}', got {split!r}. Give the task an "
                    "`eval_dataset` to evaluate it."
                )
        return read_places(datasets, places)

    def host_rows(self, rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
        """
        The host's copies of rows.

        Args:
            rows (`list[TaskRow]`):
                Rows.

        Returns:
            `list[dict[str, Any]]`: with the name of the task as `environment` where the host routes rows by it.
        """
        images = self.images.host_columns(rows)
        return [row.for_host(**self.routing(row.task_id), **more) for row, more in zip(rows, images, strict=True)]

    def routing(self, task_id: int) -> dict[str, str]:
        """By what the host finds the tools and the environment of a task's rows."""
        return {} if self.environments is None else {"environment": self.names[task_id]}

    def num_rows(self, split: Split = "train") -> NDArray[np.int64]:
        """
        Rows per task.

        Args:
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`; a task without evaluation rows has 0.

        Returns:
            `NDArray[np.int64]`: shape `(K,)`.
        """
        counts = [0 if dataset is None else len(dataset) for dataset in self._datasets(split)]
        return np.asarray(counts, dtype=np.int64)

    def host_dataset(self, split: Split = "train") -> Dataset | None:
        """
        The rows of all tasks as one dataset of the host's copies, task after task.

        The tasks' own datasets are not concatenated, because their columns need not agree.

        Args:
            split (`str`, *optional*, defaults to `"train"`):
                `"train"` or `"eval"`.

        Returns:
            [`~datasets.Dataset`] or `None`: its rows are made by [`TaskRow.for_host`] when they are read; `None` when
            no task has such rows.
        """
        rows = HostRows(self._datasets(split))
        if not len(rows):
            return None
        return Dataset.from_dict({"prompt": range(len(rows))}).with_transform(rows)

    def evaluation_row(self, row: Mapping[str, Any]) -> TaskRow:
        """
        The task's row behind a row that the host evaluates.

        Args:
            row (`dict[str, Any]`):
                The host's copy of a row, or a row of a dataset of the user's own. With several tasks its column `task`
                names the task; with one task every column is the user's.

        Returns:
            [`TaskRow`]

        Raises:
            `ValueError`: when the row's task is unknown.
        """
        found = task_row(row)
        if found is not None:
            return found
        if self.num_tasks == 1:
            return TaskRow(0, -1, row)
        name = row.get("task")
        if name not in self.names:
            raise ValueError(
                f"`eval_dataset` must have names of tasks in its column 'task', got {name!r} beside the tasks "
                f"{list(self.names)}.{close_names([name], self.names)} Correct the names, or filter the rows out."
            )
        return TaskRow(self.names.index(name), -1, row)

    def check_evaluation(self, dataset: Any) -> None:
        """
        Check, on every rank alike, that each row of an evaluation set belongs to a task.

        Args:
            dataset ([`~datasets.Dataset`]):
                What is to be evaluated; streams are checked row by row while they are read.

        Raises:
            `ValueError`: when rows of several tasks come without the names of theirs.
        """
        if self.num_tasks == 1 or not isinstance(dataset, Dataset):
            return
        if len(dataset) and task_row(read_rows(dataset, [0])[0]) is None:
            rows_by_task(dataset, "eval_dataset", self.names, must_cover=False)

    def bind(self, rows: Sequence[TaskRow]) -> None:
        """
        Tell the reward models which rows the next call of the host's `_calculate_rewards` is about.

        Args:
            rows (`list[TaskRow]`):
                This rank's rows.
        """
        self._bound.bind(rows)

    def wrap_models(self, reward_funcs: list[Any]) -> None:
        """
        Make each reward model score the rows of its own tasks only.

        To be called when TRL has loaded and prepared its reward functions. With a single task every row is the
        model's, and nothing changes.

        Args:
            reward_funcs (`list`):
                The trainer's `reward_funcs`; changed in place.
        """
        if self.num_tasks == 1:
            return
        for column, task_ids in enumerate(self._columns.tasks_of_column):
            model = reward_funcs[column]
            if isinstance(model, nn.Module) and not isinstance(model, TaskJudge):
                reward_funcs[column] = TaskJudge(model, task_ids, self._bound)

    def processing_classes(self, given: Any) -> list[Any] | None:
        """
        TRL's `reward_processing_classes` out of what the user gave.

        Args:
            given (`Any` or `list`, *optional*):
                One per function of `reward_funcs`, task after task in the order in which the user listed them;
                outcome functions do not count. A single one is for the only reward model.

        Returns:
            `list` or `None`: one per column.

        Raises:
            `ValueError`: when there are more or fewer than functions, or two for a shared model.
        """
        return None if given is None else self._columns.processing_classes(given)

    def _datasets(self, split: Split) -> list[Dataset | None]:
        return [task.train_dataset if split == "train" else task.eval_dataset for task in self.tasks]
