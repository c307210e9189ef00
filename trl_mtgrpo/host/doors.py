"""
What the host's `_generate` and `_calculate_rewards` answer.

Most of the time they are the host's own (`Live`). While rows are collected the host is stopped as soon as it has
generated (`Probe`), so that all of its preparation happens and nothing is computed for groups that may not train.
While chosen groups are prepared for the loss it is answered with what is already there (`Replay`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from trl import GRPOTrainer

from .contract import GENERATION_FIELDS, check_generation


class Generation(NamedTuple):
    """
    What the host generated for this rank's rows.

    Args:
        prompts (`list`):
            Prompts as they were sent, with what an environment added.
        rows (`list[dict[str, Any]]`):
            The host's fields of each row, by name; a field that is not per row is left out.
        extra (`list[dict[str, Any]]`):
            What a `rollout_func` returned besides, per row.
    """

    prompts: list[Any]
    rows: list[dict[str, Any]]
    extra: list[dict[str, Any]]

    @property
    def num_tokens(self) -> list[int]:
        """Tokens that the model wrote, per row."""
        return [
            len(row["completion_ids"]) if row.get("tool_mask") is None else sum(row["tool_mask"]) for row in self.rows
        ]

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.rows]


class Door(Protocol):
    """Answers the two hooks of the host."""

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]: ...

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor: ...


class Live:
    """The host's own answers."""

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        return host._generate(prompts)

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        return host._calculate_rewards(*arguments)


class Generated(Exception):
    """Carries a generation out of the host's preparation; never seen by a user."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation


class Probe(Live):
    """Stops the host when it has generated."""

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        raise Generated(read_generation(prompts, host._generate(prompts)))


class Replay:
    """
    Answers with rows that were generated and scored before.

    Args:
        output (`tuple`):
            Answer of `_generate` for this rank's rows.
        values (`torch.Tensor`):
            Answer of `_calculate_rewards`: every rank's values in global row order, shape `(B*G, C)`.
    """

    def __init__(self, output: tuple[Any, ...], values: torch.Tensor) -> None:
        self.output, self.values = output, values

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        return self.output

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        return self.values


def read_generation(prompts: list[Any], output: tuple[Any, ...]) -> Generation:
    """The host's generation tuple by rows and names."""
    check_generation(output, len(prompts))
    named = dict(zip(GENERATION_FIELDS, output, strict=True))
    given = named.pop("extra_fields") or {}
    rows = [
        {name: values[i] for name, values in named.items() if isinstance(values, list) and len(values) == len(prompts)}
        for i in range(len(prompts))
    ]
    extra: list[dict[str, Any]] = [{} for _ in prompts]
    for name, values in given.items():
        # As the host merges them: one value per row, or the same value for all.
        for i, row in enumerate(extra):
            if not isinstance(values, list):
                row[name] = values
            elif i < len(values):
                row[name] = values[i]
    return Generation(prompts, rows, extra)


def with_lists_of_images(output: tuple[Any, ...]) -> tuple[Any, ...]:
    """An answer of `_generate` in which rows without an image have an empty list, which the host's processors need."""
    place = GENERATION_FIELDS.index("images")
    if len(output) <= place or output[place] is None:
        return output
    return (*output[:place], [images or [] for images in output[place]], *output[place + 1 :])


def write_generation(rows: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """The tuple that the host would have generated for rows of named fields; `None` for what no row has."""
    columns = {name: [row.get(name) for row in rows] for name in GENERATION_FIELDS}
    columns["extra_fields"] = [None] * len(rows)
    # The host looks into each of these where it knows of tools, and has none at all where it does not.
    seen = columns["tool_images"]
    columns["tool_images"] = [] if all(value is None for value in seen) else [value or [] for value in seen]
    return tuple(
        None if column and all(value is None for value in column) else column
        for column in (columns[name] for name in GENERATION_FIELDS)
    )
