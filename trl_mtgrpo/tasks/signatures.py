"""Whether a function of the user's can be called: what it asks for, and what it is given, must fit."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from datasets import Dataset

from .names import close_names
from .prompts import makes_columns, visible_columns
from .rewards import DROPPED, PASSED, RewardFunc, function_name, is_async


def check_program(program: Callable[..., Any], task: str) -> None:
    """
    Check that a program can be called, and that a call gives its output.

    Args:
        program (`Callable`):
            The program.
        task (`str`):
            Name of the task.

    Raises:
        `ValueError`: when it is a class, awaits or yields, or does not take an example and `call`.
    """
    owner = f"`program` of task '{task}'"
    if inspect.isclass(program):
        raise ValueError(
            f"{owner} must be made before it is given, got the class {program.__name__}. Write "
            f"`program={program.__name__}(...)`."
        )
    if any(kind.__module__.split(".")[0] == "dspy" for kind in type(program).__mro__):
        return  # it takes columns, and `call` by its language model
    if is_async(program):
        raise ValueError(
            f"{owner} must be a plain function, got '{function_name(program)}', which is async. Rollouts run beside "
            "each other in threads: write `def`, and `asyncio.run(...)` around what has to be awaited."
        )
    if yields(program):
        raise ValueError(
            f"{owner} must return its output, got '{function_name(program)}', which yields. Write `return`."
        )
    try:
        signature = inspect.signature(program)
    except (TypeError, ValueError):  # compiled code without one
        return
    try:
        signature.bind({}, None)
    except TypeError as error:
        raise ValueError(
            f"{owner} must take an example and `call`, got '{function_name(program)}{signature}' ({error}). Write "
            "`program(example, call)`, and bind what else it needs with `functools.partial`."
        ) from None


def yields(func: Callable[..., Any]) -> bool:
    """Whether calling a function gives a generator."""
    while isinstance(func, functools.partial):
        func = func.func
    called = func if inspect.isroutine(func) else type(func).__call__
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def check_signature(
    func: RewardFunc,
    task: str,
    source: str,
    split: str,
    dataset: Dataset,
    may_add_columns: bool = False,
    has_environments: bool = False,
) -> None:
    """
    Check that a task's function can be called with the rows of one of its splits.

    Args:
        func (`Callable`):
            The function.
        task (`str`):
            Name of the task.
        source (`str`):
            The argument of [`Task`] that it came from.
        split (`str`):
            The argument of [`Task`] that holds the rows, for error messages.
        dataset ([`~datasets.Dataset`]):
            The rows.
        may_add_columns (`bool`, *optional*, defaults to `False`):
            Whether a `rollout_func`, an environment or a program may add columns to the rows. Datasets whose rows are
            made when they are read are known to.
        has_environments (`bool`, *optional*, defaults to `False`):
            Whether TRL passes `environments`.

    Raises:
        `ValueError`: when the function asks for a column that nothing can add, or does not take what it is given.
    """
    # Of a decorated function the decorator's own signature counts: it may add what the function asks for.
    try:
        parameters = inspect.signature(func, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # compiled code without one
        return
    kinds = {p.kind for p in parameters}
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    passed = [*PASSED, *(["environments"] if has_environments else [])]
    columns = [name for name in visible_columns(dataset) if name not in DROPPED]
    free = may_add_columns or makes_columns(dataset)
    needed = [name for name, p in named.items() if p.default is p.empty]
    missing = [name for name in needed if name not in passed and name not in columns]
    owner = f"`{source}` of task '{task}'"
    if missing and not free:
        raise ValueError(
            f"{owner} must ask for columns of `{split}`, got {missing} asked for by '{function_name(func)}' beside "
            f"the columns {columns}.{close_names(missing, columns)} Add the column to `{split}`, or give the "
            "parameter a default."
        )
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    unexpected = [name for name in [*passed, *([] if free else columns)] if name not in named]
    if unexpected:
        raise ValueError(
            f"{owner} must take everything that it is called with, got no parameter for {unexpected} in "
            f"'{function_name(func)}'. Add `**kwargs` to its parameters."
        )
