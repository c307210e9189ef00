"""The surplus of a step: dealt to the ranks, with the log-probabilities of the policy that generated it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..rollouts import GroupFacts, Row, RowStore
from ..rollouts.facts import NOWHERE
from .distributed import Ranks
from .sight import RowPictures, Sight, merge


# From token ids, attention mask, completion length and, where rows have images, what each one's images are to the
# model, to per-token log-probabilities of the current policy.
Forward = Callable[..., torch.Tensor]


def current_logps(trainer: Any) -> Forward:
    """
    Log-probabilities under the policy as it is when they are asked for.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, for its model and the size of its batches.

    Returns:
        `Callable`: of the last tokens of each row, shape `(N, T)`.
    """

    @torch.no_grad()
    def logps(
        tokens: torch.Tensor, attention: torch.Tensor, num_tokens: int, pictures: Sequence[RowPictures] = ()
    ) -> torch.Tensor:
        size = trainer.args.per_device_train_batch_size
        found: torch.Tensor = trainer._get_per_token_logps_and_entropies(
            trainer.model, tokens, attention, num_tokens, batch_size=size, **merge(pictures)
        )[0]
        return found

    return logps


def keep_surplus(
    surplus: GroupFacts,
    generation: int,
    store: RowStore,
    ranks: Ranks,
    forward: Forward | None,
    pad_token_id: int,
    sight: Sight,
) -> GroupFacts:
    """
    Keeps the rows of surplus groups, and forgets all others.

    New rows are dealt to the ranks in equal shares, padded with repetitions, and each rank computes its share's
    log-probabilities; where the generation backend returned them those are used. Rows of earlier steps stay where they
    are.

    Args:
        surplus ([`GroupFacts`]):
            Groups kept for the next step.
        generation (`int`):
            Index of the generation batch that has just been made.
        store ([`RowStore`]):
            This rank's rows; changed in place.
        ranks ([`Ranks`]):
            The processes of the run.
        forward (`Callable`, *optional*):
            Log-probabilities under the current policy. `None` where the host relates rows to the sampling policy
            itself.
        pad_token_id (`int`):
            Padding token.
        sight ([`Sight`]):
            What images are to the model. Rows are kept with references to theirs.

    Returns:
        [`GroupFacts`]: the groups with the new places of their rows.
    """
    exists = surplus.place[:, :, 1] != NOWHERE
    fresh = exists & (surplus.generation == generation)[:, None]
    moving = surplus.place[fresh]  # (M, 2)
    place = surplus.place.copy()
    if len(moving):
        padding = np.repeat(moving[:1], -len(moving) % ranks.size, axis=0)
        rows = ranks.exchange(np.concatenate([moving, padding]), store)
        if forward is not None:
            rows = _with_behaviour(rows, ranks, forward, pad_token_id, sight)
        first = store.add([row.waiting() for row in rows])
        place[fresh] = ranks.places(len(moving) + len(padding), first)[: len(moving)]
    kept = place[exists]
    store.keep(kept[kept[:, 0] == ranks.index, 1].tolist())
    return replace(surplus, place=place)


def _with_behaviour(rows: list[Row], ranks: Ranks, forward: Forward, pad_token_id: int, sight: Sight) -> list[Row]:
    lacks = any(row.logprobs is None or None in row.logprobs for row in rows)
    if not ranks.any(lacks):
        return [row.with_behaviour(row.logprobs or ()) for row in rows]
    logps = _logps(rows, forward, ranks.accelerator.device, pad_token_id, sight)
    return [row.with_behaviour(values) for row, values in zip(rows, logps, strict=True)]


def _logps(
    rows: Sequence[Row], forward: Forward, device: torch.device, pad_token_id: int, sight: Sight
) -> list[list[float]]:
    """Per-token log-probabilities of each completion, without padding."""
    prompts = [torch.tensor(row.prompt_ids, device=device) for row in rows]
    completions = [torch.tensor(row.completion_ids, device=device) for row in rows]

    def padded(columns: list[torch.Tensor], value: int, side: str) -> torch.Tensor:
        return pad_sequence(columns, batch_first=True, padding_value=value, padding_side=side)

    def ones(columns: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.ones_like(ids) for ids in columns]

    tokens = torch.cat([padded(prompts, pad_token_id, "left"), padded(completions, pad_token_id, "right")], dim=1)
    attention = torch.cat([padded(ones(prompts), 0, "left"), padded(ones(completions), 0, "right")], dim=1)
    longest = max(len(row.completion_ids) for row in rows)
    pictures = sight.of_rows(rows, tokens.shape[1] - longest, longest)
    logps = forward(tokens, attention, longest, pictures).float().cpu()  # (N, T)
    return [values[: len(row.completion_ids)].tolist() for values, row in zip(logps, rows, strict=True)]
