"""Decides which columns the host's matrix of rewards has: one per function of a task, one per reward model."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from .failures import RewardFailures
from .rewards import AsyncTaskReward, TaskReward, function_name, is_async
from .task import AnyReward, Task


class RewardColumns:
    """
    The reward functions of all tasks as the host gets them.

    Args:
        tasks (`Sequence[Task]`):
            The tasks.
        failures ([`RewardFailures`]):
            Where failures are recorded.
        on_error (`str`):
            See [`TaskMixture`].
        timeout (`float`, *optional*):
            See [`TaskMixture`].
        qualified_names (`bool`):
            See [`TaskMixture`].

    Attributes:
        functions (`tuple`):
            One per column: the task's function in a [`TaskReward`], or a reward model as it was given.
        names (`tuple[str, ...]`):
            Their names.
        weights (`tuple[float, ...]`):
            The host's weights.
        of_task (`tuple[tuple[int, ...], ...]`):
            Columns of each task, its outcome function last.
        tasks_of_column (`tuple[tuple[int, ...], ...]`):
            Tasks of each column; several for a shared reward model.

    Raises:
        `ValueError`: when tasks weight a shared reward model differently.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        failures: RewardFailures,
        on_error: Literal["raise", "drop"],
        timeout: float | None,
        qualified_names: bool,
    ) -> None:
        functions: list[AnyReward] = []
        names: list[str] = []
        weights: list[float] = []
        owners: list[list[int]] = []
        of_task: list[tuple[int, ...]] = []
        models: dict[Any, list[int]] = {}
        for task_id, task in enumerate(tasks):
            columns: list[int] = []
            for given, weight, source in task.sources():
                # A model that a task lists twice is two columns, as in TRL.
                shared = (
                    models.setdefault(given if isinstance(given, str) else id(given), []) if _is_model(given) else []
                )
                column = next((column for column in shared if column not in columns), len(functions))
                columns.append(column)
                if column < len(functions):
                    _check_shared_weight(tasks, owners[column][0], task_id, names[column], weights[column], weight)
                    owners[column].append(task_id)
                    continue
                if isinstance(given, str | nn.Module):
                    shared.append(column)
                    name = _distinct(_model_name(given), names)
                    functions.append(given)
                else:
                    name = function_name(given)
                    name = _distinct(f"{task.name}/{name}" if qualified_names else name, names)
                    kind = AsyncTaskReward if is_async(given) else TaskReward
                    functions.append(kind(given, task.name, task_id, name, failures, source, on_error, timeout))
                names.append(name)
                weights.append(weight)
                owners.append([task_id])
            of_task.append(tuple(columns))
        self.functions, self.names, self.weights = tuple(functions), tuple(names), tuple(weights)
        self.of_task, self.tasks_of_column = tuple(of_task), tuple(map(tuple, owners))
        # Columns of the functions that the user listed as `reward_funcs`, in that order.
        self._listed = [
            (column, task.name)
            for task, columns in zip(tasks, of_task, strict=True)
            for (_, _, source), column in zip(task.sources(), columns, strict=True)
            if source == "reward_funcs"
        ]

    def processing_classes(self, given: Any) -> list[Any]:
        """See [`TaskMixture.processing_classes`]."""
        models = [column for column, function in enumerate(self.functions) if _is_model(function)]
        found: list[Any] = [None] * len(self.functions)
        if not isinstance(given, list | tuple):
            if len(models) != 1:
                raise ValueError(
                    f"`reward_processing_classes` must be a list with one entry per function, got one "
                    f"{type(given).__name__} for {len(models)} reward models. The functions are: {self._order()}."
                )
            found[models[0]] = given
            return found
        if len(given) != len(self._listed):
            raise ValueError(
                f"`reward_processing_classes` must have one entry per function of `reward_funcs`, got {len(given)} "
                f"for {len(self._listed)}. The functions are, task after task: {self._order()}."
            )
        for (column, _), processing_class in zip(self._listed, given, strict=True):
            if processing_class is None:
                continue
            if found[column] not in (None, processing_class):
                raise ValueError(
                    f"`reward_processing_classes` must give a reward model that tasks share one processing class, got "
                    f"two for '{self.names[column]}'. Give the same one, or None after the first."
                )
            found[column] = processing_class
        return found

    def _order(self) -> str:
        return ", ".join(f"{self.names[column]} of '{task}'" for column, task in self._listed)


def _is_model(given: Any) -> bool:
    return isinstance(given, str | nn.Module)


def _model_name(model: Any) -> str:
    path = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", "")
    return str(path).rstrip("/").split("/")[-1] or type(model).__name__


def _check_shared_weight(tasks: Sequence[Task], first: int, second: int, name: str, one: float, other: float) -> None:
    if one != other:
        raise ValueError(
            f"`reward_weights` must give a reward model that tasks share one weight, got {one} in task "
            f"'{tasks[first].name}' and {other} in task '{tasks[second].name}' for '{name}'. Give it the same weight "
            "in all of them, and the tasks' other functions larger or smaller ones."
        )


def _distinct(name: str, taken: Sequence[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
