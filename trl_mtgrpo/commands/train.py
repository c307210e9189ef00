"""`mtgrpo train`: trains what a task file says."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def run(options: argparse.Namespace, overrides: Sequence[str]) -> str:
    """
    Trains.

    Args:
        options (`argparse.Namespace`):
            `config`, the task file, and `model` in place of its own.
        overrides (`Sequence[str]`):
            Settings that win over the file.

    Returns:
        `str`: where the model is; empty on processes other than the main one.

    Raises:
        ValueError: for a file that cannot be trained as it stands.
    """
    from trl_mtgrpo import MultiTaskGRPOTrainer

    from .defects import file_defects, row_defects
    from .reading import read_task_file
    from .run_settings import adapter_of, model_of, settings_of
    from .task_rows import load_task

    file = read_task_file(Path(options.config), options.model)
    settings = settings_of(file, overrides)
    _check_processes(file.processes, settings.world_size, file.path.name)
    _refuse(file_defects(file, settings), file.path.name)
    with settings.main_process_first(desc="loading the tasks"):
        tasks = [load_task(file, entry) for entry in file.tasks]
    _refuse(row_defects(file, tasks), file.path.name)
    trainer = MultiTaskGRPOTrainer(model=model_of(file), tasks=tasks, args=settings, peft_config=adapter_of(file))
    resumed = settings.resume_from_checkpoint
    # Typed, it is text: `true` means the last checkpoint.
    trainer.train(resume_from_checkpoint=True if str(resumed).lower() == "true" else resumed)
    trainer.save_model()
    trainer.save_state()
    main = trainer.accelerator.is_main_process
    if settings.push_to_hub:
        trainer.push_to_hub()
    trainer.accelerator.end_training()
    return f"trained {trainer.state.global_step} steps; the model is in {settings.output_dir}" if main else ""


def _check_processes(meant: int | None, found: int, name: str) -> None:
    if meant is not None and meant != found:
        raise ValueError(
            f"`processes` must be the number of processes that train, got {meant} in {name} and {found} running. "
            "Launch "
            f"{meant}, or change it together with the batch: `mtgrpo check {name} --processes {found}` shows what it "
            "becomes."
        )


def _refuse(defects: Sequence[str], name: str) -> None:
    if defects:
        raise ValueError("\n  ".join([f"{name} must have none of these defects. Correct them first.", *defects]))
