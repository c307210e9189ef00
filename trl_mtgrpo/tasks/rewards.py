"""Decides how a task's reward function is called: on its own rows only, within its time, with its result checked.

A failure in user code is recorded, not raised, because an exception on one rank alone would leave the others waiting
in a collective; the trainer shares the record over the ranks and raises on all of them together.
"""

import asyncio
import functools
import inspect
import math
import numbers
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from .failures import RewardError, RewardFailure, RewardFailures, describe_failures
from .time_limit import RewardTimeout, call_within


__all__ = [
    "AsyncTaskReward",
    "RewardError",
    "RewardFailure",
    "RewardFailures",
    "RewardFunc",
    "TaskReward",
    "describe_failures",
    "function_name",
    "is_async",
    "merge_rows",
]

RewardFunc = Callable[..., Any]

_FLOAT32_MAX = 3.4028234e38  # TRL keeps rewards in single precision


class TaskReward:
    """
    One reward function of one task, in TRL's calling convention for the whole batch.

    It calls the function with the rows and columns of its own task only and answers `None` for the others; with no row
    of its own the function is not called. What the function logs with `log_extra` is spread over the whole batch.

    Args:
        func (`Callable`):
            The user's function, `func(prompts, completions, completion_ids, <columns>, **kwargs)`, returning one
            number or `None` per row.
        task (`str`):
            Name of the task.
        task_id (`int`):
            Its position in the mixture, compared with the column `task_id` of the batch.
        name (`str`):
            Name under which TRL logs this reward; unique in the mixture.
        failures (`RewardFailures`):
            Where failures are recorded.
        source (`str`, *optional*, defaults to `"reward_funcs"`):
            The argument of [`Task`] that the function came from, for error messages. `"outcome_func"` allows only
            `True`, `False`, 0 and 1.
        foreign_columns (`frozenset[str]`, *optional*, defaults to `frozenset()`):
            Columns that other tasks brought into the mixture; not passed on.
        on_error (`str`, *optional*, defaults to `"raise"`):
            `"raise"` records a fatal failure, `"drop"` one that leaves the rows unscored.
        timeout (`float`, *optional*):
            Seconds that one call may take. See [`call_within`]; an async function is limited while it waits.
    """

    def __init__(
        self,
        func: RewardFunc,
        task: str,
        task_id: int,
        name: str,
        failures: RewardFailures,
        source: Literal["reward_funcs", "outcome_func"] = "reward_funcs",
        foreign_columns: frozenset[str] = frozenset(),
        on_error: Literal["raise", "drop"] = "raise",
        timeout: float | None = None,
    ) -> None:
        self.__name__ = name
        self.func, self.task, self.task_id, self.failures = func, task, task_id, failures
        self.source, self.foreign_columns, self.on_error, self.timeout = source, foreign_columns, on_error, timeout

    def __call__(self, prompts: list[Any], task_id: list[int], **kwargs: Any) -> list[float | None]:
        """
        Score the rows of this task.

        Args:
            prompts (`list`):
                The prompts of the whole local batch, `N` of them.
            task_id (`list[int]`):
                The task of each row, shape `(N,)`.
            **kwargs:
                Everything else TRL passes: columns and completions as lists of length `N`, and single values.

        Returns:
            `list[float | None]`: one value per row, shape `(N,)`; `None` for rows of other tasks and unscored rows.
        """
        rows = self._own_rows(task_id)
        if not rows:
            return [None] * len(prompts)
        own = self._own_arguments(rows, dict(kwargs, prompts=prompts, task_id=task_id))
        try:
            result = call_within(self.timeout, _called, reward_func=self.func, arguments=own)
        except RewardTimeout:
            return self._timed_out(rows, len(prompts))
        except Exception as error:  # user code may raise anything; raised again on every rank together
            return self._failed(rows, len(prompts), error)
        return self._checked(result, rows, prompts)

    def _own_rows(self, task_id: list[int]) -> list[int]:
        return [row for row, task in enumerate(task_id) if task == self.task_id]

    def _own_arguments(self, rows: list[int], arguments: dict[str, Any]) -> dict[str, Any]:
        num_rows = len(arguments["prompts"])
        own: dict[str, Any] = {
            key: [value[row] for row in rows] if isinstance(value, list) and len(value) == num_rows else value
            for key, value in arguments.items()
            if key not in self.foreign_columns
        }
        log_extra = own.get("log_extra")
        if callable(log_extra):
            own["log_extra"] = functools.partial(_log_spread, log_extra, rows, num_rows)
        return own

    def _checked(self, result: Any, rows: list[int], prompts: list[Any]) -> list[float | None]:
        rewards: list[float | None] = [None] * len(prompts)
        expected = f"`{self.source}` of task '{self.task}' must return"
        if not isinstance(result, list) or len(result) != len(rows):
            got = f"{len(result)} values" if isinstance(result, list) else repr(result)[:80]
            message = f"{expected} one number or None per row, got {got} for {len(rows)} rows from '{self.__name__}'."
            self._record(rows, "result", f"{message} Return a list as long as `completions`.")
            return rewards
        for row, value in zip(rows, result, strict=True):
            number = _as_number(value)
            if value is None or (number is not None and (self.source == "reward_funcs" or number in (0.0, 1.0))):
                rewards[row] = number
            else:
                kind = "a finite number" if self.source == "reward_funcs" else "True, False, 0, 1"
                message = (
                    f"{expected} {kind} or None per row, got {repr(value)[:80]} for row {row} from '{self.__name__}' "
                    f"(prompt {repr(prompts[row])[:80]}). Return None for a completion that cannot be scored."
                )
                self._record([row], "result", message)
        return rewards

    def _failed(self, rows: list[int], num_rows: int, error: Exception) -> list[float | None]:
        message = (
            f"`{self.source}` of task '{self.task}' must not raise, got {type(error).__name__}: {str(error)[:200]} "
            f"from '{self.__name__}' on {_rows_text(rows)}. Handle the case in the function, or leave such rows "
            f'unscored with `reward_on_error="drop"`.'
        )
        self._record(rows, "exception", message, "".join(traceback.format_exception(error, limit=-8)))
        return [None] * num_rows

    def _timed_out(self, rows: list[int], num_rows: int) -> list[float | None]:
        message = (
            f"`{self.source}` of task '{self.task}' must return within {self.timeout} seconds, got no result from "
            f"'{self.__name__}' on {_rows_text(rows)}. Bound the work per completion, or raise `reward_timeout`."
        )
        self._record(rows, "timeout", message)
        return [None] * num_rows

    def _record(
        self, rows: list[int], reason: Literal["exception", "timeout", "result"], message: str, details: str = ""
    ) -> None:
        fatal = self.on_error == "raise"
        self.failures.record(RewardFailure(self.task, self.__name__, tuple(rows), reason, message, details, fatal))


class AsyncTaskReward(TaskReward):
    """A [`TaskReward`] around an async function; TRL runs all of them concurrently."""

    async def __call__(  # type: ignore[override]
        self, prompts: list[Any], task_id: list[int], **kwargs: Any
    ) -> list[float | None]:
        """The same as [`TaskReward.__call__`], awaited."""
        rows = self._own_rows(task_id)
        if not rows:
            return [None] * len(prompts)
        own = self._own_arguments(rows, dict(kwargs, prompts=prompts, task_id=task_id))
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                result = _as_list(await self.func(**own))
        except Exception as error:  # user code may raise anything; raised again on every rank together
            if deadline.expired() and isinstance(error, TimeoutError):
                return self._timed_out(rows, len(prompts))
            return self._failed(rows, len(prompts), error)
        return self._checked(result, rows, prompts)


def merge_rows(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """
    One log column out of two that several tasks wrote for the same batch.

    Args:
        first (`Sequence`):
            Values, `None` for rows of other tasks.
        second (`Sequence`):
            Values of the same length; they win where both are given.

    Returns:
        `list`: the merged column.
    """
    return [old if new is None else new for old, new in zip(first, second, strict=True)]


def is_async(func: RewardFunc) -> bool:
    """
    Whether calling a reward function gives something to await, by TRL's own rule.

    Args:
        func (`Callable`):
            A function, a partial of one, or an object with `__call__`.

    Returns:
        `bool`: `True` for async functions.
    """
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


def function_name(func: RewardFunc) -> str:
    """
    The name of a reward function, by TRL's own rule.

    Args:
        func (`Callable`):
            A function, a partial of one, or an object with `__call__`.

    Returns:
        `str`: its `__name__`, or that of its class.
    """
    while isinstance(func, functools.partial):
        func = func.func
    return str(getattr(func, "__name__", type(func).__name__))


def _called(reward_func: RewardFunc, arguments: dict[str, Any]) -> Any:
    return _as_list(reward_func(**arguments))


def _as_list(result: Any) -> Any:
    # Inside the guarded call, because a lazy result runs user code while it is read.
    return list(result) if isinstance(result, Iterable) and not isinstance(result, str | bytes) else result


def _log_spread(
    log_extra: Callable[[str, list[Any]], None], rows: list[int], num_rows: int, column: str, values: list[Any]
) -> None:
    if len(values) != len(rows):
        raise ValueError(
            f"`log_extra` must get one value per completion, got {len(values)} values of '{column}' for {len(rows)} "
            "rows. Pass a list as long as `completions`."
        )
    spread: list[Any] = [None] * num_rows
    for row, value in zip(rows, values, strict=True):
        spread[row] = value
    log_extra(column, spread)


def _as_number(value: Any) -> float | None:
    if callable(getattr(value, "item", None)) and math.prod(getattr(value, "shape", ())) == 1:
        value = value.item()
    if not isinstance(value, int | float | numbers.Real):
        return None
    # False for NaN, and exact for integers that are too large for a float.
    return float(value) if -_FLOAT32_MAX <= value <= _FLOAT32_MAX else None  # type: ignore[operator]


def _rows_text(rows: list[int]) -> str:
    return (
        f"row {rows[0]}" if len(rows) == 1 else f"{len(rows)} rows from row {rows[0]} to row {rows[-1]} of the batch"
    )
