"""What a rollout of a program is made of, and what it leaves behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


Ending = Literal["returned", "failed", "unparsed", "too many calls", "too long", "timeout"]


class Answer(NamedTuple):
    """
    What was generated for a call.

    Args:
        text (`str`):
            What the program gets.
        completion (`Any`):
            The completion as text or messages.
        prompt_ids (`list[int]`):
            Tokens of the prompt.
        completion_ids (`list[int]`):
            Tokens of the completion, exactly as they were sampled.
        logprobs (`list[float]`, *optional*):
            Their log-probabilities, where the generation backend gave them.
    """

    text: str
    completion: Any
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float] | None = None


@dataclass
class Call:
    """
    One call of the model by a program.

    Args:
        module (`str`):
            The role that the program gave it.
        occurrence (`int`):
            How often the module had been called before in this rollout.
        prompt (`Any`):
            What the program sent, text or messages.
        task_id (`int`):
            Position of the program's task.
        answer ([`Answer`], *optional*):
            What was generated.
        unparsed (`bool`):
            Whether the program could not read the answer.
    """

    module: str
    occurrence: int
    prompt: Any
    task_id: int = 0
    answer: Answer | None = None
    unparsed: bool = False

    @property
    def text(self) -> str:
        """The answer that the program got."""
        return "" if self.answer is None else self.answer.text


@dataclass
class Trace:
    """
    What a rollout did.

    Args:
        calls (`list[Call]`):
            Its calls with their answers, in order.
        output (`Any`):
            What the program returned; `None` where it did not.
        ending (`str`):
            How it ended.
        message (`str`):
            What it failed with.
        bug (`str`):
            Why the run must stop; empty for none.
        details (`str`):
            The traceback of that.
    """

    calls: list[Call] = field(default_factory=list)
    output: Any = None
    ending: Ending = "returned"
    message: str = ""
    bug: str = ""
    details: str = ""

    @property
    def failed(self) -> bool:
        """Whether the rollout came to no output."""
        return self.ending != "returned"


@dataclass(frozen=True)
class Job:
    """
    A rollout to be made.

    Args:
        program (`Callable`):
            `program(example, call) -> output`.
        example (`dict`):
            The row's columns. The program gets a copy of its own.
        failures (`tuple[type[Exception], ...]`):
            What it may raise to end the rollout.
        unparsed (`tuple[type[Exception], ...]`):
            Those of them that say that its last answer could not be read.
        task_id (`int`):
            Position of its task.
    """

    program: Callable[[Any, Any], Any]
    example: Mapping[str, Any]
    failures: tuple[type[Exception], ...] = ()
    unparsed: tuple[type[Exception], ...] = ()
    task_id: int = 0


class Refusal(NamedTuple):
    """
    Why a call cannot be generated.

    Args:
        message (`str`):
            What is wrong with it.
        is_bug (`bool`):
            Whether the program is wrong, or only this rollout has gone too far.
    """

    message: str
    is_bug: bool


def example_text(name: str, trace: Trace, reward: float) -> str:
    """
    What one rollout of a program did, to be read before training.

    Args:
        name (`str`):
            The task.
        trace ([`Trace`]):
            The rollout.
        reward (`float`):
            What it earned.

    Returns:
        `str`: lines without a trailing newline.
    """
    lines = [f"Example of the program of task '{name}' ({len(trace.calls)} calls, reward {reward:g}):"]
    for number, call in enumerate(trace.calls, 1):
        prompt = call.prompt if isinstance(call.prompt, str) else [dict(message) for message in call.prompt]
        lines += [f"  {number}. {call.module}", f"     prompt: {prompt!r}", f"     answer: {call.text!r}"]
    lines.append(f"  output: {trace.output!r}" if not trace.failed else f"  {trace.ending}: {trace.message}")
    return "\n".join(lines)
