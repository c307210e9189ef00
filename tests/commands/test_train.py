"""`mtgrpo train` trains what the file says, alone and under a launcher, and refuses what it must."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from desks import sum_task, sums, write_file, write_model, write_rows

from trl_mtgrpo.commands.cli import main


ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    write_rows(tmp_path / "sums.jsonl", sums())
    write_rows(tmp_path / "more.jsonl", sums(100))
    return tmp_path


def tasks(**changes: Any) -> list[dict[str, Any]]:
    # A reward that a random model gets now and then, so that groups carry a gradient.
    own = {"reward": {"use": "digits_of_tests:any_digit"}, "success_threshold": 1.0, "answer_after": None}
    return [sum_task(**own), sum_task(**({"name": "more", "file": "more.jsonl"} | own | changes))]


@pytest.fixture(autouse=True)
def digits(desk: Path) -> None:
    (desk / "digits_of_tests.py").write_text(
        "def any_digit(completions, **kwargs):\n"
        "    return [float(any(character.isdigit() for character in text)) for text in completions]\n"
    )


def history(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "trainer_state.json").read_text(encoding="utf-8"))


def test_the_files_run_is_trained_and_saved(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(write_file(desk, tasks()))]) == 0
    state = history(desk)
    assert state["global_step"] == 2
    assert {"tasks/sums/weight", "tasks/more/weight"} <= state["log_history"][0].keys()
    assert (desk / "out" / "model.safetensors").is_file()
    assert "trained 2 steps; the model is in" in capsys.readouterr().out


def test_what_is_typed_wins_over_the_file(desk: Path) -> None:
    path = write_file(desk, tasks(), trainer={"max_steps": 5, "learning_rate": 1e-3})
    assert main(["train", str(path), "--max_steps", "1"]) == 0
    state = history(desk)
    assert state["global_step"] == 1
    assert state["log_history"][0]["learning_rate"] == pytest.approx(1e-3)


def test_a_run_goes_on_from_its_last_checkpoint(desk: Path) -> None:
    path = write_file(desk, tasks(), trainer={"save_strategy": "steps", "save_steps": 1})
    assert main(["train", str(path), "--max_steps", "1"]) == 0
    assert main(["train", str(path), "--resume_from_checkpoint", "true"]) == 0
    steps = [entry["step"] for entry in history(desk)["log_history"] if "tasks/sums/weight" in entry]
    assert steps == [1, 2]


def test_fixed_weights_of_the_tasks_are_the_shares(desk: Path) -> None:
    both = tasks(weight=0.75)
    both[0]["weight"] = 0.25
    assert main(["train", "--config", str(write_file(desk, both))]) == 0
    entry = history(desk)["log_history"][1]
    assert (entry["tasks/sums/weight"], entry["tasks/more/weight"]) == (0.25, 0.75)


def test_an_adapter_of_the_file_is_trained(desk: Path) -> None:
    path = write_file(desk, tasks(), peft={"r": 2, "target_modules": "all-linear"})
    assert main(["train", "--config", str(path)]) == 0
    assert json.loads((desk / "out" / "adapter_config.json").read_text())["r"] == 2


@pytest.mark.parametrize(
    ("content", "changes", "text"),
    [
        (
            {"processes": 2},
            {},
            r"`processes` must be .* got 2 in run.yaml and 1 running",
        ),
        ({}, {"name": "sums"}, r"`tasks` must have distinct names, got 'sums' 2 times"),
        ({}, {"weight": 0.9}, r"`weight` must be given for every task or for none"),
        ({}, {"answer_after": "@"}, r"`answer` of task 'more' must be in every row"),
        ({"peft": {"rank": 3}}, {}, r"`rank` must be a field of `peft`"),
        (
            {"trainer": {"task_weighting": "sec"}},
            {"weight": 1.0},
            r"line \d+: `task_weighting` must be left out",
        ),
    ],
)
def test_a_run_that_is_not_what_it_says_is_refused_before_the_model_is_loaded(
    desk: Path, capsys: pytest.CaptureFixture[str], content: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    path = write_file(desk, tasks(**changes), **({"model": "./nothing"} | content))
    assert main(["train", "--config", str(path)]) == 2
    assert re.search(text, capsys.readouterr().err)
    assert not (desk / "out").exists()


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["--max_stpes", "3"], r"`--max_stpes` must be a field of the trainer.* Did you mean `max_steps`"),
        (["--max_steps", "many"], r"argument --max_steps/--max-steps: invalid int value: 'many'\n.*could not be read"),
        (["--report_to"], r"argument --report_to"),
    ],
)
def test_a_setting_that_cannot_be_read_is_a_short_message(
    desk: Path, capsys: pytest.CaptureFixture[str], typed: list[str], text: str
) -> None:
    assert main(["train", str(write_file(desk, tasks())), *typed]) == 2
    shown = capsys.readouterr().err
    assert re.search(text, shown)
    assert "usage" not in shown


def launched(folder: Path, processes: int, *arguments: str) -> str:
    """Everything a launch of the task file wrote; it fails when the launch does."""
    start = ["-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    start += ["--config_file", str(ROOT / "tests/distributed/cpu_ddp.yaml")] if processes > 1 else ["--cpu"]
    start += ["--main_process_port", "0", "-m", "trl_mtgrpo", "train", "--config", str(folder / "run.yaml")]
    command = [sys.executable, *start, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output = process.communicate(timeout=300)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output[-4000:]
    return output


@pytest.mark.launch
def test_a_task_file_trains_under_accelerate(desk: Path) -> None:
    write_file(desk, tasks(), processes=1)
    assert "trained 2 steps" in launched(desk, 1)
    assert history(desk)["global_step"] == 2


@pytest.mark.slow
@pytest.mark.launch
def test_a_task_file_trains_on_two_processes_and_says_so_once(desk: Path) -> None:
    write_file(desk, tasks(), trainer={"per_device_train_batch_size": 8}, processes=2)
    assert launched(desk, 2).count("trained 2 steps") == 1
    assert history(desk)["global_step"] == 2
