"""What filtering costs: groups and tokens generated per trained group under each rule, with the least possible beside.

    python benchmarks/rollouts.py            # the tables of docs/research/rollouts.md; under three minutes on one core
    python benchmarks/rollouts.py --real     # and the same ratio measured through the real trainer
    python benchmarks/rollouts.py --memory   # the section on the memory of prompts alone; the others stay
    python benchmarks/rollouts.py --pilots   # the section on pilot groups alone; the others stay

Writes `docs/data/rollouts.md`, `docs/data/rollouts.json` and the table of `docs/research/rollouts.md`.
"""

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np


ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.rollout_memory import memory_rows, memory_section, short_table
from benchmarks.rollout_pilots import BEGIN_PILOTS, PILOT_GUIDE, pilot_rows, pilot_section, pilot_table
from benchmarks.rollout_rules import RULES, Rule
from benchmarks.rollout_worlds import PAPER, WORLDS, World, collapsing_world
from trl_mtgrpo.rollouts import SimulationResult, simulate
from trl_mtgrpo.sampling import AcceptanceEstimate, IndexStream, RatioPreservingSampler


OUTPUT = ROOT / "docs" / "data"
# The page that explains the main table and shows it between two comments.
GUIDE = ROOT / "docs" / "research" / "rollouts.md"
USER_GUIDE, BEGIN_MEMORY = ROOT / "docs" / "rollouts.md", "<!-- table: python benchmarks/rollouts.py --memory -->"
BEGIN, END = "<!-- table: python benchmarks/rollouts.py -->", "<!-- end of table -->"
# JSON field, heading and format of each column.
COLUMNS = {
    "groups_per_step": ("groups generated per step", "{:,.1f}"),
    "tokens_per_step": ("thousand tokens per step", "{:,.0f}"),
    "generated_per_least": ("groups / least", "{:.2f}"),
    "tokens_per_least": ("tokens / least", "{:.2f}"),
    "generated_per_useful": ("groups per trained group with a gradient", "{:.2f}"),
    "with_gradient": ("batch with a gradient", "{:.0%}"),
    "rounds": ("rounds per step", "{:.2f}"),
    "exact_mix": ("steps with the exact mix", "{:.1%}"),
    "mix_distance": ("L1 to the draw", "{:.4f}"),
    "unfilled": ("places unfilled", "{:.2%}"),
}


def run(rule: Rule, world: World, num_groups: int, num_generations: int, seed: int) -> SimulationResult:
    """One run of a rule in a world. A rule that does not filter trains whatever it generates."""
    result = simulate(
        world.weights,
        world.acceptance if rule.filters else np.ones_like(world.acceptance),
        rule.build(num_groups),
        max_surplus_age=rule.max_surplus_age,
        seed=seed,
        tokens_per_group=world.tokens * num_generations,
        num_groups=num_groups,
    )
    came = result.carried_in + result.generated
    if not np.array_equal(came, result.trained + result.filtered + result.expired + result.carried_out):
        raise RuntimeError("generated groups must equal trained + carried + filtered + expired, got a difference.")
    return result


def measure(result: SimulationResult, rule: Rule, world: World, num_groups: int) -> dict[str, float]:
    """The columns of one run."""
    # What the trained groups with a gradient cost at least; a rule that does not filter has acceptance 1 in `result`.
    useful = result.trained if rule.filters else result.trained * world.acceptance
    least = useful / world.acceptance
    shares = [counts.sum(axis=0) / counts.sum() for counts in (result.trained, result.desired)]
    steps, tokens = len(result.rounds), float((result.generated @ result.tokens_per_group).sum())
    return {
        "groups_per_step": result.generated.sum() / steps,
        "tokens_per_step": tokens / steps / 1000,
        "generated_per_least": result.generated.sum() / least.sum(),
        "tokens_per_least": tokens / (least @ result.tokens_per_group).sum(),
        "generated_per_useful": result.generated.sum() / useful.sum(),
        "with_gradient": useful.sum() / (num_groups * steps),
        "rounds": result.rounds_per_step,
        "exact_mix": result.exact_mix_ratio,
        "mix_distance": np.abs(shares[0] - shares[1]).sum(),
        "unfilled": np.maximum(num_groups - result.trained.sum(axis=1), 0).sum() / (num_groups * steps),
        "most_rounds": result.rounds.max(),
    }


def compare(title: str, seeds: Sequence[int], num_steps: int | None = None) -> dict[str, Any]:
    """All rules in one world: mean, lowest and highest of each column over the seeds."""
    draw, num_groups, num_generations = WORLDS[title]
    worlds = [World(w.weights[:num_steps], w.acceptance[:num_steps], w.tokens) for w in map(draw, seeds)]
    least = [w.weights / w.acceptance * num_groups for w in worlds]  # expected, (T, K)
    rows = {}
    for name, rule in RULES.items():
        results = [run(rule, w, num_groups, num_generations, s) for s, w in zip(seeds, worlds, strict=True)]
        values = [measure(r, rule, w, num_groups) for r, w in zip(results, worlds, strict=True)]
        trained = sum(r.trained.sum(axis=0) / r.trained.sum() for r in results) / len(results)
        wanted = sum(w.weights.mean(axis=0) for w in worlds) / len(worlds)
        rows[name] = {
            column: {
                "mean": float(np.mean([v[column] for v in values])),
                "low": float(min(v[column] for v in values)),
                "high": float(max(v[column] for v in values)),
            }
            for column in values[0]
        } | {"distance_to_weights_over_all_seeds": float(np.abs(trained - wanted).sum())}
    return {
        "num_groups": num_groups,
        "num_generations": num_generations,
        "num_steps": len(worlds[0].weights),
        "num_tasks": worlds[0].weights.shape[1],
        "seeds": list(seeds),
        "least_groups_per_step": float(np.mean([x.sum(axis=1).mean() for x in least])),
        "least_tokens_per_step": float(
            np.mean([(x @ w.tokens).mean() for x, w in zip(least, worlds, strict=True)]) * num_generations / 1000
        ),
        "rules": rows,
    }


def budgets(seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """A sudden collapse under limits per step: whether they hold, and what the mix is where they leave room."""
    rows = {}
    # 32 groups cost about 40 groups a step before the collapse and 240 after it, more when luck is bad.
    limits = {"tokens of 120 groups": (10, 120), "tokens of 300 groups": (10, 300), "2 further rounds": (2, None)}
    for name, (rounds, groups) in limits.items():
        most, room, exact, missing = [], [], [], []
        for seed in seeds:
            world = collapsing_world(seed)
            world = world._replace(tokens=np.ones(3))
            sampler = RatioPreservingSampler(32, max_rounds=rounds, max_tokens=groups)
            result = simulate(world.weights, world.acceptance, sampler, max_surplus_age=2, seed=seed)
            used = result.generated.sum(axis=1) / (groups or sampler.group_limit)
            if groups is None:
                used = np.maximum(used, result.rounds / (rounds + 1))
            fits = (result.trained == result.desired).all(axis=1)
            most.append(float(used.max()))
            room.append(float((used < 1).mean()))
            exact.append(float(fits[used < 1].mean()))
            missing.append(float(np.maximum(32 - result.trained.sum(axis=1), 0).mean() / 32))
        rows[name] = {
            "most_used": max(most),
            "steps_with_room": float(np.mean(room)),
            "exact_mix_with_room": float(np.mean(exact)),
            "unfilled": float(np.mean(missing)),
        }
    return rows


def planner_cost(repeats: int = 30) -> list[dict[str, float]]:
    """CPU milliseconds of one plan and its peak memory, for the widest belief about acceptance and a firmer one."""
    rows = []
    for num_tasks, num_groups in ((9, 32), (9, 256), (9, 1024), (1000, 32), (1000, 1024)):
        rng, weights = np.random.default_rng(0), np.full(num_tasks, 1 / num_tasks)
        fresh = AcceptanceEstimate.init(num_tasks)
        learned = fresh.update(np.full(num_tasks, 60), np.full(num_tasks, 24))
        for belief, estimate in (("nothing known", fresh), ("60 groups seen", learned)):
            sampler = replace(RatioPreservingSampler(num_groups), max_surplus_age=2)
            ledger = sampler.open(weights, rng)
            times = []
            for _ in range(repeats):
                start = time.process_time()
                sampler.plan(ledger, estimate, rng)
                times.append(1e3 * (time.process_time() - start))
            tracemalloc.start()
            sampler.plan(ledger, estimate, rng)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            rows.append(
                {
                    "num_tasks": num_tasks,
                    "num_groups": num_groups,
                    "belief": belief,
                    "median_ms": float(np.median(times)),
                    "highest_ms": max(times),
                    "peak_kib": peak / 1024,
                }
            )
    return rows


def stream_cost(num_rows: int = 1_000_000) -> dict[str, float]:
    """What a task of a million prompts costs the planner: the order of one pass."""
    tracemalloc.start()
    stream = IndexStream(num_rows, seed=0, task_id=0)
    start = time.process_time()
    stream.take(0, 32)
    first = 1e3 * (time.process_time() - start)
    start = time.process_time()
    stream.take(32, 32)
    later = 1e3 * (time.process_time() - start)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"num_rows": num_rows, "bytes_per_row": held / num_rows, "first_draw_ms": first, "later_draw_ms": later}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def world_table(world: dict[str, Any], with_range: Sequence[str] = ()) -> str:
    """One world's table; columns in `with_range` show the range over the seeds too."""

    def cell(values: dict[str, float], column: str) -> str:
        form = COLUMNS[column][1]
        text = form.format(values["mean"])
        if column in with_range:
            text += f" ({form.format(values['low'])} to {form.format(values['high'])})"
        return text

    rows = [[name, *(cell(row[column], column) for column in COLUMNS)] for name, row in world["rules"].items()]
    groups, tokens = world["least_groups_per_step"], world["least_tokens_per_step"]
    least = [f"{groups:,.1f}", f"{tokens:,.0f}", "1", "1", f"{groups / world['num_groups']:.2f}"]
    rows.append(["*theoretical least*", *least, "100%", "", "100%", "0", "0%"])
    return table(["rule", *(heading for heading, _ in COLUMNS.values())], rows)


def main_result(world: dict[str, Any]) -> str:
    """The table of the paper's series and what it says of the released code."""
    cost = {name: row["groups_per_step"]["mean"] for name, row in world["rules"].items()}
    released, own, least = cost["MT-GRPO, released code"], cost["this library"], world["least_groups_per_step"]
    logged = json.loads(PAPER.read_text(encoding="utf-8"))["generation_rounds_per_step"]
    steps = np.arange(1, world["num_steps"] + 1)
    rounds = float(np.interp(steps, logged["steps"], logged["mt_grpo_0.2"]).mean())
    return (
        f"{world_table(world, with_range=('generated_per_least',))}\n\n"
        f"The released code's rule generates {released / own:.2f} times the groups of this library; without any waste "
        f"it would be {released / least:.2f}. The rounds that the paper logged ({rounds:.2f} per step, of 3 B groups "
        f"each) are {3 * rounds * world['num_groups'] / own:.2f} times the groups of this library."
    )


def harder_table(worlds: dict[str, Any]) -> str:
    """Groups over the least of each rule, one line per world, and this library's other columns."""
    names = [name for name, rule in RULES.items() if rule.filters]
    header = ["world", *names, "range", "rounds", "exact mix", "unfilled"]
    rows = []
    for title, world in worlds.items():
        own = world["rules"]["this library"]
        ratio = own["generated_per_least"]
        rows.append(
            [
                title,
                *(f"{world['rules'][name]['generated_per_least']['mean']:.2f}" for name in names),
                f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                f"{own['rounds']['mean']:.2f}",
                f"{own['exact_mix']['mean']:.1%}",
                f"{own['unfilled']['mean']:.2%}",
            ]
        )
    return table(header, rows)


def page(found: dict[str, Any]) -> str:
    """All tables as one Markdown page."""
    titles = list(found["worlds"])
    paper = found["worlds"][titles[0]]
    cost = [
        [
            f"{row['num_tasks']}",
            f"{row['num_groups']}",
            row["belief"],
            f"{row['median_ms']:.2f}",
            f"{row['highest_ms']:.2f}",
            f"{row['peak_kib']:,.0f}",
        ]
        for row in found["planner_cost"]
    ]
    limits = [
        [
            name,
            f"{row['most_used']:.0%}",
            f"{row['steps_with_room']:.0%}",
            f"{row['exact_mix_with_room']:.1%}",
            f"{row['unfilled']:.1%}",
        ]
        for name, row in found["budgets"].items()
    ]
    stream = found["stream_cost"]
    distances = [[name, f"{row['distance_to_weights_over_all_seeds']:.4f}"] for name, row in paper["rules"].items()]
    parts = [
        "# Rollouts: measured tables",
        "Made by `python benchmarks/rollouts.py`; the same numbers with their ranges are in `rollouts.json`. How to "
        "read them is said in [What filtering costs](../research/rollouts.md).",
        f"## {titles[0][0].upper()}{titles[0][1:]}",
        f"{paper['num_steps']} steps, G = {paper['num_generations']}, {len(paper['seeds'])} seeds: mean, and for the "
        "main column the range.",
        main_result(paper),
        "L1 distance of the trained mix of all seeds together to the mean weights, the noise of the draws included:",
        table(["rule", "L1 to the weights"], distances),
        "## Harder worlds",
        "Generated groups over the least that the trained groups could have cost, mean over the seeds; the last four "
        "columns are this library's.",
        harder_table({title: found["worlds"][title] for title in titles[1:]}),
        "## Budgets",
        "A sudden collapse (B = 32) under limits per step. Used: the largest share of the limit in any step.",
        table(["limit", "used", "steps that end below it", "exact mix in them", "places unfilled"], limits),
        "## What planning costs",
        table(["tasks", "groups", "acceptance", "median ms", "highest ms", "peak KiB"], cost),
        f"A task of {stream['num_rows']:,} prompts holds {stream['bytes_per_row']:.1f} bytes per prompt, its index; "
        f"the first draw takes {stream['first_draw_ms']:.0f} ms, the next {stream['later_draw_ms']:.2f} ms.",
    ]
    if "memory" in found:
        parts += memory_section(found["memory"])
    if "pilots" in found:
        parts += pilot_section(found["pilots"])
    if "real" in found:
        parts += ["## Through the real trainer", real_table(found["real"])]
    return "\n\n".join(parts) + "\n"


def real_table(real: dict[str, Any]) -> str:
    """Measured and predicted cost of one real run."""
    names = {
        "generated_per_trained": "groups per trained group",
        "tokens_per_trained": "tokens per trained token",
        "generated_per_least": "groups / least",
    }
    rows = [
        [
            names[column],
            f"{real['measured'][column]:.3f}",
            f"{real['predicted'][column]:.3f}",
            f"{real['measured'][column] / real['predicted'][column] - 1:+.1%}",
            f"{real['replayed'][column]:.3f}",
            f"{real['measured'][column] / real['replayed'][column] - 1:+.1%}",
        ]
        for column in names
    ]
    header = ["", "real trainer", "predicted from weights and true acceptance", "off by"]
    text = table([*header, "simulated from its own draws and acceptance", "off by"], rows)
    return (
        f"{real['num_steps']} steps of {real['num_groups']} groups, acceptance "
        f"{', '.join(f'{a:g}' for a in real['acceptance'])} by construction, weights as trained.\n\n{text}\n\n"
        f"Trained groups equal the drawn counts in {real['exact_mix']:.1%} of the steps; the ledger's largest "
        f"imbalance in any step is {real['largest_imbalance']} groups and {real['largest_token_imbalance']} tokens; "
        f"{real['measured']['rounds']:.2f} rounds per step ({real['predicted']['rounds']:.2f} predicted)."
    )


def _show(guide: Path, begin: str, text: str) -> None:
    """Writes `text` between two comments of a page."""
    before, rest = guide.read_text(encoding="utf-8").split(begin)
    guide.write_text(f"{before}{begin}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="also train a tiny model with rewards of known acceptance")
    parser.add_argument("--memory", action="store_true", help="measure the memory of prompts and keep the rest")
    parser.add_argument("--pilots", action="store_true", help="measure pilot groups and keep the rest")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each rule in each world")
    parser.add_argument("--steps", type=int, help="only the first steps of each world")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for rollouts.md and rollouts.json")
    options = parser.parse_args(arguments)
    began = time.process_time()
    seeds = range(options.seeds)
    target = options.output / "rollouts.json"
    before = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for name in ("memory", "pilots"):
        if getattr(options, name) and "worlds" not in before:
            parser.error(f"`--{name}` must have {target} to add to, found none. Leave it out once.")
    only_some = options.memory or options.pilots
    if only_some:
        found: dict[str, Any] = before
    else:
        found = {"worlds": {title: compare(title, seeds, options.steps) for title in WORLDS}}
        found |= {"budgets": budgets(seeds), "planner_cost": planner_cost(), "stream_cost": stream_cost()}
    if options.memory or not only_some:
        found["memory"] = memory_rows(seeds, options.steps)
    if options.pilots or not only_some:
        found["pilots"] = pilot_rows(seeds, options.steps)
    if options.real:
        from benchmarks.rollout_training import train_and_predict

        found["real"] = train_and_predict(num_steps=options.steps or 200)
    elif "real" in before:  # the tables are remade without training; what training showed stays beside them
        found["real"] = before["real"]
    options.output.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.output / "rollouts.md").write_text(page(found), encoding="utf-8")
    if options.output == OUTPUT:
        _show(GUIDE, BEGIN, main_result(found["worlds"][next(iter(WORLDS))]))
        _show(USER_GUIDE, BEGIN_MEMORY, short_table(found["memory"]))
        _show(PILOT_GUIDE, BEGIN_PILOTS, pilot_table(found["pilots"]))
    print(page(found))
    print(f"{time.process_time() - began:.0f} CPU seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
