"""Warnings that stand at the user's own line, wherever they are found out."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


# Between a user's line and ours.
_HOSTS = {"trl_mtgrpo", "trl", "transformers", "accelerate", "torch", "datasets", "contextlib"}


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """
    Warns at the innermost line that belongs to neither this library nor what it is built on.

    Args:
        message (`str`):
            What is said.
        category (`type[Warning]`, *optional*, defaults to `UserWarning`):
            Kind of the warning.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _HOSTS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def at_users_line(left_out: str | None = None) -> Iterator[None]:
    """
    While it lasts, what is said at a line of this library is said at the user's.

    Args:
        left_out (`str`, *optional*):
            What is not said at all, because it is about something that the user did not do.
    """
    found: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as found:
            yield
    finally:
        for said in found:
            text = str(said.message)
            if left_out is not None and left_out in text:
                continue
            if "trl_mtgrpo" in said.filename.replace("\\", "/").split("/"):
                warn_user(text, said.category)
            else:
                warnings.warn_explicit(said.message, said.category, said.filename, said.lineno)
