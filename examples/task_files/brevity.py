"""A reward of one's own, named in `question_and_answer.yaml`."""

from typing import Any


def short_answers(completions: list[Any], limit: int, **kwargs: Any) -> list[float]:
    """0 up to `limit` characters, then falling to -1 at twice as many."""
    texts = [completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions]
    return [-min(max(len(text) - limit, 0) / limit, 1.0) for text in texts]
