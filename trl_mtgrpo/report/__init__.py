"""
What came out of finished runs, as pictures and one page: `python -m trl_mtgrpo report RUN [RUN ...] --output FOLDER`.

Runs are read from the logs inside their checkpoints. Drawing needs matplotlib and the page a template engine
(`pip install trl_mtgrpo[report]`).
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .accuracy_pictures import Runs, accuracy_per_task, thresholds, worst_and_average
from .canvas import RC, Drawing, import_matplotlib
from .page import Section, page
from .runs import Run, read_run, read_runs
from .sampling_pictures import filtered_groups, generation_cost, rollout_ledger, weights_and_shares


__all__ = ["Run", "draw", "read_run", "read_runs", "write_report"]


# Pictures stay sharp when they are enlarged to the width of a screen.
DPI = 160


class _Picture(NamedTuple):
    name: str
    title: str
    reading: str
    draw: Callable[[Runs], Drawing]


PICTURES = (
    _Picture(
        "worst_and_average",
        "Worst task and average",
        "Left against optimizer steps, right against the tokens that were generated for them: a method that generates "
        "more per step is further to the right there. Higher and further left is better.",
        worst_and_average,
    ),
    _Picture(
        "accuracy_per_task",
        "Accuracy per task",
        "One panel per task. A task that falls while others rise is paying for them.",
        accuracy_per_task,
    ),
    _Picture(
        "thresholds",
        "Steps and tokens to each level of the worst task",
        "One line per seed; each mark is its first measurement at or above a level. Further left is faster, and a "
        "line ends at the highest level its run ever reached.",
        thresholds,
    ),
    _Picture(
        "weights_and_shares",
        "What was asked for and what was trained",
        "From left to right: the task weights; the shares of the batch that were asked for, which leave out what is "
        "solved; each task's share of the groups that trained, after filtering, which should follow what was asked "
        "for; and how far one batch is from it (0 is exact, 2 is disjoint): a batch of few groups cannot be exact, "
        "because it is drawn. All but the weights are moving means over a tenth of the run.",
        weights_and_shares,
    ),
    _Picture(
        "filtered_groups",
        "Groups without a gradient",
        "Share of each task's generated groups that were filtered, and why: all rollouts right means the prompts are "
        "too easy by now, all wrong that they are still too hard. What is filtered beyond the two had equal rewards "
        "for another reason. Moving means over a tenth of the run.",
        filtered_groups,
    ),
    _Picture(
        "generation_cost",
        "What a step cost to generate",
        "Groups generated for each group trained (1 is no waste), rounds of generation in a step, and groups that "
        "were still missing when the step's budget ended. Moving means over a tenth of the run.",
        generation_cost,
    ),
    _Picture(
        "rollout_ledger",
        "Where all rollouts went",
        "Everything generated in the run, by task: trained, filtered with the reason, too old to train, or kept for "
        "the step that never came. The parts of a bar add up to what was generated. A run that filters nothing also "
        "trains its groups without a gradient, and they count as trained; see the picture of groups without a "
        "gradient.",
        rollout_ledger,
    ),
)


def by_label(runs: Sequence[Run]) -> Runs:
    """Runs by label, in the order in which the labels first appear."""
    grouped: Runs = {}
    for run in runs:
        grouped.setdefault(run.label, []).append(run)
    return grouped


def draw(runs: Sequence[Run]) -> dict[str, Any]:
    """
    Every picture of a report.

    Args:
        runs (`Sequence[Run]`):
            The runs; those of one label are seeds of one method.

    Returns:
        `dict[str, matplotlib.figure.Figure]`: by name, without those that the runs hold no numbers for.

    Raises:
        ImportError: when matplotlib is not installed.
    """
    return {name: drawn.figure for name, drawn in _drawings(runs).items() if drawn.figure is not None}


def _drawings(runs: Sequence[Run]) -> dict[str, Drawing]:
    grouped = by_label(runs)
    with import_matplotlib().rc_context(RC):
        return {picture.name: picture.draw(grouped) for picture in PICTURES}


def write_report(runs: Sequence[Run], output: Path, title: str = "Multi-task GRPO report") -> Path:
    """
    Writes the pictures of some runs and the page that explains them.

    Args:
        runs (`Sequence[Run]`):
            The runs; those of one label are seeds of one method.
        output (`Path`):
            Folder to write to; it is made when it does not exist.
        title (`str`, *optional*, defaults to `"Multi-task GRPO report"`):
            Heading of the page.

    Returns:
        `Path`: the page, `report.html`. It holds the pictures; the PNG files beside it are for use elsewhere.

    Raises:
        ImportError: when matplotlib or the template engine is not installed.
    """
    drawings = _drawings(runs)
    output.mkdir(parents=True, exist_ok=True)
    sections, left_out = [], []
    for picture in PICTURES:
        drawn = drawings[picture.name]
        if drawn.figure is None:
            left_out.append(f"the picture '{picture.title}'")
            continue
        left_out += [f"in '{picture.title}' the panel '{panel}'" for panel in drawn.missing]
        image = io.BytesIO()
        with import_matplotlib().rc_context(RC):
            drawn.figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
        (output / f"{picture.name}.png").write_bytes(image.getvalue())
        sections.append(Section(picture.title, picture.reading, f"{picture.name}.png", image.getvalue()))
    target = output / "report.html"
    target.write_text(page(title, by_label(runs), sections, left_out), encoding="utf-8")
    return target
