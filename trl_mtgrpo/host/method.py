"""From settings to the parts of the method: weighting, sampler and group filter."""

from typing import Any

from ..sampling import RatioPreservingSampler
from ..weighting import FixedWeighting, PlateauGuard, TaskWeighting
from .settings import STRATEGIES, Settings


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
        max_groups=settings.max_generated_groups,
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
