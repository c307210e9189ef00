"""The settings of Multi-Task GRPO as one flat dataclass on top of TRL's."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from trl import GRPOConfig


# What each method of the paper's comparison sets: Section 6 and the released scripts. `mt_grpo` is the default.
METHODS: dict[str, dict[str, Any]] = {
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

_CHOICES = {
    "task_weighting": ("improvement_aware", "reward_only", "sec", "fixed"),
    "task_weight_optimizer": ("adam", "adamw", "sgd"),
    "task_weight_update": ("batch", "minibatch"),
    "improvement_source": ("surrogate", "reward", "none"),
    "improvement_reduction": ("sum", "mean"),
    "absent_improvement": ("neutral", "zero"),
    "group_filter": ("mixed_correctness", "reward_variance", "none"),
    "reward_on_error": ("raise", "drop"),
}


@dataclass
class MultiTaskGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`MultiTaskGRPOTrainer`].

    Every field of [`~trl.GRPOConfig`] keeps its meaning. Defaults are those of the paper's three-task experiment
    ([Multi-Task GRPO](https://huggingface.co/papers/2602.05547), Section 6) unless a field says otherwise. Six fields
    depend on `method` and are filled from it when left at `None`; setting one of them overrides the method.

    Parameters:
        > Method

        method (`str`, *optional*):
            Which column of the paper's comparison to run: `"mt_grpo"`, `"grpo"`, `"dapo"`, `"sec_grpo"` or
            `"sec_dapo"`. Left at `None` it is `"mt_grpo"`, except for a plain dataset without tasks, which is trained
            as [`~trl.GRPOTrainer`] would.

        > Task weights

        task_weighting (`str`, *optional*):
            How task weights move: `"improvement_aware"` (Subroutine 1), `"reward_only"` (Subroutine 2), `"sec"`
            (self-evolving curriculum, [2505.14970](https://huggingface.co/papers/2505.14970)) or `"fixed"`. Set by
            `method`.
        fixed_task_weights (`dict[str, float]`, *optional*):
            Weights by task name for `task_weighting="fixed"`, scaled to sum to 1. Uniform when left at `None`.
        task_weight_tradeoff (`float`, *optional*, defaults to `0.2`):
            The paper's λ: how much a low reward raises a weight, against slow improvement. 0.2 and 0.25 in the
            paper's three-task runs, 0.1 to 1.2 in its nine-task runs.
        task_weight_lr (`float`, *optional*, defaults to `0.025`):
            Step size of the weight update on the logits (the paper's β).
        task_weight_decay (`float`, *optional*, defaults to `1e-5`):
            L2 regularisation of the logits (the paper's η). 1e-5 in the paper's three-task, 1e-4 in its nine-task
            runs.
        task_weight_optimizer (`str`, *optional*, defaults to `"adam"`):
            `"adam"` with the L2 term inside the gradient as in the released code, `"adamw"` with decoupled decay as
            the paper's text says, or `"sgd"`.
        task_weight_floor (`float`, *optional*, defaults to `0.0`):
            Least share of any task.
        task_weight_cap (`float`, *optional*, defaults to `1.0`):
            Largest share of any task.
        task_weight_update (`str`, *optional*, defaults to `"batch"`):
            `"batch"` updates the weights once per generation batch (paper), `"minibatch"` once per optimizer step
            (released code).
        sec_alpha (`float`, *optional*, defaults to `0.5`):
            Step of SEC's value average.
        sec_temperature (`float`, *optional*, defaults to `0.2`):
            Temperature of SEC's softmax.
        plateau_guard (`bool`, *optional*, defaults to `True`):
            Whether to bound the weight of a task that takes a large share and does not improve (not in the paper). It
            is released when it moves again. Acts on weights that follow rewards (`"improvement_aware"` and
            `"reward_only"`); reported as `tasks/<name>/held`. See [`PlateauGuard`].

        > Signals

        improvement_source (`str`, *optional*, defaults to `"surrogate"`):
            `"surrogate"` measures the clipped objective after minus before the update (one extra forward without
            gradient), `"reward"` takes the change of the accuracy average (free), `"none"` switches the term off.
        improvement_reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` over a task's sequences, the scale on which the published λ were found (released code), or
            `"mean"`.
        improvement_clip (`float`, *optional*, defaults to `0.1`):
            Symmetric clip of the improvement. 0.1 in the paper's three-task, 0.2 in most of its nine-task runs.
        improvement_groups (`int`, *optional*):
            Number of groups per task on which the surrogate is measured. All of them when left at `None`.
        absent_improvement (`str`, *optional*, defaults to `"zero"`):
            What the improvement of a task without a group in the batch is: `"zero"`, the sum over no sequences (paper
            and released code), or `"neutral"`, the weighted mean of the others, so that mere absence moves no weight.
        task_reward_ema (`float`, *optional*, defaults to `0.5`):
            Factor of the bias-corrected moving average of a task's accuracy over everything generated (released
            code: the same factor, without the correction).

        > Groups

        group_filter (`str`, *optional*):
            Which groups may train: `"mixed_correctness"` (some but not all rollouts correct and not all advantages
            zero; three-task runs), `"reward_variance"` (not all advantages zero; nine-task runs) or `"none"`. Tasks
            without a success threshold or outcome function fall back to `"reward_variance"`. Set by `method`.
        preserve_task_ratio (`bool`, *optional*):
            Whether refills follow the drawn counts per task (Algorithm 2), or any accepted group fills the batch
            (DAPO). Set by `method`.
        oversampling (`str` or `float`, *optional*):
            `"adaptive"` sizes each request by what is missing and the acceptance estimate; a number generates that
            multiple of the batch every round (3.0 in the paper). Set by `method`.
        solved_discount (`float`, *optional*):
            How far a task's share of the batch shrinks with σ, the share of its groups in which every rollout is
            correct: z′ ∝ z (1 - σ)^`solved_discount`. With 1 the weights are shares of the prompts that are not
            solved yet; 0 is the paper's rule, which pays 1 / (1 - ρ) groups for each place of a nearly solved task.
            Reported as `tasks/<name>/target_share`. Set by `method`: 1 for `"mt_grpo"` unless weights are fixed,
            else 0.
        acceptance_aware (`bool`, *optional*, defaults to `True`):
            Whether requests are inflated by the acceptance estimate (off in the released three-task scripts).
        max_acceptance_inflation (`float`, *optional*, defaults to `5.0`):
            Largest inflation of a request (the paper's M_acc).
        max_resampling_rounds (`int`, *optional*, defaults to `10`):
            Rounds after the first one (the paper's N_rs; 2 in its nine-task runs).
        max_surplus_age (`int`, *optional*, defaults to `2`):
            For how many steps an accepted group that was not needed is kept for training, with the
            log-probabilities of the policy that generated it. 0 discards it, as the paper does.
        max_generated_tokens (`int`, *optional*):
            Budget of completion tokens per generation batch. No limit when left at `None`.
        max_empty_steps (`int`, *optional*, defaults to `10`):
            After this many generation batches in a row without one trainable group the run stops with an error.

        > Rewards

        reward_on_error (`str`, *optional*, defaults to `"raise"`):
            What a failing reward function does: `"raise"` on every rank together, or `"drop"` the rows and count
            them.
        reward_timeout (`float`, *optional*):
            Seconds that one call of a reward function may take. No limit when left at `None`.

        > Resuming

        allow_task_changes (`bool`, *optional*, defaults to `False`):
            Whether a checkpoint with other tasks, the same in another order, or datasets of other sizes may be
            resumed. Tasks of both lists keep their relative weights and estimates, new ones start at the mean weight
            logit, carried groups expire.

        > Display

        task_table (`bool`, *optional*, defaults to `True`):
            Whether to show a table with one row per task at every logging step, when the output is a terminal.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*GRPOConfig._VALID_DICT_FIELDS, "fixed_task_weights"]

    method: str | None = field(
        default=None,
        metadata={"help": "Preset of the paper's comparison.", "choices": [None, *METHODS]},
    )

    task_weighting: str | None = field(
        default=None,
        metadata={"help": "How task weights move: improvement_aware, reward_only, sec or fixed. Set by `method`."},
    )
    fixed_task_weights: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Weights by task name for `task_weighting='fixed'`. Uniform by default."}
    )
    task_weight_tradeoff: float = field(
        default=0.2, metadata={"help": "Weight of the reward term against the improvement term (the paper's lambda)."}
    )
    task_weight_lr: float = field(default=0.025, metadata={"help": "Step size of the weight update on the logits."})
    task_weight_decay: float = field(default=1e-5, metadata={"help": "L2 regularisation of the weight logits."})
    task_weight_optimizer: str = field(
        default="adam", metadata={"help": "Optimizer of the weight logits: adam (coupled L2), adamw or sgd."}
    )
    task_weight_floor: float = field(default=0.0, metadata={"help": "Least share of any task."})
    task_weight_cap: float = field(default=1.0, metadata={"help": "Largest share of any task."})
    task_weight_update: str = field(
        default="batch", metadata={"help": "Weight update per generation 'batch' or per optimizer 'minibatch'."}
    )
    sec_alpha: float = field(default=0.5, metadata={"help": "Step of SEC's value average."})
    sec_temperature: float = field(default=0.2, metadata={"help": "Temperature of SEC's softmax."})
    plateau_guard: bool = field(
        default=True, metadata={"help": "Bound the weight of a task that takes much and does not improve."}
    )

    improvement_source: str = field(
        default="surrogate", metadata={"help": "Source of the improvement: surrogate, reward or none."}
    )
    improvement_reduction: str = field(
        default="sum", metadata={"help": "Reduction of the surrogate over a task's sequences: sum or mean."}
    )
    improvement_clip: float | None = field(default=0.1, metadata={"help": "Symmetric clip of the improvement."})
    improvement_groups: int | None = field(
        default=None, metadata={"help": "Groups per task on which the surrogate is measured. All by default."}
    )
    absent_improvement: str = field(
        default="zero", metadata={"help": "Improvement of a task that is absent from the batch: neutral or zero."}
    )
    task_reward_ema: float = field(default=0.5, metadata={"help": "Factor of the moving average of task accuracy."})

    group_filter: str | None = field(
        default=None,
        metadata={"help": "Which groups train: mixed_correctness, reward_variance or none. Set by `method`."},
    )
    preserve_task_ratio: bool | None = field(
        default=None, metadata={"help": "Whether refills follow the drawn counts per task. Set by `method`."}
    )
    oversampling: str | None = field(
        default=None, metadata={"help": "'adaptive', or a factor of the batch generated each round. Set by `method`."}
    )
    solved_discount: float | None = field(
        default=None, metadata={"help": "How far solved groups shrink a task's share of the batch. Set by `method`."}
    )
    acceptance_aware: bool = field(
        default=True, metadata={"help": "Whether requests are inflated by the acceptance estimate."}
    )
    max_acceptance_inflation: float = field(default=5.0, metadata={"help": "Largest inflation of a request."})
    max_resampling_rounds: int = field(default=10, metadata={"help": "Rounds after the first one."})
    max_surplus_age: int = field(
        default=2, metadata={"help": "For how many steps a surplus accepted group is kept for training."}
    )
    max_generated_tokens: int | None = field(
        default=None, metadata={"help": "Budget of completion tokens per generation batch."}
    )
    max_empty_steps: int = field(
        default=10, metadata={"help": "Generation batches in a row without a trainable group before the run stops."}
    )

    reward_on_error: str = field(
        default="raise", metadata={"help": "What a failing reward function does: raise, or drop the rows."}
    )
    reward_timeout: float | None = field(
        default=None, metadata={"help": "Seconds that one call of a reward function may take."}
    )

    allow_task_changes: bool = field(
        default=False, metadata={"help": "Whether a checkpoint with other tasks or dataset sizes may be resumed."}
    )

    task_table: bool = field(
        default=True, metadata={"help": "Show a table per task at every logging step, on a terminal."}
    )

    # Names left at None by the caller and filled from the method, so that a plain dataset can take "grpo" instead.
    filled_by_method: tuple[str, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        preset = METHODS.get("mt_grpo" if self.method is None else self.method)
        if preset is None:
            raise ValueError(f"`method` must be one of {list(METHODS)}, got {self.method!r}. Choose one of them.")
        self.filled_by_method = tuple(name for name in preset if getattr(self, name) is None)
        for name in self.filled_by_method:
            setattr(self, name, preset[name])
        if self.task_weighting == "fixed" and "solved_discount" in self.filled_by_method:
            self.solved_discount = 0.0  # who names the shares wants those
        if isinstance(self.oversampling, str) and self.oversampling != "adaptive":
            self.oversampling = self._as_factor(self.oversampling)
        check_settings(self)

    def for_plain_dataset(self) -> "MultiTaskGRPOConfig":
        """
        The settings under which a dataset without tasks trains as [`~trl.GRPOTrainer`] would.

        Returns:
            [`MultiTaskGRPOConfig`]:
                A shallow copy with `method="grpo"` where neither the method nor the field was chosen, else the same
                object.
        """
        if self.method is not None:
            return self
        plain = copy.copy(self)
        plain.method = "grpo"
        for name in self.filled_by_method:
            setattr(plain, name, METHODS["grpo"][name])
        return plain

    @staticmethod
    def _as_factor(value: str) -> float:
        try:
            return float(value)
        except ValueError:
            raise ValueError(
                f"`oversampling` must be 'adaptive' or a number of at least 1, got {value!r}. Use 'adaptive' for "
                "requests sized by need, or 3.0 for the paper's rule."
            ) from None


def check_settings(config: MultiTaskGRPOConfig) -> None:
    """
    Raises on the first setting that is out of its range.

    Args:
        config ([`MultiTaskGRPOConfig`]):
            Settings whose method-dependent fields are filled in.

    Raises:
        ValueError: naming the field, its constraint and the value found.
    """
    for name, choices in _CHOICES.items():
        value = getattr(config, name)
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {list(choices)}, got {value!r}. Choose one of them.")
    _check(config, "task_weight_tradeoff", "at least 0", lambda v: v >= 0)
    _check(config, "task_weight_lr", "above 0", lambda v: v > 0)
    _check(config, "task_weight_decay", "at least 0", lambda v: v >= 0)
    _check(config, "task_weight_floor", "in [0, 1)", lambda v: 0 <= v < 1)
    _check(config, "task_weight_cap", "in (0, 1]", lambda v: 0 < v <= 1)
    _check(config, "sec_alpha", "in (0, 1]", lambda v: 0 < v <= 1)
    _check(config, "sec_temperature", "above 0", lambda v: v > 0)
    _check(config, "improvement_clip", "above 0 or None", lambda v: v is None or v > 0)
    _check(config, "improvement_groups", "at least 1 or None", lambda v: v is None or v >= 1)
    _check(config, "task_reward_ema", "in [0, 1)", lambda v: 0 <= v < 1)
    _check(config, "oversampling", "'adaptive' or at least 1", lambda v: v == "adaptive" or v >= 1)
    _check(config, "solved_discount", "at least 0", lambda v: v >= 0)
    _check(config, "max_acceptance_inflation", "at least 1", lambda v: v >= 1)
    _check(config, "max_resampling_rounds", "at least 0", lambda v: v >= 0)
    _check(config, "max_surplus_age", "at least 0", lambda v: v >= 0)
    _check(config, "max_generated_tokens", "at least 1 or None", lambda v: v is None or v >= 1)
    _check(config, "max_empty_steps", "at least 1", lambda v: v >= 1)
    _check(config, "reward_timeout", "above 0 or None", lambda v: v is None or v > 0)
    weights = config.fixed_task_weights
    if weights is not None and not (
        isinstance(weights, Mapping)
        and all(0 <= weight < math.inf for weight in weights.values())
        and sum(weights.values()) > 0
    ):
        raise ValueError(
            f"`fixed_task_weights` must be a dict of non-negative weights with a positive sum, got {weights!r}. Give "
            "one weight per task name."
        )


def _check(config: MultiTaskGRPOConfig, name: str, constraint: str, holds: Any) -> None:
    value = getattr(config, name)
    if isinstance(value, float) and not math.isfinite(value):
        constraint, holds = "a finite number", lambda v: False
    if not holds(value):
        raise ValueError(f"`{name}` must be {constraint}, got {value!r}. Change it in `MultiTaskGRPOConfig`.")
