"""What each of the library's own settings accepts, apart from None."""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from ..weighting.optimizers import WeightOptimizer


MethodName: TypeAlias = Literal["mt_grpo", "grpo", "dapo", "sec_grpo", "sec_dapo"]
StrategyName: TypeAlias = Literal["improvement_aware", "reward_only", "sec", "fixed"]
UpdateName: TypeAlias = Literal["batch", "minibatch"]
ImprovementSource: TypeAlias = Literal["surrogate", "reward", "none"]
ImprovementReduction: TypeAlias = Literal["sum", "mean"]
AbsentImprovement: TypeAlias = Literal["neutral", "zero"]
FilterName: TypeAlias = Literal["mixed_correctness", "reward_variance", "none"]
OnRewardError: TypeAlias = Literal["raise", "drop"]
BaselineName: TypeAlias = Literal["members", "rollouts"]
MemoryName: TypeAlias = Literal["off", "solved"]
PilotName: TypeAlias = Literal["auto", "all"]
BalanceName: TypeAlias = Literal["produced", "equal"]


class Rule(NamedTuple):
    """
    What a field accepts.

    Args:
        constraint (`str`):
            As it is said in an error.
        holds (`Callable`):
            From a value, of any type, to whether it is accepted.
    """

    constraint: str
    holds: Callable[[Any], bool]


def oversampling_rule(value: str | float) -> float | Literal["adaptive"]:
    """`oversampling` as the sampler takes it; NaN for a text that is no number."""
    if value == "adaptive":
        return "adaptive"
    try:
        return float(value)
    except ValueError:
        return math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _number(constraint: str, holds: Callable[[float], bool]) -> Rule:
    return Rule(f"a finite number {constraint}", lambda value: _is_number(value) and holds(value))


def _whole(least: int) -> Rule:
    return Rule(
        f"a whole number of at least {least}",
        lambda value: isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least,
    )


def _one_of(names: Any) -> Rule:
    return Rule(f"one of {list(get_args(names))}", lambda value: isinstance(value, str) and value in get_args(names))


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) and _is_number(weight) and weight >= 0 for name, weight in value.items())
        and 0 < sum(value.values()) < math.inf
    )


def _is_oversampling(value: Any) -> bool:
    if not (isinstance(value, str) or _is_number(value)):
        return False
    rule = oversampling_rule(value)
    return rule == "adaptive" or (math.isfinite(rule) and rule >= 1)


_SWITCH = Rule("True or False", lambda value: isinstance(value, bool))

RULES: dict[str, Rule] = {
    "method": _one_of(MethodName),
    "task_weighting": _one_of(StrategyName),
    "fixed_task_weights": Rule("a dict of non-negative weights with a positive sum", _are_weights),
    "task_weight_tradeoff": _number("of at least 0", lambda v: v >= 0),
    "task_weight_lr": _number("above 0", lambda v: v > 0),
    "task_weight_decay": _number("of at least 0", lambda v: v >= 0),
    "task_weight_optimizer": _one_of(WeightOptimizer),
    "task_weight_floor": _number("in [0, 1)", lambda v: 0 <= v < 1),
    "task_weight_cap": _number("in (0, 1]", lambda v: 0 < v <= 1),
    "task_weight_update": _one_of(UpdateName),
    "sec_alpha": _number("in (0, 1]", lambda v: 0 < v <= 1),
    "sec_temperature": _number("above 0", lambda v: v > 0),
    "plateau_guard": _SWITCH,
    "improvement_source": _one_of(ImprovementSource),
    "improvement_reduction": _one_of(ImprovementReduction),
    "improvement_clip": _number("above 0", lambda v: v > 0),
    "improvement_groups": _whole(1),
    "absent_improvement": _one_of(AbsentImprovement),
    "task_reward_ema": _number("in [0, 1)", lambda v: 0 <= v < 1),
    "group_filter": _one_of(FilterName),
    "preserve_task_ratio": _SWITCH,
    "oversampling": Rule("'adaptive' or a finite number of at least 1", _is_oversampling),
    "solved_discount": _number("of at least 0", lambda v: v >= 0),
    "prompt_memory": _one_of(MemoryName),
    "pilot_generations": _whole(2),
    "pilot_tasks": _one_of(PilotName),
    "acceptance_aware": _SWITCH,
    "max_acceptance_inflation": _number("of at least 1", lambda v: v >= 1),
    "max_resampling_rounds": _whole(0),
    "max_surplus_age": _whole(0),
    "max_generated_groups": _whole(1),
    "max_generated_tokens": _whole(1),
    "max_empty_steps": _whole(1),
    "reward_on_error": _one_of(OnRewardError),
    "reward_timeout": _number("above 0", lambda v: v > 0),
    "group_baseline": _one_of(BaselineName),
    "module_balance": _one_of(BalanceName),
    "max_program_calls": _whole(1),
    "program_timeout": _number("above 0", lambda v: v > 0),
    "allow_task_changes": _SWITCH,
    "task_table": _SWITCH,
}
