"""The settings of Multi-Task GRPO as one flat dataclass on top of TRL's. It holds what was given and nothing else."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from trl import GRPOConfig

from ..sampling import RatioPreservingSampler
from ..weighting import ImprovementAwareWeighting
from ..weighting.optimizers import WeightOptimizer
from .rules import (
    RULES,
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
)


@dataclass
class MultiTaskGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`MultiTaskGRPOTrainer`].

    Every field of [`~trl.GRPOConfig`] keeps its meaning. The defaults are those of the paper's three-task experiment
    ([Multi-Task GRPO](https://huggingface.co/papers/2602.05547), Section 6) unless a field says otherwise.

    A field left at `None` stays `None`: its value is looked up when the trainer is built, from `method`, then from the
    weighting strategy. So a config may be changed after it was built, copied with `dataclasses.replace`, or built anew
    from its own fields, and everything that was left alone follows. `epsilon_high` of [`~trl.GRPOConfig`] is such a
    field too: 0.28 with `"mt_grpo"`, `"dapo"` and `"sec_dapo"`, else `epsilon`.

    Parameters:
        > Method

        method (`str`, *optional*):
            Which column of the paper's comparison to run: `"mt_grpo"`, `"grpo"`, `"dapo"`, `"sec_grpo"` or
            `"sec_dapo"`. Left at `None` it is `"mt_grpo"` with tasks and `"grpo"` for a plain dataset, which is
            trained as [`~trl.GRPOTrainer`] would. Set it to run a baseline.

        > Task weights

        task_weighting (`str`, *optional*):
            How task weights move: `"improvement_aware"` (Subroutine 1), `"reward_only"` (Subroutine 2), `"sec"`
            (self-evolving curriculum, [2505.14970](https://huggingface.co/papers/2505.14970)) or `"fixed"`. Left at
            `None` it is the method's. Set it to change this one part of a method, as in an ablation.
        fixed_task_weights (`dict[str, float]`, *optional*):
            Weights by task name for `task_weighting="fixed"`, scaled to sum to 1. Uniform when left at `None`. Set it
            when the shares are known beforehand.
        task_weight_tradeoff (`float`, *optional*):
            The paper's λ: how much a low reward raises a weight, against slow improvement (`"improvement_aware"`) or
            against the decay (`"reward_only"`). Left at `None` it is the strategy's own, 0.2 for both. The paper has
            0.2 and 0.25 with three tasks, 0.1 to 1.2 with nine. Raise it when the worst task matters more than the
            average.
        task_weight_lr (`float`, *optional*):
            Step size of the weight update on the logits (the paper's β). Left at `None` it is the strategy's own,
            0.025. Raise it for short runs, in which weights hardly move otherwise.
        task_weight_decay (`float`, *optional*):
            L2 regularisation of the logits (the paper's η). Left at `None` it is the strategy's own: 1e-5 for
            `"improvement_aware"` (the paper's three-task runs; 1e-4 in its nine-task runs), 1e-2 for `"reward_only"`,
            which collapses onto one task without it. Raise it to keep weights nearer to uniform.
        task_weight_optimizer (`str`, *optional*):
            `"adam"` with the L2 term inside the gradient as in the released code, `"adamw"` with decoupled decay as
            the paper's text says, or `"sgd"`. Left at `None` it is the strategy's own, `"adam"`. Set it to compare
            with the printed rule.
        task_weight_floor (`float`, *optional*):
            Least share of any task. Left at `None` it is the strategy's own, 0.0. Raise it when no task may be left
            out.
        task_weight_cap (`float`, *optional*):
            Largest share of any task. Left at `None` it is the strategy's own, 1.0. Lower it when a task may be beyond
            the model, and the guard is too slow.
        task_weight_update (`str`, *optional*, defaults to `"batch"`):
            `"batch"` updates the weights once per generation batch (paper), `"minibatch"` once per optimizer step
            (released code). Set it to reproduce the released code.
        sec_alpha (`float`, *optional*):
            Step of SEC's value average. Left at `None` it is the strategy's own, 0.5. Lower it when advantages are
            noisy.
        sec_temperature (`float`, *optional*):
            Temperature of SEC's softmax. Left at `None` it is the strategy's own, 0.2. Raise it for weights nearer to
            uniform.
        plateau_guard (`bool`, *optional*, defaults to `True`):
            Whether to bound the weight of a task that takes a large share and does not improve (not in the paper). It
            is released when it moves again. Acts on weights that follow rewards (`"improvement_aware"` and
            `"reward_only"`); reported as `tasks/<name>/held`. See [`PlateauGuard`]. Switch it off to run the paper's
            rule.

        > Signals

        improvement_source (`str`, *optional*, defaults to `"surrogate"`):
            `"surrogate"` measures the clipped objective after minus before the update (one extra forward without
            gradient), `"reward"` takes the change of the accuracy average (free), `"none"` switches the term off. Set
            it when the extra forward costs too much.
        improvement_reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` over a task's sequences, the scale on which the published λ were found (released code), or
            `"mean"`. Set it when batches hold very different numbers of sequences per task, and λ is tuned anew.
        improvement_clip (`float`, *optional*, defaults to `0.1`):
            Symmetric clip of the improvement, none with `None`. 0.1 in the paper's three-task, 0.2 in most of its
            nine-task runs. Raise it when most improvements end at the clip.
        improvement_groups (`int`, *optional*):
            Number of groups per task on which the surrogate is measured. All of them when left at `None`. Set it to
            make the extra forward cheaper.
        absent_improvement (`str`, *optional*):
            What the improvement of a task without a group in the batch is: `"zero"`, the sum over no sequences (paper
            and released code), or `"neutral"`, the weighted mean of the others, so that mere absence moves no weight.
            Left at `None` it is the strategy's own, `"zero"`. Set it when batches are too small to hold every task.
        task_reward_ema (`float`, *optional*, defaults to `0.5`):
            Factor of the bias-corrected moving average of a task's accuracy over everything generated (released
            code: the same factor, without the correction). Raise it when few groups per task make accuracies noisy.

        > Groups

        group_filter (`str`, *optional*):
            Which groups may train: `"mixed_correctness"` (some but not all rollouts correct and not all advantages
            zero; three-task runs), `"reward_variance"` (not all advantages zero; nine-task runs) or `"none"`. Tasks
            without a success threshold or outcome function fall back to `"reward_variance"`. Left at `None` it is the
            method's. Set it when partial rewards alone are worth training on.
        preserve_task_ratio (`bool`, *optional*):
            Whether refills follow the drawn counts per task (Algorithm 2), or any accepted group fills the batch
            (DAPO). Left at `None` it is the method's. Set it to see what the ratio costs.
        oversampling (`str` or `float`, *optional*):
            `"adaptive"` sizes each request by what is missing and the acceptance estimate; a number generates that
            multiple of the batch every round (3.0 in the paper). Left at `None` it is the method's. Set it to
            reproduce the paper's requests.
        solved_discount (`float`, *optional*):
            How far a task's share of the batch shrinks with σ, the share of its groups in which every rollout is
            correct: z′ ∝ z (1 - σ)^`solved_discount`. With 1 the weights are shares of the prompts that are not
            solved yet; 0 is the paper's rule, which pays 1 / (1 - ρ) groups for each place of a nearly solved task.
            Reported as `tasks/<name>/target_share`. Left at `None` it is the method's, 1 for `"mt_grpo"` and 0 for the
            others, and 0 wherever weights are fixed. Set it to 0 to reproduce the paper.
        prompt_memory (`str`, *optional*, defaults to `"off"`):
            `"solved"` passes over most prompts of which every rollout was right the last times (not in the paper).
            Accuracies and solved shares are corrected for it, so task weights are told what uniform draws would show;
            see [`PromptMemory`]. `"off"` draws uniformly, and reports what it would save as `sampling/memory_saving`.
            Set it to `"solved"` when prompts come up several times in a run and that metric is high.
        pilot_generations (`int`, *optional*):
            Rollouts that a group begins with (not in the paper). It is completed when these differ, and otherwise one
            time in ten; advantages are weighted so that the gradient is that of whole groups. Divides
            `num_generations`. All at once when left at `None`. Set it to a quarter or a third of `num_generations`
            when that is 32 and more and many groups are filtered.
        pilot_tasks (`str`, *optional*, defaults to `"auto"`):
            Which tasks begin their groups so: `"auto"`, those for which whole groups say that it saves rollouts,
            the price of uneven weights included, or `"all"`. Reported as `sampling/pilot_saving`. Set it to `"all"` to
            see what it costs where it does not pay.
        acceptance_aware (`bool`, *optional*, defaults to `True`):
            Whether requests are inflated by the acceptance estimate (off in the released three-task scripts). Switch
            it off to reproduce those.
        max_acceptance_inflation (`float`, *optional*, defaults to `5.0`):
            Largest inflation of a request (the paper's M_acc). Lower it when single requests grow too large for the
            generation engine.
        max_resampling_rounds (`int`, *optional*, defaults to `10`):
            Rounds after the first one (the paper's N_rs; 2 in its nine-task runs). Lower it when rounds are slow and
            a batch may stay short.
        max_surplus_age (`int`, *optional*, defaults to `2`):
            For how many steps an accepted group that was not needed is kept for training, with the
            log-probabilities of the policy that generated it. 0 discards it, as the paper does. Set it to 0 to train
            on nothing but the current policy's rollouts.
        max_generated_groups (`int`, *optional*):
            Most groups of `num_generations` rollouts per generation batch. Left at `None` it is the sampler's own: 16
            batches, or 3 per round where that is less; see [`RatioPreservingSampler`]. Set it when a step must never
            cost more than some number of rollouts.
        max_generated_tokens (`int`, *optional*):
            Budget of completion tokens per generation batch. No limit when left at `None`. Set it when a step must
            not take longer than some time.
        max_empty_steps (`int`, *optional*, defaults to `10`):
            After this many generation batches in a row without one trainable group the run stops: in order where it
            has trained and every task is solved, otherwise with an error. Raise it when a task is expected to
            succeed only rarely at first.

        > Rewards

        reward_on_error (`str`, *optional*, defaults to `"raise"`):
            What a failing reward function does: `"raise"` on every rank together, or `"drop"` the rows and count
            them. Set it when a reward depends on a service that may fail.
        reward_timeout (`float`, *optional*):
            Seconds that one call of a reward function may take. No limit when left at `None`. Set it when a reward
            runs code or parses text that may never end.

        > Programs

        group_baseline (`str`, *optional*, defaults to `"members"`):
            What a call of a program is compared with: `"members"` (the rollouts that made this call too) or
            `"rollouts"` (all rollouts of the prompt, those that never came so far included). Set it when coming so
            far is itself what later calls should be credited with.
        module_balance (`str`, *optional*, defaults to `"produced"`):
            How many groups of each module of a program train: `"produced"`, as they come, or `"equal"` numbers as far
            as there are some of each. Set it when one module is called much more often than another.
        max_program_calls (`int`, *optional*, defaults to `16`):
            Most calls of the model in one rollout of a program. One that asks for more ends as a failure. Raise it
            for programs that loop longer.
        program_timeout (`float`, *optional*):
            Seconds that a program may spend between two calls of the model, in its tools. A rollout that takes longer
            ends as a failure. No limit when left at `None`. Set it when a tool may block, which every rank waits for.

        > Resuming

        allow_task_changes (`bool`, *optional*, defaults to `False`):
            Whether a checkpoint with other tasks, the same in another order, or datasets of other sizes may be
            resumed. Tasks of both lists keep their relative weights and estimates, new ones start at the mean weight
            logit, carried groups expire. Set it for the one run in which tasks change.

        > Display

        task_table (`bool`, *optional*, defaults to `True`):
            Whether to show a table with one row per task at every logging step, when the output is a terminal. Switch
            it off where another display owns the terminal.
    """

    # The host has it without `ClassVar`.
    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*GRPOConfig._VALID_DICT_FIELDS, "fixed_task_weights"]  # type: ignore[misc]

    method: MethodName | None = field(default=None, metadata={"help": "Preset of the paper's comparison."})

    task_weighting: StrategyName | None = field(
        default=None, metadata={"help": "How task weights move. The method's when left out."}
    )
    fixed_task_weights: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Weights by task name for `task_weighting='fixed'`. Uniform when left out."}
    )
    task_weight_tradeoff: float | None = field(
        default=None, metadata={"help": "Weight of the reward term (the paper's lambda). The strategy's own."}
    )
    task_weight_lr: float | None = field(
        default=None, metadata={"help": "Step size of the weight update on the logits. The strategy's own."}
    )
    task_weight_decay: float | None = field(
        default=None, metadata={"help": "L2 regularisation of the weight logits. The strategy's own."}
    )
    task_weight_optimizer: WeightOptimizer | None = field(
        default=None, metadata={"help": "Optimizer of the weight logits. The strategy's own."}
    )
    task_weight_floor: float | None = field(
        default=None, metadata={"help": "Least share of any task. The strategy's own."}
    )
    task_weight_cap: float | None = field(
        default=None, metadata={"help": "Largest share of any task. The strategy's own."}
    )
    task_weight_update: UpdateName = field(
        default="batch", metadata={"help": "Weight update per generation batch or per optimizer step."}
    )
    sec_alpha: float | None = field(
        default=None, metadata={"help": "Step of SEC's value average. The strategy's own."}
    )
    sec_temperature: float | None = field(
        default=None, metadata={"help": "Temperature of SEC's softmax. The strategy's own."}
    )
    plateau_guard: bool = field(
        default=True, metadata={"help": "Bound the weight of a task that takes much and does not improve."}
    )

    improvement_source: ImprovementSource = field(
        default="surrogate", metadata={"help": "Where the improvement comes from."}
    )
    improvement_reduction: ImprovementReduction = field(
        default="sum", metadata={"help": "Reduction of the surrogate over a task's sequences."}
    )
    improvement_clip: float | None = field(
        default=ImprovementAwareWeighting.improvement_clip,
        metadata={"help": "Symmetric clip of the improvement. None for no clip."},
    )
    improvement_groups: int | None = field(
        default=None, metadata={"help": "Groups per task on which the surrogate is measured. All when left out."}
    )
    absent_improvement: AbsentImprovement | None = field(
        default=None, metadata={"help": "Improvement of a task that is absent from the batch. The strategy's own."}
    )
    task_reward_ema: float = field(default=0.5, metadata={"help": "Factor of the moving average of task accuracy."})

    group_filter: FilterName | None = field(
        default=None, metadata={"help": "Which groups train. The method's when left out."}
    )
    preserve_task_ratio: bool | None = field(
        default=None, metadata={"help": "Whether refills follow the drawn counts per task. The method's."}
    )
    # The parser takes the second type of a union, so that numbers arrive as text.
    oversampling: Literal["adaptive"] | str | float | None = field(
        default=None, metadata={"help": "'adaptive', or a factor of the batch generated each round. The method's."}
    )
    solved_discount: float | None = field(
        default=None, metadata={"help": "How far solved groups shrink a task's share of the batch. The method's."}
    )
    prompt_memory: MemoryName = field(
        default="off", metadata={"help": "Whether prompts that are solved are mostly passed over: off, or solved."}
    )
    pilot_generations: int | None = field(
        default=None, metadata={"help": "Rollouts that a group begins with. All of them by default."}
    )
    pilot_tasks: PilotName = field(
        default="auto", metadata={"help": "Which tasks begin groups with a pilot: auto, or all."}
    )
    acceptance_aware: bool = field(
        default=RatioPreservingSampler.acceptance_aware,
        metadata={"help": "Whether requests are inflated by the acceptance estimate."},
    )
    max_acceptance_inflation: float = field(
        default=RatioPreservingSampler.max_inflation, metadata={"help": "Largest inflation of a request."}
    )
    max_resampling_rounds: int = field(
        default=RatioPreservingSampler.max_rounds, metadata={"help": "Rounds after the first one."}
    )
    max_surplus_age: int = field(
        default=2, metadata={"help": "For how many steps a surplus accepted group is kept for training."}
    )
    max_generated_groups: int | None = field(
        default=None, metadata={"help": "Most groups per generation batch. The sampler's own limit by default."}
    )
    max_generated_tokens: int | None = field(
        default=None, metadata={"help": "Budget of completion tokens per generation batch."}
    )
    max_empty_steps: int = field(
        default=10, metadata={"help": "Generation batches in a row without a trainable group before the run stops."}
    )

    reward_on_error: OnRewardError = field(
        default="raise", metadata={"help": "What a failing reward function does: raise, or drop the rows."}
    )
    reward_timeout: float | None = field(
        default=None, metadata={"help": "Seconds that one call of a reward function may take."}
    )

    group_baseline: BaselineName = field(
        default="members", metadata={"help": "What a call of a program is compared with."}
    )
    module_balance: BalanceName = field(
        default="produced", metadata={"help": "How many groups of each module of a program train."}
    )
    max_program_calls: int = field(
        default=16, metadata={"help": "Most calls of the model in one rollout of a program."}
    )
    program_timeout: float | None = field(
        default=None, metadata={"help": "Seconds that a program may spend between two calls of the model."}
    )

    allow_task_changes: bool = field(
        default=False, metadata={"help": "Whether a checkpoint with other tasks or dataset sizes may be resumed."}
    )

    task_table: bool = field(
        default=True, metadata={"help": "Show a table per task at every logging step, on a terminal."}
    )

    def __post_init__(self) -> None:
        # The host fills both sizes of a generation batch and takes only one: a config built from its own fields has
        # both, so the second is derived again.
        carried = None if self.steps_per_generation is None else self.generation_batch_size
        if carried is not None:
            self.generation_batch_size = None
        super().__post_init__()
        if carried is not None and carried != self.generation_batch_size:
            raise ValueError(
                "`generation_batch_size` must be `per_device_train_batch_size` x processes x `steps_per_generation` = "
                f"{self.generation_batch_size}, got {carried}. Set the one of the two that should follow to None."
            )
        check_settings(self)


# The fields that the host does not have, with their defaults.
OWN_FIELDS: dict[str, Any] = {
    f.name: f.default for f in fields(MultiTaskGRPOConfig) if f.name not in {base.name for base in fields(GRPOConfig)}
}


def check_settings(config: MultiTaskGRPOConfig) -> None:
    """
    Raises on the first of the library's own fields with a value that it cannot have.

    Args:
        config ([`MultiTaskGRPOConfig`]):
            What was given.

    Raises:
        ValueError: naming the field, its constraint and the value found.
    """
    for name, rule in RULES.items():
        value = getattr(config, name)
        none = OWN_FIELDS[name] is None or name == "improvement_clip"
        if not (none if value is None else rule.holds(value)):
            raise ValueError(
                f"`{name}` must be {rule.constraint}{' or None' if none else ''}, got {value!r}. Change it in "
                "`MultiTaskGRPOConfig`."
            )
