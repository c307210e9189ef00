"""What the host prints of a log stays unprinted where a table shows it."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as HostArguments


Shown = Callable[[Mapping[str, Any] | None], bool]

NOTEBOOK = ("transformers.utils.notebook", "NotebookProgressCallback")


def quieten(callbacks: list[TrainerCallback], is_shown: Shown) -> None:
    """
    Puts a quiet form in place of each of the host's own callbacks that print logs. The progress bar stays, and so does
    a callback of the user's own, also one that extends the host's.

    Args:
        callbacks (`list[TrainerCallback]`):
            `trainer.callback_handler.callbacks`; changed in place.
        is_shown (`Callable`):
            Whether a log is shown elsewhere, [`TaskTableCallback.shows`].
    """
    for place, callback in enumerate(callbacks):
        if type(callback) is ProgressCallback:
            callbacks[place] = _Progress(is_shown, callback.max_str_len)
        elif type(callback) is PrinterCallback:
            callbacks[place] = _Printer(is_shown)
        elif (type(callback).__module__, type(callback).__name__) == NOTEBOOK:
            callbacks[place] = _notebook_progress(type(callback))


class _Progress(ProgressCallback):
    def __init__(self, is_shown: Shown, max_str_len: int) -> None:
        super().__init__(max_str_len)
        self._is_shown = is_shown

    def on_log(
        self, args: HostArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not self._is_shown(logs):
            super().on_log(args, state, control, logs=logs, **kwargs)


class _Printer(PrinterCallback):
    def __init__(self, is_shown: Shown) -> None:
        self._is_shown = is_shown

    def on_log(
        self, args: HostArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not self._is_shown(logs):
            super().on_log(args, state, control, logs=logs, **kwargs)


def _notebook_progress(host: type[TrainerCallback]) -> TrainerCallback:
    """The notebook's progress bar; after an evaluation the host would show every metric as a column of its own."""

    class Notebook(host):  # type: ignore[valid-type, misc]
        def on_evaluate(
            self, args: HostArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
        ) -> None:
            summary = {
                key: value for key, value in (metrics or {}).items() if key.endswith(("_loss", "_task_accuracy"))
            }
            super().on_evaluate(args, state, control, metrics=summary, **kwargs)

    return Notebook()
