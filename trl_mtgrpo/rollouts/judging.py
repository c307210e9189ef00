"""Which groups may train: exactly those that move the model, less what a filter leaves out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..sampling import group_outcomes


# From rewards of shape `(N, G)` to booleans of shape `(N,)`.
GroupFilter = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


class Verdict(NamedTuple):
    """
    What came of N groups.

    Args:
        accepted (`numpy.ndarray` of `bool`, shape `(N,)`):
            Which of them may train.
        outcome (`numpy.ndarray` of `int`, shape `(N,)`):
            Why, a position in `OUTCOMES`.
    """

    accepted: NDArray[np.bool_]
    outcome: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judge:
    """
    The rule that says which groups may train, exact with respect to the host's arithmetic of advantages.

    Args:
        part_weights (`numpy.ndarray` of shape `(K, F)`):
            Weights of each task's functions.
        has_outcome (`numpy.ndarray` of `bool`, shape `(K,)`):
            Tasks that say of each completion whether it is correct.
        strict (`bool`):
            Whether a group needs a correct and a wrong member, in tasks with an outcome.
        keeps_all (`bool`):
            Whether every group trains, whatever came of it.
        aggregation (`str`):
            The host's `multi_objective_aggregation`.
        scale_rewards (`str`):
            The host's `scale_rewards`.
        group_filter (`Callable`, *optional*):
            A filter of the user's own, from rewards `(N, G)` to keep `(N,)`. It can only drop groups that move the
            model, never keep one that does not.
    """

    part_weights: NDArray[np.float64]
    has_outcome: NDArray[np.bool_]
    strict: bool
    keeps_all: bool
    aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    scale_rewards: str = "group"
    group_filter: GroupFilter | None = None

    def __call__(
        self,
        task: NDArray[np.int64],
        reward: NDArray[np.float64],
        success: NDArray[np.float64],
        parts: NDArray[np.float32],
        in_loss: NDArray[np.bool_],
    ) -> Verdict:
        """
        Judges N groups.

        Args:
            task (`numpy.ndarray` of shape `(N,)`):
                Task of each group.
            reward (`numpy.ndarray` of shape `(N, G)`):
                Reward of each member.
            success (`numpy.ndarray` of shape `(N, G)`):
                Success of each member, NaN where unknown.
            parts (`numpy.ndarray` of shape `(N, G, F)`):
                Values of the task's functions.
            in_loss (`numpy.ndarray` of `bool`, shape `(N, G)`):
                Members with a token in the loss.

        Returns:
            [`Verdict`]
        """
        outcome = np.zeros(len(task), dtype=np.int64)
        for k in np.unique(task):
            mine = task == k
            options: dict[str, Any] = {
                "reward_weights": self.part_weights[k],
                "aggregation": self.aggregation,
                "scale_rewards": self.scale_rewards,
                "in_loss": in_loss[mine],
            }
            # Without a reward a member says nothing, whatever an outcome function says of it.
            scored = np.where(np.isnan(reward[mine])[:, :, None], np.nan, parts[mine])
            if self.has_outcome[k]:
                options |= {"correct": success[mine], "require_mixed": self.strict}
            outcome[mine] = group_outcomes(scored, **options)
        accepted = outcome == 0
        if self.group_filter is not None:
            accepted &= _checked(self.group_filter(reward), len(task))
        return Verdict(np.ones(len(task), dtype=bool) if self.keeps_all else accepted, outcome)


def _checked(keep: Any, num_groups: int) -> NDArray[np.bool_]:
    kept = np.asarray(keep)
    if kept.shape != (num_groups,) or kept.dtype != np.bool_:
        raise ValueError(
            f"`group_filter` must return booleans of shape ({num_groups},), got {kept.dtype} of shape {kept.shape}. "
            "Return one value per group."
        )
    return kept
