"""
Trains a chat model on two question-and-answer datasets: grade-school mathematics and multiple-choice science.

    accelerate launch examples/train.py --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct

`--math` and `--science` take a dataset of the Hub or a folder with `train.jsonl` and `test.jsonl`. Copy this file and
change `math_row`, `science_row` and the two rewards to train on data of your own. Every field of `MultiTaskGRPOConfig`
and TRL's `ModelConfig` is an argument, so LoRA is `--use_peft` and vLLM is `--use_vllm`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


@dataclass
class Data:
    """Where the rows come from."""

    math: str = field(default="openai/gsm8k", metadata={"help": "Rows with `question` and `answer`."})
    science: str = field(
        default="allenai/ai2_arc", metadata={"help": "Rows with `question`, `choices` and `answerKey`."}
    )
    eval_rows: int = field(default=200, metadata={"help": "Held-out rows per task."})


def read(source: str, config: str) -> DatasetDict:
    """The splits of a folder of JSON lines, or of a dataset of the Hub."""
    if Path(source).is_dir():
        return load_dataset("json", data_files={name: f"{source}/{name}.jsonl" for name in ("train", "test")})
    return load_dataset(source, config)


def math_row(row: dict[str, Any]) -> dict[str, Any]:
    """A prompt and the number after '####', with which the answers of GSM8K end."""
    text = f"{row['question']}\nThink step by step. End with a line 'Answer: <number>'."
    return {"prompt": [{"role": "user", "content": text}], "right": row["answer"].split("####")[-1].strip()}


def science_row(row: dict[str, Any]) -> dict[str, Any]:
    """A prompt with the choices on lines of their own, and the letter of the right one."""
    choices = zip(row["choices"]["label"], row["choices"]["text"], strict=True)
    listed = "\n".join(f"{label}) {text}" for label, text in choices)
    text = f"{row['question']}\n{listed}\nThink step by step. End with a line 'Answer: <letter>'."
    return {"prompt": [{"role": "user", "content": text}], "right": row["answerKey"]}


def number_reward(completions: list[Any], right: list[str], **kwargs: Any) -> list[float]:
    """1 where the number of the last answer line is the right one."""
    found = [answer(completion) for completion in completions]
    return [float(number(text) == number(key)) for text, key in zip(found, right, strict=True)]


def letter_reward(completions: list[Any], right: list[str], **kwargs: Any) -> list[float]:
    """1 where the last answer line has the letter of the right choice."""
    found = [answer(completion) for completion in completions]
    return [float(text.strip(" .)").upper() == key) for text, key in zip(found, right, strict=True)]


def answer(completion: list[dict[str, str]]) -> str:
    """What follows the last 'Answer:' of a completion, or nothing."""
    found = re.findall(r"Answer:(.*)", completion[-1]["content"])
    return found[-1].strip() if found else ""


def number(text: str) -> float | None:
    """A text as a number; thousands may be separated and a unit of money may stand before."""
    plain = text.strip(" .$").replace(",", "")
    return float(plain) if re.fullmatch(r"-?\d+(\.\d+)?", plain) else None


def task(name: str, splits: DatasetDict, make_row: Any, reward: Any, eval_rows: int) -> Task:
    """One task of the run; the columns that `make_row` does not return are dropped."""
    rows = {
        split: splits[split].map(make_row, remove_columns=splits[split].column_names) for split in ("train", "test")
    }
    held_out: Dataset = rows["test"].select(range(min(eval_rows, len(rows["test"]))))
    return Task(name, rows["train"], reward, eval_dataset=held_out, success_threshold=1.0)


def main() -> None:
    """Trains, evaluates and saves."""
    parser = TrlParser((Data, MultiTaskGRPOConfig, ModelConfig))
    parser.set_defaults(
        output_dir="outputs/own",
        gradient_accumulation_steps=16,  # 16 prompts of 8 rollouts per step on one GPU
        max_completion_length=512,
        learning_rate=1e-6,
        max_steps=200,
        eval_on_start=True,
        eval_strategy="steps",
        eval_steps=50,
        report_to="none",
    )
    data, args, model = parser.parse_args_and_config()
    trainer = MultiTaskGRPOTrainer(
        model.model_name_or_path or "Qwen/Qwen2.5-0.5B-Instruct",
        tasks=[
            task("math", read(data.math, "main"), math_row, number_reward, data.eval_rows),
            task("science", read(data.science, "ARC-Challenge"), science_row, letter_reward, data.eval_rows),
        ],
        args=args,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    trainer.train()
    trainer.save_model()
    trainer.save_state()


if __name__ == "__main__":
    main()
