"""Task files on a desk of their own: a tiny model in a folder, rows in files, and a file to try."""

import json
from pathlib import Path
from typing import Any

import yaml
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM


TINY_TRAINER: dict[str, Any] = {
    "output_dir": "out",
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": 16,
    "num_generations": 4,
    "max_completion_length": 6,
    "max_steps": 2,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "task_table": False,
}


def write_model(folder: Path, chat: bool = False, positions: int = 4096, tokenizer: Any = None) -> Path:
    """A randomly initialised decoder that takes the long prompts of puzzles, with the tiny tokenizer by default."""
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=98 if tokenizer is None else len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )
    model.save_pretrained(folder)
    tokenizer = tokenizer or tiny_tokenizer()
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sums(start: int = 0, size: int = 24) -> list[dict[str, Any]]:
    """Rows with a question and an answer, as in GSM8K."""
    return [
        {"question": f"What is {i} plus 1?", "answer": f"{i} plus 1 is {i + 1}. #### {i + 1}"}
        for i in range(start, start + size)
    ]


def sum_task(name: str = "sums", file: str = "sums.jsonl", **changes: Any) -> dict[str, Any]:
    task = {"name": name, "files": file, "prompt": "{question} ", "answer_after": "####", "reward": "number"}
    return {key: value for key, value in (task | {"eval_size": 4} | changes).items() if value is not None}


def write_file(folder: Path, tasks: list[dict[str, Any]], trainer: dict[str, Any] | None = None, **more: Any) -> Path:
    content = {"model": "./model", "trainer": TINY_TRAINER | (trainer or {}), "tasks": tasks} | more
    content["trainer"]["output_dir"] = str(folder / "out")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
