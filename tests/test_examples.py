"""The example scripts: they use public names only, their presets are the paper's, and the embedded default runs."""

import ast
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

import custom_weighting  # noqa: E402
import tiny_world  # noqa: E402
import train_nine_task  # noqa: E402
import train_three_task  # noqa: E402

import trl_mtgrpo  # noqa: E402


SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_public_names_only(script: Path) -> None:
    allowed = {"trl_mtgrpo": set(trl_mtgrpo.__all__), "trl_mtgrpo.report": {"read_runs", "write_report"}}
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trl_mtgrpo"):
            assert {alias.name for alias in node.names} <= allowed[node.module]


@pytest.mark.parametrize(
    ("preset", "prompts", "prompts_per_update"),
    [(train_three_task.PAPER, 32, 8), (train_nine_task.PAPER_NINE, 256, 64)],
    ids=["three tasks", "nine tasks"],
)
def test_presets_have_the_batch_arithmetic_of_the_paper(preset, prompts, prompts_per_update) -> None:
    rows = preset["per_device_train_batch_size"]
    assert rows * preset["steps_per_generation"] == prompts * preset["num_generations"]
    assert rows * preset["gradient_accumulation_steps"] == prompts_per_update * preset["num_generations"]
    assert preset["max_steps"] == 720 * 4


def test_a_strategy_of_ones_own_lifts_the_weakest_task_above_uniform_weights() -> None:
    class Uniform(custom_weighting.DistanceToGoal):
        def weights(self, state):
            return np.full(3, 1 / 3)

    own = custom_weighting.simulated_learning(custom_weighting.DistanceToGoal())[-1]
    assert own.min() > custom_weighting.simulated_learning(Uniform())[-1].min()


@pytest.mark.parametrize(
    ("world", "preset"),
    [
        pytest.param("three", train_three_task.LAPTOP, id="three tasks"),
        pytest.param("nine", train_nine_task.LAPTOP_NINE, id="nine tasks", marks=pytest.mark.slow),
    ],
)
def test_the_embedded_default_trains_evaluates_and_draws(world, preset, tmp_path, monkeypatch, capsys) -> None:
    short = replace(tiny_world.WORLDS[world], clean_steps=4, noisy_steps=1)
    monkeypatch.setitem(tiny_world.WORLDS, world, short)
    for name in short.task_names:
        monkeypatch.setitem(tiny_world.TASKS, name, replace(tiny_world.TASKS[name], num_items=200))
    settings = preset | {
        "max_steps": 2,
        "eval_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 24,
        "max_empty_steps": 100,
        "group_filter": "none",
        "oversampling": 1.0,
        "disable_tqdm": True,
        "seed": 3,
    }
    arguments = ["--output_dir", tmp_path / "run", "--cache_dir", tmp_path / "cache"]
    arguments += ["--train_prompts", 40, "--eval_prompts", 6]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    train_three_task.run(world, settings, train_three_task.PAPER)
    printed = capsys.readouterr().out
    for name in (*short.task_names, "worst task", "average", "before", "after"):
        assert name in printed
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert (tmp_path / "run" / "report" / "report.html").exists()
