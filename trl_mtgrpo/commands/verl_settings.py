"""Decides what verl's settings, and those of the Multi-Task GRPO release, are called here.

Every setting given is carried over, named as without effect, or named as left behind: none is dropped in silence.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from .yaml_lines import load_yaml


@dataclass
class VerlSettings:
    """
    Settings of a verl command line, and what became of them.

    Args:
        given (`dict[str, Any]`):
            Value by key; the last one where a key was given more than once.
        notes (`list[str]`):
            What could not be carried over, and what to know of what was.
        trainer (`dict[str, Any]`):
            Fields of [`MultiTaskGRPOConfig`].
    """

    given: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which thereby counts as carried over."""
        self._used.add(key)
        return self.given.get(key, default)

    def number(self, key: str, default: Any = None, convert: Callable[[Any], Any] = float, least: float = 0) -> Any:
        """
        The value of a key as a number.

        Args:
            key (`str`):
                The key.
            default (`Any`, *optional*):
                What it is where it was not given.
            convert (`Callable`, *optional*, defaults to `float`):
                `int` for a whole number.
            least (`float`, *optional*, defaults to `0`):
                Least value.

        Raises:
            ValueError: for anything else.
        """
        value = self.take(key, default)
        try:
            number = convert(value)
            fits = math.isfinite(number) and number >= least and not isinstance(value, bool) and number == float(value)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            kind = "a whole number" if convert is int else "a number"
            raise ValueError(f"`{key}` must be {kind} of at least {least}, got {value!r}. Correct it.")
        return number

    def leave(self, key: str, why: str) -> None:
        """Notes that a key is left behind."""
        self._used.add(key)
        self.notes.append(f"{key}={self.given[key]} is left behind: {why}")

    @property
    def left(self) -> list[str]:
        """Keys that nothing has asked for."""
        return [key for key in self.given if key not in self._used]


# Our name, and what becomes of the value.
_RENAMED: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "data.max_response_length": ("max_completion_length", int),
    "actor_rollout_ref.actor.optim.lr": ("learning_rate", float),
    "actor_rollout_ref.actor.clip_ratio": ("epsilon", float),
    "actor_rollout_ref.actor.clip_ratio_high": ("epsilon_high", float),
    "actor_rollout_ref.actor.grad_clip": ("max_grad_norm", float),
    "actor_rollout_ref.model.enable_gradient_checkpointing": ("gradient_checkpointing", bool),
    "actor_rollout_ref.rollout.temperature": ("temperature", float),
    "actor_rollout_ref.rollout.top_p": ("top_p", float),
    "actor_rollout_ref.rollout.gpu_memory_utilization": ("vllm_gpu_memory_utilization", float),
    "actor_rollout_ref.rollout.tensor_model_parallel_size": ("vllm_tensor_parallel_size", int),
    "actor_rollout_ref.rollout.n_val": ("num_generations_eval", int),
    "trainer.total_epochs": ("num_train_epochs", float),
    "trainer.experiment_name": ("run_name", str),
    "trainer.logger": ("report_to", lambda names: [name for name in _as_list(names) if name != "console"] or "none"),
    "trainer.val_before_train": ("eval_on_start", bool),
    "trainer.sec.bandit.fixed_p_each": ("task_weight_floor", float),
}

# Settings of the released code that move no weight and no batch.
_WITHOUT_EFFECT = (
    "decay_rate",
    "decay_type",
    "opt_threshold",
    "opt_decay_rate",
    "solve_none_decay_rate",
    "solve_all_decay_rate",
    "SNR_update_step_threshold",
    "type",
    "feature",
)
# Settings of how verl computes, which change no result.
_MACHINE = (
    "actor_rollout_ref.actor.ppo_micro_batch_size",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.log_task_wise_kl",
    "actor_rollout_ref.actor.kl_loss_type",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.rollout.swap_space",
    "actor_rollout_ref.use_checkpoint_manager",
    "data.val_batch_size",
    "trainer.critic_warmup",
    "trainer.default_hdfs_dir",
    "trainer.project_name",
)
_MACHINE_PREFIXES = ("actor_rollout_ref.actor.fsdp_config.", "actor_rollout_ref.ref.")
# Values that say what happens here anyhow.
_SAME_HERE = {
    "algorithm.adv_estimator": "grpo",
    "algorithm.kl_ctrl.kl_coef": 0,
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "trainer.sec.bandit.max_rate": False,
    "trainer.sec.bandit.bias_metric": "batch_acc",
    "trainer.sec.bandit.update_object": "task_diff_bias",
    "trainer.sec.bandit.batch_acc_decay_rate": 0.5,
    "trainer.sec.bandit.ensure_famo_ratio_from": 0,
    "trainer.sec.strategy": "bandit",
    "trainer.sec.bandit.objective": "adv",
    "trainer.sec.bandit.method": "boltzmann",
}


def read_settings(arguments: Sequence[str]) -> VerlSettings:
    """
    Settings as they are typed behind verl's entry point.

    Args:
        arguments (`Sequence[str]`):
            `key=value` each; a `+` before the key is Hydra's and means nothing here.

    Returns:
        [`VerlSettings`]: a key that was given more than once has its last value, with a note.
    """
    settings = VerlSettings({})
    for argument in arguments:
        key, _, text = argument.lstrip("+").partition("=")
        try:
            value = load_yaml(text) if text.strip() else None
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(
                f"`{key}` must have a value as Hydra reads it, got {text!r} ({' '.join(str(error).split())[:200]}). "
                "Correct it, and quote it for the shell."
            ) from None
        if key in settings.given and settings.given[key] != value:
            settings.notes.append(f"{key} is given twice: {value} counts, and not {settings.given[key]}")
        settings.given[key] = value
    return settings


def carry_over(settings: VerlSettings) -> None:
    """
    Fills `trainer` and `notes` from what was given.

    Args:
        settings ([`VerlSettings`]):
            The settings; keys of the data, the model and the choice of tasks must have been taken.
    """
    is_mtgrpo = bool(settings.take("trainer.famo.enable"))
    settings.take("actor_rollout_ref.actor.famo.enable")
    for key, (name, convert) in _RENAMED.items():
        if key in settings.given:
            empty = settings.given[key] is None
            if convert in (int, float) and not empty:
                settings.trainer[name] = settings.number(key, convert=convert)
            else:
                value = settings.take(key)
                settings.trainer[name] = value if empty or convert is None else convert(value)
    _method(settings, is_mtgrpo)
    _weights(settings, is_mtgrpo)
    _filter(settings)
    _kl(settings)
    _generation(settings)
    _schedule(settings)
    for key, value in _SAME_HERE.items():
        if key in settings.given:
            if settings.given[key] == value:
                settings.take(key)
            else:
                settings.leave(key, f"only {value} has a counterpart")
    for key in settings.left:
        name = key.removeprefix("trainer.sec.bandit.")
        if key in _MACHINE or key.startswith(_MACHINE_PREFIXES):
            settings.leave(key, "how verl computes, or where it logs; it changes no result")
        elif name != key and name in _WITHOUT_EFFECT:
            settings.leave(key, "it moves no weight and no batch in the released code")
        else:
            settings.leave(key, "no counterpart is known")


def groups_and_generations(settings: VerlSettings) -> tuple[int, int, int, int]:
    """
    The batch: groups per generation batch, groups per optimizer step, rollouts per group and processes.

    Args:
        settings ([`VerlSettings`]):
            The settings; what is not given takes verl's default.

    Returns:
        `tuple[int, int, int, int]`

    Raises:
        ValueError: when it cannot be split over the processes.
    """
    groups = settings.number("data.train_batch_size", 1024, int, 1)
    minibatch = min(settings.number("actor_rollout_ref.actor.ppo_mini_batch_size", groups, int, 1), groups)
    generations = settings.number("actor_rollout_ref.rollout.n", 1, int, 1)
    processes = settings.number("trainer.n_gpus_per_node", 8, int, 1) * settings.number("trainer.nnodes", 1, int, 1)
    if groups % minibatch or minibatch * generations % processes:
        raise ValueError(
            "`data.train_batch_size` must be a multiple of the minibatch, whose rollouts are split over the "
            "processes, "
            f"got {groups} groups, minibatches of {minibatch} x {generations} rollouts and {processes} processes. "
            "Give "
            "numbers that divide."
        )
    return groups, minibatch, generations, processes


def _method(settings: VerlSettings, is_mtgrpo: bool) -> None:
    filters = bool(settings.take("trainer.rejection_sample", False))
    fixed = "trainer.sec.bandit.preset_probs" in settings.given
    sec = bool(settings.take("trainer.sec.enable", False))
    if is_mtgrpo and not fixed:
        method = "mt_grpo"
    elif sec and not is_mtgrpo:
        method = "sec_dapo" if filters else "sec_grpo"
    else:
        method = "dapo" if filters else "grpo"
    settings.trainer["method"] = method
    if method == "mt_grpo" and not filters:
        settings.notes.append(
            "trainer.rejection_sample is not set: groups without a gradient are filtered here all the same"
        )
    # What the release does and the defaults here do not.
    settings.trainer |= {"loss_type": "dapo", "scale_rewards": "group"}
    settings.trainer.setdefault("lr_scheduler_type", "constant")
    if "epsilon_high" not in settings.trainer and not filters:
        settings.trainer["epsilon_high"] = settings.trainer.get("epsilon", 0.2)
    if method == "mt_grpo":
        settings.trainer |= {"max_surplus_age": 0, "solved_discount": 0.0, "plateau_guard": False}
    elif filters:
        settings.trainer["max_surplus_age"] = 0


def _weights(settings: VerlSettings, is_mtgrpo: bool) -> None:
    prefix = "trainer.sec.bandit."
    moves = is_mtgrpo and settings.trainer["method"] == "mt_grpo"
    names = {"lr": "task_weight_lr", "gamma": "task_weight_decay"}
    names |= {"lambda_bias": "task_weight_tradeoff"}
    if not is_mtgrpo:
        names = {"lr": "sec_alpha", "temperature": "sec_temperature"}
    for key, name in names.items():
        if prefix + key in settings.given:
            if is_mtgrpo and not moves:
                settings.leave(prefix + key, "the weights are fixed")
            else:
                settings.trainer[name] = settings.number(prefix + key)
    threshold = settings.number(prefix + "delta_threshold", 0.1)
    if moves:
        # The released code scales its threshold with the learning rate.
        settings.trainer["improvement_clip"] = threshold * settings.trainer.get("learning_rate", 1e-6) / 1e-6
    kind = settings.take(prefix + "lambda_bias_type", "add")
    if moves and kind == "bias_only":
        settings.trainer["task_weighting"] = "reward_only"
    elif kind != "add":
        settings.leave(prefix + "lambda_bias_type", "only 'add' and 'bias_only' have a counterpart")
    if moves:
        settings.trainer["task_weight_update"] = "minibatch"
        settings.notes.append(
            "task_weight_update is 'minibatch', as in the released code; the paper's text says 'batch'"
        )
    ratio = settings.take(prefix + "ensure_famo_ratio")
    if moves:
        settings.trainer["preserve_task_ratio"] = bool(ratio)
    aware = settings.take(prefix + "efficient_sampling.enabled", False)
    if settings.trainer["method"] not in ("grpo", "sec_grpo"):
        settings.trainer["acceptance_aware"] = bool(aware)


def _filter(settings: VerlSettings) -> None:
    strict = settings.take("trainer.pure_acc_filter", True)
    factor, rounds = (
        None if settings.take(key) is None else settings.number(key)
        for key in ("trainer.rejection_sample_multiplier", "algorithm.filter_groups.max_num_gen_batches")
    )
    if settings.trainer["method"] in ("grpo", "sec_grpo"):
        return
    settings.trainer["group_filter"] = "mixed_correctness" if strict else "reward_variance"
    if not strict:
        settings.notes.append(
            "trainer.pure_acc_filter=False keeps groups whose rewards are all 0.1, which carry no gradient; "
            "'reward_variance' does not"
        )
    if factor is not None:
        settings.trainer["oversampling"] = str(factor)
    if rounds is not None:
        # There the first round is counted.
        settings.trainer["max_resampling_rounds"] = max(int(rounds) - 1, 0)


def _kl(settings: VerlSettings) -> None:
    used = settings.take("actor_rollout_ref.actor.use_kl_loss", False)
    coefficient = settings.number("actor_rollout_ref.actor.kl_loss_coef", 0.0)
    settings.trainer["beta"] = coefficient if used else 0.0


def _generation(settings: VerlSettings) -> None:
    engine = settings.take("actor_rollout_ref.rollout.name", "vllm")
    if engine == "vllm":
        settings.trainer |= {"use_vllm": True, "vllm_mode": "colocate"}
    else:
        settings.notes.append(
            f"actor_rollout_ref.rollout.name={engine} is left behind: generation is vLLM's or the model's own"
        )
    key = "actor_rollout_ref.rollout.val_temperature"
    temperature = settings.trainer.get("temperature", 1.0)
    if key in settings.given:
        if settings.given[key] == temperature:
            settings.take(key)
        else:
            settings.leave(key, f"evaluation samples at the temperature of training, {temperature:g}")


def _schedule(settings: VerlSettings) -> None:
    groups, minibatch, generations, processes = groups_and_generations(settings)
    updates = groups // minibatch
    per_process = minibatch * generations // processes
    device = max(size for size in range(1, min(per_process, 8) + 1) if per_process % size == 0)
    settings.trainer |= {
        "num_generations": generations,
        "per_device_train_batch_size": device,
        "gradient_accumulation_steps": per_process // device,
        "steps_per_generation": updates * per_process // device,
    }
    evaluated = settings.trainer.get("num_generations_eval", generations)
    settings.trainer["per_device_eval_batch_size"] = (
        math.lcm(evaluated, processes) // processes * max(64 // evaluated, 1)
    )
    # There a step is a generation batch; here it is an optimizer step.
    if settings.take("trainer.total_training_steps") is not None:
        settings.trainer["max_steps"] = settings.number("trainer.total_training_steps", convert=int, least=1) * updates
    for key, strategy, name in (
        ("trainer.save_freq", "save_strategy", "save_steps"),
        ("trainer.test_freq", "eval_strategy", "eval_steps"),
    ):
        frequency = 0 if settings.take(key) is None else settings.number(key, convert=int, least=-1)
        settings.trainer[strategy] = "steps" if frequency > 0 else "no"
        if frequency > 0:
            settings.trainer[name] = frequency * updates
    settings.trainer["logging_steps"] = updates


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
