"""What a run will generate, train and waste under several policies of generation, before any GPU time is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..rollouts import SimulationResult, simulate
from ..sampling import RatioPreservingSampler, StallDoctor


Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """
    One way of filling a batch.

    Args:
        meaning (`str`):
            What it does, in a few words.
        sampler (`dict`, *optional*):
            Arguments of [`RatioPreservingSampler`].
        max_surplus_age (`int`, *optional*, defaults to `0`):
            For how many steps surplus accepted groups are kept.
        filters (`bool`, *optional*, defaults to `True`):
            Whether groups without a gradient are kept out of training.
    """

    meaning: str
    sampler: Mapping[str, Any] = field(default_factory=dict)
    max_surplus_age: int = 0
    filters: bool = True


POLICIES = {
    "mt_grpo": Policy("requests sized by need, surplus kept for two steps", max_surplus_age=2),
    "no_surplus": Policy("requests sized by need, surplus thrown away"),
    "paper": Policy("three times the batch in every round, surplus thrown away", {"oversampling": 3.0}),
    "dapo": Policy("any accepted group fills the batch", {"preserve_ratio": False}, max_surplus_age=2),
    "grpo": Policy("no filter: one round, groups without a gradient train too", {"oversampling": 1.0}, filters=False),
}


@dataclass(frozen=True, eq=False)
class RunOutline:
    """
    What is known or guessed of a run.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        weights (`np.ndarray`):
            Task weights of each step, shape `(T, K)`.
        acceptance (`np.ndarray`):
            Share of each task's generated groups that carry a gradient, shape `(T, K)`.
        num_groups (`int`):
            Groups per training step (B).
        num_generations (`int`):
            Rollouts per group (G).
        tokens_per_rollout (`np.ndarray`):
            Mean completion tokens of a rollout, shape `(K,)`.
    """

    names: tuple[str, ...]
    weights: Vector
    acceptance: Vector
    num_groups: int
    num_generations: int
    tokens_per_rollout: Vector

    @classmethod
    def guessed(
        cls,
        acceptance: Mapping[str, float],
        weights: Mapping[str, float],
        tokens: ArrayLike,
        num_groups: int,
        num_generations: int,
        num_steps: int,
    ) -> "RunOutline":
        """
        An outline whose numbers stay the same over the run.

        Args:
            acceptance (`dict[str, float]`):
                Acceptance by task name; its order is the order of the tasks.
            weights (`dict[str, float]`):
                Weight by task name, scaled to sum to 1; uniform when empty.
            tokens (`float`):
                Mean completion tokens of a rollout, one number or one per task.
            num_groups (`int`):
                Groups per training step.
            num_generations (`int`):
                Rollouts per group.
            num_steps (`int`):
                Training steps.

        Returns:
            [`RunOutline`]

        Raises:
            ValueError: when the two name different tasks, or the weights have no positive sum.
        """
        names = tuple(acceptance)
        given = np.array([weights.get(name, 0.0) for name in names]) if weights else np.ones(len(names))
        if weights and (set(weights) != set(names) or given.min() < 0 or given.sum() <= 0):
            raise ValueError(
                f"`weights` must name exactly the tasks {list(names)} with a positive sum, got {dict(weights)}. Leave "
                "them out for uniform weights."
            )
        return cls(
            names=names,
            weights=np.tile(given / given.sum(), (num_steps, 1)),
            acceptance=np.tile(np.array(list(acceptance.values())), (num_steps, 1)),
            num_groups=num_groups,
            num_generations=num_generations,
            tokens_per_rollout=np.broadcast_to(np.asarray(tokens, dtype=np.float64), len(names)).copy(),
        )


def forecast(outline: RunOutline, policy: Policy, seed: int = 0) -> SimulationResult:
    """
    Simulates a run under a policy.

    Args:
        outline ([`RunOutline`]):
            The run.
        policy ([`Policy`]):
            How batches are filled.
        seed (`int`, *optional*, defaults to `0`):
            Seed of every draw.

    Returns:
        [`SimulationResult`]
    """
    acceptance = outline.acceptance if policy.filters else np.ones_like(outline.acceptance)
    sampler = RatioPreservingSampler(
        num_groups=outline.num_groups, **(({} if policy.filters else {"max_rounds": 0}) | dict(policy.sampler))
    )
    return simulate(
        outline.weights,
        acceptance,
        sampler,
        max_surplus_age=policy.max_surplus_age,
        seed=seed,
        tokens_per_group=outline.tokens_per_rollout * outline.num_generations,
        doctor=StallDoctor.for_batch(outline.num_groups) if policy.filters else None,
    )


def format_comparison(outline: RunOutline, results: Mapping[str, SimulationResult]) -> str:
    """
    Policies side by side, per training step.

    Args:
        outline ([`RunOutline`]):
            The run.
        results (`dict[str, SimulationResult]`):
            By policy name; the first one is what tokens are compared with.

    Returns:
        `str`: a text table.
    """
    header = [
        "policy",
        "groups",
        "rollouts",
        "tokens",
        "tokens, relative",
        "rounds",
        "with gradient",
        "missing",
        "mix off by",
    ]
    rows = []
    base = None
    for name, result in results.items():
        steps, tokens = len(result.rounds), float((result.generated @ result.tokens_per_group).sum())
        base = tokens if base is None else base
        groups = result.generated.sum() / steps
        informative = result.trained if POLICIES[name].filters else result.trained * outline.acceptance
        shares = result.trained / np.maximum(result.trained.sum(axis=1, keepdims=True), 1)
        rows.append(
            [
                name,
                f"{groups:,.1f}",
                f"{groups * outline.num_generations:,.0f}",
                f"{tokens / steps:,.0f}",
                f"{tokens / base:.2f}",
                f"{result.rounds_per_step:.2f}",
                f"{informative.sum() / steps:,.1f}",
                f"{(outline.num_groups - result.trained.sum(axis=1)).mean():,.1f}",
                f"{np.abs(shares.mean(axis=0) - outline.weights.mean(axis=0)).sum():.2f}",
            ]
        )
    return text_table(header, rows)


def format_tasks(outline: RunOutline, result: SimulationResult) -> str:
    """
    One policy's totals over the run, per task.

    Args:
        outline ([`RunOutline`]):
            The run.
        result ([`SimulationResult`]):
            Its simulation.

    Returns:
        `str`: a text table.
    """
    header = [
        "task",
        "weight",
        "acceptance",
        "generated",
        "trained",
        "filtered",
        "expired",
        "carried",
        "missing",
        "tokens",
    ]
    columns = [
        result.generated.sum(axis=0),
        result.trained.sum(axis=0),
        result.filtered.sum(axis=0),
        result.expired.sum(axis=0),
        result.carried_out[-1],
        result.unfilled.sum(axis=0),
        result.generated.sum(axis=0) * result.tokens_per_group,
    ]
    rows = [
        [name, f"{outline.weights[:, k].mean():.2f}", f"{outline.acceptance[:, k].mean():.2f}"]
        + [f"{column[k]:,.0f}" for column in columns]
        for k, name in enumerate(outline.names)
    ]
    rows.append(["all tasks", "", "", *(f"{column.sum():,.0f}" for column in columns)])
    return text_table(header, rows)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """
    A table of plain text: the first column to the left, numbers to the right.

    Args:
        header (`Sequence[str]`):
            Names of the columns.
        rows (`Sequence[Sequence[str]]`):
            As many cells each.

    Returns:
        `str`: lines without an end.
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)
