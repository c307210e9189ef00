"""What the tasks of a mixture say about their programs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rollouts.traces import Job, Trace
from ..tasks import Task, TaskMixture
from ..tasks.failures import FormatFailure
from ..tasks.names import close_names
from ..tasks.rewards import AsyncTaskReward, TaskReward, function_name, is_async
from ..tasks.rows import TaskRow


class ProgramTasks:
    """
    The programs of a mixture.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.

    Attributes:
        programs (`dict[int, Task]`):
            The tasks with a program, by position.
        module_rewards (`list[tuple[int, str, TaskReward]]`):
            Task, module and function of every reward of a module.
    """

    def __init__(self, mixture: TaskMixture) -> None:
        self.mixture = mixture
        self.programs: dict[int, Task] = {k: t for k, t in enumerate(mixture.tasks) if t.program is not None}
        self._runs = {k: _as_program(task) for k, task in self.programs.items()}
        self.module_rewards = [
            (
                k,
                module,
                (AsyncTaskReward if is_async(function) else TaskReward)(
                    function,
                    task.name,
                    k,
                    f"{task.name}.{module}/{function_name(function)}",
                    mixture.failures,
                    "module_rewards",
                    mixture.on_error,
                    mixture.timeout,
                ),
            )
            for k, task in self.programs.items()
            for module, function in (task.module_rewards or {}).items()
        ]
        self._check_names()

    def __bool__(self) -> bool:
        return bool(self.programs)

    def sample_with(self, **options: Any) -> None:
        """Tells programs that name sampling options which ones the run has."""
        for program in self._runs.values():
            if isinstance(getattr(program, "sampling", None), dict):
                program.sampling.update(options)

    @property
    def has_program(self) -> NDArray[np.bool_]:
        """Which tasks have one, shape `(K,)`."""
        return np.array([task.program is not None for task in self.mixture.tasks], dtype=bool)

    def job(self, row: TaskRow) -> Job:
        """The rollout of a row."""
        task, program = self.programs[row.task_id], self._runs[row.task_id]
        unparsed = (FormatFailure, *getattr(program, "unparsed", ()))
        return Job(program, row.columns, (*task.failure_exceptions, *unparsed), unparsed, row.task_id)

    def with_trace(self, row: TaskRow, trace: Trace) -> TaskRow:
        """The row as the functions of its task get it."""
        more = {"outputs": trace.output, "traces": trace.calls, "failed": trace.failed}
        return row._replace(columns={**row.columns, **more})

    def is_trained(self, task_id: int, module: str) -> bool:
        """Whether a module's calls are trained."""
        trained = self.programs[task_id].trainable_modules
        return trained is None or module in trained

    def unknown(self, task_id: int, known: list[str]) -> list[tuple[str, str]]:
        """Options of a task that name modules which its rollouts did not call, with what to say about each."""
        task = self.programs[task_id]
        found = []
        for option, names in (
            ("trainable_modules", task.trainable_modules),
            ("module_rewards", task.module_rewards),
        ):
            unseen = [name for name in names or () if name not in known]
            if unseen:
                found.append(
                    (
                        option,
                        f"names modules that no rollout of the first batch called: {unseen}. Called were {known}."
                        f"{close_names(unseen, known)} Correct the names, unless these calls come rarely.",
                    )
                )
        return found

    def _check_names(self) -> None:
        for k, task in self.programs.items():
            names = getattr(self._runs[k], "module_names", None)
            unknown = [name for name in task.trainable_modules or () if names is not None and name not in names]
            if unknown:
                raise ValueError(
                    f"`trainable_modules` of task '{task.name}' must name modules of its program, got {unknown} "
                    f"beside {list(names or ())}.{close_names(unknown, list(names or ()))} Correct the names."
                )


def _as_program(task: Task) -> Any:
    """The program of a task as `program(example, call)`; one of DSPy is recognised by its class."""
    if any(kind.__module__.split(".")[0] == "dspy" for kind in type(task.program).__mro__):
        from ..tasks.sources.dspy import DspyProgram

        return DspyProgram(task.program)
    return task.program
