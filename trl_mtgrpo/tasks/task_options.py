"""Options of tasks with tools, environments or programs: each of the right kind, and none without what it is for."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .names import as_number


if TYPE_CHECKING:
    from .task import Task


def check_options(task: "Task") -> None:
    """
    Check what a task says about lengths, tools, environments and programs.

    Args:
        task ([`Task`]):
            The task.

    Raises:
        `ValueError` or `TypeError`: when an option is of the wrong kind, or has nothing to act on.
    """
    for option in ("max_completion_length", "num_rows", "max_environments"):
        _check(task, option, _is_count, "a positive whole number")
    _check(task, "tool_timeout", lambda value: (as_number(value) or 0) > 0, "a positive number of seconds")
    _check(task, "tools", _are_functions, "a list of functions", "write `tools=[function]`")
    _check(
        task,
        "environment_factory",
        callable,
        "a class, or a function that makes an environment",
        "pass the class itself: one is made per rollout",
    )
    _check(task, "program", callable, "a function `program(example, call)`")
    _check(task, "module_rewards", _are_named_functions, "a dict from module name to reward function")
    _check(task, "trainable_modules", _are_names, "a list of module names")
    _check(task, "failure_reward", lambda value: value is None or as_number(value) is not None, "a finite number")
    _check(task, "format_failure_reward", lambda value: as_number(value) is not None, "a finite number")
    _check(task, "failure_exceptions", _are_exceptions, "a tuple of exception classes", "write `(ValueError,)`")
    environment, program = task.environment_factory is not None, task.program is not None
    _needs(task, ("max_environments", "num_rows"), environment, "`environment_factory`")
    _needs(task, ("tool_timeout",), environment or bool(task.tools), "`tools` or `environment_factory`")
    of_programs = ("failure_reward", "format_failure_reward", "failure_exceptions")
    _needs(task, ("module_rewards", "trainable_modules", *of_programs), program, "`program`")
    if program and (environment or task.tools):
        raise ValueError(
            f"`program` of task '{task.name}' must stand without `tools` and `environment_factory`, got both. Call "
            "the tools inside the program."
        )
    if task.train_dataset is not None and task.num_rows is not None:
        raise ValueError(
            f"`num_rows` of task '{task.name}' must be left out beside `train_dataset`, got {task.num_rows}. The "
            "dataset says how many rows there are."
        )


def _check(task: "Task", option: str, fits: Callable[[Any], bool], kind: str, cure: str = "") -> None:
    value = getattr(task, option)
    default = type(task).__dataclass_fields__[option].default
    if value is not default and not fits(value):
        raise TypeError(
            f"`{option}` of task '{task.name}' must be {kind}, got {value!r}. Leave it out for the default, {default}"
            + (f", or {cure}." if cure else ".")
        )


def _needs(task: "Task", options: Sequence[str], given: bool, needed: str) -> None:
    for option in options:
        value = getattr(task, option)
        if not given and value != type(task).__dataclass_fields__[option].default:
            raise ValueError(
                f"`{option}` of task '{task.name}' must be left out without {needed}, got {value!r}. It would have no "
                "effect."
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_functions(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(callable(tool) for tool in value)


def _are_named_functions(value: Any) -> bool:
    return isinstance(value, Mapping) and _are_names(list(value)) and all(callable(func) for func in value.values())


def _are_names(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(name, str) for name in value)


def _are_exceptions(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(e, type) and issubclass(e, Exception) for e in value)
