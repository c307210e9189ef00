"""The script of the guide to one's own data, launched as a user launches it, on rows in the form of its datasets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_model, tiny_tokenizer


ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "train.py"

sys.path.insert(0, str(SCRIPT.parent))

import train  # noqa: E402


def write(folder: Path, rows: list[dict]) -> None:
    folder.mkdir()
    for split, part in (("train", rows), ("test", rows[:6])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


def said(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_the_rewards_read_the_last_answer_line() -> None:
    written = said("3 + 4 = 7\nAnswer: 7", "Answer: 6\nNo.\nAnswer: $1,007.0", "It is 7", "Answer: seven")
    assert train.number_reward(written, right=["7", "1007", "7", "7"]) == [1.0, 1.0, 0.0, 0.0]
    assert train.letter_reward(said("Answer: b)", "Answer: B", "B", "Answer: A or B"), right=["B"] * 4) == [1, 1, 0, 0]


def test_rows_become_a_prompt_and_a_key() -> None:
    row = train.math_row({"question": "How many?", "answer": "Two and two.\n#### 4"})
    assert row["right"] == "4"
    assert row["prompt"][0]["content"].startswith("How many?")
    choices = {"label": ["A", "B"], "text": ["wood", "iron"]}
    row = train.science_row({"question": "Which rusts?", "choices": choices, "answerKey": "B"})
    assert "B) iron" in row["prompt"][0]["content"]
    assert row["right"] == "B"


@pytest.mark.launch
def test_the_script_of_the_guide_trains_when_it_is_launched(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer(chat=True).save_pretrained(tmp_path / "model")
    write(tmp_path / "math", [{"question": f"{a} + 1?", "answer": f"#### {a + 1}"} for a in range(24)])
    choices = {"label": ["A", "B"], "text": ["up", "down"]}
    write(tmp_path / "science", [{"question": f"{i}?", "choices": choices, "answerKey": "B"} for i in range(24)])
    options = {
        "model_name_or_path": "model",
        "math": "math",
        "science": "science",
        "output_dir": "out",
        "max_steps": 1,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 4,
        "per_device_eval_batch_size": 8,
        "max_completion_length": 4,
        "max_resampling_rounds": 1,
        "eval_steps": 1,
        "use_cpu": True,
        "bf16": False,
    }
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", str(SCRIPT)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    logged = json.loads((tmp_path / "out" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    assert {"eval_tasks/math/accuracy", "eval_tasks/science/accuracy"} <= set().union(*logged)
    assert (tmp_path / "out" / "model.safetensors").is_file()
