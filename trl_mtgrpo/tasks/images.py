"""Images of prompts: which tasks have some, where they are in a row, and how a prompt stands without them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from .prompts import makes_columns, visible_columns
from .rows import HOST_COLUMNS, TaskRow, read_rows


if TYPE_CHECKING:
    from .task import Task


class TaskImages:
    """
    The images of a mixture.

    Args:
        tasks (`Sequence[Task]`):
            The tasks.

    Attributes:
        of_task (`tuple[bool, ...]`):
            Which tasks have images in a split; of rows that are made when they are read the first one decides.
    """

    def __init__(self, tasks: "Sequence[Task]") -> None:
        self.of_task = tuple(any(_shows_images(dataset) for dataset in task.splits.values()) for task in tasks)

    @property
    def any(self) -> bool:
        """Whether any task has images."""
        return any(self.of_task)

    def host_columns(self, rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
        """
        What the host's copy of each row says of images.

        The host looks at the first row of a batch alone, so either all rows say something or none does.

        Args:
            rows (`list[TaskRow]`):
                Rows of any tasks.

        Returns:
            `list[dict[str, Any]]`: `images` of each row, an empty list where it has none.
        """
        if not self.any and not any(name in row.columns for row in rows for name in HOST_COLUMNS):
            return [{} for _ in rows]
        return [{"images": _given(row.columns)} for row in rows]

    def prompts(self, rows: Sequence[TaskRow], prompts: Sequence[Any]) -> list[Any]:
        """
        Prompts in the form that the host gives them in a run of each row's task alone: the host writes the prompts of
        a batch with an image in parts, those of rows without one too.

        Args:
            rows (`list[TaskRow]`):
                Rows of any tasks.
            prompts (`list`):
                Their prompts as they were sent.

        Returns:
            `list`: as `prompts`; those of tasks with images in parts, others as their dataset has them.
        """
        return [self._prompt(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]

    def _prompt(self, row: TaskRow, prompt: Any) -> Any:
        if isinstance(prompt, str):
            return prompt
        return _in_parts(prompt) if self.of_task[row.task_id] else _as_given(row, prompt)


def take_images(prompt: Any) -> tuple[Any, list[Any]]:
    """A prompt whose places for images are empty, and the images that were there."""
    if isinstance(prompt, str):
        return prompt, []
    images = [part["image"] for part in _image_parts(prompt) if "image" in part]
    if not images:
        return prompt, []
    return [_map_parts(message, _emptied) for message in prompt], images


def put_images(prompt: Any, images: Sequence[Any]) -> Any:
    """The prompt that `take_images` was given."""
    if not images:
        return prompt
    left = iter(images)
    return [_map_parts(message, lambda part: {**part, "image": next(left)}) for message in prompt]


def images_of(columns: Mapping[str, Any]) -> list[Any]:
    """
    Images of a row in the order in which the model sees them.

    Args:
        columns (`dict[str, Any]`):
            The row, `prompt` included.

    Returns:
        `list`: those inside its prompt, and those of its column at the places that the prompt leaves for them, or at
        the first message of the user.
    """
    given = _given(columns)
    prompt = columns.get("prompt")
    if not isinstance(prompt, list):
        return given
    left, found = iter(given), []
    for message in prompt:
        content = message.get("content")
        if isinstance(content, str):
            found += list(left) if message["role"] == "user" else []
        else:
            found += [part["image"] if "image" in part else next(left) for part in content or () if _is_image(part)]
    return found


def has_image(content: Any) -> bool:
    """Whether a list of content parts has an image among them."""
    return isinstance(content, list) and any(_is_image(part) for part in content)


def _shows_images(dataset: Dataset) -> bool:
    if makes_columns(dataset):
        first = read_rows(dataset, [0])[0]
    else:
        first = dict.fromkeys(visible_columns(dataset)) | dataset.select_columns(["prompt"]).with_format(None)[0]
    prompt = first.get("prompt")
    return any(name in first for name in HOST_COLUMNS) or (
        isinstance(prompt, list) and any(has_image(message.get("content")) for message in prompt)
    )


def _given(columns: Mapping[str, Any]) -> list[Any]:
    if "images" in columns:
        return list(columns["images"] or ())
    image = columns.get("image")
    return [] if image is None else [image]


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "image"


def _image_parts(prompt: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        part
        for message in prompt
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if _is_image(part)
    ]


def _emptied(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "image"}


def _map_parts(message: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    content = message.get("content")
    if not has_image(content):
        return dict(message)
    assert isinstance(content, list)
    return {**message, "content": [change(part) if _is_image(part) else part for part in content]}


def _in_parts(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message.get("content"), str)
        else dict(message)
        for message in prompt
    ]


def _as_given(row: TaskRow, prompt: Sequence[Mapping[str, Any]]) -> Any:
    """Without the parts into which the host put text of the row's own; what an environment added stays."""
    own = row.columns.get("prompt")
    texts = [isinstance(message.get("content"), str) for message in own] if isinstance(own, list) else []
    found = [
        {**message, "content": message["content"][0]["text"]}
        if i < len(texts) and texts[i] and _is_one_text(message.get("content"))
        else message
        for i, message in enumerate(prompt)
    ]
    return found if any(new is not old for new, old in zip(found, prompt, strict=True)) else prompt


def _is_one_text(content: Any) -> bool:
    return isinstance(content, list) and len(content) == 1 and content[0].get("type") == "text"
