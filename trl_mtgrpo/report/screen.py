"""Where a run speaks to its reader: a terminal, a notebook, or the file that its output goes to."""

from rich.console import Console, RenderableType
from rich.text import Text
from tqdm.auto import tqdm


# A file has no width of its own; rich takes 80 columns, in which a table of seven columns breaks its cells.
FILE_WIDTH = 120


class Screen:
    """
    Shows tables and lines between the lines of a progress bar. Text is shown as it is: brackets are no markup.

    Args:
        console ([`rich.console.Console`], *optional*):
            Where to show them; by default the standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()

    def show(self, *parts: RenderableType) -> None:
        """
        Shows some tables or lines, one below the other.

        Args:
            *parts (`str` or rich renderables):
                What to show. A string is one line, which is not broken.
        """
        console = self.console
        width = None if console.is_terminal or console.is_jupyter else max(console.width, FILE_WIDTH)
        with tqdm.external_write_mode():  # the progress bar moves below
            for part in parts:
                shown = Text(part) if isinstance(part, str) else part
                if console.is_jupyter or console.encoding.startswith("utf"):
                    console.print(shown, width=width, soft_wrap=isinstance(part, str))
                    continue
                # A name that the output cannot spell must not end the training.
                with console.capture() as captured:
                    console.print(shown, width=width, soft_wrap=isinstance(part, str))
                spelled = captured.get().encode(console.encoding, "replace").decode(console.encoding)
                console.file.write(spelled)
