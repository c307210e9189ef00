"""The command line: what can be typed, and which module answers."""

import argparse
import importlib
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from trl_mtgrpo import __version__

from ..report.forecast import POLICIES


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs one command.

    Args:
        arguments (`Sequence[str]`, *optional*):
            What follows the program's name; by default what the user typed.

    Returns:
        `int`: 0; 1 when `check` found defects; 2 for a mistake of the user's, which is explained on the error stream.
    """
    parser = _parser()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if len(typed) > 1 and typed[0] in ("train", "check") and not typed[1].startswith("-"):
        typed.insert(1, "--config")  # as a positional argument it would catch the values of the trainer's settings
    options, rest = parser.parse_known_args(typed)
    if rest and not options.takes_settings:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    command = importlib.import_module(f".{options.module}", __package__)
    try:
        with warnings.catch_warnings():
            # Who types a command has no line that could be changed.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|accelerate)\.")
            result = command.run(options, rest) if options.takes_settings else command.run(options)
    except (ValueError, ImportError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    text, code = result if isinstance(result, tuple) else (result, 0)
    if text:
        sys.stdout.write(f"{text}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mtgrpo", description="Multi-Task GRPO for TRL.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"trl_mtgrpo {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, module: str, text: str, takes_settings: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        added.set_defaults(module=module, takes_settings=takes_settings)
        return added

    train = command("train", "train", "train what a task file says", takes_settings=True)
    _add_file(train)
    check = command("check", "check", "say what a task file means and what is wrong with it", takes_settings=True)
    _add_file(check)
    check.add_argument("--processes", type=_positive, metavar="N", help="processes that will train; those of the file")
    check.add_argument(
        "--acceptance", nargs="+", type=_named_number, default=[], metavar="TASK=SHARE", help=_ACCEPTANCE
    )
    _add_simulate(command("simulate", "simulate", "what a run will generate, train and waste"))
    report = command("report", "draw_report", "pictures and one page about finished runs")
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
    imported = command("import", "import_verl", "turn verl's data files and settings into a task file")
    imported.add_argument(
        "given",
        nargs="+",
        metavar="FILE|KEY=VALUE",
        help="parquet files, and settings such as data.train_batch_size=32",
    )
    imported.add_argument("--output", type=Path, metavar="FILE", help="the task file; standard output by default")
    return parser


_ACCEPTANCE = "guessed share of each task's groups that carry a gradient, in 0..1"


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [--config] FILE [--SETTING VALUE ...] [options]"
    parser.epilog = "Any other option is a setting of the trainer and wins over the file, such as --max_steps 100."
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the task file")
    parser.add_argument("--model", metavar="MODEL", help="name or folder, in place of the file's model")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--acceptance", nargs="+", type=_named_number, metavar="TASK=SHARE", help=_ACCEPTANCE)
    source.add_argument("--replay", type=Path, metavar="RUN", help="take shares, acceptance and lengths from a run")
    parser.add_argument(
        "--weights", nargs="+", type=_named_number, default=[], metavar="TASK=WEIGHT", help="uniform by default"
    )
    parser.add_argument(
        "--prompts", type=_positive, metavar="N", help="prompts per task: adds what memory and pilots would save"
    )
    parser.add_argument(
        "--accuracy", nargs="+", type=_named_number, default=[], metavar="TASK=SHARE", help="beside --prompts"
    )
    parser.add_argument("--pilot", type=_positive, metavar="M", help="rollouts a group begins with, beside --prompts")
    parser.add_argument("--groups", type=_positive, help="groups per training step; 32 unless replayed")
    parser.add_argument("--generations", type=_positive, default=8, help="rollouts per group (default 8)")
    parser.add_argument("--tokens", type=_amount, default=1000.0, help="completion tokens per rollout (default 1000)")
    parser.add_argument("--steps", type=_positive, default=200, help="training steps (default 200)")
    parser.add_argument("--policy", choices=list(POLICIES), default="mt_grpo", help="policy shown task by task")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of every draw (default 0)")


def _named_number(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not equals or not name or not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be TASK=NUMBER with a number of at least 0, got {text!r}")
    return name, value


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
