"""
Trains one model on countdown, zebra puzzles and arc_1d with Multi-Task GRPO.

    accelerate launch examples/train_three_task.py

needs no GPU, no network and no argument: it warm-starts a tiny model on generated puzzles, so that the three tasks
differ in strength, and then trains it. With a model of the Hub it uses the paper's prompts and settings (Section 6):

    accelerate launch --config_file accelerate_configs/deepspeed_zero3.yaml examples/train_three_task.py \
        --model_name_or_path Qwen/Qwen2.5-3B --use_vllm --vllm_mode colocate

Every field of `MultiTaskGRPOConfig` is an argument, `--config file.yaml` reads them from a file, and `--method grpo`
(or dapo, sec_grpo, sec_dapo) trains one of the methods that the paper compares with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from tiny_world import WORLDS, tiny_task_reward, tiny_task_rows, warm_start
from transformers import AutoModelForCausalLM, AutoTokenizer, ProgressCallback
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task, reasoning_gym_task
from trl_mtgrpo.report import read_runs, write_report


# What trains well on two CPU cores in a few minutes: 12 prompts x 8 rollouts per step.
LAPTOP: dict[str, Any] = {
    "output_dir": "outputs/three_task",
    "use_cpu": not torch.cuda.is_available(),
    "bf16": False,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 96,
    "num_generations": 8,
    "max_completion_length": 12,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "constant",
    "adam_beta2": 0.98,
    "max_steps": 90,
    "eval_on_start": True,
    "eval_strategy": "steps",
    "eval_steps": 30,
    "num_generations_eval": 2,
    "per_device_eval_batch_size": 400,
    "logging_steps": 10,
    "save_strategy": "no",
    "report_to": "none",
}

# Experiment 1 of the paper on one device: 32 prompts x 72 rollouts per generation batch, four optimizer steps on each.
PAPER: dict[str, Any] = {
    "output_dir": "outputs/three_task_hub",
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 72,
    "steps_per_generation": 288,
    "num_generations": 72,
    "max_completion_length": 4096,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "max_steps": 2880,
    "eval_strategy": "steps",
    "eval_steps": 40,
    "num_generations_eval": 8,
    "logging_steps": 4,
    "save_steps": 80,
}


@dataclass
class ScriptArguments:
    """Arguments of this script beside those of the trainer and the model."""

    level: str = field(default="medium", metadata={"help": "Difficulty with a Hub model: easy, medium or hard."})
    train_prompts: int = field(default=4000, metadata={"help": "Training prompts per task of the tiny model."})
    eval_prompts: int = field(default=200, metadata={"help": "Held-out prompts per task."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where warm starts and puzzles are kept."})


def tiny_tasks(world: str, script: ScriptArguments) -> list[Task]:
    """Real reasoning-gym items in a rendering that a tiny model can learn, scored by reasoning-gym's own verifiers."""
    cache_dir = None if script.cache_dir is None else Path(script.cache_dir)

    def rows(name: str, split: str, size: int) -> Dataset:
        return Dataset.from_list(tiny_task_rows(name, split, size, seed=0, cache_dir=cache_dir))

    return [
        Task(
            name,
            rows(name, "train", script.train_prompts),
            tiny_task_reward(name),
            eval_dataset=rows(name, "test", script.eval_prompts),
            success_threshold=1.0,
        )
        for name in WORLDS[world].task_names
    ]


def paper_tasks(levels: Sequence[str], script: ScriptArguments) -> list[Task]:
    """The paper's tasks with its prompts, rewards and sizes."""
    return [
        reasoning_gym_task(family, level, eval_size=script.eval_prompts, cache_dir=script.cache_dir)
        for level in levels
        for family in ("countdown", "zebra_puzzles", "arc_1d")
    ]


class QuietProgress(ProgressCallback):
    """A progress bar with one line per evaluation, in place of every logged number."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "eval_worst_task_accuracy" in logs:
            suffix = "/accuracy"
            tasks = {key[len("eval_tasks/") : -len(suffix)]: logs[key] for key in logs if key.endswith(suffix)}
            line = "  ".join(f"{name} {value:.3f}" for name, value in tasks.items())
            print(f"\nstep {state.global_step}: {line}  worst {logs['eval_worst_task_accuracy']:.3f}", flush=True)


def show_result(trainer: MultiTaskGRPOTrainer) -> None:
    """Prints what became of each task, and draws the run."""
    history = trainer.state.log_history
    evaluations = [log for log in history if "eval_worst_task_accuracy" in log]
    if not evaluations:
        return
    first, last, state = evaluations[0], evaluations[-1], trainer.multi_task_state
    table = Table(title=f"{trainer.settings.method}: {trainer.state.global_step} optimizer steps")
    table.add_column("task")
    for column in ("before", "after", "weight", "filtered", "groups generated", "groups trained"):
        table.add_column(column, justify="right")
    for k, (name, weight) in enumerate(trainer.task_weights.items()):
        table.add_row(
            name,
            f"{first[f'eval_tasks/{name}/accuracy']:.3f}",
            f"{last[f'eval_tasks/{name}/accuracy']:.3f}",
            f"{weight:.2f}",
            f"{state.groups.filtered[k].sum() / max(state.groups.generated[k], 1):.2f}",
            f"{state.groups.generated[k]:,}",
            f"{state.groups.trained[k]:,}",
        )
    table.add_section()
    for label, key in (("worst task", "eval_worst_task_accuracy"), ("average", "eval_average_accuracy")):
        table.add_row(label, f"{first[key]:.3f}", f"{last[key]:.3f}")
    output = Path(trainer.args.output_dir)
    page = write_report(read_runs([str(output)]), output / "report", f"{table.title}")
    console = Console()
    console.print(table)
    seconds = next(log["train_runtime"] for log in reversed(history) if "train_runtime" in log)
    console.print("before, after: accuracy on held-out prompts, sampled at temperature 1")
    console.print(f"training with its evaluations took {seconds / 60:.1f} minutes")
    console.print(f"model: {output}   pictures: {page.parent}   page: {page}")


def run(world: str, tiny_settings: dict[str, Any], paper_settings: dict[str, Any], levels: Sequence[str] = ()) -> None:
    """Trains the tiny model on a world, or a Hub model on the paper's tasks of some levels."""
    asked = TrlParser((ModelConfig,)).parse_args_and_config(return_remaining_strings=True)[0]
    embedded = asked.model_name_or_path is None
    parser = TrlParser((ScriptArguments, MultiTaskGRPOConfig, ModelConfig))
    parser.set_defaults(**(tiny_settings if embedded else paper_settings))
    script, args, model_args = parser.parse_args_and_config()
    if embedded:
        folder = warm_start(world, seed=args.seed, cache_dir=script.cache_dir)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tasks, options = tiny_tasks(world, script), {"processing_class": AutoTokenizer.from_pretrained(folder)}
    else:
        model = model_args.model_name_or_path
        tasks = paper_tasks(levels or (script.level,), script)
        options = {
            "peft_config": get_peft_config(model_args),
            "quantization_config": get_quantization_config(model_args),
        }
    trainer = MultiTaskGRPOTrainer(model=model, tasks=tasks, args=args, **options)
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(QuietProgress)
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    if trainer.accelerator.is_main_process:
        show_result(trainer)
    if args.push_to_hub:
        trainer.push_to_hub()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    run("three", LAPTOP, PAPER)
