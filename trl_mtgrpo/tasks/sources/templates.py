"""Decides how a question becomes a prompt: plain text or messages, with or without worked examples before it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


PLACE = "{question}"

PROMPT = (
    "What follows is a dialogue. The User poses a problem; the Assistant thinks it through in writing and only then "
    "states the result.\nUser: {question}\nAssistant: I will work this out step by step."
)
CHAT_PROMPT = ({"role": "user", "content": PLACE},)

Prompt = str | Sequence[dict[str, Any]]


@dataclass(frozen=True)
class PromptTemplate:
    """
    A prompt with a place for the question.

    Args:
        parts (`str` or `tuple[dict, ...]`):
            Plain text, or messages, with the place `{question}`.
        examples (`tuple[tuple[str, str], ...]`, *optional*):
            Questions with their answers, as they should be written, that stand before the question.
    """

    parts: str | tuple[dict[str, Any], ...]
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def is_chat(self) -> bool:
        """Whether prompts are lists of messages."""
        return not isinstance(self.parts, str)

    def with_examples(self, examples: Sequence[tuple[str, str]]) -> "PromptTemplate":
        """The same prompt after worked examples."""
        return replace(self, examples=tuple(examples))

    def fill(self, question: str) -> str | list[dict[str, Any]]:
        """The prompt of one question."""
        if isinstance(self.parts, str):
            return self._text(self.parts, question)
        messages: list[dict[str, Any]] = []
        for message in self.parts:
            if PLACE not in message["content"]:
                messages.append(dict(message))
                continue
            for earlier, answer in self.examples:
                messages.append({**message, "content": message["content"].replace(PLACE, earlier)})
                messages.append({"role": "assistant", "content": answer})
            messages.append({**message, "content": message["content"].replace(PLACE, question)})
        return messages

    def _text(self, text: str, question: str) -> str:
        # What stands above the question's line introduces all of them; the rest is repeated for each example.
        start = text.rfind("\n", 0, text.index(PLACE)) + 1
        intro, turn = text[:start], text[start:]
        shown = [f"{turn.replace(PLACE, earlier)} {answer}\n" for earlier, answer in self.examples]
        return intro + "".join(shown) + turn.replace(PLACE, question)

    def key(self) -> list[Any]:
        """What distinguishes this template from others, for the name of a cache file."""
        return [
            self.parts if isinstance(self.parts, str) else list(self.parts),
            [list(pair) for pair in self.examples],
        ]


def prompt_template(prompt: Prompt | None, chat: bool | None, tokenizer: Any) -> PromptTemplate:
    """
    The template that three arguments of [`reasoning_gym_task`] ask for.

    Args:
        prompt (`str`, `Sequence[dict]` or `None`):
            Text or messages with the place `{question}`, or `None` for the default of the kind.
        chat (`bool` or `None`):
            Whether prompts are messages; `None` follows `prompt` if it is messages, else `tokenizer`.
        tokenizer (`PreTrainedTokenizerBase`, `ProcessorMixin` or `None`):
            Prompts become messages where it has a chat template.

    Returns:
        `PromptTemplate`: without examples.

    Raises:
        `ValueError` or `TypeError`: when the arguments contradict each other, or there is no place for the question.
    """
    if chat not in (None, True, False):
        raise TypeError(f"`chat` must be True, False or None, got {chat!r}. None follows the tokenizer's template.")
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if tokenizer is not None and not hasattr(tokenizer, "chat_template"):
        raise TypeError(
            f"`tokenizer` must be a tokenizer or processor, got {type(tokenizer).__name__}. Load one with "
            "`AutoTokenizer.from_pretrained`, or say `chat=True` or `chat=False`."
        )
    if chat and tokenizer is not None and not has_template:
        raise ValueError(
            "`chat` must be False or None for a tokenizer without a chat template, got True. Set "
            "`tokenizer.chat_template`, or leave `chat` out."
        )
    if prompt is None:
        use_chat = has_template if chat is None else chat
        return PromptTemplate(CHAT_PROMPT if use_chat else PROMPT)
    if isinstance(prompt, str):
        if PLACE not in prompt:
            raise ValueError(f"`prompt` must contain the place '{PLACE}', got {prompt!r}. Put it where the task goes.")
        use_chat = has_template if chat is None else chat
        return PromptTemplate(({"role": "user", "content": prompt},) if use_chat else prompt)
    if chat is False:
        raise ValueError(
            "`prompt` must be text with `chat=False`, got messages. Leave `chat` out, or write the prompt as text."
        )
    return PromptTemplate(_checked_messages(prompt))


def _checked_messages(prompt: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    wrong = not isinstance(prompt, Sequence) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in prompt
    )
    if wrong:
        raise TypeError(
            f"`prompt` must be text or a list of messages whose content is text, got {prompt!r}. A message is "
            f"`{{'role': 'user', 'content': '{PLACE}'}}`."
        )
    places = [position for position, message in enumerate(prompt) if PLACE in message["content"]]
    if places != [len(prompt) - 1] or prompt[-1]["role"] != "user":
        raise ValueError(
            f"`prompt` must contain the place '{PLACE}' in its last message, one of the user, and in no other, got "
            f"{list(prompt)!r}. Put it where the task goes."
        )
    return tuple(dict(message) for message in prompt)
