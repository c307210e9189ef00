"""The command line: `python -m trl_mtgrpo report` draws finished runs, `simulate` says what a run will cost."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..report.forecast import POLICIES, RunOutline, forecast, format_comparison, format_tasks


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs one command.

    Args:
        arguments (`Sequence[str]`, *optional*):
            What follows the program's name; by default what the user typed.

    Returns:
        `int`: 0, or 2 for a mistake of the user's, which is explained on the error stream.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        text = options.run(options)
    except (ValueError, ImportError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trl_mtgrpo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="pictures and one page about finished runs")
    report.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="an output folder or a checkpoint, or LABEL=FOLDER; runs of one label are seeds of one method",
    )
    report.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for the page and pictures"
    )
    report.add_argument("--title", default="Multi-task GRPO report", help="heading of the page")
    report.set_defaults(run=_report)
    simulate = commands.add_parser("simulate", help="what a run will generate, train and waste")
    source = simulate.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--acceptance",
        nargs="+",
        type=_named_number,
        metavar="TASK=SHARE",
        help="guessed share of each task's groups that carry a gradient, in 0..1",
    )
    source.add_argument("--replay", type=Path, metavar="RUN", help="take shares, acceptance and lengths from a run")
    simulate.add_argument("--weights", nargs="+", type=_named_number, default=[], metavar="TASK=WEIGHT")
    simulate.add_argument("--groups", type=_positive, help="groups per training step; 32 unless replayed")
    simulate.add_argument("--generations", type=_positive, default=8, help="rollouts per group (default 8)")
    simulate.add_argument("--tokens", type=float, default=1000.0, help="completion tokens per rollout (default 1000)")
    simulate.add_argument("--steps", type=_positive, default=200, help="training steps (default 200)")
    simulate.add_argument("--policy", choices=list(POLICIES), default="mt_grpo", help="policy shown task by task")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.set_defaults(run=_simulate)
    return parser


def _report(options: argparse.Namespace) -> str:
    from ..report import read_runs, write_report

    return f"wrote {write_report(read_runs(options.runs), options.output, options.title)}"


def _simulate(options: argparse.Namespace) -> str:
    if options.replay is not None:
        from ..report import read_run
        from ..report.replay import outline_of

        run = read_run(options.replay)
        outline = outline_of(run, options.groups, options.generations)
        source = f"Replaying '{run.name}'"
        if run.groups is not None:
            source += (
                f", which generated {run.groups.generated.sum():,} groups and trained {run.groups.trained.sum():,}"
            )
    else:
        outline = RunOutline.guessed(
            dict(options.acceptance),
            dict(options.weights),
            options.tokens,
            options.groups or 32,
            options.generations,
            options.steps,
        )
        source = "Guessed acceptance"
    results = {name: forecast(outline, policy, options.seed) for name, policy in POLICIES.items()}
    shown = {options.policy: results.pop(options.policy), **results}
    meanings = "\n".join(f"  {name}: {POLICIES[name].meaning}" for name in shown)
    return (
        f"{source}: {len(outline.weights)} steps of {outline.num_groups} groups of {outline.num_generations} "
        "rollouts.\n\n"
        f"Per training step\n{format_comparison(outline, shown)}\n\n{meanings}\n\n"
        f"Groups of the whole run under '{options.policy}'\n{format_tasks(outline, shown[options.policy])}"
    )


def _named_number(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not equals or not name or value < 0:
        raise argparse.ArgumentTypeError(f"must be TASK=NUMBER with a number of at least 0, got {text!r}")
    return name, value


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
