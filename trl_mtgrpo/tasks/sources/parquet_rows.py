"""Decides which columns a row of a verl file has, and how its images reach the trainer."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image, List
from datasets.table import InMemoryTable


_IMAGE_PLACE = "<image>"
_MEDIA = ("videos", "audios", "video", "audio")


def column_of(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    column = table.column(name).combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def general_table(tables: list[pa.Table], name: str, drop: Sequence[str]) -> list[pa.Table]:
    """
    Rows with every field as a column.

    Args:
        tables (`list[pa.Table]`):
            Rows as they are in the files.
        name (`str`):
            Name of the task, for errors.
        drop (`Sequence[str]`):
            Fields to leave out.

    Returns:
        `list[pa.Table]`: columns `prompt`, `data_source`, `ground_truth`, the fields of `extra_info` and
        `reward_model`, and all other columns of the files.

    Raises:
        `ValueError`: where two fields have one name.
    """
    result = []
    for table in tables:
        columns: dict[str, pa.Array] = {}
        fields = [(column, table.column(column)) for column in table.column_names]
        for outer in ("extra_info", "reward_model"):
            if outer in table.column_names and pa.types.is_struct(table.schema.field(outer).type):
                fields.remove(next(field for field in fields if field[0] == outer))
                inner = column_of(table, outer)
                fields += [(field.name, pc.struct_field(inner, index)) for index, field in enumerate(inner.type)]
        kept = [(field, values) for field, values in fields if field not in drop]
        twice = sorted({field for field, _ in kept if [other for other, _ in kept].count(field) > 1})
        if twice:
            raise ValueError(
                f"rows of '{name}' must have fields with distinct names, got {twice} twice. Leave them out with "
                f"`drop={twice}`, or rename them in the file."
            )
        columns.update(kept)
        result.append(pa.table(columns))
    return result


def as_dataset(tables: list[pa.Table], name: str) -> Dataset:
    """
    Tables of one task as a dataset, with `None` where a file lacks a column and with images where there are some.

    Args:
        tables (`list[pa.Table]`):
            At least one.
        name (`str`):
            Name of the task, for errors.

    Returns:
        [`~datasets.Dataset`]: held in memory.

    Raises:
        `ValueError`: when the files disagree about a column's type, or hold media that cannot be kept.
    """
    try:
        table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"files of '{name}' must agree about the types of their columns, got {error}. Convert one of them."
        ) from error
    for column in _MEDIA:
        if column in table.column_names and any(table.column(column).to_pylist()):
            raise ValueError(
                f"rows of '{name}' must have no media but images, got a column '{column}'. The trainer hands images "
                f"alone to a model: leave the column out with `drop=['{column}']`, or such rows."
            )
    images = table.column("images").to_pylist() if "images" in table.column_names else []
    if not any(images):
        return Dataset(InMemoryTable(table))
    if not all(_is_image(image) for row in images for image in row or []):
        raise ValueError(
            f"rows of '{name}' must have images as a list of encoded images or paths, got "
            f"{table.schema.field('images').type}. Write them as `{{'bytes': ...}}`, or leave them out with "
            "`drop=['images']`."
        )
    table = _with_places(table, images, name)
    return Dataset(InMemoryTable(table)).cast_column("images", List(Image()))


def _is_image(image: Any) -> bool:
    return isinstance(image, str) or (isinstance(image, dict) and bool(image.get("bytes") or image.get("path")))


def _with_places(table: pa.Table, images: list[Any], name: str) -> pa.Table:
    """Messages in which `<image>` is the place of an image; without such text the host puts images first."""
    prompts = table.column("prompt").to_pylist()
    if not isinstance(prompts[0], list):
        return table
    counts = [
        sum(m["content"].count(_IMAGE_PLACE) for m in prompt if isinstance(m.get("content"), str))
        for prompt in prompts
    ]
    if not any(counts):
        return table
    for row, (count, held) in enumerate(zip(counts, images, strict=True)):
        if count != len(held or []):
            raise ValueError(
                f"rows of '{name}' must have one `{_IMAGE_PLACE}` per image, got {count} for {len(held or [])} images "
                f"in row {row}. Mend the prompt, or leave such rows out."
            )
    structured = [[{**message, "content": _parts(message.get("content"))} for message in prompt] for prompt in prompts]
    return table.set_column(table.column_names.index("prompt"), "prompt", pa.array(structured))


def _parts(content: Any) -> Any:
    if not isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for position, text in enumerate(content.split(_IMAGE_PLACE)):
        parts += [{"type": "image", "text": None}] if position else []
        parts += [{"type": "text", "text": text}] if text else []
    return parts
