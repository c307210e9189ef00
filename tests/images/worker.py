"""One rank of a run of tasks with images and without; writes what this rank saw to `<folder>/rank<r>.json`."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig

from tests.images.world import asked, image_rows, seeing_trainer
from tests.resume_runs import TIMES, state_json
from tests.tiny import contains_digit, contains_lower
from trl_mtgrpo import Task


# Also measured by a clock, by the host alone.
OF_EVALUATION = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")

RANK = int(os.environ["RANK"])


def tasks() -> list[Task]:
    return [
        Task("seen", image_rows("s", 12, "several"), contains_digit, success_threshold=1.0),
        Task(
            "text",
            Dataset.from_dict({"prompt": asked("t", 12)}),
            contains_lower,
            success_threshold=1.0,
            eval_dataset=Dataset.from_dict({"prompt": asked("e", 4)}),
        ),
    ]


SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "steps_per_generation": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 5,
    "oversampling": 3.0,
    "gradient_checkpointing": True,
    "save_steps": 3,
}


def run(scenario: str, folder: Path) -> dict[str, Any]:
    settings = SETTINGS | {"save_strategy": "no" if scenario == "train" else "steps"}
    if scenario != "train":
        settings["peft_config"] = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = seeing_trainer(folder, tasks(), "per patch", **settings)
    images, compute = [], trainer._compute_loss

    def computed(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        images.append(sum(inputs.get("num_images") or [0]))
        return compute(model, inputs)

    trainer._compute_loss = computed
    before = trainer._run.prepare
    waited: list[int] = []

    def prepared(host: Any, inputs: Any) -> Any:
        waited.append(sum(bool(row.image_digests) for row in trainer._run.store._rows.values()))
        return before(host, inputs)

    trainer._run.prepare = prepared
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-3") if scenario == "resumed" else None)
    metrics = trainer.evaluate()
    return {
        "images": images,
        "waited": waited,
        "wrapped": type(trainer.model_wrapped).__name__,
        "optimizer": type(getattr(trainer.model_wrapped, "optimizer", None)).__name__,
        "state": state_json(trainer),
        "weights": trainer.task_weights,
        "trained": trainer.multi_task_state.groups.trained.tolist(),
        "evaluated": metrics["eval_tasks/text/completions"],
        "logs": [
            {
                name: value
                for name, value in line.items()
                if not name.removeprefix("eval_").startswith((*TIMES, *OF_EVALUATION)) and name != "train_loss"
            }
            for line in trainer.state.log_history
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario")
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    result = run(arguments.scenario, arguments.folder)
    (arguments.folder / f"rank{RANK}.json").write_text(json.dumps(result), encoding="utf-8")
    torch.distributed.barrier()
    # gloo threads abort some interpreters on their way out, after all work is done.
    os._exit(0)


if __name__ == "__main__":
    main()
