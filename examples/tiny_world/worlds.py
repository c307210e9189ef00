"""Decides which tasks make up a world and how strong each is when training starts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WarmTask:
    """
    One task's part in a warm start.

    Args:
        task (`str`):
            Key of `tiny_world.tasks.TASKS`.
        rows (`int`):
            Rows in every optimizer step.
        noise (`float`):
            Share of wrong labels in the noisy phase: the larger, the weaker the start.
        share (`float`, *optional*, defaults to `1.0`):
            Weight of the task's mean loss.
    """

    task: str
    rows: int
    noise: float
    share: float = 1.0


@dataclass(frozen=True)
class World:
    """
    Tasks trained together from one warm start.

    Args:
        name (`str`):
            World name.
        tasks (`tuple[WarmTask, ...]`):
            Its tasks in their order.
        clean_steps (`int`):
            Optimizer steps on right answers.
        noisy_steps (`int`, *optional*, defaults to `60`):
            Optimizer steps on partly wrong answers that follow.
        max_completion_length (`int`, *optional*, defaults to `12`):
            Longest right completion with its end token, rounded up.
    """

    name: str
    tasks: tuple[WarmTask, ...]
    clean_steps: int
    noisy_steps: int = 60
    max_completion_length: int = 12

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.task for task in self.tasks)


_THREE = (WarmTask("countdown", 35, 0.8, 1.2), WarmTask("zebra", 28, 0.3, 1.2), WarmTask("arc_1d", 6, 0.4))
_EIGHT = (
    WarmTask("countdown_2", 30, 0.4, 0.7),
    WarmTask("countdown", 35, 0.8, 1.2),
    WarmTask("zebra_2x2", 10, 0.3, 0.6),
    WarmTask("zebra_2x3", 18, 0.3, 0.9),
    WarmTask("zebra", 24, 0.2, 1.3),
    WarmTask("arc_1d_8", 6, 0.4),
    WarmTask("arc_1d_10", 6, 0.4),
    WarmTask("arc_1d_14", 6, 0.4),
)

WORLDS = {
    world.name: world
    for world in (
        # The embedded default: three tasks of different strength.
        World("three", _THREE, clean_steps=650),
        # Three families by level, every task learnable.
        World("eight", _EIGHT, clean_steps=900, max_completion_length=16),
        # Strongly unequal acceptance: countdown_rare is solved in few samples out of a hundred.
        World(
            "unequal",
            (WarmTask("countdown_rare", 35, 0.95, 1.2), WarmTask("palindrome", 20, 0.2), WarmTask("arc_1d", 6, 0.2)),
            clean_steps=600,
        ),
        # No conflict: three tasks that start equal and are learned about equally fast.
        World(
            "even",
            (WarmTask("palindrome", 20, 0.5), WarmTask("number_sorting", 20, 0.5), WarmTask("arc_1d", 6, 0.5)),
            clean_steps=500,
            max_completion_length=14,
        ),
        # All three levels of the three families.
        World("nine", (*_EIGHT, WarmTask("countdown_4", 10, 0.5, 0.3)), clean_steps=900, max_completion_length=16),
        # Stress: the default world and a task that cannot be learned.
        World("stress", (*_THREE, WarmTask("riddle", 10, 0.0, 0.5)), clean_steps=650),
    )
}
