"""What the model of a task may call: which functions, and that each can be called by name with what the task has."""

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from .environments import NOT_TOOLS, environment_tools
from .prompts import makes_columns, visible_columns


if TYPE_CHECKING:
    from .task import Task

_UNNAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def tools_of(task: "Task") -> list[tuple[str, Any]]:
    """
    What the model of a task may call.

    Args:
        task ([`Task`]):
            The task.

    Returns:
        `list[tuple[str, Any]]`: name and function of each tool; those of an environment are as an instance shows them.

    Raises:
        `ValueError`: when two tools have one name, or a tool has a name that it must not have.
    """
    kind = task.environment_class
    of_environment = environment_tools(kind) if task.environment_factory is not None else []
    own = [(getattr(tool, "__name__", ""), tool) for tool in task.tools]
    names = [name for name, _ in own] + of_environment
    for name in names:
        if not name or name.startswith("_") or name in NOT_TOOLS or names.count(name) > 1:
            raise ValueError(
                f"`tools` of task '{task.name}' must be functions with names of their own, without a leading "
                f"underscore and other than {list(NOT_TOOLS)}, got {name!r} of {names}. Rename it, or write a "
                "function around it."
            )
    return own + [(name, inspect.getattr_static(kind, name).__get__(object(), kind)) for name in of_environment]


def check_tools(task: "Task") -> None:
    """
    Check that the model can call the tools of a task, and that its environment takes its rows.

    Args:
        task ([`Task`]):
            The task.

    Raises:
        `ValueError`: when a tool takes arguments without a name or has types that are not known, or `reset` does not
            take the columns of the rows.
    """
    for name, tool in tools_of(task):
        owner = f"`{name}`, a tool of task '{task.name}',"
        unnamed = [str(p) for p in inspect.signature(tool).parameters.values() if p.kind in _UNNAMED]
        # One without a type is said with the docstring.
        if unnamed and not any(p.annotation is p.empty for p in inspect.signature(tool).parameters.values()):
            raise ValueError(
                f"{owner} must take arguments by their names, got {unnamed}. The model names each: write parameters "
                "without `*` and `/`."
            )
        try:
            get_type_hints(tool)
        except (NameError, AttributeError, TypeError, SyntaxError, ImportError) as error:
            raise ValueError(
                f"{owner} must have types that can be looked up, got {type(error).__name__}: {error}. Import them in "
                "its module, or write the types themselves."
            ) from error
    if task.environment_factory is not None:
        _check_reset(task)


def _check_reset(task: "Task") -> None:
    owner = f"`environment_factory` of task '{task.name}'"
    reset: Callable[..., Any] = task.environment_class.reset  # type: ignore[attr-defined]
    # Of a decorated method the decorator's own signature counts.
    parameters = list(inspect.signature(reset, follow_wrapped=False).parameters.values())[1:]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in parameters if p.name in named and p.default is p.empty]
    for split, dataset in task.splits.items():
        if makes_columns(dataset):
            continue
        columns: Sequence[str] = visible_columns(dataset)
        given = [name for name in columns if not (task.owns_data and name == "prompt")]
        missing = [name for name in needed if name not in given]
        if missing:
            raise ValueError(
                f"{owner} must make environments whose `reset` asks for columns of `{split}`, got {missing} beside "
                f"the columns {given}. Add the column, or give the parameter a default."
            )
        unknown = [] if takes_all else [name for name in given if name not in named]
        if unknown:
            raise ValueError(
                f"{owner} must make environments whose `reset` takes every column of `{split}`, got no parameter for "
                f"{unknown}. Add `**row` to its parameters."
            )
