"""
Forward passes over rows with images and rows without.

The host lays pictures out over a whole batch. A part of it without any must not be handed empty tensors, and where
several ranks train, it must still go through the part of the model that sees: backends gather gradients and parameters
of that part on all ranks together. So a rank without an image adds a row that has one and throws its result away.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid

from ..improvement.loss_inputs import PICTURES as PICTURES_OF_ROWS
from ..improvement.loss_inputs import Inputs
from ..rollouts import Row
from ..tasks import TaskMixture
from ..tasks.images import put_images
from .distributed import Ranks


# The host's names: one entry per image or per tile of one, ...
PICTURES: tuple[str, ...] = (
    *("pixel_values", "image_grid_thw", "pixel_attention_mask", "spatial_shapes", "image_sizes"),
    "image_position_ids",
)
# ... how many of them a row has, ...
COUNTS = ("num_images", "num_tiles")
# ... and one entry per token.
TYPES = ("token_type_ids", "mm_token_type_ids")

# What belongs to the images of one row.
RowPictures = Mapping[str, Any]


def by_row(fields: Mapping[str, Any], num_rows: int) -> list[RowPictures]:
    """What each row's images are to the model; the other entries of `fields` are left out."""
    own = {name: fields[name] for name in (*PICTURES, *COUNTS, *TYPES) if fields.get(name) is not None}
    if "pixel_values" in own and "num_images" in own:
        own = dict(split_pixel_values_by_grid(own))
        if isinstance(own.get("image_sizes"), torch.Tensor):
            own["image_sizes"] = list(torch.split(own["image_sizes"], own["num_images"]))
    return [
        {name: column[i] if isinstance(column, list) else column[i : i + 1] for name, column in own.items()}
        for i in range(num_rows)
    ]


def merge(rows: Sequence[RowPictures]) -> dict[str, Any]:
    """The host's fields for rows; without pictures where no row has an image."""
    names = dict.fromkeys(name for row in rows for name in row)
    if not any(row.get("num_images", 0) for row in rows):
        names = {name: None for name in names if name in TYPES}
    merged: dict[str, Any] = {}
    for name in names:
        if name in COUNTS:
            merged[name] = [row.get(name, 0) for row in rows]
        else:
            merged[name] = torch.cat([row[name] for row in rows if name in row])
    return merged


def with_pictures(inputs: Inputs) -> Inputs:
    """A micro-batch with what each row's images are to the model, for those who take rows out of it."""
    if "pixel_values" not in inputs:
        return inputs
    return {**inputs, PICTURES_OF_ROWS: by_row(inputs, len(inputs["prompt_ids"]))}


class Sight:
    """
    The host's forward pass for rows of which some have images.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer.
        mixture ([`TaskMixture`]):
            The tasks.
        ranks ([`Ranks`]):
            The processes of the run.
    """

    def __init__(self, trainer: Any, mixture: TaskMixture, ranks: Ranks) -> None:
        self.trainer, self.mixture, self.ranks = trainer, mixture, ranks
        self._spare: tuple[list[int], RowPictures] | None = None

    def forward(
        self,
        host: GRPOTrainer,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        """
        The host's `_get_per_token_logps_and_entropies`.

        Every rank runs equally many parts of `batch_size` rows, each with an image among them where there are several
        ranks. In a mixture of experts the row that was added has a part in the balancing loss of its part.
        """
        num_rows = len(input_ids)
        size = batch_size or num_rows
        counts = options.get("num_images") or [0] * num_rows
        sees = [any(counts[start : start + size]) for start in range(0, num_rows, size)]
        if all(sees) or not (self.mixture.images.any or any(sees)):
            return host._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **options
            )
        rows = by_row(options, num_rows)
        options = {name: value for name, value in options.items() if name not in (*PICTURES, *COUNTS, *TYPES)}
        results = []
        for start, seen in zip(range(0, num_rows, size), sees, strict=True):
            part = slice(start, start + size)
            ids, attention, pictures = input_ids[part], attention_mask[part], rows[part]
            if not seen and self.ranks.size > 1:
                ids, attention, pictures = self._with_spare(ids, attention, pictures)
            found = host._get_per_token_logps_and_entropies(
                model, ids, attention, logits_to_keep, **merge(pictures), **options
            )
            own = len(input_ids[part])
            results.append([value[:own] if value is not None and value.ndim else value for value in found])
        return tuple(
            None if values[0] is None else torch.cat(values) if values[0].ndim else torch.stack(values).mean()
            for values in zip(*results, strict=True)
        )

    def of_rows(self, rows: Sequence[Row], num_prompt: int, num_completion: int) -> list[RowPictures]:
        """
        What the model gets for the images of rows, which must have them.

        Args:
            rows (`list[Row]`):
                The rows.
            num_prompt (`int`):
                Width of their prompts, padded on the left.
            num_completion (`int`):
                Width of their completions.

        Returns:
            `list[RowPictures]`: one per row, for [`merge`].
        """
        if not any(row.images for row in rows):
            return [{} for _ in rows]
        prompts = [put_images(row.prompt, row.images or ()) for row in rows]
        task_ids = [row.task_id for row in rows]
        fields = self._tokenized(prompts, task_ids)[1]
        fields["num_images"] = [len(row.images or ()) for row in rows]
        for name in TYPES:
            if name in fields:
                fields[name] = self._padded(fields[name], num_prompt, num_completion)
        if _has_tiles(fields):
            alone = [self._tokenized([prompt], [task])[1] for prompt, task in zip(prompts, task_ids, strict=True)]
            fields["num_tiles"] = [len(one.get("pixel_values", ())) for one in alone]
        return by_row(fields, len(rows))

    def _with_spare(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pictures: Sequence[RowPictures]
    ) -> tuple[torch.Tensor, torch.Tensor, list[RowPictures]]:
        """The rows and one more that has an image."""
        if self._spare is None:
            self._spare = self._spare_row()
        ids, spare = self._spare
        width = max(len(ids), input_ids.shape[1])

        def wide(values: torch.Tensor, padding: int) -> torch.Tensor:
            return torch.nn.functional.pad(values, (width - values.shape[1], 0), value=padding)

        own = torch.tensor([ids], device=input_ids.device)
        pad_token = self.trainer._tokenizer.pad_token_id
        types = {name: self._padded(spare[name], width, 0) for name in TYPES if name in spare}
        none = {name: torch.zeros_like(value) for name, value in types.items()}
        rows = [none | {name: wide(row[name], 0) for name in TYPES if name in row} for row in pictures]
        return (
            torch.cat([wide(input_ids, pad_token), wide(own, pad_token)]),
            torch.cat([wide(attention_mask, 0), wide(torch.ones_like(own).to(attention_mask.dtype), 0)]),
            [*rows, {**spare, **types}],
        )

    def _spare_row(self) -> tuple[list[int], RowPictures]:
        content = [{"type": "image", "image": np.zeros((32, 32, 3), dtype=np.uint8)}, {"type": "text", "text": "."}]
        task = self.mixture.images.of_task.index(True) if self.mixture.images.any else 0
        ids, fields = self._tokenized([[{"role": "user", "content": content}]], [task])
        fields["num_images"] = [1]
        if _has_tiles(fields):
            fields["num_tiles"] = [len(fields["pixel_values"])]
        types = {name: fields.pop(name) for name in TYPES if name in fields}
        return ids[0], {**by_row(fields, 1)[0], **types}

    def _tokenized(self, prompts: list[Any], task_ids: Sequence[int]) -> tuple[list[list[int]], dict[str, Any]]:
        """Token ids of prompts, and tensors of their images; types of tokens as lists."""
        with self._of_tasks(task_ids):
            ids, _, fields = self.trainer._tokenize_prompts(prompts)
        return ids, {
            name: value if name in TYPES else self.trainer._prepare_input(value)
            for name, value in tensors(fields).items()
        }

    @contextmanager
    def _of_tasks(self, task_ids: Sequence[int]) -> Iterator[None]:
        """While it lasts the host shows the tools of these tasks."""
        if self.mixture.environments is None:
            yield
            return
        before = getattr(self.trainer, "_batch_environments", None)
        self.trainer._batch_environments = [self.mixture.names[task_id] for task_id in task_ids]
        try:
            yield
        finally:
            self.trainer._batch_environments = before

    def _padded(self, types: Any, num_prompt: int, num_completion: int) -> torch.Tensor:
        rows = [torch.as_tensor(row, device=self.trainer.accelerator.device) for row in types]
        return torch.stack([torch.nn.functional.pad(row, (num_prompt - len(row), num_completion)) for row in rows])


def as_tensor(value: Any) -> torch.Tensor:
    """A field of the processor as the host makes a tensor of it."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(np.array(value))


def tensors(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the processor gave for a batch of prompts, pictures as tensors, which the host's tool turns need."""
    return {name: value if name in TYPES else as_tensor(value) for name, value in fields.items()}


def picked(fields: Mapping[str, Any], images: Sequence[Any] | None, rows: Sequence[int]) -> dict[str, Any]:
    """What the processor gave for a batch of prompts, for some of its rows."""
    types = {name: [values[i] for i in rows] for name, values in fields.items() if name in TYPES}
    pictures = {name: as_tensor(value) for name, value in fields.items() if name not in TYPES}
    if images is None or not pictures:
        return types
    counts = [len(own or ()) for own in images]
    if _has_tiles({**pictures, "num_images": counts}):
        raise ValueError(
            "`tasks` must have equal lengths and no tools beside images that the processor cuts into tiles, got "
            "rows of several lengths. Leave out `Task(max_completion_length=...)`, or use a processor without tiles."
        )
    found = by_row({**pictures, "num_images": counts}, len(counts))
    merged = merge([found[i] for i in rows])
    merged.pop("num_images", None)
    return {**types, **merged}


def filled(fields: Mapping[str, Any], missing: int, width: int) -> dict[str, Any]:
    """The same with `missing` further rows of `width` tokens that have no image."""
    more: dict[str, Any] = {}
    for name, value in fields.items():
        if name in TYPES:
            more[name] = [*value, *([[0] * width] * missing)]
        elif (name, as_tensor(value).ndim) in (("pixel_values", 5), ("pixel_attention_mask", 4)):  # one entry per row
            tensor = as_tensor(value)
            more[name] = torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])])
        else:
            more[name] = value
    return more


def _has_tiles(fields: Mapping[str, Any]) -> bool:
    """Whether the first axis of the pixels is neither of images nor of rows nor of patches by a grid."""
    if "spatial_shapes" in fields:
        return True
    pixels = fields.get("pixel_values")
    untiled = "image_grid_thw" in fields or "image_position_ids" in fields
    return pixels is not None and not untiled and pixels.ndim == 4 and len(pixels) != sum(fields["num_images"])
