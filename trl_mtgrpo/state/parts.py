"""The small parts of the state that no other room owns, and how every part follows a change of tasks."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..sampling import PromptMemory
from ..weighting import FixedWeighting, TaskWeighting


Part = TypeVar("Part")

# What a new task gets in a field with one entry per task: a value, or the mean of the kept tasks.
NEW_TASK = "new_task"
MEAN = "mean"


@dataclass(frozen=True)
class Draws:
    """
    Where each task's prompts come from, and how far they have been drawn.

    Args:
        cursors (`tuple[int, ...]`):
            Position in each task's index stream.
        memory ([`PromptMemory`]):
            What is known of single prompts.
        num_rows (`tuple[int, ...]`, *optional*, defaults to `()`):
            Training rows of each task, on which the order of its prompts rests. Unknown when empty.
        fingerprints (`tuple[str, ...]`, *optional*, defaults to `()`):
            Hash of a sample of each task's training rows. Unknown when empty.
    """

    cursors: tuple[int, ...] = field(metadata={NEW_TASK: 0})
    memory: PromptMemory
    num_rows: tuple[int, ...] = field(default=(), metadata={NEW_TASK: 0})
    fingerprints: tuple[str, ...] = field(default=(), metadata={NEW_TASK: ""})


@dataclass(frozen=True)
class WeightOwner:
    """
    Whose memory the weighting state is.

    Args:
        strategy (`str`):
            Name of the strategy's class. Empty where it is not known: logits of some strategy.
        optimizer (`str`, *optional*, defaults to `""`):
            Its optimizer. Empty for a strategy without one, and where it is not known.
    """

    strategy: str
    optimizer: str = ""

    @classmethod
    def of(cls, weighting: TaskWeighting) -> "WeightOwner":
        """The owner that a run's strategy is."""
        kind = FixedWeighting if isinstance(weighting, FixedWeighting) else type(weighting)
        return cls(kind.__name__, str(getattr(weighting, "optimizer", "")))


def move_tasks(part: Part, source: NDArray[np.int64]) -> Part:
    """
    A part for another list of tasks.

    Args:
        part (`Any`):
            A dataclass. Fields with one entry per task say so with `field(metadata={"new_task": value})`: a task that
            is new gets `value`, or the mean of the kept ones for `"mean"`. Parts inside are moved too.
        source (`numpy.ndarray` of `int`, shape `(K,)`):
            Old position of each task, -1 for a new one.

    Returns:
        The part, in the new order.
    """
    changes: dict[str, Any] = {}
    for place in dataclasses.fields(part):  # type: ignore[arg-type]
        value = getattr(part, place.name)
        if NEW_TASK in place.metadata:
            changes[place.name] = _moved(value, source, place.metadata[NEW_TASK])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[place.name] = move_tasks(value, source)
    return dataclasses.replace(part, **changes)  # type: ignore[type-var]


def can_move(part: Any, num_tasks: int) -> bool:
    """Whether every array with one entry per task says what a new task gets."""
    return all(
        NEW_TASK in place.metadata or np.shape(getattr(part, place.name))[:1] != (num_tasks,)
        for place in dataclasses.fields(part)
        if isinstance(getattr(part, place.name), np.ndarray | tuple)
    )


def _moved(values: Any, source: NDArray[np.int64], new: Any) -> Any:
    if isinstance(values, tuple):  # empty where it is not known
        return tuple(values[k] if k >= 0 else new for k in source.tolist()) if values else values
    kept = values[source[source >= 0]]
    if isinstance(new, str) and new == MEAN:
        new = kept.mean(axis=0) if len(kept) else 0
    rows = np.empty((len(source), *values.shape[1:]), dtype=values.dtype)
    rows[source < 0] = new
    rows[source >= 0] = kept
    return rows
