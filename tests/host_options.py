"""The table of runs that are compared with the host: `OPTIONS` also with tasks, `PLAIN` for one dataset only."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import TrainerCallback, TrainerControl
from trl import GRPOConfig, GRPOTrainer

from tests import host_parts as parts
from tests.host_parts import columned, pictures, rollout, streamed
from tests.host_runs import Option


def _loss_types() -> dict[str, Option]:
    losses = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
    return {
        f"loss {loss}": Option(
            {"loss_type": loss, "importance_sampling_level": "sequence" if loss == "luspo" else "token"},
            fast=loss in ("dr_grpo", "cispo"),
        )
        for loss in losses
    }


def _advantages() -> dict[str, Option]:
    return {
        f"scale {scale} {aggregation}": Option(
            {"scale_rewards": scale, "multi_objective_aggregation": aggregation, "reward_weights": [1.0, 0.5]},
            rewards=parts.with_second,
            fast=(scale, aggregation) == ("batch", "normalize_then_sum"),
        )
        for scale in ("group", "batch", "none")
        for aggregation in ("sum_then_normalize", "normalize_then_sum")
    }


def _cycles() -> dict[str, Option]:
    """(gradient_accumulation_steps, steps_per_generation, num_iterations, optimizer steps)."""
    cycles = [
        (1, 1, 2, 4),
        (1, 2, 1, 4),
        (1, 4, 1, 8),
        (2, 2, 1, 4),
        (2, 4, 1, 4),
        (2, 2, 2, 4),
        (4, 2, 1, 2),
        (4, 1, 1, 2),
    ]
    cycles += [(2, 1, 1, 2), (2, 3, 1, 3), (3, 2, 1, 4), (4, 4, 2, 4), (2, 1, 3, 3)]
    return {
        f"accumulate {a} generate every {s} iterate {mu}": Option(
            {
                "gradient_accumulation_steps": a,
                "steps_per_generation": s,
                "num_iterations": mu,
                "max_steps": steps,
            },
            fast=(a, s, mu) in ((2, 4, 1), (4, 2, 1)),
        )
        for a, s, mu, steps in cycles
    }


OPTIONS: dict[str, Option] = {
    **_loss_types(),
    **_advantages(),
    **_cycles(),
    "sequence-level ratios": Option({"importance_sampling_level": "sequence", "num_iterations": 2, "max_steps": 4}),
    "kl": Option({"beta": 0.1}, fast=True),
    "kl without bias correction": Option({"beta": 0.1, "use_bias_correction_kl": False, "num_iterations": 2}),
    "kl with moving reference": Option({"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1}),
    "clip range": Option({"epsilon": 0.1, "epsilon_high": 0.3, "num_iterations": 2}),
    "delta": Option({"delta": 1.5, "num_iterations": 2}),
    "chat prompts": Option(chat=True, fast=True),
    "two functions": Option(rewards=parts.with_second),
    "async functions": Option(rewards=parts.with_async, fast=True),
    "abstaining function": Option(rewards=parts.with_abstention, fast=True),
    "reward model": Option(rewards=parts.with_model, fast=True),
    "reward model on chat": Option(rewards=parts.with_model, chat=True),
    "rollout function": Option(trainer=lambda: {"rollout_func": parts.rollout_func}, fast=True),
    "rollout function on chat": Option(trainer=lambda: {"rollout_func": parts.rollout_func}, chat=True),
    "masked truncation": Option({"mask_truncated_completions": True, "max_completion_length": 64}),
    "entropy quantile": Option({"top_entropy_quantile": 0.5}),
    "entropy bonus": Option({"entropy_coef": 0.01}),
    "adaptive entropy": Option({"use_adaptive_entropy": True, "entropy_coef": 0.01}),
    "lora": Option(trainer=parts.lora(), fast=True),
    "lora with kl": Option({"beta": 0.1}, trainer=parts.lora()),
    "lora with checkpointing": Option({"gradient_checkpointing": True}, trainer=parts.lora()),
    "no checkpointing": Option({"gradient_checkpointing": False}),
    "reentrant checkpointing": Option(
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    ),
    "off-policy mask": Option({"off_policy_mask_threshold": 0.01, "num_iterations": 2}),
    "no shuffling": Option({"shuffle_dataset": False}),
    "another seed": Option({"seed": 7}),
    "logged columns": Option(
        {"log_completions": True, "num_completions_to_print": 0}, rewards=parts.with_logging, fast=True
    ),
    "sampling parameters": Option({"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}),
    "float32 head": Option({"cast_lm_head_to_fp32": True}),
    "bf16": Option({"bf16": True}),
    "no dropout": Option({"disable_dropout": True}),
    "evaluation": Option({"eval_strategy": "steps", "eval_steps": 1}, with_eval=True, fast=True),
    "eight generations": Option({"num_generations": 8}),
    "generation batch size": Option({"generation_batch_size": 16}),
}

# Every evaluation below runs after each of two steps.
EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}
TOOLS: dict[str, Any] = {"max_completion_length": 16}


def _trained(train: Any, evaluation: Any = None) -> Any:
    """Datasets, built anew for each run."""
    return lambda: {"train_dataset": train(), "eval_dataset": evaluation() if evaluation else None}


def _evaluated(evaluation: Any) -> Any:
    return _trained(columned, evaluation)


def _with_answer(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**batch, "answer": [f"seen {prompt}" for prompt in batch["prompt"]]}


def _transformed(letter: str = "p") -> Dataset:
    data = columned(letter).remove_columns("answer")
    data.set_transform(_with_answer)
    return data


def _generated() -> IterableDataset:
    def yielded() -> Any:
        for i in range(30):
            yield {"prompt": f"p{i}", "answer": str(i), "kind": "even" if i % 2 == 0 else "odd"}

    return IterableDataset.from_generator(yielded)


def _sets(make: Any, kind: type = dict) -> Any:
    return lambda: kind({"first": make("e", 5), "second": make("f", 3)})


REWARDS: dict[str, Option] = {
    "exact signature": Option(EVALUATED, rewards=parts.with_exact_arguments, with_eval=True, fast=True),
    "names and values of arguments": Option(
        EVALUATED, rewards=parts.with_names_of_arguments, data=_trained(columned, columned)
    ),
    "a function per kind of row": Option(
        EVALUATED, rewards=parts.by_kind, data=_trained(columned, columned), fast=True
    ),
    "nobody scores some rows": Option(EVALUATED, rewards=parts.sometimes_silent, with_eval=True),
    "nobody scores a step": Option(rewards=parts.silent_at_first),
    "not a number": Option(rewards=parts.not_numbers),
    "infinite reward": Option(rewards=parts.infinite),
    "infinite reward unscaled": Option({"scale_rewards": "none"}, rewards=parts.infinite),
    "arrays, tensors, booleans": Option(rewards=parts.kinds_of_numbers),
    "partial": Option(rewards=parts.as_partial),
    "object, method and lambda": Option(rewards=parts.as_object),
    "async object": Option(rewards=parts.with_async_object),
    "of token ids": Option(rewards=parts.of_ids),
    "columns now and then": Option(
        {"log_completions": True, "num_completions_to_print": 0, "max_steps": 4},
        rewards=parts.with_logging_now_and_then,
    ),
    "a function outside a list": Option(rewards=lambda function: function),
    "functions of one name": Option(rewards=lambda function: [function, function]),
    "reward model alone": Option(EVALUATED, rewards=lambda function: [parts.reward_model()], with_eval=True),
    "negative weight": Option({"reward_weights": [1.0, -0.5]}, rewards=parts.with_second),
    "weight of nothing": Option({"reward_weights": [0.0, 1.0]}, rewards=parts.with_abstention),
    "normalised silence": Option(
        {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [0.3, 1.0]},
        rewards=parts.by_kind,
        data=_trained(columned),
    ),
    "logged in evaluation": Option(
        {**EVALUATED, "log_completions": True, "num_completions_to_print": 0},
        rewards=parts.with_logging,
        with_eval=True,
    ),
}

DATASETS: dict[str, Option] = {
    **{
        f"a column {name}": Option(
            EVALUATED,
            rewards=parts.of_column(name),
            data=_trained(
                lambda name=name: columned(**{name: [i % 3 for i in range(20)]}),
                lambda name=name: columned("e", 4, **{name: [5, 6, 7, 8]}),
            ),
            fast=name == "task_id",
        )
        for name in ("task", "task_id", "row", "index", "environment", "self", "function", "weight")
    },
    "a column completion": Option(data=_trained(lambda: columned(completion=["told"] * 20))),
    "nested columns": Option(
        rewards=parts.of_column("info"),
        data=_trained(lambda: columned(info=[{"deep": [i, None], "text": "x" * (i % 3)} for i in range(20)])),
    ),
    "missing values": Option(rewards=parts.of_column("hint"), data=_trained(lambda: columned(hint=[None, "h"] * 10))),
    "a column prompts": Option(data=_trained(lambda: columned(prompts=["x"] * 20)), error="multiple values"),
    "columns of training only": Option(
        EVALUATED,
        rewards=parts.with_names_of_arguments,
        data=_trained(columned, lambda: Dataset.from_dict({"prompt": ["e0", "e1"]})),
    ),
    "prompts only": Option(
        rewards=parts.with_names_of_arguments, data=_trained(lambda: columned().select_columns("prompt"))
    ),
    "stream": Option(rewards=parts.with_names_of_arguments, data=_trained(streamed), fast=True),
    "stream unshuffled": Option({"shuffle_dataset": False}, data=_trained(streamed)),
    "stream of a generator": Option({"max_steps": 3, "num_iterations": 2}, data=_trained(_generated)),
    "stream and stream": Option(EVALUATED, data=_trained(streamed, lambda: streamed("e", 4))),
    "transform": Option(rewards=parts.of_column("answer"), data=_trained(_transformed), fast=True),
    "transform everywhere": Option(
        EVALUATED, rewards=parts.of_column("answer"), data=_trained(_transformed, lambda: _transformed("e"))
    ),
    "lazy transform": Option(
        rewards=parts.of_column("answer"), data=_trained(lambda: columned().with_transform(_with_answer))
    ),
    "numpy format": Option(
        rewards=parts.of_column("n"), data=_trained(lambda: columned(n=list(range(20))).with_format("numpy"))
    ),
    "torch format": Option(
        rewards=parts.of_column("n"), data=_trained(lambda: columned(n=list(range(20))).with_format("torch"))
    ),
    "format of some columns": Option(
        rewards=parts.with_names_of_arguments,
        data=_trained(lambda: columned().with_format("python", columns=["prompt", "kind"])),
    ),
    "fewer rows than a batch": Option(
        {"num_train_epochs": 3, "max_steps": -1}, data=_trained(lambda: columned(size=2))
    ),
    "epochs": Option({"num_train_epochs": 2, "max_steps": -1}, data=_trained(lambda: columned(size=7))),
    "epochs inside a window": Option(
        {"num_train_epochs": 2, "max_steps": -1, "gradient_accumulation_steps": 2, "steps_per_generation": 1},
        data=_trained(lambda: columned(size=10)),
    ),
    "a dict of training sets": Option(data=_trained(lambda: {"a": columned()}), error="train_dataset"),
    "no dataset": Option(data=dict, error="train_dataset"),
    "no prompts": Option(data=_trained(lambda: columned().remove_columns("prompt")), error="KeyError"),
}

EVALUATIONS: dict[str, Option] = {
    "evaluated stream": Option(EVALUATED, data=_evaluated(lambda: streamed("e", 5)), fast=True),
    "dict of sets": Option(EVALUATED, data=_evaluated(_sets(columned)), fast=True),
    "dict of streams": Option(EVALUATED, data=_evaluated(_sets(streamed))),
    "DatasetDict": Option(EVALUATED, data=_evaluated(_sets(columned, DatasetDict))),
    "IterableDatasetDict": Option(EVALUATED, data=_evaluated(_sets(streamed, IterableDatasetDict))),
    "one completion each": Option({**EVALUATED, "num_generations_eval": 1}, with_eval=True),
    "two completions each": Option({**EVALUATED, "num_generations_eval": 2}, with_eval=True),
    "uneven evaluation batches": Option(
        {**EVALUATED, "per_device_eval_batch_size": 4}, data=_evaluated(lambda: columned("e", 7))
    ),
    "evaluation first": Option({**EVALUATED, "eval_on_start": True}, with_eval=True),
    "evaluation inside a generation batch": Option(
        {**EVALUATED, "steps_per_generation": 4, "max_steps": 4}, with_eval=True
    ),
    "evaluated chat": Option(EVALUATED, chat=True, with_eval=True),
    "evaluated rollout function": Option(
        EVALUATED, trainer=lambda: {"rollout_func": parts.rollout_func}, with_eval=True
    ),
    "evaluated with kl": Option({**EVALUATED, "beta": 0.1}, with_eval=True),
    "evaluated before training": Option(script=lambda trainer, folder: trainer.evaluate(), with_eval=True),
    "evaluated other set": Option(
        script=lambda trainer, folder: (trainer.train(), trainer.evaluate(columned("o", 3)))[1:], fast=True
    ),
    "evaluated other stream": Option(script=lambda trainer, folder: trainer.evaluate(streamed("o", 3))),
    "evaluated other sets": Option(script=lambda trainer, folder: trainer.evaluate(_sets(columned)())),
    "evaluated under another name": Option(
        script=lambda trainer, folder: trainer.evaluate(metric_key_prefix="test"), with_eval=True
    ),
    "predicted": Option(script=lambda trainer, folder: trainer.predict(columned("o", 3)).metrics),
    "evaluated without a set": Option(script=lambda trainer, folder: trainer.evaluate(), error="eval_dataset"),
    "best model": Option(
        {
            **EVALUATED,
            "save_strategy": "steps",
            "save_steps": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_reward",
            "max_steps": 3,
        },
        with_eval=True,
    ),
    "best model of several sets": Option(
        {
            **EVALUATED,
            "save_strategy": "best",
            "metric_for_best_model": "eval_second_loss",
        },
        data=_evaluated(_sets(columned)),
    ),
    "sets of unlike columns": Option(
        EVALUATED,
        rewards=parts.with_names_of_arguments,
        data=_evaluated(lambda: {"first": columned("e", 4), "second": Dataset.from_dict({"prompt": ["f0", "f1"]})}),
    ),
}

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
        rewards=parts.with_names_of_arguments,
        trainer=lambda: rollout(answer=lambda ids: [str(row[0]) for row in ids], task_id=lambda ids: [7] * len(ids)),
    ),
    "rollouts with one value for all": Option(
        rewards=parts.with_names_of_arguments, trainer=lambda: rollout(note=lambda ids: "same")
    ),
    "rollouts on a stream": Option(trainer=rollout, data=_trained(streamed)),
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
        rewards=parts.with_names_of_arguments,
        data=_trained(lambda: columned(chat=True, start=list(range(20)))),
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
        data=_trained(lambda: columned(chat=True, environment=["count", "tell"] * 10)),
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": {"count": parts.Counter, "tell": parts.Silent}},
    ),
    "an environment that is not there": Option(
        TOOLS,
        data=_trained(lambda: columned(chat=True, environment=["other"] * 20)),
        processing=parts.calling_tokenizer,
        trainer=lambda: {"environment_factory": {"count": parts.Counter, "tell": parts.Silent}},
        error="other",
    ),
    **{
        name: Option(
            settings,
            rewards=rewards,
            data=_trained(
                lambda made=made: pictures(**made), (lambda: pictures("e", 4)) if "eval_steps" in settings else None
            ),
            model=parts.seeing_model,
            processing=parts.seeing_processor,
            fast=name == "images",
        )
        for name, settings, rewards, made in (
            ("images", {}, parts.with_names_of_arguments, {}),
            (
                "several images",
                {"log_completions": True, "num_completions_to_print": 0},
                parts.with_second,
                {"several": True},
            ),
            ("images of some rows", {"beta": 0.0, "num_iterations": 2}, parts.with_logging, {"missing": True}),
            ("evaluated images", EVALUATED, parts.with_second, {}),
        )
    },
    "images on plain prompts": Option(
        data=_trained(lambda: pictures().remove_columns("prompt").add_column("prompt", ["p"] * 12)),
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
        script=_set(trainer_reward_weights=torch.tensor([0.5, 2.0])), rewards=parts.with_second
    ),
    "other loss on the trainer": Option(script=_set(trainer_loss_type="grpo")),
    "trained twice": Option(script=_twice),
    "stopped by a callback": Option(trainer=lambda: {"callbacks": [Stop()]}),
    "a failing reward": Option(rewards=parts.failing, error="ZeroDivisionError: nothing to divide by"),
    "too few rewards": Option(rewards=parts.too_few, error="returned 7 rewards, but 8 were expected"),
    "too few weights": Option({"reward_weights": [1.0]}, rewards=parts.with_second, error="reward weights"),
    "no rewards": Option(rewards=lambda function: None, error="reward"),
    "halved rewards of a subclass": Option(subclass=HalfRewards, config=GRPOConfig),
    "other rollouts of a subclass": Option(subclass=Upper, rewards=parts.of_ids),
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
        data=_trained(
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
    "weight decay and warm-up": Option(
        {"weight_decay": 0.1, "warmup_steps": 1, "max_grad_norm": 0.1, "lr_scheduler_type": "cosine", "max_steps": 4}
    ),
    "plain config": Option(config=GRPOConfig, fast=True),
    "plain config with everything": Option(
        {**EVALUATED, "beta": 0.1, "num_iterations": 2, "loss_type": "bnpo", "max_steps": 4},
        rewards=parts.with_abstention,
        config=GRPOConfig,
        with_eval=True,
    ),
}


def _template(text: str) -> Any:
    tokenizer = parts.tiny_tokenizer()
    tokenizer.chat_template = text
    return tokenizer


RESUMED: dict[str, Option] = {
    "continued": Option({"max_steps": 4}, resume_from=2, fast=True),
    "continued inside a generation batch": Option({"max_steps": 6, "steps_per_generation": 4}, resume_from=3),
    "continued after an epoch": Option({"max_steps": 8}, data=_trained(lambda: columned(size=6)), resume_from=5),
    "continued two iterations": Option({"max_steps": 4, "num_iterations": 2}, resume_from=2),
    "continued accumulation": Option({"max_steps": 4, "gradient_accumulation_steps": 2}, resume_from=2),
    "continued adapter": Option({"max_steps": 4, "beta": 0.1}, trainer=parts.lora(), resume_from=2),
    "continued reference": Option(
        {"max_steps": 4, "beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1}, resume_from=2
    ),
    "continued entropy": Option({"max_steps": 4, "use_adaptive_entropy": True}, resume_from=2),
    "continued stream": Option({"max_steps": 4}, data=_trained(streamed), resume_from=2),
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

PLAIN: dict[str, Option] = {**REWARDS, **DATASETS, **EVALUATIONS, **ROLLOUTS, **LIVES, **RESUMED}
