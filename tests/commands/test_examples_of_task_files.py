"""The task files in `examples/` train, on a tiny model and fewer rows."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from desks import write_model

from tests.environments.world import tool_tokenizer
from trl_mtgrpo.commands.cli import main
from trl_mtgrpo.commands.reading import read_task_file
from trl_mtgrpo.commands.run_settings import settings_of


FOLDER = Path(__file__).parents[2] / "examples" / "task_files"
FILES = sorted(FOLDER.glob("*.yaml"))
GROUPS = {"four_kinds": 16, "three_tasks": 32, "nine_tasks": 64, "question_and_answer": 8}

# A batch of 12 groups of 2 rollouts on the CPU, one round of generation each.
SMALL = """
--use_cpu true --use_vllm false --per_device_train_batch_size 24 --gradient_accumulation_steps 1
--steps_per_generation 1
--num_generations 2 --num_generations_eval 2 --per_device_eval_batch_size 24 --max_completion_length 6 --max_steps 2
--max_resampling_rounds 0 --eval_strategy no --load_best_model_at_end false --save_strategy no --task_table false
--gradient_checkpointing false --disable_tqdm true --report_to none --logging_steps 1
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The examples with the sizes of their generated sets cut, beside a tiny model."""
    shutil.copytree(FOLDER, tmp_path / "files")
    for path in (tmp_path / "files").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content.pop("max_prompt_tokens", None)  # the tiny tokenizer counts characters
        for task in content["tasks"]:
            if "reasoning_gym" in task:
                task["reasoning_gym"] |= {"train_size": 12, "eval_size": 2}
            task.pop("max_completion_length", None)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    write_model(tmp_path / "model", chat=True)
    write_model(tmp_path / "model_with_tools", tokenizer=tool_tokenizer())
    return tmp_path


def small(desk: Path, path: Path) -> list[Any]:
    model = "model_with_tools" if path.stem == "four_kinds" else "model"
    given = [str(desk / "files" / path.name), "--model", str(desk / model), "--output_dir", str(desk / "out")]
    return [*given, *SMALL.split()]


def test_every_file_is_tested() -> None:
    assert {path.stem for path in FILES} == set(GROUPS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_trains_two_steps_of_all_its_tasks(path: Path, desk: Path) -> None:
    assert main(["train", *small(desk, path)]) == 0
    state = json.loads((desk / "out" / "trainer_state.json").read_text(encoding="utf-8"))
    tasks = yaml.safe_load(path.read_text(encoding="utf-8"))["tasks"]
    assert state["global_step"] == 2
    logged = state["log_history"][-2]
    assert all(f"tasks/{task['name']}/weight" in logged for task in tasks)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_check_finds_no_defect(path: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", *small(desk, path)])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_batch_has_the_groups_that_the_file_states(path: Path) -> None:
    settings = settings_of(read_task_file(path), elsewhere=1)
    groups = settings.generation_batch_size // settings.num_generations
    text = " ".join(path.read_text(encoding="utf-8").replace("#", "").split())
    assert groups == GROUPS[path.stem]
    assert f"{groups} prompts x {settings.num_generations} rollouts per batch" in text
