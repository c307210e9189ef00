"""What the model card says beyond TRL's: the tasks, their accuracy before and after, the weights and the command."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .display import percent
from .metrics import is_known


_MEANINGS = {
    "mt_grpo": "task weights follow weak and slowly improving tasks, and batches keep their mix after filtering",
    "grpo": "uniform task weights, nothing filtered",
    "dapo": "uniform task weights, groups without a gradient replaced by any other",
    "sec_grpo": "task weights of the self-evolving curriculum, nothing filtered",
    "sec_dapo": "task weights of the self-evolving curriculum, groups without a gradient replaced by any other",
}

_SECRET = re.compile(r"^--?[\w-]*(?:token|key|password|secret)[\w-]*$", re.IGNORECASE)

_MARKUP = re.compile(r"[\\`*_\[\]$|~^]")

_HEADING = "## Multi-task training"


def multi_task_section(
    settings: Mapping[str, Any], task_weights: Mapping[str, float], log_history: Sequence[Mapping[str, Any]]
) -> str:
    """
    The section about the tasks.

    Args:
        settings (`dict[str, Any]`):
            What the run did, by name, with its `method`.
        task_weights (`dict[str, float]`):
            Weights at the end, by task name.
        log_history (`list[dict]`):
            What the trainer logged. The first and the last evaluation give the accuracy before and after.

    Returns:
        `str`: Markdown.
    """
    method = settings["method"]
    lines = [
        _HEADING,
        "",
        f"Trained on {len(task_weights)} task(s) with [trl_mtgrpo](https://huggingface.co/papers/2602.05547), method "
        f"`{method}`: {_MEANINGS[method]}.",
        "",
        *_accuracy_table(task_weights, log_history),
        "",
        f"Settings: {', '.join(f'`{name}={value}`' for name, value in settings.items() if name != 'method')}.",
        "",
        *_command(sys.argv),
        "",
    ]
    return "\n".join(lines)


def extend_model_card(card: Path, section: str) -> None:
    """
    Puts the section before the card's versions and citations.

    Args:
        card (`Path`):
            The card that the host wrote.
        section (`str`):
            Markdown.
    """
    text = card.read_text(encoding="utf-8")
    position = text.find("### Framework versions")
    head, tail = (text, "") if position < 0 else (text[:position], text[position:])
    card.write_text(f"{head.rstrip()}\n\n{section}\n{tail}", encoding="utf-8")


def _accuracy_table(task_weights: Mapping[str, float], log_history: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(task_weights)
    evaluations = [entry for entry in log_history if any(f"eval_tasks/{name}/accuracy" in entry for name in names)]
    lines = ["| task | weight at the end | accuracy before | accuracy after |", "|---|---|---|---|"]
    first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
    for name in names:
        before, after = (_percent(entry.get(f"eval_tasks/{name}/accuracy")) for entry in (first, last))
        lines.append(f"| {_markdown(name)} | {task_weights[name]:.3f} | {before} | {after} |")
    for label, key in (("worst task", "eval_worst_task_accuracy"), ("average", "eval_average_accuracy")):
        lines.append(f"| **{label}** | | {_percent(first.get(key))} | {_percent(last.get(key))} |")
    if evaluations:
        lines += ["", f"Accuracy before is that of step {first['step']}, after that of step {last['step']}."]
    else:
        lines += ["", "The run was not evaluated."]
    return lines


def _command(argv: Sequence[str]) -> list[str]:
    """The command line without its secrets; a notebook has none worth showing."""
    name = Path(argv[0]).name if argv else ""
    if not name or name.startswith("ipykernel"):
        return ["Started from a notebook or an interactive session."]
    words = [name]
    for word in argv[1:]:
        option, equals, _ = word.partition("=")
        if _SECRET.search(option) and equals:
            words.append(f"{option}=...")
        elif len(words) > 1 and words[-1].startswith("-") and _SECRET.search(words[-1]) and not word.startswith("-"):
            words.append("...")
        else:
            words.append(word)
    return ["Command:", "", "```shell", shlex.join(words), "```"]


def _percent(value: float | None) -> str:
    return percent(value) if is_known(value) else "not measured"


def _markdown(name: str) -> str:
    """A name as it is, in a table of Markdown."""
    return _MARKUP.sub(r"\\\g<0>", name).replace("<", "&lt;").replace(">", "&gt;")
