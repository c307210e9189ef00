"""
How many groups of each task are generated, which of them carry a gradient, and which train.

This package needs numpy and the standard library only.
"""

from .acceptance import AcceptanceEstimate
from .filtering import OUTCOMES, advantage_is_zero, group_outcomes, has_mixed_correctness, has_reward_variance
from .forgetting import ForgettingAlarm, ForgettingState
from .ledger import BatchLedger
from .prompt_memory import Corrected, PromptMemory, Seen
from .ratio_preserving import RatioPreservingSampler
from .requests import RequestGoal, apportion, size_requests
from .shares import batch_shares, count_unsolved, shares_without_refill, unsolved_shares
from .stalls import StallDoctor, StallState
from .streams import IndexStream


__all__ = [
    "OUTCOMES",
    "AcceptanceEstimate",
    "BatchLedger",
    "Corrected",
    "ForgettingAlarm",
    "ForgettingState",
    "IndexStream",
    "PromptMemory",
    "RatioPreservingSampler",
    "RequestGoal",
    "Seen",
    "StallDoctor",
    "StallState",
    "advantage_is_zero",
    "apportion",
    "batch_shares",
    "count_unsolved",
    "group_outcomes",
    "has_mixed_correctness",
    "has_reward_variance",
    "shares_without_refill",
    "size_requests",
    "unsolved_shares",
]


def __getattr__(name: str) -> None:
    if name in ("BatchSampler", "SimulationResult", "simulate"):
        raise ImportError(f"`trl_mtgrpo.sampling.{name}` is in `trl_mtgrpo.rollouts` now. Import it from there.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
