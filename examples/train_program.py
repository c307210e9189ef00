"""
Trains a program of two calls: "name the rule" of two solved grids, then "apply it" to a third one. The reward looks at
the final grid only; the first module learns without any reward of its own.

    python examples/train_program.py

needs no GPU, no network and no argument: it warm-starts a tiny model on both prompts with many wrong labels, and then
trains it for 150 steps, which takes about ten minutes on two CPU cores. `--trainable_modules apply` trains the second
module alone, `--group_baseline rollouts` compares with all rollouts of a prompt.

`--self_check` trains a program whose rollouts make differently many calls: it tries its rule on a solved grid first
and, where the result is wrong, names another one. `--drop_incomplete` leaves out groups of calls that not every
rollout made, for comparison.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tiny_world import build_model, build_tokenizer

from trl_mtgrpo import FormatFailure, MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


LENGTH = 8
RULES: dict[str, Callable[[str], str]] = {
    "A": lambda grid: grid[-1:] + grid[:-1],  # one to the right, around the corner
    "B": lambda grid: grid[2:] + grid[:2],  # two to the left
    "C": lambda grid: grid[::-1],
    "D": lambda grid: "".join("5" if cell == "0" else "0" for cell in grid),  # where nothing was
}


def grid_of(rng: np.random.Generator) -> str:
    """One block of one colour."""
    size, colour = int(rng.integers(2, 5)), str(rng.integers(1, 10))
    start = int(rng.integers(0, LENGTH - size + 1))
    return "0" * start + colour * size + "0" * (LENGTH - size - start)


def item(rng: np.random.Generator) -> dict[str, str]:
    rule = str(rng.choice(list(RULES)))
    shown = [grid_of(rng) for _ in range(2)]
    test = grid_of(rng)
    demonstrations = ";".join(f"{grid}>{RULES[rule](grid)}" for grid in shown)
    return {"prompt": demonstrations, "test": test, "rule": rule, "answer": RULES[rule](test)}


def solve(example: dict[str, str], call: Any) -> str:
    """The program: two prompts of its own, and a check between them."""
    rule = call("name", f"R{example['prompt']}=")
    if rule not in RULES:
        raise FormatFailure(f"no rule is called {rule!r}")
    return call("apply", f"P{rule}{example['test']}=")


def solve_with_check(example: dict[str, str], call: Any) -> str:
    """The same with a try on the first solved grid, after which the rule may be named once more."""
    grid, result = example["prompt"].split(";")[0].split(">")
    rule = call("name", f"R{example['prompt']}=")
    if rule in RULES and call("check", f"P{rule}{grid}=") != result:
        rule = call("rename", f"W{rule}{example['prompt']}=")
    if rule not in RULES:
        raise FormatFailure(f"no rule is called {rule!r}")
    return call("apply", f"P{rule}{example['test']}=")


def is_complete(rewards: np.ndarray) -> np.ndarray:
    """Groups of calls that every rollout made; the others have places without a reward."""
    return ~np.isnan(rewards).any(axis=1)


def reward(
    outputs: list[Any], traces: list[Any], answer: list[str], rule: list[str], log_metric: Any, **kwargs: Any
) -> list[float]:
    """Whether the final grid is right. How often the rule was is measured and no part of it."""
    named = [bool(trace) and trace[0].text == right for trace, right in zip(traces, rule, strict=True)]
    log_metric("rule_accuracy", float(np.mean(named)))
    return [float(output == right) for output, right in zip(outputs, answer, strict=True)]


def warm_rows(rng: np.random.Generator, renames: bool) -> Iterator[tuple[str, str]]:
    """The prompts with their answers; three of four rules and grids are drawn blindly."""
    while True:
        made = item(rng)
        blind_rule = rng.random() < 0.75
        yield f"R{made['prompt']}=", str(rng.choice(list(RULES))) if blind_rule else made["rule"]
        blind_grid = rng.random() < 0.75
        grid = RULES[str(rng.choice(list(RULES)))](made["test"]) if blind_grid else made["answer"]
        yield f"P{made['rule']}{made['test']}=", grid
        if renames:
            tried = str(rng.choice([rule for rule in RULES if rule != made["rule"]]))
            named = str(rng.choice([rule for rule in RULES if rule != tried])) if rng.random() < 0.5 else made["rule"]
            yield f"W{tried}{made['prompt']}=", named


def warm_start(seed: int, renames: bool = False, batches: int = 600, size: int = 64) -> Any:
    """A tiny model that knows the prompts and answers them badly."""
    model, tokenizer, rng = build_model(seed), build_tokenizer(), np.random.default_rng(seed)
    rows = warm_rows(rng, renames)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=batches, pct_start=0.05)
    for _ in range(batches):
        pairs = [next(rows) for _ in range(size)]
        texts = [prompt + answer + tokenizer.eos_token for prompt, answer in pairs]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].clone()
        for row, (_, answer) in enumerate(pairs):  # padded on the left
            labels[row, : labels.size(1) - len(answer) - 1] = -100
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", default="outputs/program")
    parser.add_argument("--max_steps", type=int, default=150)
    parser.add_argument("--eval_steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=192, help="calls that train in a step, 8 for each group")
    parser.add_argument("--group_baseline", choices=["members", "rollouts"], default="members")
    parser.add_argument("--trainable_modules", nargs="*")
    parser.add_argument("--self_check", action="store_true")
    parser.add_argument("--drop_incomplete", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(1000 + given.seed)
    rows = Dataset.from_list([item(rng) for _ in range(4200)])
    trainer = MultiTaskGRPOTrainer(
        model=warm_start(seed=0, renames=given.self_check),
        tasks=[
            Task(
                "arc",
                rows.select(range(200, len(rows))),
                reward,
                eval_dataset=rows.select(range(200)),
                success_threshold=1.0,
                program=solve_with_check if given.self_check else solve,
                trainable_modules=given.trainable_modules,
                format_failure_reward=0.0,
            )
        ],
        args=MultiTaskGRPOConfig(
            output_dir=given.output_dir,
            seed=given.seed,
            max_steps=given.max_steps,
            group_baseline=given.group_baseline,
            # Every call counts the same, however many tokens it has.
            loss_type="grpo",
            per_device_train_batch_size=given.batch_size,
            num_generations=8,
            max_completion_length=10,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            eval_strategy="steps",
            eval_steps=given.eval_steps,
            eval_on_start=True,
            num_generations_eval=4,
            per_device_eval_batch_size=400,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            gradient_checkpointing=False,
        ),
        processing_class=build_tokenizer(),
        group_filter=is_complete if given.drop_incomplete else None,
    )
    trainer.train()
    trainer.save_state()
    print("step  program  rule (never rewarded)")
    for line in trainer.state.log_history:
        if "eval_tasks/arc/accuracy" in line:
            print(f"{line['step']:4d}  {line['eval_tasks/arc/accuracy']:7.2f}  {line['eval_rule_accuracy']:4.2f}")


if __name__ == "__main__":
    main()
