"""What tells the rows and the functions of a task from others, for a run that is resumed."""

import hashlib
import json
from typing import Any

import numpy as np
from datasets import Dataset
from torch import nn

from .rewards import function_name
from .task import Task


# Rows that are looked at. Others may differ unseen: the hash is of a sample.
NUM_POSITIONS = 256


def fingerprint(dataset: Dataset) -> str:
    """
    A hash of the number of rows of a dataset and of 256 of them at fixed positions, first and last included.

    Rows count as they are stored, all columns of them: transforms and formats have no part in it, nor has the order of
    the columns.

    Args:
        dataset ([`~datasets.Dataset`]):
            The rows.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    size = len(dataset)
    positions = np.unique(np.linspace(0, max(size - 1, 0), NUM_POSITIONS).round().astype(np.int64))
    rows = dataset.with_format("arrow").select(positions[:size])[:].to_pylist() if size else []
    text = json.dumps([size, rows], sort_keys=True, default=_text, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def function_names(task: Task) -> tuple[str, ...]:
    """
    The names of a task's reward functions in order, reward models by their name or class.

    Args:
        task ([`Task`]):
            The task.

    Returns:
        `tuple[str, ...]`: the outcome function comes last, marked as one.
    """
    names = []
    for function, _, source in task.sources():
        if isinstance(function, str):
            name = function
        else:
            name = type(function).__name__ if isinstance(function, nn.Module) else function_name(function)
        names.append(name if source == "reward_funcs" else f"{name} ({source})")
    return tuple(names)


def _text(value: Any) -> str:
    """Values that JSON lacks: bytes of images, dates, decimals."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else f"{type(value).__name__} {value}"
