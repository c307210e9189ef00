"""The environments of a run: that they can be reset, what was done in them, and that they are closed."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ..tasks import TaskMixture
from ..tasks.environments import TaskEnvironments, tool_calls
from ..tasks.failures import RewardError, describe_failures
from .distributed import Ranks
from .doors import Generation


class Agents:
    """
    What the trainer does with environments besides generating.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, after the host's constructor.
        mixture ([`TaskMixture`]):
            The tasks, some of which have tools or environments.
        ranks ([`Ranks`]):
            The processes of the run.
    """

    def __init__(self, trainer: Any, mixture: TaskMixture, ranks: Ranks) -> None:
        assert mixture.environments is not None
        self.trainer, self.mixture, self.ranks = trainer, mixture, ranks
        self.environments: TaskEnvironments = mixture.environments
        for name, order in self.environments.tools.items():
            # The host sorts what it finds in a class; the model is told of tools in the user's order.
            trainer._env_tools[name].sort(key=lambda tool, order=order: order.index(tool.__name__))

    def check_resets(self) -> None:
        """
        Raises on every rank what a `reset` raised on one, before anything is generated.

        Raises:
            RewardError: naming the task and the cause.
        """
        failures = [] if self.environments.is_closed else self.mixture.failures.take()
        if not self.environments.is_closed and self.ranks.any(bool(failures)):
            raise RewardError(describe_failures(self.ranks.gather_objects(failures)))

    def activity(self, generation: Generation) -> list[tuple[int, ...]]:
        """Turns of the model, tool calls and those of them that failed, per row of a generation."""
        rows = zip(generation.column("completions"), self.trainer.environments, strict=True)
        return [_activity(completion, instance) for completion, instance in rows]

    @contextmanager
    def without_tools(self, task_ids: Sequence[int]) -> Iterator[None]:
        """While it lasts the host's rows are those of tasks that have no tools; every other row of it comes back."""
        trainer, names = self.trainer, [self.mixture.names[k] for k in task_ids]
        before = getattr(trainer, "_batch_environments", None), trainer.environments
        trainer._batch_environments = names
        trainer.environments = [trainer._environment_pool[name][0] for name in names]
        try:
            yield
        finally:
            trainer._batch_environments, trainer.environments = before

    def close(self) -> None:
        """Closes every environment; a later run makes new ones."""
        pools: Sequence[Any] = list(self.trainer._environment_pool.values())
        self.environments.close([instance for pool in pools for instance in pool])


def resting(mixture: TaskMixture) -> AbstractContextManager[None]:
    """While it lasts no environment is made or reset: what is prepared was played before."""
    return nullcontext() if mixture.environments is None else mixture.environments.closed()


def _activity(completion: Any, instance: Any) -> tuple[int, ...]:
    if isinstance(completion, str):
        return 1, 0, 0
    # A call of a tool that the task does not have reaches nothing that could count it.
    unknown = sum(m["role"] == "tool" and not hasattr(instance, m["name"]) for m in completion)
    calls, failures = tool_calls(instance)
    return sum(m["role"] == "assistant" for m in completion), calls + unknown, failures + unknown
