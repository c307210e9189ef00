"""
One generation batch: what is drawn, generated, kept and trained.

The loop is run by the trainer, whose rollouts come from a model, and by [`simulate`], whose rollouts are counted. This
package needs numpy and the standard library only.
"""

from .batch import CollectedBatch
from .facts import GroupFacts
from .judging import GroupFilter, Judge, Verdict
from .loop import BatchLoop, BatchSampler, LoopState, RolloutSource
from .pilot import PilotRule, loss_weights
from .population import PassRates, PopulationResult, simulate_prompts
from .prompts import CorrectingSource, CountedPrompts, IndexPrompts, Prompts, PromptSource
from .remembered import RememberedPrompts
from .simulation import SimulationResult, simulate
from .store import Row, RowStore


__all__ = [
    "BatchLoop",
    "BatchSampler",
    "CollectedBatch",
    "CorrectingSource",
    "CountedPrompts",
    "GroupFacts",
    "GroupFilter",
    "IndexPrompts",
    "Judge",
    "LoopState",
    "PassRates",
    "PilotRule",
    "PopulationResult",
    "PromptSource",
    "Prompts",
    "RememberedPrompts",
    "RolloutSource",
    "Row",
    "RowStore",
    "SimulationResult",
    "Verdict",
    "loss_weights",
    "simulate",
    "simulate_prompts",
]
