"""Decides how failures of reward functions are kept until every rank can hear of them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple


class RewardFailure(NamedTuple):
    """
    One failed call of a reward function, or one refused result.

    Attributes:
        task (`str`):
            Name of the task.
        function (`str`):
            Name of the function.
        rows (`tuple[int, ...]`):
            Positions of the affected rows in the local batch.
        reason (`str`):
            `"exception"`, `"timeout"` or `"result"`.
        message (`str`):
            What happened and what to do.
        details (`str`):
            The traceback of the user's code, empty when there is none.
        fatal (`bool`):
            Whether training must stop (`on_error="raise"`) or the rows stay unscored (`on_error="drop"`).
    """

    task: str
    function: str
    rows: tuple[int, ...]
    reason: Literal["exception", "timeout", "result"]
    message: str
    details: str
    fatal: bool


class RewardFailures:
    """The failures of this rank since they were last taken, shared by all rewards of a mixture."""

    def __init__(self) -> None:
        self._failures: list[RewardFailure] = []

    def __len__(self) -> int:
        return len(self._failures)

    def record(self, failure: RewardFailure) -> None:
        """Remember one failure."""
        self._failures.append(failure)

    def take(self) -> list[RewardFailure]:
        """
        Hand over the failures recorded so far and forget them.

        Returns:
            `list[RewardFailure]`: in the order in which they happened on this rank.
        """
        failures, self._failures = self._failures, []
        return failures


class ProgramFailure(Exception):
    """
    Raised by a program that cannot go on; the rollout gets the task's `failure_reward`.

    Args:
        message (`str`, *optional*, defaults to `""`):
            Why.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class FormatFailure(ProgramFailure):
    """
    Raised by a program that cannot read the last answer, which then gets the task's `format_failure_reward`.

    Args:
        message (`str`, *optional*, defaults to `""`):
            Why.
    """


class RewardError(RuntimeError):
    """A reward function failed; raised on every rank together."""


def describe_failures(failures: Sequence[RewardFailure]) -> str:
    """
    The text of the error that stops training.

    Args:
        failures (`Sequence[RewardFailure]`):
            Failures of all ranks, at least one.

    Returns:
        `str`: the first failure in full and how many more there are.
    """
    first = failures[0]
    more = f"\n{len(failures) - 1} more failures in the same batch." if len(failures) > 1 else ""
    details = f"\n{first.details.rstrip()}" if first.details else ""
    return f"{first.message}{more}{details}"
