"""From chosen groups to what the host's hooks answer while it prepares them for its loss."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..rollouts import CollectedBatch, GroupFacts, Row, RowStore
from ..rollouts.facts import NOWHERE
from ..rollouts.store import digest
from ..tasks import TaskMixture
from ..tasks.images import images_of
from .distributed import Ranks
from .doors import Replay, write_generation


class LossRows(NamedTuple):
    """
    The rows of a batch on this rank, in the host's order.

    Args:
        rows (`list[Row]`):
            This rank's rows; the place of a member that does not exist is taken by another row of the batch.
        is_filler (`numpy.ndarray` of `bool`, shape `(n,)`):
            Which of them only fill the shape.
        door ([`Replay`]):
            What the host is answered.
        host_rows (`list[dict[str, Any]]`):
            The host's copies of the rows.
    """

    rows: list[Row]
    is_filler: NDArray[np.bool_]
    door: Replay
    host_rows: list[dict[str, Any]]


def filler_rows(batch: CollectedBatch) -> NDArray[np.bool_]:
    """Which rows of a batch are outside the loss, shape `(B, G)`: groups that fill the batch, members that are not."""
    filler: NDArray[np.bool_] = batch.is_filler[:, None] | (batch.groups.place[:, :, 1] == NOWHERE)
    return filler


def loss_rows(batch: CollectedBatch, mixture: TaskMixture, store: RowStore, ranks: Ranks) -> LossRows:
    """
    Brings the rows of a batch to the ranks that train them.

    Args:
        batch ([`CollectedBatch`]):
            The batch.
        mixture ([`TaskMixture`]):
            The tasks.
        store ([`RowStore`]):
            This rank's rows.
        ranks ([`Ranks`]):
            The processes of the run.

    Returns:
        [`LossRows`]
    """
    groups = batch.groups
    num_groups, size = groups.place.shape[:2]
    filler = filler_rows(batch)
    # Rows that fill the shape are unscored, so that they have no part in the host's baselines and no advantage. What
    # members that do not exist have is said by their group.
    values = mixture.scoring.host_values(
        groups.parts.reshape(num_groups * size, -1), groups.task.repeat(size), groups.reward.reshape(-1)
    )
    values[batch.is_filler.repeat(size)] = np.nan
    rows = _with_images(ranks.exchange(_existing(groups), store), mixture, ranks)
    outside = np.array(ranks.local(filler.ravel().tolist()), dtype=bool)
    nobody = ranks.local((groups.place[:, :, 1] == NOWHERE).ravel().tolist())
    # In the completions table a row that nobody wrote has no columns of its own.
    rows = [replace(row, logged={}) if no else row for row, no in zip(rows, nobody, strict=True)]
    door = Replay(
        output=write_generation(_fields(rows, outside)),
        values=torch.tensor(values, dtype=torch.float32, device=ranks.accelerator.device),
    )
    shows = mixture.images.any or any(row.images for row in rows)
    host_rows = [
        {"prompt": row.prompt, **mixture.routing(row.task_id), **({"images": list(row.images or ())} if shows else {})}
        for row in rows
    ]
    return LossRows(rows, outside, door, host_rows)


def _with_images(rows: Sequence[Row], mixture: TaskMixture, ranks: Ranks) -> list[Row]:
    """Rows that waited get back their images from the rows of their tasks."""
    lacking = {(row.task_id, row.index): row.image_digests for row in rows if row.images is None}
    found = dict(zip(lacking, map(images_of, (r.columns for r in mixture.rows(list(lacking)))), strict=True))
    changed = [place for place, images in found.items() if [digest(image) for image in images] != lacking[place]]
    if mixture.images.any and (changed := ranks.gather_objects(changed)):
        task, row = changed[0]
        raise ValueError(
            f"`train_dataset` of task '{mixture.names[task]}' must give the same images each time a row is read, "
            f"got others for row {row}, whose rollouts waited for a later step. Let its transform depend on the row "
            "alone, or set `max_surplus_age=0`."
        )
    return [replace(row, images=found[row.task_id, row.index]) if row.images is None else row for row in rows]


def _existing(groups: GroupFacts) -> NDArray[np.int64]:
    """
    The place of each member, shape `(B*G, 2)`. For one that does not exist: of its group's first member; of a group
    without any, the batch's first.
    """
    exists = groups.place[:, :, 1] != NOWHERE
    if not exists.any():
        raise RuntimeError(
            "The batch must hold a completion to train on, got none: the programs ended before they called the model. "
            "Look at what they raise (metric `tasks/<name>/failed_rollouts`)."
        )
    everyones = groups.place[exists][0]
    first = groups.place[np.arange(len(groups)), exists.argmax(axis=1)]  # (B, 2)
    first = np.where(exists.any(axis=1)[:, None], first, everyones)
    return np.where(exists[:, :, None], groups.place, first[:, None]).reshape(-1, 2)


def _fields(rows: Sequence[Row], outside: NDArray[np.bool_]) -> list[dict[str, object]]:
    """The host's fields of each row; tokens of rows outside the loss are masked out of it and of its normaliser."""
    fields = [
        {
            "prompt_ids": row.prompt_ids,
            "completion_ids": row.completion_ids,
            "tool_mask": row.loss_mask,
            "completions": row.completion,
            "logprobs": row.logprobs,
            **row.host,
        }
        for row in rows
    ]
    if outside.any() or any(row.loss_mask is not None for row in rows):
        for entry, row, off in zip(fields, rows, outside, strict=True):
            mask = row.loss_mask or [1] * len(row.completion_ids)
            entry["tool_mask"] = [0] * len(mask) if off else mask
    return fields
