"""
Multi-Task GRPO for TRL: task weights that follow the weakest task, and batches whose task mix holds after filtering.

The numpy side (`trl_mtgrpo.weighting`, `trl_mtgrpo.sampling`) imports without torch; the rest loads on first use.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any


__version__ = "0.2.0"

# Public name -> module that defines it.
_HOME = {
    "BatchLedger": "sampling",
    "FixedWeighting": "weighting",
    "FormatFailure": "tasks.failures",
    "ImprovementAwareWeighting": "weighting",
    "MultiTaskGRPOConfig": "host.config",
    "MultiTaskGRPOTrainer": "host.trainer",
    "PlateauGuard": "weighting",
    "ProgramFailure": "tasks.failures",
    "RatioPreservingSampler": "sampling",
    "RewardOnlyWeighting": "weighting",
    "SelfEvolvingCurriculum": "weighting",
    "Task": "tasks.task",
    "TaskAwareSampler": "host.task_sampler",
    "TaskMixture": "tasks.mixture",
    "TaskSignal": "weighting",
    "TaskWeightCallback": "host.callbacks",
    "TaskWeighting": "weighting",
    "WeightingState": "weighting",
    "has_mixed_correctness": "sampling",
    "has_reward_variance": "sampling",
    "reasoning_gym_task": "tasks.sources.reasoning_gym",
    "simulate": "rollouts",
}

# Where the modules of version 0.1 that people import from are now. `tasks` and `sampling` are still there.
_MOVED = {
    "accounting": "sampling.accounting",
    "answers": "tasks.answers",
    "callbacks": "host.callbacks",
    "checkpoints": "state.checkpoints",
    "config": "host.config",
    "evaluation": "host.evaluation",
    "failures": "tasks.failures",
    "forecast": "report.forecast",
    "method": "host.method",
    "mixture": "tasks.mixture",
    "parquet": "tasks.sources.parquet",
    "reasoning_gym": "tasks.sources.reasoning_gym",
    "reporting": "report.reporting",
    "rewards": "tasks.rewards",
    "signals": "weighting.signals",
    "task_sampler": "host.task_sampler",
    "trainer": "host.trainer",
}

__all__ = ["__version__", *sorted(_HOME)]


class _Moved(MetaPathFinder):
    """Says where a module of version 0.1 went, instead of that there is none."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        name = fullname.removeprefix(f"{__name__}.")
        if fullname != name and name in _MOVED:
            public = [public for public, home in _HOME.items() if home == _MOVED[name]]
            cure = f"`from {__name__} import {', '.join(public)}`" if public else f"`{__name__}.{_MOVED[name]}`"
            raise ModuleNotFoundError(
                f"`{fullname}` must be imported from where it is now: use {cure}.", name=fullname
            )


if not any(type(finder).__name__ == "_Moved" for finder in sys.meta_path):
    sys.meta_path.append(_Moved())


if TYPE_CHECKING:
    from .host.callbacks import TaskWeightCallback as TaskWeightCallback
    from .host.config import MultiTaskGRPOConfig as MultiTaskGRPOConfig
    from .host.task_sampler import TaskAwareSampler as TaskAwareSampler
    from .host.trainer import MultiTaskGRPOTrainer as MultiTaskGRPOTrainer
    from .rollouts import simulate as simulate
    from .sampling import BatchLedger as BatchLedger
    from .sampling import RatioPreservingSampler as RatioPreservingSampler
    from .sampling import has_mixed_correctness as has_mixed_correctness
    from .sampling import has_reward_variance as has_reward_variance
    from .tasks.failures import FormatFailure as FormatFailure
    from .tasks.failures import ProgramFailure as ProgramFailure
    from .tasks.mixture import TaskMixture as TaskMixture
    from .tasks.sources.reasoning_gym import reasoning_gym_task as reasoning_gym_task
    from .tasks.task import Task as Task
    from .weighting import FixedWeighting as FixedWeighting
    from .weighting import ImprovementAwareWeighting as ImprovementAwareWeighting
    from .weighting import PlateauGuard as PlateauGuard
    from .weighting import RewardOnlyWeighting as RewardOnlyWeighting
    from .weighting import SelfEvolvingCurriculum as SelfEvolvingCurriculum
    from .weighting import TaskSignal as TaskSignal
    from .weighting import TaskWeighting as TaskWeighting
    from .weighting import WeightingState as WeightingState
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
