"""One task with images trains exactly as `GRPOTrainer` would, parameters and every metric."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from tests.host_runs import Outcome, differences, parameters_of
from tests.images.world import KINDS, image_rows, seeing_parts
from tests.tiny import contains_digit, tiny_config
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


# What only tasks have.
_OWN = ("tasks/", "task_weights/", "sampling/", "rewards/dropped_rows")
_TIMES = ("step_time", "runtime", "per_second", "profiling/")
_HOST = ("use_cpu", "bf16", "logging_steps", "learning_rate", "report_to", "save_strategy", "disable_tqdm")
_HOST += ("per_device_train_batch_size", "per_device_eval_batch_size", "num_generations", "max_completion_length")


class Mended(GRPOTrainer):
    """The host trains on no batch in which some rows lack an image: its processors take an empty list, not `None`."""

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        *output, images, tool_images = super()._generate(prompts)
        return (*output, images and [own or [] for own in images], tool_images)


def outcome(trainer: GRPOTrainer) -> Outcome:
    torch.manual_seed(0)
    trainer.train()
    logs = [
        {
            key.replace("/a/", "/"): value
            for key, value in line.items()
            if not key.removeprefix("eval_").startswith(_OWN) and not any(time in key for time in _TIMES)
        }
        for line in trainer.state.log_history
    ]
    return Outcome(parameters_of(trainer), logs, {}, {}, None, None)


def with_prompts(prompts: list[Any], completions: list[Any], **kwargs: Any) -> list[float]:
    """A reward that depends on all that it is given."""
    column = kwargs.get("image") or kwargs.get("images")
    return [
        digit + len(str(prompt[0]["content"])) % 3 + (0.5 if image else 0.0)
        for digit, prompt, image in zip(contains_digit(completions), prompts, column, strict=True)
    ]


SETTINGS: dict[str, dict[str, Any]] = {
    "aligned": {},
    "small parts": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
    "two updates": {"per_device_train_batch_size": 8, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 4},
    "adapter and kl": {"beta": 0.1},
}


# The host hands models empty pixels for a micro-batch without images, which they cannot take.
CASES = [(images, name) for images in ("one", "several") for name in SETTINGS]
CASES += [("some", "aligned"), ("some", "adapter and kl")]


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize(("images", "name"), CASES)
def test_one_task_is_trained_as_by_the_host(images: str, name: str, model: str, tmp_path: Path) -> None:
    settings = {"max_steps": 3, **SETTINGS[name]}
    options = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])} if "beta" in settings else {}
    host_config = {key: value for key, value in vars(tiny_config(tmp_path)).items() if key in _HOST}
    seeing, processor = seeing_parts(model)
    host = outcome(
        (Mended if images == "some" else GRPOTrainer)(
            model=seeing,
            reward_funcs=[with_prompts],
            args=GRPOConfig(output_dir=str(tmp_path), **(host_config | settings)),
            train_dataset=image_rows(kind=images),
            processing_class=processor,
            **options,
        )
    )
    seeing, processor = seeing_parts(model)
    own = outcome(
        MultiTaskGRPOTrainer(
            model=seeing,
            tasks=[Task("a", image_rows(kind=images), with_prompts, reward_range=(0.0, 4.0))],
            args=tiny_config(tmp_path, method="grpo", **settings),
            processing_class=processor,
            **options,
        )
    )
    assert len(host.logs) == len(own.logs) == settings["max_steps"] + 1
    assert any(line.get("grad_norm", 0.0) > 0 for line in own.logs)
    assert differences(host, own) == []


@pytest.mark.parametrize("images", ["one", "several"])
def test_one_task_is_evaluated_as_by_the_host(images: str, tmp_path: Path) -> None:
    settings = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    host_config = {key: value for key, value in vars(tiny_config(tmp_path)).items() if key in _HOST}
    seeing, processor = seeing_parts("per patch")
    host = outcome(
        GRPOTrainer(
            model=seeing,
            reward_funcs=[with_prompts],
            args=GRPOConfig(output_dir=str(tmp_path), **(host_config | settings)),
            train_dataset=image_rows(kind=images),
            eval_dataset=image_rows("e", 4, images),
            processing_class=processor,
        )
    )
    seeing, processor = seeing_parts("per patch")
    task = Task(
        "a", image_rows(kind=images), with_prompts, reward_range=(0.0, 4.0), eval_dataset=image_rows("e", 4, images)
    )
    own = outcome(
        MultiTaskGRPOTrainer(
            model=seeing,
            tasks=[task],
            args=tiny_config(tmp_path, method="grpo", **settings),
            processing_class=processor,
        )
    )
    evaluated = [line for line in own.logs if "eval_reward" in line]
    assert len(evaluated) == 2
    own_lines = [
        {k: v for k, v in line.items() if k in host_line} for line, host_line in zip(own.logs, host.logs, strict=True)
    ]
    assert differences(host, own._replace(logs=own_lines)) == []
