"""
What the runs of `benchmarks/learning.py` say: tables paired by seed, thresholds and pictures.

    python benchmarks/learning_report.py

Writes `docs/data/learning.md`, `docs/data/learning.json`, `docs/images/learning_<world>*.png` and the table of
`docs/results.md` from the runs of `benchmarks/learning_runs.py`.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning import ARMS, CURVE_PROMPTS, CURVE_SAMPLES, FIXED_SHARES, TWO_STEPS
from benchmarks.learning_runs import read_runs
from trl_mtgrpo.report import Run
from trl_mtgrpo.report.accuracy_pictures import accuracy_per_task, worst_and_average
from trl_mtgrpo.report.canvas import RC, RUN_COLOURS, import_matplotlib, legend_below, panels
from trl_mtgrpo.report.sampling_pictures import weights_and_shares


DATA = ROOT / "docs" / "data"
IMAGES = ROOT / "docs" / "images"
# The page that explains the differences and shows them between two comments.
GUIDE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- table: python benchmarks/learning_report.py -->", "<!-- end of table -->"

WORLDS = ("three", "eight", "unequal", "even", "stress")
# What is compared; the ablations are listed after them.
METHODS = {"GRPO": "grpo", "DAPO": "dapo", "MT-GRPO": "mt_grpo"}
NAMES = {
    "grpo": "GRPO",
    "dapo": "DAPO, requests sized by acceptance",
    "sec_grpo": "SEC-GRPO",
    "sec_dapo": "SEC-DAPO",
    "mt_grpo": "MT-GRPO (the defaults)",
    "mt_grpo_0.5": "MT-GRPO, lambda 0.5",
    "mt_grpo_neutral": 'MT-GRPO, absent_improvement="neutral"',
    "mt_grpo_no_carry": "MT-GRPO, nothing carried",
    "mt_grpo_carry_1": "MT-GRPO, carried for one step",
    "mt_grpo_exact_mix": "MT-GRPO, the paper's mix",
    "mt_grpo_exact_mix_no_carry": "MT-GRPO, the paper's mix, nothing carried",
    "sampler_only": "sampler, uniform weights",
    "weights_only": "weights, no filter",
    "reward_only": "reward-only weights, decay 1e-2",
    "mt_grpo_no_guard": "MT-GRPO, no plateau guard",
    "mt_grpo_cap": "MT-GRPO, weights of at most 0.5",
    "mt_grpo_0.05": "MT-GRPO, lambda 0.05",
    "mt_grpo_floor": "MT-GRPO, weights of at least 0.1",
    "mt_grpo_floor_15": "MT-GRPO, weights of at least 0.15",
    "mt_grpo_floor_20": "MT-GRPO, weights of at least 0.2",
    "weights_dapo": "MT-GRPO's weights, DAPO's refill",
    "learning_speed": "MT-GRPO, fast learners gain weight",
    "mt_grpo_fast": "MT-GRPO, weight lr 0.05",
    "mt_grpo_fast_floor": "MT-GRPO, weight lr 0.05, weights of at least 0.1",
    "mt_grpo_slow": "MT-GRPO, weight lr 0.0125",
    "mt_grpo_clip": "MT-GRPO, improvement clip 0.2",
    "mt_grpo_mean": "MT-GRPO, mean improvement instead of sum",
    "mt_grpo_ema": "MT-GRPO, improvement from the accuracy average",
    "mt_grpo_per_batch": "MT-GRPO, two steps per batch, weights per batch",
    "mt_grpo_per_minibatch": "MT-GRPO, two steps per batch, weights per minibatch",
    "mt_grpo_v1": "MT-GRPO of 0.1, run again",
    "mt_grpo_v2": "MT-GRPO of 0.2",
    "mt_grpo_v2_measure_1": "MT-GRPO of 0.2, one measured group per task",
    "mt_grpo_solved": "MT-GRPO, memory of solved prompts",
    "mt_grpo_g32": "MT-GRPO, 32 rollouts",
    "mt_grpo_g32_pilot": "MT-GRPO, 32 rollouts, pilots of 8",
    "weights_only_zvp": "weights, no filter, RL-ZVP's advantage",
    "three_steps": "MT-GRPO, three steps per batch",
    "one_task_steps": "MT-GRPO, three steps of one task per batch",
}
# Weights that never move, by their shares in percent: compared with DAPO, not with the defaults.
FIXED = {f"fixed_{'_'.join(map(str, shares))}": "/".join(map(str, shares)) for shares in FIXED_SHARES}
NAMES |= {name: f"fixed shares, {shares} %" for name, shares in FIXED.items()}
# What any shares could do is asked at this batch size, against this method.
REFERENCE = "dapo-b24"
# Variants of something other than the defaults at the same B. Two steps on a batch of 24 are steps of 12 prompts.
BASES = {
    "mt_grpo_exact_mix_no_carry-b12": "mt_grpo_exact_mix-b12",
    "mt_grpo_per_batch-b24": "mt_grpo-b12",
    "mt_grpo_per_minibatch-b24": "mt_grpo_per_batch-b24",
    "mt_grpo_v2-b12": "mt_grpo_v1-b12",
    "mt_grpo_v2_measure_1-b12": "mt_grpo_v2-b12",
}
# Comparisons of fewer seeds are left out of the summary: they have no interval to speak of.
FEWEST_SEEDS = 3
# A batch size enters the choice of a method's best one from this many seeds on.
ENOUGH_SEEDS = 5
LEVELS = (0.2, 0.3, 0.4, 0.5)
# Tasks that hold no skill to be found: the worst task and the average are those of the others.
UNLEARNABLE = ("riddle",)
# Seeds on which a default was chosen: they are shown by themselves and enter no comparison.
DEVELOPMENT = {"three": (5, 6, 7), "eight": (0,), "stress": (0,)}
# Seeds added to repeat a comparison: equal steps only, shown beside the planned seeds and entering nothing else.
REPEATED = {"three": (8, 9, 10, 11, 12)}
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T_QUANTILES = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}

Runs = dict[str, dict[int, dict[str, Any]]]  # by arm and seed


class Measured(NamedTuple):
    """Accuracies of one run on the large evaluation."""

    worst: float
    average: float


def load(world: str, kind: str = "compared") -> Runs:
    """Finished runs of a world by arm and seed: those `compared`, of the `development` seeds, or `repeated`."""
    sets = {"development": DEVELOPMENT.get(world, ()), "repeated": REPEATED.get(world, ())}
    runs: Runs = {}
    for run in read_runs(world):
        apart = [name for name, seeds in sets.items() if run["seed"] in seeds and not run["arm"].startswith("alone:")]
        if (apart or ["compared"]) == [kind]:
            runs.setdefault(run["arm"], {})[run["seed"]] = run
    return runs


def at(run: dict[str, Any], axis: str, steps: int | None = None) -> Measured | None:
    """The large evaluation at equal optimizer steps, by default those that the run was given, or at equal tokens."""
    steps = run.get("steps", 100) if steps is None else steps
    reached = [
        point
        for point in run["full"]
        if (point["step"] == steps if axis == "steps" else point["tokens"] >= run["token_budget"])
    ]
    if not reached:
        return None
    return Measured(*(over_tasks(reached[0], what) for what in Measured._fields))


def learnable(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in UNLEARNABLE)


def over_tasks(point: dict[str, Any], what: str) -> float:
    """Worst or average accuracy of an evaluation, over the tasks that can be learned."""
    values = [point["accuracy"][name] for name in learnable(point["accuracy"])]
    return min(values) if what == "worst" else float(np.mean(values))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % confidence interval; infinite for a single value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("inf")
    return float(np.mean(values)), T_QUANTILES.get(n - 1, 1.96) * float(np.std(values, ddof=1)) / n**0.5


def column(runs: Runs, arm: str, axis: str, what: str) -> dict[int, float]:
    """One number per seed."""
    found = {seed: at(run, axis) for seed, run in runs.get(arm, {}).items()}
    return {seed: getattr(value, what) for seed, value in found.items() if value is not None}


def difference(runs: Runs, ours: str, other: str, axis: str, what: str) -> dict[str, Any] | None:
    """Ours minus the other, paired by seed."""
    a, b = column(runs, ours, axis, what), column(runs, other, axis, what)
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    values = [a[seed] - b[seed] for seed in seeds]
    mean, half = interval(values)
    return {"mean": mean, "half": half, "seeds": seeds, "values": values}


def interpolated(run: dict[str, Any], axis: str, value: float, what: str) -> float:
    """A number on another axis, between the evaluations of a run's curve."""
    curve = run["curve"]
    return float(np.interp(value, [p[axis] for p in curve], [over_tasks(p, what) for p in curve]))


def difference_on(runs: Runs, ours: str, other: str, axis: str) -> dict[str, Any]:
    """Ours minus the other at the largest number of completions, or CPU seconds, that all their runs reached."""
    seeds = sorted(runs[ours].keys() & runs[other].keys())
    value = min(runs[arm][seed]["curve"][-1][axis] for arm in (ours, other) for seed in seeds)
    found: dict[str, Any] = {"at": value}
    for what in Measured._fields:
        a, b = ([interpolated(runs[arm][seed], axis, value, what) for seed in seeds] for arm in (ours, other))
        values = [x - y for x, y in zip(a, b, strict=True)]
        mean, half = interval(values)
        found[what] = {"mean": mean, "half": half, "seeds": seeds, "values": values}
    return found


def best(runs: Runs, method: str, axis: str) -> str | None:
    """The batch size of a method with the highest mean worst-task accuracy on the seeds that its batch sizes share."""
    worst = {arm: column(runs, arm, axis, "worst") for arm in runs if arm.rsplit("-b", 1)[0] == method}
    enough = min(max(map(len, worst.values()), default=0), ENOUGH_SEEDS)
    arms = [arm for arm, values in worst.items() if values and len(values) >= enough]
    shared = set.intersection(*(set(worst[arm]) for arm in arms)) if arms else set()
    return max(arms, key=lambda arm: np.mean([worst[arm][seed] for seed in sorted(shared)]), default=None)


def best_of_ours(runs: Runs, axis: str) -> str | None:
    """MT-GRPO with its defaults, or with the paper's mix in a world where only that was run."""
    return best(runs, "mt_grpo", axis) or best(runs, "mt_grpo_exact_mix", axis)


def mean_curve(by_seed: dict[int, dict[str, Any]], axis: str) -> tuple[Any, Any]:
    """Worst-task accuracy over steps or tokens: the mean over the seeds, where all of them have been."""
    curves = [
        ([p[axis] for p in run["curve"]], [over_tasks(p, "worst") for p in run["curve"]]) for run in by_seed.values()
    ]
    x = np.linspace(0, min(xs[-1] for xs, _ in curves), 400)
    return x, np.mean([np.interp(x, xs, ys) for xs, ys in curves], axis=0)


def first_at(by_seed: dict[int, dict[str, Any]], axis: str, level: float) -> float | None:
    """Where the mean curve first reaches a level."""
    x, y = mean_curve(by_seed, axis)
    reached = np.flatnonzero(y >= level)
    return float(x[reached[0]]) if reached.size else None


def title(arm: str) -> str:
    method, groups = arm.rsplit("-b", 1)
    return f"{NAMES[method]}, B = {groups}"


def short(name: str) -> str:
    """A title for places without room."""
    return name.replace(" (the defaults)", "").replace(", requests sized by acceptance", "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table whose first columns are text."""
    lines = [header, ["---"] * text_columns + ["---:"] * (len(header) - text_columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(values: dict[int, float]) -> str:
    if not values:
        return ""
    mean, half = interval(list(values.values()))
    return f"{mean:.3f}" + (f" ± {half:.3f}" if len(values) > 1 else "")


def points(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    half = f" ± {100 * found['half']:.1f}" if len(found["seeds"]) > 1 else ""
    return f"{100 * found['mean']:+.1f}{half}"


def compared(runs: Runs) -> list[str]:
    """The arms that train all tasks, in the order of their names."""
    order = list(NAMES)
    arms = (arm for arm in runs if not arm.startswith("alone:"))
    return sorted(arms, key=lambda arm: (order.index(arm.rsplit("-b", 1)[0]), arm))


def methods_table(runs: Runs, arms: Sequence[str]) -> str:
    """One line per method and batch size."""
    rows = []
    for arm in arms:
        last = [next(p for p in run["curve"] if p["tokens"] >= run["token_budget"]) for run in runs[arm].values()]
        cells = [text(column(runs, arm, axis, what)) for axis in ("steps", "tokens") for what in ("worst", "average")]
        cost = [np.mean([p[key] for p in last]) for key in ("step", "completions", "cpu_seconds")]
        rows.append([title(arm), str(len(runs[arm])), *cells, *(f"{value:,.0f}" for value in cost)])
    return table(
        [
            "method",
            "seeds",
            "worst task at 100 steps",
            "average at 100 steps",
            "worst task at the token budget",
            "average at the token budget",
            "steps in it",
            "completions in it",
            "CPU seconds",
        ],
        rows,
    )


def paired_rows(runs: Runs) -> dict[str, dict[str, Any]]:
    """MT-GRPO minus each baseline, each at its own best batch size, on both axes."""
    rows = {}
    for axis in ("steps", "tokens"):
        ours = best_of_ours(runs, axis)
        for name in ("GRPO", "DAPO"):
            other = best(runs, METHODS[name], axis)
            if ours is not None and other is not None:
                rows[f"{title(ours)} - {title(other)}, equal {axis}"] = {
                    what: difference(runs, ours, other, axis, what) for what in Measured._fields
                }
    return rows


def repeated_rows(planned: Runs, repeated: Runs) -> dict[str, dict[str, Any]]:
    """The comparison at equal steps on the planned seeds, on those that repeat it, and on both."""
    ours, others = best_of_ours(planned, "steps"), [best(planned, METHODS[name], "steps") for name in ("GRPO", "DAPO")]
    both = {arm: planned.get(arm, {}) | repeated.get(arm, {}) for arm in {*planned, *repeated}}
    rows = {}
    for other in others:
        if ours in repeated and other in repeated:
            for name, runs in (("the planned seeds", planned), ("the repetition", repeated), ("both", both)):
                rows[f"{title(ours)} - {title(other)}, {name}"] = {
                    what: difference(runs, ours, other, "steps", what) for what in Measured._fields
                }
    return rows


def other_axes(runs: Runs) -> dict[str, dict[str, Any]]:
    """MT-GRPO minus each baseline at equal completions and at equal computing time, at the B for equal tokens."""
    ours, rows = best_of_ours(runs, "tokens"), {}
    for name in ("GRPO", "DAPO"):
        other = best(runs, METHODS[name], "tokens")
        if ours is not None and other is not None:
            for axis, unit in (("completions", "completions"), ("cpu_seconds", "CPU seconds")):
                found = difference_on(runs, ours, other, axis)
                rows[f"{title(ours)} - {title(other)}, {found['at']:,.0f} {unit}"] = found
    return rows


def ablation_rows(runs: Runs) -> dict[str, dict[str, Any]]:
    """Every variant minus what it varies: the defaults at the same batch size, or else what `BASES` says."""
    rows = {}
    for arm in compared(runs):
        name, groups = arm.rsplit("-b", 1)
        base = BASES.get(arm, f"mt_grpo-b{groups}")
        if name not in METHODS.values() and name not in FIXED and base in runs:
            batch = "" if base.endswith(f"-b{groups}") else f", B = {base.rsplit('-b', 1)[1]}"
            rows[f"{title(arm)} - {short(NAMES[base.rsplit('-b', 1)[0]])}{batch}"] = {
                f"{what}, equal {axis}": difference(runs, arm, base, axis, what)
                for axis in ("steps", "tokens")
                for what in Measured._fields
            }
    return rows


def reachable_rows(runs: Runs) -> dict[str, dict[str, Any]]:
    """
    Every method minus DAPO at the same B and at equal steps, and the tokens of both: what shares can do for the worst
    task and for the average. Empty in a world without fixed shares.
    """
    if not any(arm.rsplit("-b", 1)[0] in FIXED for arm in runs):
        return {}
    batch, rows = f"-b{REFERENCE.rsplit('-b', 1)[1]}", {}
    for arm in compared(runs):
        found = {what: difference(runs, arm, REFERENCE, "steps", what) for what in Measured._fields}
        if arm.endswith(batch) and arm != REFERENCE and not ARMS[arm].keys() & TWO_STEPS.keys() and found["worst"]:
            rows[arm] = found | {"tokens": tokens_at(runs, arm) / tokens_at(runs, REFERENCE)}
    return rows


def tokens_at(runs: Runs, arm: str, steps: int = 100) -> float:
    """Tokens generated up to an optimizer step, in the mean over the seeds."""
    return float(np.mean([p["tokens"] for run in runs[arm].values() for p in run["full"] if p["step"] == steps]))


def reachable_table(found: dict[str, dict[str, Any]]) -> str:
    """The rows of `reachable_rows`."""
    header = ["at 100 steps, against DAPO", "worst task", "average", "tokens generated, DAPO's = 1"]
    rows = [
        [title(arm), points(row["worst"]), points(row["average"]), f"{row['tokens']:.2f}"]
        for arm, row in found.items()
    ]
    return table(header, rows)


def draw_reachable(file: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """Average over worst task, both against DAPO: fixed shares and moving weights, with standard errors."""
    fixed = [arm for arm in found if arm.rsplit("-b", 1)[0] in FIXED]
    moving = [arm for arm in found if arm not in fixed]
    with import_matplotlib().rc_context(RC):
        figure, axes = panels(1, 1, width=7.2, height=5.0)
        ax = axes[0, 0]
        for arm, marker in [*((arm, "s") for arm in fixed), *zip(moving, cycle("o^v<>DPXph"), strict=False)]:
            x, y = (100 * found[arm][what]["mean"] for what in Measured._fields)
            xerr, yerr = (100 * standard_error(found[arm][what]["values"]) for what in Measured._fields)
            colour = RUN_COLOURS[arm in moving]
            ax.errorbar(x, y, xerr=xerr, yerr=yerr, color=colour, linestyle="none", elinewidth=0.6, alpha=0.6)
            label = short(NAMES[arm.rsplit("-b", 1)[0]]) if arm in moving else None
            ax.plot(x, y, marker=marker, linestyle="none", color=colour, label=label)
            if arm in fixed:
                name = FIXED[arm.rsplit("-b", 1)[0]]
                ax.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
        label = "fixed shares: countdown/zebra/arc_1d in %"
        ax.plot([], [], marker="s", linestyle="none", color=RUN_COLOURS[0], label=label)
        ax.plot([0.0], [0.0], marker="*", markersize=12, linestyle="none", color="#222222", label="DAPO")
        for line in (ax.axhline, ax.axvline):
            line(0.0, color="#555555", linewidth=0.9)
        ax.set_xlabel("worst task, points against DAPO")
        ax.set_ylabel("average, points against DAPO")
        ax.set_title("B = 24, after 100 steps: mean and standard error")
        legend_below(figure, axes, columns=2)
        figure.savefig(IMAGES / file, dpi=110, metadata={"Software": None})
    return [file]


def standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / len(values) ** 0.5


def evaluated_every(runs: Runs, arms: Sequence[str]) -> float:
    """Thousands of generated tokens between evaluations: the widest gap of a run, in the median over the runs."""
    gaps = [
        np.diff([p["tokens"] for p in run["curve"] if p["tokens"] <= run["token_budget"]]).max()
        for arm in arms
        for run in runs[arm].values()
    ]
    return float(np.median(gaps)) / 1000


def threshold_table(runs: Runs, arms: Sequence[str]) -> str:
    """Steps and tokens at which the mean curve of the worst task first reaches a level."""

    def cell(arm: str, level: float) -> str:
        step, tokens = (first_at(runs[arm], axis, level) for axis in ("step", "tokens"))
        return "" if step is None or tokens is None else f"{step:,.0f} / {tokens / 1000:,.0f}k"

    return table(
        ["method", *(f"steps / tokens to {level:.0%}" for level in LEVELS)],
        [[title(arm), *(cell(arm, level) for level in LEVELS)] for arm in arms],
    )


def tokens_to_final(runs: Runs) -> dict[str, float | None] | None:
    """Tokens after which MT-GRPO's mean curve is where GRPO's ends, as a share of GRPO's tokens."""
    grpo, ours = best(runs, "grpo", "tokens"), best_of_ours(runs, "tokens")
    if grpo is None or ours is None:
        return None
    final = float(mean_curve(runs[grpo], "tokens")[1][-1])  # of the same prompts as the other curve
    needed = first_at(runs[ours], "tokens", final)
    budget = next(iter(runs[grpo].values()))["token_budget"]
    return {"level": final, "share": None if needed is None else needed / budget}


def task_table(runs: Runs, arms: Sequence[str]) -> str:
    """Accuracy of each task at the start and at the token budget, and MT-GRPO's weights there."""
    names = list(next(iter(runs[arms[0]].values()))["curve"][0]["accuracy"])
    start = {n: np.mean([run["curve"][0]["accuracy"][n] for run in runs[arms[0]].values()]) for n in names}
    rows = [["before training", *(f"{start[n]:.3f}" for n in names)]]
    for arm in arms:
        ends = [next(p for p in run["full"] if p["tokens"] >= run["token_budget"]) for run in runs[arm].values()]
        rows.append([title(arm), *(f"{np.mean([p['accuracy'][n] for p in ends]):.3f}" for n in names)])
        if arm == best_of_ours(runs, "tokens"):
            rows.append(["its weights", *(f"{np.mean([p['weights'][n] for p in ends]):.2f}" for n in names)])
    return table(["accuracy", *names], rows)


def alone_table(runs: Runs) -> str:
    """Each task trained alone from the world's warm start: before and after."""
    rows = []
    for arm in (arm for arm in runs if arm.startswith("alone:")):
        for run in runs[arm].values():
            (name, before), (_, after) = (next(iter(run["full"][i]["accuracy"].items())) for i in (0, -1))
            step = str(run["full"][-1]["step"])
            rows.append([name, str(run["seed"]), step, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"])
    return table(["task, trained alone", "seed", "steps", "before", "after", "gain"], rows) if rows else ""


def alone_part(runs: Runs) -> list[str]:
    found = alone_table(runs)
    return ["Each task trained alone (GRPO, B = 12) from the world's warm start:", found] if found else []


def draw(world: str, runs: Runs, arms: Sequence[str]) -> list[str]:
    """The report's pictures of the compared methods; returns the names of the files."""
    drawn: dict[str, list[Run]] = {}
    for arm in arms:
        for seed, run in runs[arm].items():
            log = [dict(entry) for entry in run["history"]]
            for point in run["curve"]:
                entry = {"step": point["step"], "sampling/total_generated_tokens": point["tokens"]}
                log.append(entry | {f"eval_tasks/{n}/accuracy": a for n, a in point["accuracy"].items()})
            names = tuple(run["curve"][0]["accuracy"])
            label = short(title(arm))
            drawn.setdefault(label, []).append(
                Run(label, f"{arm}-{seed}", names, sorted(log, key=lambda e: e["step"]))
            )
    files = []
    with import_matplotlib().rc_context(RC):
        for name, picture in (
            ("", worst_and_average),
            ("_tasks", accuracy_per_task),
            ("_weights", weights_and_shares),
        ):
            shown = drawn if name != "_weights" else {k: v for k, v in drawn.items() if "MT" in k}
            if not name:
                shown = {k: [replace(run, tasks=learnable(run.tasks)) for run in v] for k, v in drawn.items()}
            if not shown:
                continue
            figure = picture(shown).figure
            if figure is None:
                continue
            files.append(f"learning_{world}{name}.png")
            figure.savefig(IMAGES / files[-1], dpi=110, metadata={"Software": None})
    return files


def draw_variants(file: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """Every variant's difference on every seed, and the mean: worst task and average, on both axes."""
    rows = [(name, row) for name, row in found.items() if len(_seeds(row)) >= FEWEST_SEEDS][::-1]
    if not rows:
        return []
    with import_matplotlib().rc_context(RC):
        figure, axes = panels(1, 2, width=4.8, height=0.36 * len(rows) + 0.7, sharex=True, sharey=True)
        for ax, axis in zip(axes[0], ("steps", "tokens"), strict=True):
            for i, (what, label, marker) in enumerate((("worst", "worst task", "o"), ("average", "average", "s"))):
                style = {"color": RUN_COLOURS[i], "linestyle": "none"}
                for height, (_, row) in enumerate(rows):
                    y, cell = height + 0.17 - 0.34 * i, row[f"{what}, equal {axis}"]
                    values = [100 * value for value in cell["values"]] if cell else []
                    ax.plot(values, [y] * len(values), marker=marker, markersize=3.5, alpha=0.45, **style)
                    ax.plot(
                        [np.mean(values)] if values else [],
                        [y] * bool(values),
                        marker="|",
                        markersize=11,
                        markeredgewidth=2.4,
                        **style,
                    )
                ax.plot([], [], marker=marker, label=label, **style)
            ax.axvline(0.0, color="#555555", linewidth=0.9)
            ax.set_ylim(-0.6, len(rows) - 0.4)
            ax.set_title(f"at equal {axis}")
            ax.set_xlabel("points, by seed and mean")
        labels = [
            name.removeprefix("MT-GRPO, ").removesuffix(" - MT-GRPO").replace(" - MT-GRPO, ", "\nagainst ")
            for name, _ in rows
        ]
        axes[0, 0].set_yticks(range(len(rows)), labels)
        legend_below(figure, axes)
        figure.savefig(IMAGES / file, dpi=110, metadata={"Software": None})
    return [file]


def _seeds(row: dict[str, dict[str, Any] | None]) -> set[int]:
    return {seed for cell in row.values() if cell for seed in cell["seeds"]}


def numbers(runs: Runs, world: str) -> dict[str, Any]:
    """What is concluded from a world's runs."""
    return {
        "token_budget": next(iter(runs[compared(runs)[0]].values()))["token_budget"],
        "paired": paired_rows(runs),
        "other_axes": other_axes(runs),
        "ablations": ablation_rows(runs),
        "study": ablation_rows(load(world, "development")),
        "repeated": repeated_rows(runs, load(world, "repeated")),
        "reachable": reachable_rows(load(world, "development")),
        "tokens_to_grpo_final": tokens_to_final(runs),
    }


def pictures(world: str, files: Sequence[str]) -> list[str]:
    return [f"![World {world}](../images/{name})" for name in files]


def paired_table(found: dict[str, dict[str, Any]], without: str = "at") -> str:
    """Differences in points, one line per comparison."""
    columns = [column for column in next(iter(found.values())) if column != without]
    return table(["difference", *columns], [[name, *(points(row[c]) for c in columns)] for name, row in found.items()])


def section(world: str, runs: Runs, found: dict[str, Any]) -> str:
    """A world's part of the page."""
    arms = compared(runs)
    shown = {*METHODS.values(), *(ours.rsplit("-b", 1)[0] for ours in [best_of_ours(runs, "tokens")] if ours)}
    main = [arm for arm in arms if arm.rsplit("-b", 1)[0] in shown]
    tasks = len(next(iter(runs[arms[0]].values()))["curve"][0]["accuracy"])
    parts = [
        f"## World `{world}`",
        f"Token budget {found['token_budget']:,}. Mean over seeds ± half of its 95 % interval.",
        methods_table(runs, arms),
    ]
    if found["paired"]:
        parts += [
            "Differences in points, paired by seed, each method at its own best B:",
            paired_table(found["paired"]),
        ]
    if found["repeated"]:
        parts += [
            f"Equal steps repeated on seeds {list(REPEATED[world])}:",
            paired_table(found["repeated"]),
        ]
    if found["other_axes"]:
        parts += [
            "The same at equal completions and at equal computing time, interpolated between evaluations of "
            f"{CURVE_PROMPTS // tasks} prompts x {CURVE_SAMPLES} samples per task:",
            paired_table(found["other_axes"]),
        ]
    parts += [
        "Where the mean curve of the worst task first reaches a level, on straight lines between evaluations that are "
        f"about {evaluated_every(runs, main):,.0f} thousand tokens apart:",
        threshold_table(runs, main),
    ]
    if needed := found["tokens_to_grpo_final"]:
        when = "not at all" if needed["share"] is None else f"after {needed['share']:.2f} of GRPO's tokens"
        parts.append(f"MT-GRPO's curve is where GRPO's ends ({needed['level']:.3f}) {when}.")
    parts += ["Per task at the token budget:", task_table(runs, main)]
    if found["ablations"]:
        parts += [
            "What each part buys: variants at the same B, in points, paired by seed (negative is worse than what is "
            "varied):",
            paired_table(found["ablations"]),
            *pictures(world, draw_variants(f"learning_{world}_variants.png", found["ablations"])),
        ]
    parts += alone_part(runs)
    if chosen_on := load(world, "development"):
        parts += [
            f"Seeds {list(DEVELOPMENT[world])}, on which defaults were chosen; they enter none of the above:",
            methods_table(chosen_on, compared(chosen_on)),
        ]
        if found["study"]:
            parts += [
                "Differences there, in points, paired by seed:",
                paired_table(found["study"]),
                *pictures(world, draw_variants(f"learning_{world}_settings.png", found["study"])),
            ]
        if found["reachable"]:
            parts += [
                "What fixed shares and other weights do there at equal steps, in points against DAPO at the same B:",
                reachable_table(found["reachable"]),
                *pictures(world, draw_reachable(f"learning_{world}_shares.png", found["reachable"])),
            ]
    found_best = (best(runs, "grpo", "tokens"), best(runs, "dapo", "tokens"), best_of_ours(runs, "tokens"))
    chosen = [arm for arm in found_best if arm is not None]
    parts += pictures(world, draw(world, runs, chosen))
    return "\n\n".join(parts)


def summary(found: dict[str, dict[str, Any]]) -> str:
    """All worlds' differences as one table, for the page that explains them."""
    rows = []
    for world, result in found.items():
        for name, row in result["paired"].items():
            comparison, axis = name.rsplit(", equal ", 1)
            seeds = len(row["worst"]["seeds"])
            if seeds < FEWEST_SEEDS:
                continue
            cells = [short(comparison), axis, str(seeds), points(row["worst"]), points(row["average"])]
            rows.append([f"`{world}`", *cells])
    return table(["world", "difference", "at equal", "seeds", "worst task", "average"], rows, text_columns=3)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    worlds = {world: runs for world in WORLDS if compared(runs := load(world))}
    found = {world: numbers(runs, world) for world, runs in worlds.items()}
    page = [
        "# Learning: measured tables",
        "Made by `python benchmarks/learning_report.py` from the runs of `python benchmarks/learning.py`. What they "
        "mean is said in [Benchmarks](../research/benchmarks.md).",
        *(section(world, runs, found[world]) for world, runs in worlds.items()),
    ]
    for world in WORLDS:
        if world not in worlds and (alone := alone_part(load(world))):
            page += [f"## World `{world}`", "Methods have not been compared here.", *alone]
    (DATA / "learning.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
    (DATA / "learning.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    before, rest = GUIDE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    GUIDE.write_text(f"{before}{BEGIN}\n\n{summary(found)}\n\n{END}{after}", encoding="utf-8")
    print("\n\n".join(page))


if __name__ == "__main__":
    main()
