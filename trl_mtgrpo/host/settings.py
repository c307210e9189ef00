"""From what was given to what is run: every setting with its value, and nothing written back."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from trl import GRPOConfig

from ..weighting import FixedWeighting, ImprovementAwareWeighting, RewardOnlyWeighting, SelfEvolvingCurriculum
from ..weighting.optimizers import WeightOptimizer
from .config import OWN_FIELDS, MultiTaskGRPOConfig, check_settings
from .rules import (
    AbsentImprovement,
    BalanceName,
    BaselineName,
    FilterName,
    ImprovementReduction,
    ImprovementSource,
    MemoryName,
    MethodName,
    OnRewardError,
    PilotName,
    StrategyName,
    UpdateName,
    oversampling_rule,
)


# What each method of the paper's comparison sets: Section 6 and the released scripts.
METHODS: dict[MethodName, dict[str, Any]] = {
    "mt_grpo": {
        "task_weighting": "improvement_aware",
        "group_filter": "mixed_correctness",
        "preserve_task_ratio": True,
        "oversampling": "adaptive",
        "solved_discount": 1.0,
        "epsilon_high": 0.28,
    },
    "grpo": {
        "task_weighting": "fixed",
        "group_filter": "none",
        "preserve_task_ratio": True,
        "oversampling": 1.0,
        "solved_discount": 0.0,
        "epsilon_high": None,
    },
    "dapo": {
        "task_weighting": "fixed",
        "group_filter": "mixed_correctness",
        "preserve_task_ratio": False,
        "oversampling": "adaptive",
        "solved_discount": 0.0,
        "epsilon_high": 0.28,
    },
    "sec_grpo": {
        "task_weighting": "sec",
        "group_filter": "none",
        "preserve_task_ratio": True,
        "oversampling": 1.0,
        "solved_discount": 0.0,
        "epsilon_high": None,
    },
    "sec_dapo": {
        "task_weighting": "sec",
        "group_filter": "mixed_correctness",
        "preserve_task_ratio": False,
        "oversampling": "adaptive",
        "solved_discount": 0.0,
        "epsilon_high": 0.28,
    },
}

STRATEGIES: dict[StrategyName, type] = {
    "improvement_aware": ImprovementAwareWeighting,
    "reward_only": RewardOnlyWeighting,
    "sec": SelfEvolvingCurriculum,
    "fixed": FixedWeighting,
}

# Settings that are parameters of a strategy. Those that it has not are without effect under it.
STRATEGY_PARAMETERS = {
    "task_weight_tradeoff": "tradeoff",
    "task_weight_lr": "lr",
    "task_weight_decay": "decay",
    "task_weight_optimizer": "optimizer",
    "task_weight_floor": "floor",
    "task_weight_cap": "cap",
    "sec_alpha": "alpha",
    "sec_temperature": "temperature",
    "improvement_clip": "improvement_clip",
    "absent_improvement": "absent_improvement",
}

# Settings of tasks with programs.
OF_PROGRAMS = ("group_baseline", "module_balance", "max_program_calls", "program_timeout")

# Settings that are without effect where the user gives this part to the trainer.
REPLACED_BY = {
    "weighting": ("task_weighting", "fixed_task_weights", "plateau_guard", *STRATEGY_PARAMETERS),
    "guard": ("plateau_guard",),
    "sampler": (
        "preserve_task_ratio",
        "oversampling",
        "acceptance_aware",
        "max_acceptance_inflation",
        "max_resampling_rounds",
        "max_surplus_age",
        "max_generated_groups",
        "max_generated_tokens",
    ),
}


@dataclass(frozen=True)
class Settings:
    """
    The values that a run uses. Each field is the one of the same name of [`MultiTaskGRPOConfig`], which explains it,
    and `None` where it has no meaning for the strategy.

    Args:
        epsilon_high (`float`):
            Upper bound of the clip range.
        own_parts (`dict[str, str]`):
            What the user has given in place of a part that settings describe: the name of its class or function by
            the trainer's argument, `"weighting"`, `"sampler"`, `"guard"` or `"group_filter"`.
    """

    method: MethodName
    task_weighting: StrategyName
    fixed_task_weights: Mapping[str, float] | None
    task_weight_tradeoff: float | None
    task_weight_lr: float | None
    task_weight_decay: float | None
    task_weight_optimizer: WeightOptimizer | None
    task_weight_floor: float | None
    task_weight_cap: float | None
    task_weight_update: UpdateName
    sec_alpha: float | None
    sec_temperature: float | None
    plateau_guard: bool
    improvement_source: ImprovementSource
    improvement_reduction: ImprovementReduction
    improvement_clip: float | None
    improvement_groups: int | None
    absent_improvement: AbsentImprovement | None
    task_reward_ema: float
    group_filter: FilterName
    preserve_task_ratio: bool
    oversampling: float | Literal["adaptive"]
    solved_discount: float
    prompt_memory: MemoryName
    pilot_generations: int | None
    pilot_tasks: PilotName
    acceptance_aware: bool
    max_acceptance_inflation: float
    max_resampling_rounds: int
    max_surplus_age: int
    max_generated_groups: int | None
    max_generated_tokens: int | None
    max_empty_steps: int
    reward_on_error: OnRewardError
    reward_timeout: float | None
    group_baseline: BaselineName
    module_balance: BalanceName
    max_program_calls: int
    program_timeout: float | None
    allow_task_changes: bool
    task_table: bool
    epsilon_high: float
    own_parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def filters_groups(self) -> bool:
        """Whether any group can be kept out of training."""
        return "group_filter" in self.own_parts or self.group_filter != "none"

    @property
    def trains_everything(self) -> bool:
        """Whether the groups that are drawn are those that train, as with [`~trl.GRPOTrainer`]."""
        return not self.filters_groups and self.oversampling == 1.0

    @property
    def follows_rewards(self) -> bool:
        """Whether task weights rise where rewards are low."""
        return self.task_weighting in ("improvement_aware", "reward_only")

    @property
    def strategy_parameters(self) -> dict[str, Any]:
        """Arguments of the strategy's class, by their names there."""
        known = strategy_defaults(self.task_weighting)
        return {
            parameter: getattr(self, name) for name, parameter in STRATEGY_PARAMETERS.items() if parameter in known
        }

    def described(self) -> dict[str, Any]:
        """
        What the run does, for a person to read.

        Returns:
            `dict[str, Any]`: the settings that act on what is trained, by name, and the user's own parts; those
            without effect are absent.
        """
        known = strategy_defaults(self.task_weighting)
        shown = ["method", "task_weighting"]
        shown += [name for name, parameter in STRATEGY_PARAMETERS.items() if parameter in known]
        if self.task_weighting == "fixed":
            shown += ["fixed_task_weights"]
        unknown = "weighting" in self.own_parts  # what it reads
        if unknown or self.task_weighting != "fixed":
            shown += ["task_weight_update"]
        if unknown or self.task_weighting == "improvement_aware":
            shown += ["improvement_source"]
            if self.improvement_source == "surrogate":
                shown += ["improvement_reduction", "improvement_groups"]
        if unknown or self.follows_rewards:
            shown += ["task_reward_ema", "plateau_guard"]
        shown += ["group_filter", "preserve_task_ratio", "oversampling", "solved_discount"]
        if self.filters_groups:
            shown += ["prompt_memory", "acceptance_aware", "max_acceptance_inflation", "max_resampling_rounds"]
        if self.pilot_generations is not None:
            shown += ["pilot_generations", "pilot_tasks"]
        if not self.trains_everything:
            shown += ["max_surplus_age", "max_generated_groups", "max_generated_tokens"]
        replaced = {name for part in self.own_parts for name in REPLACED_BY.get(part, ())}
        values = {name: getattr(self, name) for name in [*shown, "epsilon_high"] if name not in replaced}
        parts = dict(self.own_parts)
        if "group_filter" in parts:  # on top of the configured one
            parts["group_filter"] = f"{self.group_filter} and {parts['group_filter']}"
        return values | parts


def resolve(args: GRPOConfig, *, has_tasks: bool = True, own: Mapping[str, Any] | None = None) -> Settings:
    """
    The values that a run uses: what was given, else what the method sets, else the strategy's own default.

    Args:
        args ([`~trl.GRPOConfig`]):
            What was given; not changed. A config of TRL's own has none of the library's fields: it gets their defaults
            and keeps its clip range.
        has_tasks (`bool`, *optional*, defaults to `True`):
            Whether the run has tasks. The method of a plain dataset is `"grpo"` unless one is given.
        own (`dict[str, Any]`, *optional*):
            The trainer's arguments `"weighting"`, `"sampler"`, `"guard"` and `"group_filter"`, by name; `None` is what
            the user has not given.

    Returns:
        [`Settings`]

    Raises:
        ValueError: for a value that its field cannot have, also where it was set after the config was built.
    """
    if isinstance(args, MultiTaskGRPOConfig):
        check_settings(args)
    values = {name: getattr(args, name, default) for name, default in OWN_FIELDS.items()}
    if values["method"] is None:
        values["method"] = "mt_grpo" if has_tasks else "grpo"
    preset = METHODS[values["method"]]
    for name, value in preset.items():
        if name in OWN_FIELDS and values[name] is None:
            values[name] = value
    if values["task_weighting"] == "fixed" and getattr(args, "solved_discount", None) is None:
        values["solved_discount"] = 0.0  # who names the shares wants those
    defaults = strategy_defaults(values["task_weighting"])
    for name, parameter in STRATEGY_PARAMETERS.items():
        if parameter not in defaults:
            values[name] = None
        elif values[name] is None and OWN_FIELDS[name] is None:
            values[name] = defaults[parameter]
    if values["task_weighting"] == "reward_only" and values["task_weight_tradeoff"] == 0:
        raise ValueError(
            "`task_weight_tradeoff` must be above 0 with task_weighting='reward_only', got "
            f"{values['task_weight_tradeoff']}. Without it nothing moves the weights: use task_weighting='fixed'."
        )
    values["oversampling"] = oversampling_rule(values["oversampling"])
    if values["fixed_task_weights"] is not None:
        values["fixed_task_weights"] = dict(values["fixed_task_weights"])
    epsilon_high = args.epsilon_high
    if epsilon_high is None and isinstance(args, MultiTaskGRPOConfig):
        epsilon_high = preset["epsilon_high"]
    return Settings(
        **values,
        epsilon_high=args.epsilon if epsilon_high is None else epsilon_high,
        own_parts={
            part: getattr(value, "__name__", type(value).__name__)
            for part, value in (own or {}).items()
            if value is not None
        },
    )


def chosen(args: GRPOConfig) -> tuple[str, ...]:
    """
    The library's own fields that the user has set, apart from `task_table`, which changes nothing that is trained.

    Args:
        args ([`~trl.GRPOConfig`]):
            What was given.

    Returns:
        `tuple[str, ...]`: names of fields that differ from their defaults, in the order of the class.
    """
    return tuple(
        name
        for name, default in OWN_FIELDS.items()
        if name != "task_table" and getattr(args, name, default) != default
    )


def without_effect(args: GRPOConfig, settings: Settings) -> tuple[str, ...]:
    """
    The fields that the user has set and that this run does not use, such as SEC's under another strategy.

    Args:
        args ([`~trl.GRPOConfig`]):
            What was given.
        settings ([`Settings`]):
            What it was resolved to.

    Returns:
        `tuple[str, ...]`
    """
    used = {
        *settings.described(),
        *OF_PROGRAMS,
        "max_empty_steps",
        "reward_on_error",
        "reward_timeout",
        "allow_task_changes",
    }
    return tuple(name for name in chosen(args) if name not in used)


def strategy_defaults(task_weighting: StrategyName) -> dict[str, Any]:
    """Parameters of a strategy with their defaults, which are written in its class alone."""
    return {f.name: f.default for f in fields(STRATEGIES[task_weighting]) if f.default is not MISSING}
