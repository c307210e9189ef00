"""Options of runs on one dataset: its rollouts, what becomes of the trainer, and how it goes on."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl
from trl import GRPOConfig, GRPOTrainer

from tests import host_parts as parts
from tests import host_rewards as rewards
from tests.host_parts import columned, pictures, rollout, streamed
from tests.host_plain_data import EVALUATED, trained
from tests.host_runs import Option
from tests.tiny import tiny_tokenizer


TOOLS: dict[str, Any] = {"max_completion_length": 16}

ROLLOUTS: dict[str, Option] = {
    **{
        f"rollouts without {name}": Option(
            trainer=lambda name=name: rollout((name,)), error=f"must return keys .*{name}"
        )
        for name in ("prompt_ids", "completion_ids", "logprobs")
    },
    "rollouts without a mask": Option(trainer=lambda: rollout(("env_mask", "first_id"))),
    "rollouts with an empty mask": Option(
        trainer=lambda: rollout(
            env_mask=lambda ids: [[(i + j) % 3 and i % 4 for j in range(6)] for i in range(len(ids))]
        )
    ),
    "rollouts with log-probabilities": Option(trainer=lambda: rollout(logprobs=lambda ids: [[-1.0] * 6 for _ in ids])),
    "rollouts with fields of columns' names": Option(
        rewards=rewards.with_names_of_arguments,
        trainer=lambda: rollout(answer=lambda ids: [str(row[0]) for row in ids], task_id=lambda ids: [7] * len(ids)),
    ),
    "rollouts with one value for all": Option(
        rewards=rewards.with_names_of_arguments, trainer=lambda: rollout(note=lambda ids: "same")
    ),
    "rollouts on a stream": Option(trainer=rollout, data=trained(streamed)),
    "tools": Option(
        TOOLS, chat=True, processing=parts.calling_tokenizer, trainer=lambda: {"tools": [parts.double]}, fast=True
    ),
    "several tools": Option(
        {**TOOLS, **EVALUATED},
        chat=True,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"tools": [parts.double, parts.half]},
        with_eval=True,
    ),
    "failing tool": Option(
        {**TOOLS, "max_tool_calling_iterations": 1},
        chat=True,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"tools": [parts.refuse, parts.double]},
    ),
    "tools without room": Option(
        {"max_completion_length": 9},
        chat=True,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"tools": [parts.double]},
    ),
    "tools without a template": Option(
        chat=True, trainer=lambda: {"tools": [parts.double]}, error="does not support tool calling"
    ),
    "environment": Option(
        TOOLS,
        rewards=lambda function: [parts.total_of_environments],
        chat=True,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": parts.Counter},
        fast=True,
    ),
    "environment that rewards": Option(
        {**TOOLS, **EVALUATED},
        rewards=lambda function: None,
        chat=True,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": parts.SlowCounter},
        with_eval=True,
    ),
    "environment and tools": Option(
        TOOLS,
        rewards=rewards.with_names_of_arguments,
        data=trained(lambda: columned(chat=True, start=list(range(20)))),
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": parts.Counter, "tools": [parts.half]},
    ),
    "environment without a dataset": Option(
        TOOLS,
        data=dict,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": parts.Silent},
    ),
    "several environments": Option(
        TOOLS,
        rewards=lambda function: [parts.total_of_environments, function],
        data=trained(lambda: columned(chat=True, environment=["count", "tell"] * 10)),
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": {"count": parts.Counter, "tell": parts.Silent}},
    ),
    "an environment that is not there": Option(
        TOOLS,
        data=trained(lambda: columned(chat=True, environment=["other"] * 20)),
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": {"count": parts.Counter, "tell": parts.Silent}},
        error="other",
    ),
    **{
        name: Option(
            settings,
            rewards=reward,
            data=trained(
                lambda made=made: pictures(**made), (lambda: pictures("e", 4)) if "eval_steps" in settings else None
            ),
            model=parts.seeing_model,
            processing=parts.seeing_processor,
            fast=name == "images",
        )
        for name, settings, reward, made in (
            ("images", {}, rewards.with_names_of_arguments, {}),
            (
                "several images",
                {"log_completions": True, "num_completions_to_print": 0},
                rewards.with_second,
                {"several": True},
            ),
            ("images of some rows", {"beta": 0.0, "num_iterations": 2}, rewards.with_logging, {"missing": True}),
            ("evaluated images", EVALUATED, rewards.with_second, {}),
            ("images of sequences", {"importance_sampling_level": "sequence"}, rewards.with_abstention, {}),
        )
    },
    "images and an adapter": Option(
        {"beta": 0.1},
        data=trained(pictures),
        model=parts.seeing_model,
        processing=parts.seeing_processor,
        trainer=parts.lora(target_modules=["q_proj", "v_proj"]),
    ),
    "text for a model that sees": Option(
        chat=True, model=parts.seeing_model, processing=parts.seeing_processor, rewards=rewards.with_second
    ),
    "images on plain prompts": Option(
        data=trained(lambda: pictures().remove_columns("prompt").add_column("prompt", ["p"] * 12)),
        model=parts.seeing_model,
        processing=parts.seeing_processor,
        error="conversational",
    ),
}


def _set(**values: Any) -> Any:
    """Changes `trainer.args`, or the trainer for names that begin with `trainer_`, and trains."""

    def script(trainer: GRPOTrainer, folder: Path) -> None:
        for name, value in values.items():
            owner = trainer if name.startswith("trainer_") else trainer.args
            setattr(owner, name.removeprefix("trainer_"), value)
        trainer.train()

    return script


def _twice(trainer: GRPOTrainer, folder: Path) -> None:
    trainer.train()
    trainer.train()


class Stop(TrainerCallback):
    """Stops a run after its first step and looks at the trainer's parts on the way."""

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        control.should_training_stop = True
        return control


class HalfRewards:
    """A trainer of the user's own whose rewards are halved."""

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super()._calculate_rewards(*args, **kwargs) / 2  # type: ignore[misc]


class Upper:
    """A trainer of the user's own that generates something else and logs it."""

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        ids, logps = super()._generate_single_turn(prompt_ids, *args, **kwargs)  # type: ignore[misc]
        return [[40, *row[1:]] for row in ids], logps

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log({**logs, "own": 1.0}, *args, **kwargs)  # type: ignore[misc]


def _template(text: str) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = text
    return tokenizer


def _without_padding() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    return tokenizer


LIVES: dict[str, Option] = {
    "other learning rate in args": Option(script=_set(learning_rate=1e-3), fast=True),
    "more steps in args": Option(script=_set(max_steps=4)),
    "other logging in args": Option(script=_set(logging_steps=2)),
    "evaluation in args": Option(script=_set(per_device_eval_batch_size=4), settings=EVALUATED, with_eval=True),
    "other entropy target in args": Option(
        {"use_adaptive_entropy": True}, script=_set(entropy_target=9.0, entropy_coef_delta=0.1)
    ),
    "other scale on the trainer": Option(script=_set(trainer_scale_rewards="none")),
    "other clip range on the trainer": Option(
        {"num_iterations": 2, "max_steps": 4}, script=_set(trainer_epsilon_low=0.01, trainer_epsilon_high=0.01)
    ),
    "masks on the trainer": Option(
        {"max_completion_length": 48}, script=_set(trainer_mask_truncated_completions=True)
    ),
    "weights on the trainer": Option(
        script=_set(trainer_reward_weights=torch.tensor([0.5, 2.0])), rewards=rewards.with_second
    ),
    "other loss on the trainer": Option(script=_set(trainer_loss_type="grpo")),
    "trained twice": Option(script=_twice),
    "stopped by a callback": Option(trainer=lambda: {"callbacks": [Stop()]}),
    "a failing reward": Option(rewards=rewards.failing, error="ZeroDivisionError: nothing to divide by"),
    "too few rewards": Option(rewards=rewards.too_few, error="returned 7 rewards, but 8 were expected"),
    "too few weights": Option({"reward_weights": [1.0]}, rewards=rewards.with_second, error="reward weights"),
    "no rewards": Option(rewards=lambda function: None, error="reward"),
    "halved rewards of a subclass": Option(subclass=HalfRewards, config=GRPOConfig),
    "other rollouts of a subclass": Option(subclass=Upper, rewards=rewards.of_ids),
    "model by its path": Option(model=parts.saved_path),
    "processing class of the model": Option(model=parts.saved_path, processing=lambda: None),
    "dtype of the model": Option({"model_init_kwargs": {"dtype": "bfloat16"}, "bf16": True}, model=parts.saved_path),
    "an adapted model": Option({"beta": 0.1}, model=parts.adapted_model),
    "an adapted model without kl": Option(model=parts.adapted_model, config=GRPOConfig),
    "dora": Option(trainer=parts.lora(use_dora=True)),
    "experts": Option({"router_aux_loss_coef": 0.2}, model=parts.expert_model),
    "padded to a multiple": Option({"pad_to_multiple_of": 8}),
    "least probability": Option({"min_p": 0.02, "top_k": 0}),
    "generation arguments": Option({"generation_kwargs": {"no_repeat_ngram_size": 2}}),
    "arguments of the template": Option(
        {"chat_template_kwargs": {"closing": "!"}},
        chat=True,
        processing=lambda: _template("{% for m in messages %}{{ m['content'] }}{{ closing }}{% endfor %}"),
    ),
    "system message": Option(
        data=trained(
            lambda: Dataset.from_dict(
                {
                    "prompt": [
                        [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"p{i}"}]
                        for i in range(12)
                    ]
                }
            )
        ),
        chat=True,
    ),
    "no token to pad with": Option(processing=_without_padding),
    "rows loaded by a worker": Option({"dataloader_num_workers": 1}),
    "groups larger than a batch": Option(
        {"per_device_train_batch_size": 2, "steps_per_generation": 4, "max_steps": 4}
    ),
    "weight decay and warm-up": Option(
        {"weight_decay": 0.1, "warmup_steps": 1, "max_grad_norm": 0.1, "lr_scheduler_type": "cosine", "max_steps": 4}
    ),
    "plain config": Option(config=GRPOConfig, fast=True),
    "plain config with everything": Option(
        {**EVALUATED, "beta": 0.1, "num_iterations": 2, "loss_type": "bnpo", "max_steps": 4},
        rewards=rewards.with_abstention,
        config=GRPOConfig,
        with_eval=True,
    ),
}


RESUMED: dict[str, Option] = {
    "continued": Option({"max_steps": 4}, resume_from=2, fast=True),
    "continued inside a generation batch": Option({"max_steps": 6, "steps_per_generation": 4}, resume_from=3),
    "continued after an epoch": Option({"max_steps": 8}, data=trained(lambda: columned(size=6)), resume_from=5),
    "continued two iterations": Option({"max_steps": 4, "num_iterations": 2}, resume_from=2),
    "continued accumulation": Option({"max_steps": 4, "gradient_accumulation_steps": 2}, resume_from=2),
    "continued adapter": Option({"max_steps": 4, "beta": 0.1}, trainer=parts.lora(), resume_from=2),
    "continued reference": Option(
        {"max_steps": 4, "beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1}, resume_from=2
    ),
    "continued entropy": Option({"max_steps": 4, "use_adaptive_entropy": True}, resume_from=2),
    "continued stream": Option({"max_steps": 4}, data=trained(streamed), resume_from=2),
    "continued evaluation": Option({**EVALUATED, "max_steps": 4}, with_eval=True, resume_from=2),
    "continued tools": Option(
        {**TOOLS, "max_steps": 4},
        chat=True,
        processing=parts.calling_tokenizer,
        trainer=lambda: {"tools": [parts.double]},
        resume_from=2,
    ),
    "continued without the optimizer": Option({"max_steps": 4, "save_only_model": True}, resume_from=2),
    "continued beyond its end": Option({"max_steps": 2}, resume_from=2),
    "continued with a plain config": Option({"max_steps": 4}, config=GRPOConfig, resume_from=2),
    "continued without skipping": Option({"max_steps": 4, "ignore_data_skip": True}, resume_from=2),
}
