"""When the task weights move: after the optimizer step, before logging and saving."""

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


if TYPE_CHECKING:
    from .trainer import MultiTaskGRPOTrainer


class TaskWeightCallback(TrainerCallback):
    """
    Updates the task weights of a [`MultiTaskGRPOTrainer`] at the end of each optimizer step.

    The trainer installs it by itself. It only calls [`MultiTaskGRPOTrainer.update_task_weights`], which a training
    loop of one's own can call instead.

    Args:
        trainer ([`MultiTaskGRPOTrainer`]):
            The trainer whose weights are updated.
    """

    def __init__(self, trainer: "MultiTaskGRPOTrainer") -> None:
        self.trainer = trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures what the optimizer step improved and moves the weights."""
        self.trainer.update_task_weights()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reports where the run's rollouts went."""
        self.trainer.report_rollouts()
