"""
Multi-Task GRPO for TRL: task weights that follow the weakest task, and batches whose task mix holds after filtering.

The numpy side (`trl_mtgrpo.weighting`, `trl_mtgrpo.sampling`) imports without torch; the rest loads on first use.
"""

import importlib
from typing import Any


__version__ = "0.2.0.dev0"

# Public name -> module that defines it.
_HOME = {
    "BatchLedger": "sampling",
    "FixedWeighting": "weighting",
    "ImprovementAwareWeighting": "weighting",
    "MultiTaskGRPOConfig": "host.config",
    "MultiTaskGRPOTrainer": "host.trainer",
    "PlateauGuard": "weighting",
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
    "simulate": "sampling",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
