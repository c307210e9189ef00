"""The table of recorded runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig

from tests.tiny import contains_a, contains_digit, contains_lower, text_of
from trl_mtgrpo import PlateauGuard, RatioPreservingSampler, RewardOnlyWeighting


FUNCTIONS = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a}

Json = dict[str, Any]
Reward = Callable[..., list[Any]]


@dataclass(frozen=True, eq=False)
class Run:
    """
    One recorded run.

    Args:
        settings (`dict`): What is changed in the tiny config.
        rewards (`Callable`): From a plain reward function to the task's reward functions.
        task (`dict`): Arguments of every task.
        trainer (`Callable`): Further arguments of the trainer, built anew for each run.
        with_eval (`bool`): Whether tasks have rows to evaluate on.
        chat (`bool`): Prompts as lists of messages.
        sizes (`Sequence[int]`): Rows of each task.
        functions (`dict`): The plain reward function by task.
        resume_from (`int`): The run trains once, then again from the checkpoint of this step; the second is recorded.
        ranks (`int`): Processes.
    """

    settings: Json = field(default_factory=dict)
    rewards: Callable[[Reward], list[Reward]] = lambda function: [function]
    task: Json = field(default_factory=dict)
    trainer: Callable[[], Json] = dict
    with_eval: bool = False
    chat: bool = False
    sizes: Sequence[int] = (30, 30, 30)
    functions: Mapping[str, Reward] = field(default_factory=lambda: FUNCTIONS)
    resume_from: int | None = None
    ranks: int = 1


def with_length(function: Reward) -> list[Reward]:
    def length(completions: list[Any], **kwargs: Any) -> list[float]:
        return [sum(c.islower() for c in text_of(completion)) / 6 for completion in completions]

    return [function, length]


def with_abstention(function: Reward) -> list[Reward]:
    """A second function that gives no opinion on many completions."""

    def vowels(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [float("E" in text_of(c)) if any(x.isupper() for x in text_of(c)) else None for c in completions]

    return [function, vowels]


def sometimes_unknown(function: Reward) -> list[Reward]:
    """One function without an opinion on some completions."""

    def unsure(completions: list[Any], **kwargs: Any) -> list[float | None]:
        values = function(completions)
        return [None if "z" in text_of(c) else value for c, value in zip(completions, values, strict=True)]

    return [unsure]


def with_logging(function: Reward) -> list[Reward]:
    def logged(completions: list[Any], log_extra: Any, log_metric: Any, **kwargs: Any) -> list[float]:
        log_extra("first", [text_of(completion)[:1] for completion in completions])
        log_metric("mean_length", sum(len(text_of(c)) for c in completions) / len(completions))
        return function(completions)

    return [logged]


def graded(completions: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.isdigit() for c in text_of(completion)) / 6 for completion in completions]


def never(completions: list[Any], **kwargs: Any) -> list[float]:
    return [0.0] * len(completions)


def nearly_always(completions: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(c != " " for c in text_of(completion))) for completion in completions]


HALVES: Json = {"per_device_train_batch_size": 8, "steps_per_generation": 2}
STRICT_GUARD = {
    "large_share": 0.3,
    "patience": 1,
    "more_than_fair": 1.0,
    "others_gain": 0.01,
    "errors": 0.0,
    "smoothing": 0.5,
    "held_share": 0.2,
}


def acting_guard() -> Json:
    return {"guard": PlateauGuard(**STRICT_GUARD)}


RUNS: dict[str, Run] = {
    "defaults": Run({"max_steps": 6}),
    "mixed, no carry": Run({"max_surplus_age": 0}),
    "variance, carry": Run({"group_filter": "reward_variance", "oversampling": 3.0}),
    "variance, no carry": Run({"group_filter": "reward_variance", "max_surplus_age": 0}),
    "nothing filtered": Run({"group_filter": "none", "oversampling": 1.0}),
    "nothing filtered, carry": Run({"group_filter": "none", "oversampling": 2.0}),
    "three times the batch": Run({"oversampling": 3.0, "max_steps": 5}),
    "three times the batch, no carry": Run({"oversampling": 3.0, "max_surplus_age": 0}),
    "two iterations": Run({"num_iterations": 2, "oversampling": 3.0, "max_steps": 6}),
    "two updates per batch": Run({**HALVES, "max_steps": 6, "oversampling": 2.0}),
    "accumulation beside generation": Run(
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "steps_per_generation": 3}
    ),
    "accumulation over two batches": Run({**HALVES, "gradient_accumulation_steps": 4}),
    "two iterations of two updates": Run({**HALVES, "num_iterations": 2, "max_steps": 8, "oversampling": 2.0}),
    "summed rewards": Run(rewards=with_length, task={"reward_weights": [1.0, 0.5]}),
    "normalised rewards": Run(
        {"multi_objective_aggregation": "normalize_then_sum", "oversampling": 2.0},
        rewards=with_length,
        task={"reward_weights": [1.0, 0.5]},
    ),
    "normalised rewards, variance": Run(
        {"multi_objective_aggregation": "normalize_then_sum", "group_filter": "reward_variance"},
        rewards=with_abstention,
        task={"reward_weights": [0.7, 1.0], "success_threshold": None},
    ),
    "guard acts": Run({"max_steps": 8, "task_weight_lr": 0.3}, trainer=acting_guard),
    "guard acts without refill": Run(
        {"max_steps": 8, "task_weight_lr": 0.3, "max_resampling_rounds": 0}, trainer=acting_guard
    ),
    "no guard": Run({"plateau_guard": False, "task_weight_lr": 0.3}),
    "grpo": Run({"method": "grpo"}),
    "dapo": Run({"method": "dapo"}),
    "sec_grpo": Run({"method": "sec_grpo"}),
    "sec_dapo": Run({"method": "sec_dapo", "max_steps": 5}),
    "dapo, three times": Run({"method": "dapo", "oversampling": 3.0}),
    "fixed weights": Run({"task_weighting": "fixed", "fixed_task_weights": {"easy": 1, "medium": 2, "hard": 5}}),
    "reward only": Run(
        trainer=lambda: {"weighting": RewardOnlyWeighting(lr=0.2, decay=1e-2)}, settings={"max_steps": 5}
    ),
    "solved discount 0": Run({"solved_discount": 0.0, "max_steps": 5}, functions={**FUNCTIONS, "easy": nearly_always}),
    "solved discount 1": Run({"solved_discount": 1.0, "max_steps": 5}, functions={**FUNCTIONS, "easy": nearly_always}),
    "solved discount 2, not acceptance aware": Run({"solved_discount": 2.0, "acceptance_aware": False}),
    "a task without any gain": Run({"max_steps": 8}, functions={**FUNCTIONS, "hard": never}),
    "improvement of rewards": Run({"improvement_source": "reward", "task_weight_lr": 0.2}),
    "no improvement": Run({"improvement_source": "none", "task_weight_lr": 0.2}),
    "mean improvement of few": Run(
        {"improvement_reduction": "mean", "improvement_groups": 1, "absent_improvement": "neutral"}
    ),
    "weights by minibatch": Run(
        {**HALVES, "task_weight_update": "minibatch", "task_weight_lr": 0.2, "max_steps": 6, "oversampling": 2.0}
    ),
    "other weight optimizers": Run(
        {"task_weight_optimizer": "adamw", "task_weight_decay": 1e-2, "task_weight_floor": 0.1, "task_weight_cap": 0.6}
    ),
    "weights by gradient": Run({"task_weight_optimizer": "sgd", "task_weight_lr": 1.0, "improvement_clip": None}),
    "abstaining function": Run(rewards=with_abstention),
    "unknown rewards": Run(rewards=sometimes_unknown, settings={"oversampling": 2.0}),
    "graded rewards": Run(
        task={"success_threshold": None, "reward_range": (0.0, 0.5)}, functions={**FUNCTIONS, "medium": graded}
    ),
    "outcome function": Run(
        task={"success_threshold": None, "outcome_func": contains_digit}, rewards=lambda f: [graded, f]
    ),
    "masked truncation": Run({"mask_truncated_completions": True, "max_completion_length": 48, "max_steps": 3}),
    "logged columns": Run({"oversampling": 2.0}, rewards=with_logging),
    "evaluation": Run({"eval_strategy": "steps", "eval_steps": 2, "oversampling": 2.0}, with_eval=True),
    "evaluation inside a batch": Run({**HALVES, "eval_strategy": "steps", "eval_steps": 1}, with_eval=True),
    "unfilled batches": Run({"max_resampling_rounds": 0, "oversampling": 1.0, "method": "dapo"}),
    "unfilled batches, discounted": Run({"max_resampling_rounds": 0, "oversampling": 1.0, "max_steps": 6}),
    "token budget": Run({"max_generated_tokens": 150, "max_steps": 5}),
    "kl": Run({"beta": 0.1, "oversampling": 3.0}),
    "kl, lora": Run({"beta": 0.1}, trainer=lambda: {"peft_config": LoraConfig(r=4, target_modules="all-linear")}),
    "dr_grpo, batch scale": Run({"loss_type": "dr_grpo", "scale_rewards": "batch", "oversampling": 2.0}),
    "cispo, no scale": Run({"loss_type": "cispo", "scale_rewards": "none", "oversampling": 2.0, "num_iterations": 2}),
    "sequence ratios": Run({"importance_sampling_level": "sequence", "oversampling": 3.0, "num_iterations": 2}),
    "chat": Run({"oversampling": 2.0}, chat=True),
    "small and unequal tasks": Run({"oversampling": 3.0, "max_steps": 5}, sizes=(1, 3, 40)),
    "unshuffled, another seed": Run({"shuffle_dataset": False, "seed": 7}),
    "a filter of the user": Run(trainer=lambda: {"group_filter": lambda rewards: rewards.mean(axis=1) < 0.9}),
    "a sampler of the user": Run(
        trainer=lambda: {"sampler": RatioPreservingSampler(4, oversampling=2.0, max_rounds=1)},
        settings={"max_steps": 4},
    ),
    "resumed": Run({"max_steps": 4, "oversampling": 3.0}, resume_from=2),
    "resumed inside a batch": Run({**HALVES, "max_steps": 5, "num_iterations": 2, "oversampling": 3.0}, resume_from=4),
    "resumed, guard acts": Run({"max_steps": 6, "task_weight_lr": 0.3}, trainer=acting_guard, resume_from=3),
    "two ranks": Run({**HALVES, "max_steps": 5}, ranks=2),
    "two ranks, three times, kl": Run({**HALVES, "oversampling": 3.0, "beta": 0.1}, ranks=2),
    "two ranks, split groups": Run(
        {"per_device_train_batch_size": 6, "num_generations": 3, "max_steps": 5, "oversampling": 1.5}, ranks=2
    ),
    "two ranks, normalised, guard, evaluation": Run(
        {
            "per_device_train_batch_size": 8,
            "multi_objective_aggregation": "normalize_then_sum",
            "task_weight_lr": 0.3,
            "eval_strategy": "steps",
            "eval_steps": 2,
        },
        rewards=with_length,
        trainer=acting_guard,
        with_eval=True,
        ranks=2,
    ),
    "two ranks, resumed": Run({**HALVES, "max_steps": 6, "oversampling": 3.0}, resume_from=4, ranks=2),
}
