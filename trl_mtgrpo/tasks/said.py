"""Warnings that stand at the user's own line, wherever they are found out."""

import sys
import warnings


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
