r"""Decides which part of a completion is its answer: what comes after the reasoning, in the last box or on its line.

Everything here is bounded: an ordinary completion costs a tenth of a millisecond, a megabyte made to hurt a few more.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any


MAX_ANSWER_CHARS = 10_000  # far above the largest grid a reasoning-gym dataset asks for
_MAX_BOXES = 1_000
_MAX_TURNS = 8

_BOX = "\\boxed"
_OPENING = re.compile(r"\s{0,8}\{")
_BRACES = re.compile(r"[{}]")
# Where a model that was not stopped writes on: an end token, or the next speaker.
_NEXT_TURN = re.compile(
    r"\n\s{0,8}(?:#{1,4} {0,4})?(?:User|Human)\s{0,4}:|<\|(?:im_end|eot_id|endoftext|end_of_text|end)\|>|</s>"
    r"|<\|im_start\|>user"
)
_MARKS = ("User", "Human", "<|", "</s>")


def completion_text(completion: str | list[dict[str, Any]]) -> str:
    """
    The text of one completion, plain or conversational.

    Args:
        completion (`str` or `list[dict]`):
            A string, or a list of messages of which the last one is read; a content made of parts contributes its text
            parts.

    Returns:
        `str`: the text, empty where there is none.
    """
    if isinstance(completion, str):
        return completion
    return _content(completion[-1]) if completion else ""


def prompt_text(prompt: str | list[dict[str, Any]]) -> str:
    """
    The text of a prompt, all messages of a conversation one after the other.

    Args:
        prompt (`str` or `list[dict]`):
            Plain text or messages.

    Returns:
        `str`: the text.
    """
    return prompt if isinstance(prompt, str) else "\n".join(_content(message) for message in prompt or [])


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def answer_part(text: str) -> str:
    """
    What a completion says after its reasoning.

    Args:
        text (`str`):
            A completion.

    Returns:
        `str`: what follows the last `</think>`, the whole text where no such tags are used, and nothing where the
        reasoning was opened and never closed.
    """
    opened, closed = text.rfind("<think>"), text.rfind("</think>")
    if opened > closed:
        return ""
    return text[closed + len("</think>") :] if closed >= 0 else text


def extract_boxed(text: str, max_chars: int = MAX_ANSWER_CHARS) -> str | None:
    r"""
    The content of the last `\boxed{...}` that is not empty, with braces matched by counting.

    The box may stand on any line, and white space may stand before its brace. An empty box that follows a full one
    does not take its place. When the last box is never closed, or holds more than `max_chars` characters, there is no
    answer: an earlier box does not take its place either. `\fbox{..}` is no box, and of nested boxes the innermost
    last one counts, be it empty.

    Args:
        text (`str`):
            A completion, or its answer part.
        max_chars (`int`, *optional*, defaults to `10000`):
            Characters after which an open box is given up.

    Returns:
        `str` or `None`: the content without surrounding white space, empty where all boxes are, or `None` without a
        box.

    Example:

    ```python
    >>> extract_boxed(r"First \boxed{1}, better \boxed{1 + \frac{1}{2}}.")
    '1 + \\frac{1}{2}'
    ```
    """
    end, found = len(text), None
    for _ in range(_MAX_BOXES):
        end = text.rfind(_BOX, 0, end)
        if end < 0:
            return found
        opening = _OPENING.match(text, end + len(_BOX))
        if opening is None:
            continue
        inside = _closed(text, opening.end(), max_chars)
        if inside is None:
            return found
        if says_something(inside):
            return inside.strip() if _BOX not in inside else ""
        found = ""
    return found


def boxes(text: str, limit: int = 64) -> set[str]:
    r"""
    The contents of the first boxes of a text, without any white space.

    Args:
        text (`str`):
            A prompt.
        limit (`int`, *optional*, defaults to `64`):
            Boxes looked at.

    Returns:
        `set[str]`: what the boxes hold, without those that are empty or left open.
    """
    found: set[str] = set()
    start = 0
    for _ in range(limit):
        start = text.find(_BOX, start)
        if start < 0:
            break
        start += len(_BOX)
        opening = _OPENING.match(text, start)
        inside = None if opening is None else _closed(text, opening.end(), MAX_ANSWER_CHARS)
        if inside is not None and says_something(inside):
            found.add("".join(inside.split()))
    return found


def boxed_answer(completion: str | list[dict[str, Any]]) -> str | None:
    r"""
    The boxed answer of a completion: the last box after the reasoning and before the model speaks for another.

    Args:
        completion (`str` or `list[dict]`):
            A completion as a reward function receives it.

    Returns:
        `str` or `None`: what the box holds, or `None` without one.
    """
    text = completion_text(completion)
    for turn in _turns(text):
        if answer := extract_boxed(turn):
            return answer
    return extract_boxed(answer_part(text))


def line_answer(completion: str | list[dict[str, Any]], lines: int = 1, first: bool = False) -> str:
    """
    The answer of a completion without a box: its last lines that are not blank, or its first ones.

    Args:
        completion (`str` or `list[dict]`):
            A completion as a reward function receives it.
        lines (`int`, *optional*, defaults to `1`):
            How many lines the answer has.
        first (`bool`, *optional*, defaults to `False`):
            Whether the answer comes first, as after worked examples in plain text.

    Returns:
        `str`: the lines, empty where there are none or they are longer than any answer.
    """
    text = completion_text(completion)
    own = next((turn for turn in _turns(text) if says_something(turn)), answer_part(text))
    # A line is looked for within the length that an answer may have, whatever else was written.
    near = own.lstrip()[:MAX_ANSWER_CHARS] if first else own.rstrip()[-MAX_ANSWER_CHARS:]
    written = [line.strip() for line in near.split("\n") if line.strip()]
    chosen = "\n".join(written[:lines] if first else written[-lines:])
    return "" if len(chosen) == MAX_ANSWER_CHARS else chosen


def says_something(text: str) -> bool:
    """
    Whether a text shows anything to a reader.

    Args:
        text (`str`):
            The content of a box, or a line.

    Returns:
        `bool`: `False` for nothing but white space, zero-width and control characters, braces and backslashes.
    """
    return any(character.isprintable() and character not in " {}\\" for character in text)


def _turns(text: str) -> Iterator[str]:
    """Answer parts of the beginnings of a text that end where another turn starts."""
    if not any(mark in text for mark in _MARKS):
        return  # the common case, without a search
    for mark in itertools.islice(_NEXT_TURN.finditer(text), _MAX_TURNS):
        yield answer_part(text[: mark.start()])


def _closed(text: str, start: int, max_chars: int) -> str | None:
    inside = text[start : start + max_chars + 1]
    depth = 1
    for brace in _BRACES.finditer(inside):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return inside[: brace.start()]
    return None
