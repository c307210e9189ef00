"""From settings to the parts of the method: weighting, sampler and group filter."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rollouts.collector import Judge
from ..sampling import RatioPreservingSampler, group_outcomes
from ..tasks.mixture import TaskMixture
from ..weighting import FixedWeighting, PlateauGuard, TaskWeighting
from .settings import STRATEGIES, Settings


GroupFilter = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


def build_weighting(settings: Settings, names: tuple[str, ...]) -> TaskWeighting:
    """
    The weighting that the settings describe.

    Args:
        settings ([`Settings`]):
            The run's settings.
        names (`tuple[str, ...]`):
            Task names in order.

    Returns:
        [`TaskWeighting`]
    """
    if settings.task_weighting != "fixed":
        return STRATEGIES[settings.task_weighting](**settings.strategy_parameters)
    given = settings.fixed_task_weights
    if given is None:
        return FixedWeighting()
    if set(given) != set(names):
        raise ValueError(
            f"`fixed_task_weights` must name exactly the tasks {list(names)}, got {sorted(given)}. Give one weight "
            "per task."
        )
    total = sum(given.values())
    return FixedWeighting(weights=tuple(given[name] / total for name in names))


def build_guard(settings: Settings, num_tasks: int) -> PlateauGuard | None:
    """
    The guard that the settings describe.

    Args:
        settings ([`Settings`]):
            The run's settings.
        num_tasks (`int`):
            Number of tasks K. Of few tasks one always holds much: a share is large from half of the batch and from one
            and a half times the uniform share on.

    Returns:
        [`PlateauGuard`] or `None`: `None` where it is off, or weights do not follow rewards.
    """
    if not settings.plateau_guard or not settings.follows_rewards or num_tasks == 1:
        return None
    return PlateauGuard(large_share=max(PlateauGuard.large_share, 1.5 / num_tasks))


def build_sampler(settings: Settings, num_groups: int, group_multiple: int) -> RatioPreservingSampler:
    """
    The planner that the settings describe.

    Args:
        settings ([`Settings`]):
            The run's settings. Where nothing is filtered nothing is refilled.
        num_groups (`int`):
            Groups per generation batch (B).
        group_multiple (`int`):
            A number of groups whose rollouts all ranks can share equally.

    Returns:
        [`RatioPreservingSampler`]
    """
    return RatioPreservingSampler(
        num_groups=num_groups,
        oversampling=settings.oversampling,
        max_rounds=settings.max_resampling_rounds if settings.filters_groups else 0,
        max_inflation=settings.max_acceptance_inflation,
        acceptance_aware=settings.acceptance_aware,
        preserve_ratio=settings.preserve_task_ratio,
        group_multiple=group_multiple,
        max_tokens=settings.max_generated_tokens,
        max_surplus_age=settings.max_surplus_age,
    )


def surplus_age(sampler: Any) -> int:
    """
    For how many steps accepted groups beyond the desired ones are kept. The sampler alone says so.

    Args:
        sampler (`Any`):
            The run's planner; one of the user's own without a `max_surplus_age` keeps nothing.

    Returns:
        `int`
    """
    return int(getattr(sampler, "max_surplus_age", 0))


def build_judge(
    settings: Settings, mixture: TaskMixture, aggregation: str, group_filter: GroupFilter | None = None
) -> Judge:
    """
    The rule that says which groups may train, exact with respect to TRL's aggregation of rewards.

    Args:
        settings ([`Settings`]):
            The run's settings.
        mixture ([`TaskMixture`]):
            The tasks; the strict filter needs to know what correct means and applies to tasks that say so.
        aggregation (`str`):
            The host's `multi_objective_aggregation`.
        group_filter (`Callable`, *optional*):
            A filter of the user's own, from the groups' rewards of shape `(N, G)` to keep of shape `(N,)`, in place of
            the configured one. It can only drop groups with a gradient, never keep one without.

    Returns:
        `Callable`: from rewards `(N, G, F)` and task ids `(N,)` to keep `(N,)` and outcome `(N,)`.
    """
    options: dict[str, Any] = {
        "reward_weights": np.asarray(mixture.reward_weights, dtype=np.float64),
        "aggregation": aggregation,
    }
    strict = settings.group_filter == "mixed_correctness"
    keep_all = not settings.filters_groups

    def judge(
        rewards: NDArray[np.float32], task_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        num_groups, num_generations, num_columns = rewards.shape
        row_tasks = np.repeat(task_ids, num_generations)
        flat = rewards.reshape(-1, num_columns)
        correct = np.nan_to_num(mixture.correctness(flat, row_tasks)).reshape(num_groups, num_generations) >= 0.5
        known = mixture.has_outcome()[task_ids]  # (N,)
        outcomes = np.zeros(num_groups, dtype=np.int64)
        if known.any():
            outcomes[known] = group_outcomes(rewards[known], correct=correct[known], require_mixed=strict, **options)
        if not known.all():
            outcomes[~known] = group_outcomes(rewards[~known], **options)
        keep = outcomes == 0
        if group_filter is not None:
            summed = mixture.task_rewards(flat, row_tasks).reshape(num_groups, num_generations)
            keep &= _checked_filter(group_filter(summed), num_groups)
        return (np.ones(num_groups, dtype=bool) if keep_all else keep), outcomes

    return judge


def _checked_filter(keep: Any, num_groups: int) -> NDArray[np.bool_]:
    kept = np.asarray(keep)
    if kept.shape != (num_groups,) or kept.dtype != np.bool_:
        raise ValueError(
            f"`group_filter` must return booleans of shape ({num_groups},), got {kept.dtype} of shape {kept.shape}. "
            "Return one value per group."
        )
    return kept
