"""The groups that train, as the host would have generated and scored them."""

from typing import Any, NamedTuple

import numpy as np
import torch

from ..rollouts.collector import CollectedBatch
from ..rollouts.groups import Group, Rollout, join_generation
from .distributed import Ranks


class Replay(NamedTuple):
    """
    What the host's hooks answer while it prepares the groups for its loss.

    Args:
        output (`tuple`):
            Answer of `_generate` for this rank's rows.
        rewards (`torch.Tensor`):
            Answer of `_calculate_rewards`: every rank's rewards in global row order, shape `(B*G, F)`. Rows that only
            fill the shape are unscored, so that they have no part in the host's baselines and no advantage.
        members (`list[tuple[Group, int]]`):
            This rank's rows as group and place in the group.
    """

    output: tuple[Any, ...]
    rewards: torch.Tensor
    members: list[tuple[Group, int]]

    @property
    def rollouts(self) -> list[Rollout]:
        return [group.rollouts[i] for group, i in self.members]

    @property
    def behaviour_logps(self) -> list[tuple[float, ...] | None]:
        """Of carried rows, the log-probabilities under the policy that generated them."""
        return [None if group.logps is None else group.logps[i] for group, i in self.members]

    def logged(self, names: tuple[str, ...]) -> dict[str, list[Any]]:
        """Extra columns of the completions table for this rank's rows; `task` where there are several."""
        rollouts = self.rollouts
        columns = sorted({column for rollout in rollouts for column in rollout.logged})
        logged = {column: [rollout.logged.get(column) for rollout in rollouts] for column in columns}
        if len(names) > 1:
            logged["task"] = [names[group.task_id] for group, _ in self.members]
        return logged


def build_replay(batch: CollectedBatch, ranks: Ranks, num_generations: int) -> Replay:
    """
    The replay of a collected batch on this rank.

    Args:
        batch ([`CollectedBatch`]):
            The batch.
        ranks ([`Ranks`]):
            The processes of the run.
        num_generations (`int`):
            Rollouts per group (G).

    Returns:
        [`Replay`]
    """
    rewards = np.stack([group.rewards for group in batch.groups])  # (B, G, F)
    rewards = np.where(batch.is_filler[:, None, None], np.nan, rewards)
    members = ranks.local([(group, i) for group in batch.groups for i in range(num_generations)])
    masked = ranks.local(batch.is_filler.repeat(num_generations).tolist())
    return Replay(
        output=join_generation([group.rollouts[i] for group, i in members], masked),
        rewards=torch.tensor(
            rewards.reshape(-1, rewards.shape[-1]), dtype=torch.float32, device=ranks.accelerator.device
        ),
        members=members,
    )
