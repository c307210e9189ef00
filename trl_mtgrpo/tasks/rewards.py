"""Decides how a task's reward function is called: on its own rows only, within its time, with its result checked.

A failure in user code is recorded, not raised, because an exception on one rank alone would leave the others waiting
in a collective; the trainer shares the record over the ranks and raises on all of them together.
"""

import functools
import inspect
import math
import numbers
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Literal

from .environments import users_environment
from .failures import RewardError, RewardFailure, RewardFailures, describe_failures
from .logged import LoggedValues
from .rows import HOST_COLUMNS, KEY, TaskRow
from .time_limit import RewardTimeout, await_within, call_within


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
]

RewardFunc = Callable[..., Any]

# What the host passes to every reward function besides the columns, and columns that it never passes.
PASSED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
DROPPED = ("prompt", "completion", "completion_ids")

# Names of the host's copy that are no fields of a `rollout_func`.
_OF_THE_HOST = frozenset({*PASSED, "environments", "environment", *HOST_COLUMNS, KEY})
_FLOAT32_MAX = 3.4028234e38  # TRL keeps rewards in single precision


class _UnevenColumns(Exception):
    """Rows of one task that do not have the same columns."""


class TaskReward:
    """
    One reward function of one task, in TRL's calling convention for the whole batch.

    It calls the function with the rows of its own task only and answers `None` for the others; with no row of its own
    the function is not called. The function gets what TRL would give it were its task alone: the columns of its own
    rows (those of the first one, as in TRL), fields that a `rollout_func` returned, and TRL's own arguments. What it
    logs with `log_extra` is spread over the whole batch.

    Args:
        func (`Callable`):
            The user's function, `func(prompts, completions, completion_ids, <columns>, **kwargs)`, returning one
            number or `None` per row.
        task (`str`):
            Name of the task.
        task_id (`int`):
            Its position in the mixture.
        name (`str`):
            Name under which TRL logs this reward; unique in the mixture.
        failures (`RewardFailures`):
            Where failures are recorded.
        source (`str`, *optional*, defaults to `"reward_funcs"`):
            The argument of [`Task`] that the function came from, for error messages. `"outcome_func"` allows only
            `True`, `False`, 0 and 1.
        on_error (`str`, *optional*, defaults to `"raise"`):
            `"raise"` records a fatal failure, `"drop"` one that leaves the rows unscored.
        timeout (`float`, *optional*):
            Seconds that one call may take; see [`call_within`] and [`await_within`] for what is stopped.
    """

    def __init__(
        self,
        func: RewardFunc,
        task: str,
        task_id: int,
        name: str,
        failures: RewardFailures,
        source: Literal["reward_funcs", "get_reward", "outcome_func", "module_rewards"] = "reward_funcs",
        on_error: Literal["raise", "drop"] = "raise",
        timeout: float | None = None,
    ) -> None:
        self.__name__ = name
        self.func, self.task, self.task_id, self.failures = func, task, task_id, failures
        self.source, self.on_error, self.timeout = source, on_error, timeout

    # `/`: a column may have any name, `self` included.
    def __call__(self, /, **arguments: Any) -> list[float | None]:
        """
        Score the rows of this task.

        Args:
            **arguments:
                What TRL passes for a batch of `N` rows: `prompts`, `completions` and `completion_ids`, a list of
                [`TaskRow`] under `KEY`, fields of a `rollout_func`, and single values.

        Returns:
            `list[float | None]`: one value per row, shape `(N,)`; `None` for rows of other tasks and unscored rows.
        """
        rows = self._own_rows(arguments)
        if not rows:
            return [None] * len(arguments["prompts"])
        try:
            own = self._own_arguments(rows, arguments)
            result = call_within(self.timeout, lambda: _as_list(self.func(**own)))
        except RewardTimeout:
            return self._timed_out(rows, arguments)
        except _UnevenColumns as error:
            self._record(rows, "exception", str(error))
            return [None] * len(arguments["prompts"])
        except Exception as error:  # user code may raise anything; raised again on every rank together
            return self._failed(rows, arguments, error)
        return self._checked(result, rows, arguments)

    def _own_rows(self, arguments: dict[str, Any]) -> list[int]:
        return [i for i, row in enumerate(arguments[KEY]) if row.task_id == self.task_id]

    def _own_arguments(self, rows: list[int], arguments: dict[str, Any]) -> dict[str, Any]:
        num_rows = len(arguments["prompts"])

        def cut(value: Any) -> Any:
            return [value[i] for i in rows] if isinstance(value, list) and len(value) == num_rows else value

        own = self._columns([arguments[KEY][i] for i in rows])
        own |= {name: cut(value) for name, value in arguments.items() if name not in _OF_THE_HOST}
        passed = {name: arguments[name] for name in PASSED if name in arguments}
        environments = [users_environment(environment) for environment in arguments.get("environments") or ()]
        # The host passes them for the rows of all tasks; one without an environment has none.
        if environments and environments[rows[0]] is not None:
            passed["environments"] = environments
        for name in ("prompts", "completions", "completion_ids", "environments"):
            if name in passed:
                passed[name] = cut(passed[name])
        if "log_extra" in passed:
            passed["log_extra"] = functools.partial(_log_spread, passed["log_extra"], rows, num_rows)
        return own | passed

    def _columns(self, own: list[TaskRow]) -> dict[str, list[Any]]:
        names = [name for name in own[0].columns if name not in DROPPED]
        for row in own:
            missing = [name for name in names if name not in row.columns]
            if missing:
                raise _UnevenColumns(
                    f"Rows of task '{self.task}' must have the same columns within a batch, got no {missing} in row "
                    f"{row.row}, which the batch's first row has. Let the transform or `rollout_func` make it for all."
                )
        return {name: [row.columns[name] for row in own] for name in names}

    def _checked(self, result: Any, rows: list[int], arguments: dict[str, Any]) -> list[float | None]:
        prompts = arguments["prompts"]
        rewards: list[float | None] = [None] * len(prompts)
        expected = f"`{self.source}` of task '{self.task}' must return"
        if not isinstance(result, list) or len(result) != len(rows):
            got = f"{len(result)} values" if isinstance(result, list) else repr(result)[:80]
            message = f"{expected} one number or None per row, got {got} for {len(rows)} rows from '{self.__name__}'."
            self._record(rows, "result", f"{message} Return a list as long as `completions`.")
            return rewards
        for row, value in zip(rows, result, strict=True):
            number = _as_number(value)
            if value is None or (number is not None and (self.source != "outcome_func" or number in (0.0, 1.0))):
                rewards[row] = number
            else:
                kind = "True, False, 0, 1" if self.source == "outcome_func" else "a finite number"
                message = (
                    f"{expected} {kind} or None per row, got {repr(value)[:80]} for row {row} from '{self.__name__}' "
                    f"(prompt {repr(prompts[row])[:80]}). Return None for a completion that cannot be scored."
                )
                self._record([row], "result", message)
        return rewards

    def _failed(self, rows: list[int], arguments: dict[str, Any], error: Exception) -> list[float | None]:
        message = (
            f"`{self.source}` of task '{self.task}' must not raise, got {type(error).__name__}: {str(error)[:200]} "
            f"from '{self.__name__}' on {_rows_text(rows)}. Handle the case in the function, or leave such rows "
            f'unscored with `reward_on_error="drop"`.'
        )
        self._record(rows, "exception", message, "".join(traceback.format_exception(error, limit=-8)))
        return [None] * len(arguments["prompts"])

    def _timed_out(self, rows: list[int], arguments: dict[str, Any]) -> list[float | None]:
        message = (
            f"`{self.source}` of task '{self.task}' must return within {self.timeout} seconds, got no result from "
            f"'{self.__name__}' on {_rows_text(rows)}. Bound the work per completion, or raise `reward_timeout`."
        )
        self._record(rows, "timeout", message)
        return [None] * len(arguments["prompts"])

    def _record(
        self, rows: list[int], reason: Literal["exception", "timeout", "result"], message: str, details: str = ""
    ) -> None:
        fatal = self.on_error == "raise"
        self.failures.record(RewardFailure(self.task, self.__name__, tuple(rows), reason, message, details, fatal))


class AsyncTaskReward(TaskReward):
    """A [`TaskReward`] around an async function; TRL runs all of them concurrently."""

    async def __call__(self, /, **arguments: Any) -> list[float | None]:  # type: ignore[override]
        """The same as [`TaskReward.__call__`], awaited."""
        rows = self._own_rows(arguments)
        if not rows:
            return [None] * len(arguments["prompts"])
        try:
            own = self._own_arguments(rows, arguments)
            result = _as_list(await await_within(self.timeout, lambda: self.func(**own)))
        except RewardTimeout:
            return self._timed_out(rows, arguments)
        except _UnevenColumns as error:
            self._record(rows, "exception", str(error))
            return [None] * len(arguments["prompts"])
        except Exception as error:  # user code may raise anything; raised again on every rank together
            return self._failed(rows, arguments, error)
        return self._checked(result, rows, arguments)


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


def _as_list(result: Any) -> Any:
    # Inside the guarded call, because a lazy result runs user code while it is read.
    ordered = isinstance(result, Iterable) and not isinstance(result, str | bytes | Mapping | Set)
    return list(result) if ordered else result


def _log_spread(
    log_extra: Callable[[str, list[Any]], None], rows: Sequence[int], num_rows: int, column: str, values: Sequence[Any]
) -> None:
    if len(values) != len(rows):
        raise ValueError(
            f"`log_extra` must get one value per completion, got {len(values)} values of '{column}' for {len(rows)} "
            "rows. Pass a list as long as `completions`."
        )
    log_extra(column, LoggedValues(rows, values, num_rows))


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
