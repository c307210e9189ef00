"""The log-probabilities under which carried groups were generated, computed before the policy moves on."""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from ..improvement.measure import Forward
from ..rollouts.groups import COMPLETION_IDS, LOGPROBS, PROMPT_IDS, Group, Rollout
from .distributed import Ranks


def with_behaviour_policy(
    groups: Sequence[Group], ranks: Ranks, forward: Forward, pad_token_id: int
) -> tuple[Group, ...]:
    """
    Groups with the log-probabilities of the policy that generated them.

    Those that the generation backend returned are used; otherwise the ranks share one forward over the new groups.

    Args:
        groups (`list[Group]`):
            Groups with their rollouts, the same on every rank. Those that have log-probabilities keep them.
        ranks ([`Ranks`]):
            The processes of the run.
        forward (`Callable`):
            Log-probabilities under the current policy, which generated the new groups.
        pad_token_id (`int`):
            Padding token.

    Returns:
        `tuple[Group, ...]`: in the same order.
    """
    fresh = [group for group in groups if group.logps is None]
    rollouts = [rollout for group in fresh for rollout in group.rollouts]
    if not rollouts:
        return tuple(groups)
    sampled = [rollout.fields[LOGPROBS] for rollout in rollouts]
    if all(row is not None and None not in row for row in sampled):
        logps = [list(row) for row in sampled]
    else:
        # Every rank computes an equal share; the padding rows at the end are dropped by the lookup below.
        padded = rollouts + rollouts[:1] * (-len(rollouts) % ranks.size)
        logps = ranks.gather_objects(_logps(ranks.local(padded), forward, ranks.accelerator.device, pad_token_id))
    by_group, start = {}, 0
    for group in fresh:
        by_group[id(group)] = group.with_logps(logps[start : start + len(group.rollouts)])
        start += len(group.rollouts)
    return tuple(by_group.get(id(group), group) for group in groups)


def _logps(
    rollouts: Sequence[Rollout], forward: Forward, device: torch.device, pad_token_id: int
) -> list[list[float]]:
    """Per-token log-probabilities of each completion, without padding."""
    prompts = [torch.tensor(rollout.fields[PROMPT_IDS], device=device) for rollout in rollouts]
    completions = [torch.tensor(rollout.fields[COMPLETION_IDS], device=device) for rollout in rollouts]
    tokens = torch.cat(
        [
            pad_sequence(prompts, batch_first=True, padding_value=pad_token_id, padding_side="left"),
            pad_sequence(completions, batch_first=True, padding_value=pad_token_id),
        ],
        dim=1,
    )
    attention = torch.cat(
        [
            pad_sequence([torch.ones_like(ids) for ids in prompts], batch_first=True, padding_side="left"),
            pad_sequence([torch.ones_like(ids) for ids in completions], batch_first=True),
        ],
        dim=1,
    )
    num_tokens = max(rollout.num_tokens for rollout in rollouts)
    logps = forward(tokens, attention, num_tokens).float().cpu()  # (N, T)
    return [row[: rollout.num_tokens].tolist() for row, rollout in zip(logps, rollouts, strict=True)]
