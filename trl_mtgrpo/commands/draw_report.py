"""`mtgrpo report`: pictures and one page about finished runs."""

import argparse


def run(options: argparse.Namespace) -> str:
    """
    Draws a report.

    Args:
        options (`argparse.Namespace`):
            `runs`, `output` and `title`.

    Returns:
        `str`: where it was written.

    Raises:
        ValueError: when a folder holds no run, or the output cannot be written.
    """
    from ..report import read_runs, write_report

    runs = read_runs(options.runs)
    try:
        return f"wrote {write_report(runs, options.output, options.title)}"
    except OSError as error:
        raise ValueError(
            f"`--output` must be a folder that can be written, got '{options.output}' ({error.strerror or error}). "
            "Name "
            "another one."
        ) from error
