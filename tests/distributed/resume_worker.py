"""One rank of a run that saves, or of one that continues: `resume_worker.py FOLDER MODEL [CHECKPOINT]`."""

import json
import os
import sys
from pathlib import Path

import torch

from tests.resume_runs import TIMES, recorded_tasks, state_json
from tests.tiny import tiny_config, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer


RANK = int(os.environ["RANK"])


def main(folder: Path, model: str, checkpoint: str | None = None) -> None:
    prompts: list[str] = []
    settings = {"per_device_train_batch_size": 4, "steps_per_generation": 2, "max_steps": 8, "oversampling": 3.0}
    trainer = MultiTaskGRPOTrainer(
        model=model,
        tasks=recorded_tasks(prompts, size=5),
        args=tiny_config(folder, save_strategy="steps", save_steps=4, **settings),
        processing_class=tiny_tokenizer(),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    result = {
        "prompts": prompts,
        "world_size": trainer.accelerator.num_processes,
        "wrapped": type(trainer.model_wrapped).__name__,
        "state": state_json(trainer),
        "carried": len(trainer.multi_task_state.carried),
        "random": torch.random.get_rng_state().tolist(),
        "logs": [
            {name: value for name, value in entry.items() if not name.startswith(TIMES) and name != "train_loss"}
            for entry in trainer.state.log_history
        ],
    }
    (folder / f"rank{RANK}.json").write_text(json.dumps(result), encoding="utf-8")
    torch.distributed.barrier()
    # gloo threads abort some interpreters on their way out, after all work is done.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
