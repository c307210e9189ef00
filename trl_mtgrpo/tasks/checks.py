"""What must hold of the tasks of a mixture together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .names import as_number
from .prompts import kind_name
from .task import Task


def checked_tasks(given: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks of a mixture: at least one, with distinct names and prompts of one kind."""
    tasks = tuple(given) if isinstance(given, Sequence) else ()
    if not tasks or not all(isinstance(task, Task) for task in tasks):
        raise ValueError(f"`tasks` must be a list of at least one `Task`, got {_shown(given)}. {_cure(given)}")
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"`tasks` must have distinct names, got {repeated} more than once. Rename one of each.")
    # A program sends prompts of its own.
    kinds = {task.name: task.is_conversational for task in tasks if task.program is None}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            "`tasks` must all have prompts of one kind, got "
            + ", ".join(f"{kind_name(kind)} in '{name}'" for name, kind in kinds.items())
            + ". Convert the prompts of one kind with `dataset.map`."
        )
    return tasks


def _shown(given: Any) -> str:
    if isinstance(given, Sequence) and not isinstance(given, str):
        return f"[{', '.join(f'`{item.name}`' if isinstance(item, Task) else repr(item)[:40] for item in given)}]"
    return type(given).__name__


def _cure(given: Any) -> str:
    if isinstance(given, Task):
        return "Put it into a list: `tasks=[task]`."
    if isinstance(given, Mapping):
        return "A name stands in its task: `tasks=list(tasks.values())`."
    if isinstance(given, Iterable) and not isinstance(given, str | Sequence):
        return "Make a list of it: `tasks=list(tasks)`."
    return "Build them with `Task`."


def check_mixture_options(on_error: str, timeout: float | None) -> None:
    """Refuses settings of a mixture that have no meaning."""
    if on_error not in ("raise", "drop"):
        raise ValueError(f"`reward_on_error` must be 'raise' or 'drop', got {on_error!r}. Use 'raise' when in doubt.")
    if timeout is not None and (as_number(timeout) or 0) <= 0:
        raise ValueError(
            f"`reward_timeout` must be a positive number of seconds, got {timeout!r}. Use None for no limit."
        )
