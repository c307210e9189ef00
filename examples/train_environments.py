"""
Trains one model on a plain task, an environment and a task with a tool, with Multi-Task GRPO.

    python examples/train_environments.py

needs no GPU, no network and no argument. Every field of `MultiTaskGRPOConfig` is an argument: `--max_steps 20` is a
first look, `--method grpo` trains GRPO beside it.
"""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tiny_agents import build_tasks, warm_start
from tiny_agents.tokenizer import build_tokenizer
from transformers import AutoModelForCausalLM
from trl import TrlParser

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task
from trl_mtgrpo.report import read_runs, write_report


SETTINGS: dict[str, Any] = {
    "output_dir": "outputs/environments",
    "use_cpu": not torch.cuda.is_available(),
    "bf16": False,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 96,
    "num_generations": 8,
    "max_completion_length": 96,
    "max_tool_calling_iterations": 5,
    "learning_rate": 6e-4,
    "lr_scheduler_type": "constant",
    "max_steps": 80,
    "eval_on_start": True,
    "eval_strategy": "steps",
    "eval_steps": 20,
    "num_generations_eval": 4,
    "per_device_eval_batch_size": 120,
    "logging_steps": 5,
    "save_strategy": "no",
    "report_to": "none",
}


def show_episode(task: Task, model: Any, tokenizer: Any, console: Console) -> None:
    """Prints one episode of a task before training: what the model sees, writes and gets to know."""
    row = task.train_dataset[0]
    environment = None if task.environment_factory is None else task.environment_factory()
    tools = list(task.tools)
    if environment is not None:
        environment.reset(**row)
        tools += [environment.guess]
    by_name = {tool.__name__: tool for tool in tools}
    ids = tokenizer.apply_chat_template(
        row["prompt"], tools=tools or None, add_generation_prompt=True, return_dict=False
    )
    completion: list[dict[str, Any]] = []
    for _ in range(5):
        with torch.no_grad():
            output = model.generate(torch.tensor([ids]), max_new_tokens=24)[0].tolist()
        message = tokenizer.parse_response(output[len(ids) :], prefix=ids, tools=tools or None)
        completion.append(message)
        ids = output
        for call in message.get("tool_calls") or []:
            function = call["function"]
            try:
                answer = str(by_name[function["name"]](**function["arguments"]))
            except (KeyError, TypeError) as error:
                answer = str(error)
            completion.append({"role": "tool", "name": function["name"], "content": answer})
            ids += tokenizer(f"<tool>{answer}<model>", add_special_tokens=False)["input_ids"]
        if not message.get("tool_calls"):
            break
    if environment is not None:
        reward = environment.get_reward()
    else:
        reward = task.reward_funcs[0](completions=[completion], answer=[row["answer"]])[0]
    console.print(f"{task.name}  reward {reward}: {tokenizer.decode(ids)}", highlight=False, soft_wrap=True)


def main() -> None:
    parser = TrlParser((MultiTaskGRPOConfig,))
    parser.set_defaults(**SETTINGS)
    (args,) = parser.parse_args_and_config()
    output, tasks, console = Path(args.output_dir), build_tasks(), Console()
    model = AutoModelForCausalLM.from_pretrained(warm_start(output / "warm_starts", args.seed), dtype=torch.float32)
    tokenizer = build_tokenizer()
    console.print("One episode of each task before training:")
    for task in tasks:
        show_episode(task, model, tokenizer, console)
    trainer = MultiTaskGRPOTrainer(model=model, tasks=tasks, args=args, processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    evaluations = [log for log in trainer.state.log_history if "eval_worst_task_accuracy" in log]
    for name in trainer.task_weights if evaluations else ():
        before, after = (log[f"eval_tasks/{name}/accuracy"] for log in (evaluations[0], evaluations[-1]))
        console.print(f"{name}: {before:.2f} before, {after:.2f} after, on held-out prompts")
    page = write_report(read_runs([str(output)]), output / "report", "A plain task, an environment and a tool")
    console.print(f"pictures: {page.parent}")


if __name__ == "__main__":
    main()
