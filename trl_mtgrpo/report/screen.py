"""Where a run speaks to its reader: a terminal, a notebook, or the file that its output goes to."""

import io

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.text import Text
from tqdm.auto import tqdm


# A file has no width of its own; rich takes 80 columns, in which wide tables break their cells.
FILE_WIDTH = 120

# A longer name of a task goes over several lines of its cell.
NAME_WIDTH = 40

_UNLIMITED = 10_000


class Screen:
    """
    Shows tables and lines between the lines of a progress bar. Text is shown as it is: brackets are no markup.

    Args:
        console ([`rich.console.Console`], *optional*):
            Where to show them; by default the standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        if console is None and not (self.console.is_terminal or self.console.is_jupyter):
            self.console.width = max(self.console.width, FILE_WIDTH)

    def show(self, *parts: RenderableType) -> None:
        """
        Shows some tables or lines, one below the other.

        Args:
            *parts (`str` or rich renderables):
                What to show. A string is one line, which is broken in notebooks only.
        """
        console = self.console
        with tqdm.external_write_mode():  # the progress bar moves below
            for part in parts:
                shown = Text(part) if isinstance(part, str) else part
                width = console.width
                if not isinstance(part, str):
                    fits = Measurement.get(console, console.options.update(width=_UNLIMITED), shown)
                    width = width if fits.minimum <= width else fits.maximum
                spelled = console.is_jupyter or console.encoding.startswith("utf")
                if spelled and width == console.width:
                    # A terminal breaks a long line where it ends; the cell of a notebook would cut it.
                    console.print(shown, soft_wrap=isinstance(part, str) and not console.is_jupyter)
                elif console.is_jupyter:  # the cell scrolls
                    console.print(Text(as_text(shown, width)), soft_wrap=True)
                else:
                    # Numbers are never broken to fit, and a name that cannot be spelled must not end the training.
                    text = as_text(shown, width, ascii_only=not spelled)
                    console.file.write(text.encode(console.encoding, "replace").decode(console.encoding) + "\n")


def as_text(shown: RenderableType, width: int, ascii_only: bool = False) -> str:
    """
    A table or a line as plain text.

    Args:
        shown (rich renderable):
            What to show.
        width (`int`):
            Most columns of text.
        ascii_only (`bool`, *optional*, defaults to `False`):
            Whether the lines of tables are to be drawn with ASCII characters.

    Returns:
        `str`: lines without a trailing newline.
    """
    file = io.TextIOWrapper(io.BytesIO(), "ascii", "surrogateescape") if ascii_only else io.StringIO()
    console = Console(file=file, width=width, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(shown, soft_wrap=isinstance(shown, Text))
    return captured.get().rstrip("\n")
