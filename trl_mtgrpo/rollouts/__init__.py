"""
One generation batch: what is drawn, generated, kept and trained.

The loop is run by the trainer, whose rollouts come from a model, and by [`simulate`], whose rollouts are counted. This
package needs numpy and the standard library only.
"""

from .facts import GroupFacts
from .judging import GroupFilter, Judge, Verdict
from .loop import BatchLoop, BatchSampler, CollectedBatch, LoopState, RolloutSource
from .prompts import CountedPrompts, IndexPrompts, Prompts, PromptSource
from .simulation import SimulationResult, simulate
from .store import Row, RowStore


__all__ = [
    "BatchLoop",
    "BatchSampler",
    "CollectedBatch",
    "CountedPrompts",
    "GroupFacts",
    "GroupFilter",
    "IndexPrompts",
    "Judge",
    "LoopState",
    "PromptSource",
    "Prompts",
    "RolloutSource",
    "Row",
    "RowStore",
    "SimulationResult",
    "Verdict",
    "simulate",
]
