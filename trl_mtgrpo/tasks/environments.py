"""What the host sees of each task's tools and environment: one class per task, whose instances hold the user's."""

import asyncio
import functools
import inspect
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from datasets import Dataset

from .failures import RewardFailure, RewardFailures
from .images import has_image
from .rows import KEY, TaskRow
from .time_limit import RewardTimeout, await_within, call_within


if TYPE_CHECKING:
    from .task import Task


logger = logging.getLogger(__name__)

# Methods of an environment that the model cannot call. To the host alone `close` would be a tool.
NOT_TOOLS = ("reset", "get_reward", "close")


class HostEnvironment:
    """
    A task's environment as the host drives it: `reset(**row)` and the task's tools as methods.

    The user's object is made at its first reset, so that an instance that only stands for rows which are prepared for
    the loss holds none. All names begin with an underscore, because every other method would be a tool.
    """

    _owner: ClassVar["TaskEnvironments"]
    _task: ClassVar["Task"]

    def __init__(self) -> None:
        self._environment: Any = None
        self._calls = self._failures = 0

    def reset(self, **row: Any) -> Any:
        if self._owner.is_closed:
            return None
        self._calls = self._failures = 0
        if self._task.environment_factory is None:
            return None
        try:
            if self._environment is None:
                self._environment = self._owner.make(self._task)
            return _observation(self._environment.reset(**_own_columns(self._task, row[KEY])))
        except (Exception, SystemExit) as error:  # user code may raise anything; raised again on every rank together
            self._owner.fail(
                self._task,
                "reset",
                f"`environment_factory` of task '{self._task.name}' must make environments that can be reset for each "
                f"row, got {type(error).__name__}: {str(error)[:200]}. Handle the case in `reset`, or filter such "
                "rows out.",
                "".join(traceback.format_exception(error, limit=-8)),
            )
            return None


class TaskEnvironments:
    """
    The environments of a mixture, as the host gets them.

    Args:
        tasks (`Sequence[Task]`):
            The tasks. One without an environment has a class without tools, or with those of `Task(tools=...)`.
        failures ([`RewardFailures`]):
            Where failures of `reset` are recorded.

    Attributes:
        factories (`dict[str, type]`):
            TRL's `environment_factory`: a class per task name.
        tools (`dict[str, tuple[str, ...]]`):
            Names of each task's tools, in the order in which the model is told of them.
        is_closed (`bool`):
            Whether nothing is reset.
    """

    def __init__(self, tasks: "Sequence[Task]", failures: RewardFailures) -> None:
        self.is_closed = False
        self._failures = failures
        self._made: list[tuple[str, Any]] = []
        members = {task.name: self._members(task) for task in tasks}
        self.tools = {name: tuple(tools) for name, tools in members.items()}
        self.factories: dict[str, type[HostEnvironment]] = {
            task.name: type(
                "HostEnvironment", (HostEnvironment,), {**members[task.name], "_owner": self, "_task": task}
            )
            for task in tasks
        }

    @contextmanager
    def closed(self) -> Iterator[None]:
        """While it lasts no environment is made or reset: rows that were played before are prepared for the loss."""
        self.is_closed = True
        try:
            yield
        finally:
            self.is_closed = False

    def make(self, task: "Task") -> Any:
        """An environment of the user's own."""
        made = task.make_environment()
        if any(made is other for _, other in self._made):
            self.fail(
                task,
                "environment_factory",
                f"`environment_factory` of task '{task.name}' must make a new environment at each call, got the same "
                f"{type(made).__name__} again. Rollouts are played at the same time: return a new object.",
            )
        self._made.append((task.name, made))
        return made

    def fail(self, task: "Task", method: str, message: str, details: str = "") -> None:
        """Records what will be raised on every rank together."""
        self._failures.record(RewardFailure(task.name, method, (), "exception", message, details, True))

    def close(self, instances: Sequence[HostEnvironment] = ()) -> None:
        """
        Closes the users' environments that have a method `close`, each once.

        Args:
            instances (`list[HostEnvironment]`, *optional*, defaults to `()`):
                Those that hold them; they make new ones when they are reset again.
        """
        made, self._made = self._made, []
        failed: dict[str, list[str]] = {}
        for instance in instances:
            instance._environment = None
        for task, environment in made:
            close = getattr(environment, "close", None)
            if not callable(close):
                continue
            try:
                result = close()
                if inspect.isawaitable(result):
                    asyncio.run(_awaited(result))
            except Exception as error:  # user code may raise anything; the run's own error, if any, must come first
                failed.setdefault(task, []).append(f"{type(error).__name__}: {error}")
        for task, messages in failed.items():
            logger.warning(
                "An environment of task %r failed in `close`: %s%s. What it holds may stay open: catch that there.",
                task,
                messages[0],
                f" (and {len(messages) - 1} more of the task)" if len(messages) > 1 else "",
            )

    def _members(self, task: "Task") -> dict[str, Callable[..., Any]]:
        members = {
            tool.__name__: _method(task, tool.__name__, tool, functools.partial(_given, tool)) for tool in task.tools
        }
        if task.environment_factory is not None:
            kind = task.environment_class
            for name in environment_tools(kind):
                # As an instance would show it: without `self`, also where the method is static.
                shown = inspect.getattr_static(kind, name).__get__(object(), kind)
                members[name] = _method(task, name, shown, functools.partial(_of_object, name))
        return members


def check_environment(task: str, factory: Callable[[], Any]) -> Any:
    """
    Makes an environment and looks at it.

    Args:
        task (`str`):
            Name of the task, for error messages.
        factory (`Callable`):
            The user's `environment_factory`.

    Returns:
        `Any`: the environment.

    Raises:
        `ValueError`: when it cannot be made, or has no method `reset`.
    """
    try:
        made = factory()
    except Exception as error:  # user code may raise anything
        raise ValueError(
            f"`environment_factory` of task '{task}' must make an environment when it is called without arguments, "
            f"got {type(error).__name__}: {error}. Bind what it needs with `functools.partial`, and start its server "
            "first."
        ) from error
    if not inspect.isfunction(getattr(type(made), "reset", None)) or inspect.iscoroutinefunction(type(made).reset):
        raise ValueError(
            f"`environment_factory` of task '{task}' must make objects whose class has a method `reset(**row)`, got "
            f"{type(made).__name__}. Define it as a plain method; it may return an observation."
        )
    if inspect.isfunction(getattr(type(made), "close", None)) and len(inspect.signature(made.close).parameters):
        raise ValueError(
            f"`environment_factory` of task '{task}' must make objects whose `close` takes nothing, got "
            f"`close{inspect.signature(made.close)}`. It is called at the end of training and is no tool: rename a "
            "tool of that name."
        )
    return made


def owned_rows(num_rows: int) -> Dataset:
    """Rows of an environment that owns its data: an empty prompt, which `reset` completes, and the row's number."""
    prompts = [[{"role": "user", "content": ""}]] * num_rows
    return Dataset.from_dict({"prompt": prompts, "seed": range(num_rows)})


def environment_tools(kind: type) -> list[str]:
    """Names of the methods of an environment that the model can call, by TRL's own rule except for `close`."""
    methods = inspect.getmembers(kind, predicate=inspect.isfunction)
    return [name for name, _ in methods if name not in NOT_TOOLS and not name.startswith("_")]


def environment_reward(kind: type) -> Callable[..., Any]:
    """
    A reward function that asks each environment.

    Args:
        kind (`type`):
            Class of the environments; the function has its name, and is async where `get_reward` is.
    """
    if inspect.iscoroutinefunction(kind.get_reward):  # type: ignore[attr-defined]

        async def waiting(environments: Sequence[Any], **kwargs: Any) -> list[Any]:
            return [await environment.get_reward() for environment in environments]

        waiting.__name__ = kind.__name__
        return waiting

    def reward(environments: Sequence[Any], **kwargs: Any) -> list[Any]:
        return [environment.get_reward() for environment in environments]

    reward.__name__ = kind.__name__
    return reward


def users_environment(instance: Any) -> Any:
    """The user's object behind an instance that the host holds; `None` for a task without an environment."""
    return instance._environment if isinstance(instance, HostEnvironment) else instance


def tool_calls(instance: HostEnvironment) -> tuple[int, int]:
    """Calls of tools since the last reset, and those of them that raised."""
    return instance._calls, instance._failures


def _own_columns(task: "Task", row: TaskRow) -> Mapping[str, Any]:
    if not task.owns_data:
        return row.columns
    return {name: value for name, value in row.columns.items() if name != "prompt"}


def _given(tool: Callable[..., Any], host: "HostEnvironment") -> Callable[..., Any]:
    return tool


def _of_object(name: str, host: "HostEnvironment") -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(host._environment, name)
    return method


def _method(
    task: "Task", name: str, shown: Callable[..., Any], target: Callable[[HostEnvironment], Callable[..., Any]]
) -> Callable[..., Any]:
    """A method that calls what `target` finds, and looks to TRL like `shown`."""
    seconds = task.tool_timeout

    if inspect.iscoroutinefunction(shown):

        async def call(self: HostEnvironment, /, *args: Any, **kwargs: Any) -> Any:
            with _counted(self, name):
                return _checked(self, name, await await_within(seconds, lambda: target(self)(*args, **kwargs)))

    else:

        def call(self: HostEnvironment, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            with _counted(self, name):
                return _checked(self, name, call_within(seconds, lambda: target(self)(*args, **kwargs)))

    signature = inspect.signature(shown)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    call.__signature__ = signature.replace(parameters=[this, *signature.parameters.values()])  # type: ignore[attr-defined]
    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__annotations__ = shown.__doc__, get_type_hints(shown)
    return call


@contextmanager
def _counted(instance: HostEnvironment, name: str) -> Iterator[None]:
    """Counts a call, and whether it raised. Whatever it raised, TRL tells the model of it."""
    returned = False
    instance._calls += 1
    try:
        yield
        returned = True
    except RewardTimeout:
        raise _too_long(name, instance._task.tool_timeout) from None
    finally:
        instance._failures += not returned


def _too_long(name: str, seconds: float | None) -> TimeoutError:
    return TimeoutError(f"{name} took longer than {seconds} seconds.")


def _checked(instance: HostEnvironment, name: str, result: Any) -> Any:
    if has_image(result):
        message = (
            f"Tools of task '{instance._task.name}' must return text, got an image from '{name}'. Describe in words "
            "what the model is to see: rows that wait for a later step are kept as text."
        )
        instance._owner.fail(instance._task, name, message)
        return ""
    return result


def _observation(value: Any) -> Any:
    if has_image(value):
        raise TypeError("an observation must be text, got an image")
    parts = isinstance(value, list) and all(isinstance(part, dict) and "type" in part for part in value)
    if value is not None and not isinstance(value, str) and not parts:
        raise TypeError(
            f"an observation must be text, a list of content parts or None, got {repr(value)[:80]}. A part is "
            "`{'type': 'text', 'text': '...'}`"
        )
    return value


async def _awaited(result: Any) -> Any:
    return await result
