"""The recipes parse, and their batches are what they say they are."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from trl import ModelConfig, TrlParser

from trl_mtgrpo import MultiTaskGRPOConfig
from trl_mtgrpo.host.settings import resolve


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from train_three_task import ScriptArguments  # noqa: E402


class Batch(NamedTuple):
    """Processes that train, and what a generation batch consists of."""

    processes: int
    prompts: int
    rollouts_per_prompt: int
    updates: int


RECIPES = {
    "one_gpu_lora": Batch(1, 16, 8, 2),
    "pretrained_cpu": Batch(1, 4, 8, 1),
    "pretrained_one_gpu": Batch(1, 24, 8, 1),
    "two_gpus_vllm_colocate": Batch(2, 64, 16, 4),
    "eight_gpus_zero3_vllm_server": Batch(6, 96, 8, 4),
    "paper_three_tasks": Batch(2, 32, 72, 4),
    "paper_nine_tasks": Batch(2, 256, 8, 4),
}


def parsed(name: str) -> tuple[ScriptArguments, MultiTaskGRPOConfig, ModelConfig]:
    parser = TrlParser((ScriptArguments, MultiTaskGRPOConfig, ModelConfig))
    path = ROOT / "examples" / "recipes" / f"{name}.yaml"
    return parser.parse_args_and_config(["--config", str(path), "--use_cpu", "true"])


def test_every_recipe_is_tested() -> None:
    assert {path.stem for path in (ROOT / "examples" / "recipes").glob("*.yaml")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_generation_batch_has_the_stated_shape(name: str) -> None:
    _, args, _ = parsed(name)
    batch = RECIPES[name]
    rows = args.per_device_train_batch_size * batch.processes * args.steps_per_generation
    per_update = args.per_device_train_batch_size * batch.processes * args.gradient_accumulation_steps
    assert args.num_generations == batch.rollouts_per_prompt
    assert divmod(rows, args.num_generations) == (batch.prompts, 0)
    assert divmod(rows, per_update) == (batch.updates, 0)


@pytest.mark.parametrize("name", RECIPES)
def test_saving_and_evaluating_fall_between_generation_batches(name: str) -> None:
    _, args, _ = parsed(name)
    for steps in (args.save_steps, args.eval_steps, args.logging_steps, args.max_steps):
        assert steps % RECIPES[name].updates == 0


@pytest.mark.parametrize("name", RECIPES)
def test_the_header_states_prompts_and_rollouts_and_a_launch_that_exists(name: str) -> None:
    text = (ROOT / "examples" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    batch = RECIPES[name]
    assert f"{batch.prompts} prompts x {batch.rollouts_per_prompt} rollouts" in " ".join(text.replace("#", "").split())
    for path in re.findall(r"(?:accelerate_configs|examples)/[\w/]+\.(?:yaml|py)", text):
        assert (ROOT / path).is_file(), path
    processes = re.search(r"--num_processes (\d+)", text)
    assert (int(processes.group(1)) if processes else 1) == batch.processes


@pytest.mark.parametrize(("name", "prompts_per_update"), [("paper_three_tasks", 8), ("paper_nine_tasks", 64)])
def test_the_papers_minibatches_and_step_counts(name: str, prompts_per_update: int) -> None:
    _, args, _ = parsed(name)
    batch = RECIPES[name]
    assert batch.prompts / batch.updates == prompts_per_update
    assert args.max_steps == 720 * batch.updates
    assert args.eval_steps == 10 * batch.updates
    assert args.num_generations_eval == 8


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("paper_three_tasks", "task_weight_decay", 1e-5),
        ("paper_three_tasks", "group_filter", "mixed_correctness"),
        ("paper_three_tasks", "max_resampling_rounds", 10),
        ("paper_three_tasks", "improvement_clip", 0.1),
        ("paper_three_tasks", "oversampling", 3.0),
        ("paper_three_tasks", "epsilon_high", 0.28),
        ("paper_nine_tasks", "task_weight_decay", 1e-4),
        ("paper_nine_tasks", "group_filter", "reward_variance"),
        ("paper_nine_tasks", "max_resampling_rounds", 2),
        ("paper_nine_tasks", "improvement_clip", 0.2),
    ],
)
def test_the_papers_settings(name: str, field: str, value: object) -> None:
    assert getattr(resolve(parsed(name)[1]), field) == value


def test_the_best_checkpoint_of_the_hardware_recipes_is_that_of_the_worst_task() -> None:
    for name in ("one_gpu_lora", "pretrained_one_gpu", "two_gpus_vllm_colocate", "eight_gpus_zero3_vllm_server"):
        assert parsed(name)[1].metric_for_best_model == "eval_worst_task_accuracy"


def test_lora_is_asked_for_where_the_recipe_says_so() -> None:
    assert all(parsed(name)[2].use_peft for name in ("one_gpu_lora", "pretrained_cpu", "pretrained_one_gpu"))


@pytest.mark.parametrize("name", ["paper_three_tasks", "paper_nine_tasks"])
def test_the_papers_recipes_leave_out_what_the_paper_does_not_have(name: str) -> None:
    args = resolve(parsed(name)[1])
    assert (args.max_surplus_age, args.solved_discount, args.plateau_guard) == (0, 0.0, False)
    assert args.oversampling == 3.0
