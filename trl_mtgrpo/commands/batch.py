"""Decides how large a batch is: TRL counts rollouts per device, a reader thinks in groups per batch."""

from dataclasses import dataclass

from trl_mtgrpo import MultiTaskGRPOConfig


@dataclass(frozen=True)
class Batch:
    """
    One generation batch.

    Args:
        processes (`int`):
            Processes that train.
        groups (`int`):
            Groups per generation batch (B).
        generations (`int`):
            Rollouts per group (G).
        updates (`int`):
            Optimizer steps per generation batch.
        optimizer_steps (`int`):
            Optimizer steps of the run.
        steps_per_epoch (`int`):
            Optimizer steps in which as many groups are trained as there are rows.
    """

    processes: int
    groups: int
    generations: int
    updates: int
    optimizer_steps: int
    steps_per_epoch: int

    @classmethod
    def of(cls, settings: MultiTaskGRPOConfig, processes: int, num_rows: int) -> "Batch":
        """
        The batch of a run.

        Args:
            settings ([`MultiTaskGRPOConfig`]):
                Settings whose per-device sizes are those of all processes together.
            processes (`int`):
                Processes that train.
            num_rows (`int`):
                Training rows of all tasks.

        Returns:
            [`Batch`]
        """
        generations = settings.num_generations
        assert settings.generation_batch_size is not None
        assert settings.steps_per_generation is not None
        assert generations is not None
        groups = settings.generation_batch_size // generations
        updates = max(
            settings.steps_per_generation * settings.num_iterations // settings.gradient_accumulation_steps, 1
        )
        per_epoch = max(num_rows // groups, 1) * updates
        steps = settings.max_steps if settings.max_steps > 0 else round(settings.num_train_epochs * per_epoch)
        return cls(processes, groups, generations, updates, steps, per_epoch)

    @property
    def batches(self) -> int:
        """Generation batches of the run."""
        return max(-(-self.optimizer_steps // self.updates), 1)
