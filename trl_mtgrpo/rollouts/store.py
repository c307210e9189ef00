"""Payload: the rows behind the facts. They lie where they were made until a rank needs them, addressed by slot."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True, eq=False)
class Row:
    """
    One sequence of the loss, by name.

    Args:
        task_id (`int`):
            Position of the task.
        index (`int`):
            Row of the task's train set; -1 where it is not known.
        prompt (`Any`):
            The prompt as it was sent, text or messages.
        prompt_ids (`list[int]`):
            Its tokens.
        completion_ids (`list[int]`):
            Tokens of the completion, those of tools included.
        completion (`Any`):
            The completion as text or messages.
        loss_mask (`list[int]`, *optional*):
            1 for tokens that the model wrote, 0 for others; all of them when `None`.
        logprobs (`list[float]`, *optional*):
            Log-probabilities of the completion's tokens as the generation backend gave them.
        behaviour (`list[float]`, *optional*):
            Log-probabilities under the policy that generated it; set for rows that wait for a later step.
        logged (`dict[str, Any]`):
            Columns of the completions table that reward functions logged.
        host (`dict[str, Any]`):
            Further fields that the host's generation returned for the row, under the host's names.
        images (`list`, *optional*):
            Images of the prompt in order; their places in `prompt` are empty. `None` for a row that waits for a later
            step: its images are read again from the row of its task.
        image_digests (`list[str]`):
            What tells whether those that are read again are the same; set for rows that wait.
    """

    task_id: int
    index: int
    prompt: Any
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    completion: Any
    loss_mask: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    behaviour: Sequence[float] | None = None
    logged: Mapping[str, Any] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[Any] | None = ()
    image_digests: Sequence[str] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens that the model wrote."""
        return len(self.completion_ids) if self.loss_mask is None else sum(self.loss_mask)

    def to_json(self) -> dict[str, Any]:
        """The row in JSON types, without images. What a reward function logged may be anything and becomes text."""
        names = [part.name for part in fields(self) if part.name not in ("images", "image_digests")]
        digests = list(self.waiting().image_digests)
        return {name: _plain(getattr(self, name)) for name in names} | ({"image_digests": digests} if digests else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Row":
        """The row that `to_json` wrote."""
        return cls(**value, images=None if value.get("image_digests") else ())

    def with_behaviour(self, logps: Sequence[float]) -> "Row":
        return replace(self, behaviour=list(logps))

    def waiting(self) -> "Row":
        """The row with references to its images in their place."""
        if not self.images:
            return self
        return replace(self, images=None, image_digests=[digest(image) for image in self.images])


class RowStore:
    """The rows that lie on this rank. Every rank adds equally many at a time, so slots agree without being sent."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, slot: int) -> Row:
        return self._rows[slot]

    @property
    def next_slot(self) -> int:
        """The slot of the next row."""
        return self._next

    def add(self, rows: Sequence[Row], reserve: int = 0) -> int:
        """
        Keeps rows in slots one after another and returns the first one. Ranks with different numbers of rows `reserve`
        the largest of them.
        """
        first = self._next
        self._rows.update(enumerate(rows, first))
        self._next += max(len(rows), reserve)
        return first

    def keep(self, slots: Iterable[int]) -> None:
        """Forgets every row that is not in `slots`."""
        self._rows = {slot: self._rows[slot] for slot in slots}


def digest(image: Any) -> str:
    """A text that two images share only if they are the same."""
    array = image.numpy() if hasattr(image, "numpy") else image
    shape = getattr(array, "shape", None) or (getattr(array, "mode", ""), getattr(array, "size", ""))
    values = array.tobytes() if hasattr(array, "tobytes") else repr(array).encode()
    return hashlib.blake2b(repr(shape).encode() + values, digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return _plain(value.tolist()) if callable(getattr(value, "tolist", None)) else str(value)
