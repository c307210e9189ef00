"""The report of finished runs: what is read, what is drawn, and the page."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer, tiny_trainer

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.__main__ import main
from trl_mtgrpo.report import Run, draw, read_run, read_runs, write_report
from trl_mtgrpo.report.curves import Curve, band, carried_forward, smoothed
from trl_mtgrpo.report.model_card import multi_task_section
from trl_mtgrpo.report.run_card import RUN_FILE, RunCard, describe_run, read_run_card, write_run_card
from trl_mtgrpo.report.thresholds import first_reached


pytest.importorskip("matplotlib")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short runs of the real trainer: two seeds of one method, and one of another that is not evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in {
        "mt_grpo-seed0": {"seed": 0},
        "mt_grpo-seed1": {"seed": 1},
        "dapo": {"method": "dapo", "eval_strategy": "no"},
    }.items():
        evaluated = {
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "steps",
            "save_steps": 6,
            "max_steps": 6,
        }
        trainer = MultiTaskGRPOTrainer(
            model=tiny_model(),
            processing_class=tiny_tokenizer(),
            tasks=three_tasks(with_eval=True),
            args=tiny_config(folder / name, **(evaluated | options)),
        )
        trainer.train()
    return folder


def a_run(accuracies: list[list[float]], tokens_per_step: float = 100.0) -> Run:
    """A run evaluated at every step; one list of accuracies per task."""
    tasks = tuple(f"t{k}" for k in range(len(accuracies)))
    log: list[dict[str, Any]] = []
    for step in range(1, len(accuracies[0]) + 1):
        log.append(
            {
                "step": step,
                "sampling/generated_groups": 4.0,
                "sampling/total_generated_tokens": tokens_per_step * step,
                "sampling/waste": 1.0,
                "sampling/mix_distance": 0.1,
                "sampling/rounds": 1.0,
                "sampling/unfilled_groups": 0.0,
                **{f"tasks/{task}/weight": 1.0 / len(tasks) for task in tasks},
                **{f"eval_tasks/{task}/accuracy": accuracies[k][step - 1] for k, task in enumerate(tasks)},
            }
        )
    return Run("method", "run", tasks, log)


def a_card(**changes: Any) -> RunCard:
    options = {"method": "mt_grpo", "model": "a/model", "tasks": ("t0",), "started": "2026-01-02T03:04:05+00:00"}
    return RunCard(**(options | changes))


def a_folder(folder: Path, log: list[dict[str, Any]], step: int = 1) -> Path:
    """A folder with a log and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
    return folder


def page_of(runs: list[Run], output: Path) -> str:
    return write_report(runs, output).read_text(encoding="utf-8")


def test_a_run_is_read_from_its_last_checkpoint(runs: Path) -> None:
    run = read_run(runs / "mt_grpo-seed0")
    assert run.label == "MT-GRPO"
    assert run.tasks == ("easy", "medium", "hard")
    assert run.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.accuracy("hard").x.tolist() == [2, 4, 6]
    assert run.groups is not None
    assert run.groups.imbalance.tolist() == [0, 0, 0]


def test_total_tokens_in_the_log_are_those_of_the_ledger(runs: Path) -> None:
    run = read_run(runs / "mt_grpo-seed0")
    assert run.tokens is not None
    assert run.series("sampling/total_generated_tokens").y[-1] == run.tokens.generated.sum()
    assert run.series("sampling/total_generated_groups").y[-1] == run.groups.generated.sum()


def test_a_saved_trainer_state_is_enough(runs: Path, tmp_path: Path) -> None:
    source = runs / "mt_grpo-seed0" / "checkpoint-6" / "trainer_state.json"
    shutil.copy(source, tmp_path / "trainer_state.json")
    run = read_run(tmp_path)
    assert run.groups is run.card is None
    assert "rollout_ledger" not in draw([run])


def test_without_evaluations_accuracy_is_that_of_training(runs: Path) -> None:
    run = read_run(runs / "dapo")
    assert not run.is_evaluated
    assert run.over_tasks(np.min).y.size > 0


def test_a_label_can_be_given(runs: Path) -> None:
    labels = [run.label for run in read_runs([f"ours={runs / 'mt_grpo-seed0'}", str(runs / "dapo")])]
    assert labels == ["ours", "DAPO"]


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("run-seed3", "run"),
        ("run_s3", "run"),
        ("runseed12", "run"),
        ("seed3", "seed3"),
        ("class_0", "class_0"),
        ("tasks3", "tasks3"),
    ],
)
def test_only_the_ending_that_numbers_a_seed_is_left_out_of_a_label(folder: str, label: str, tmp_path: Path) -> None:
    assert read_run(a_folder(tmp_path / folder, [{"step": 1, "tasks/t0/weight": 1.0}])).label == label


def test_a_checkpoint_has_the_label_of_its_run(runs: Path) -> None:
    run = read_run(runs / "dapo" / "checkpoint-6")
    assert (run.label, run.name) == ("DAPO", "dapo")


def test_methods_of_one_name_are_told_apart_by_their_folders_and_seeds_are_not(tmp_path: Path) -> None:
    log = [{"step": 1, "tasks/t0/weight": 1.0}]
    folders = [a_folder(tmp_path / name, log) for name in ("slow-seed0", "slow-seed1", "fast", "other")]
    for folder in folders[:3]:
        write_run_card(folder, a_card())
    labels = [run.label for run in read_runs([str(folder) for folder in folders])]
    assert labels == ["MT-GRPO (slow)", "MT-GRPO (slow)", "MT-GRPO (fast)", "other"]


def test_seeds_with_names_of_their_own_have_the_name_of_their_folders(tmp_path: Path) -> None:
    log = [{"step": 1, "tasks/t0/weight": 1.0}]
    folders = [a_folder(tmp_path / f"run-seed{seed}", log) for seed in range(2)]
    for seed, folder in enumerate(folders):
        write_run_card(folder, a_card(run_name=f"my run {seed}"))
    assert [run.label for run in read_runs([str(folder) for folder in folders])] == ["run", "run"]


def test_a_run_says_what_it_was(runs: Path) -> None:
    card = read_run(runs / "mt_grpo-seed1").card
    assert card is not None
    assert (card.method, card.model, card.tasks) == ("mt_grpo", "Qwen2ForCausalLM", ("easy", "medium", "hard"))
    assert card.settings["seed"] == 1
    assert card.settings["task_weighting"] == "improvement_aware"
    assert card.versions.keys() >= {"python", "trl", "transformers", "torch", "trl_mtgrpo"}
    assert card.started[:2] == "20"


def test_a_card_holds_no_folder_and_no_secret(runs: Path) -> None:
    text = (runs / "dapo" / RUN_FILE).read_text(encoding="utf-8")
    assert str(runs) not in text
    assert not any(word in text for word in ("output_dir", '_token"', "hub_"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-3B"), ("/home/me/models/qwen", "qwen"), ("./qwen/", "qwen"), ("", "Model")],
)
def test_a_model_on_a_disk_is_named_without_its_folder(name: str, shown: str) -> None:
    model = type("Model", (), {"config": type("Config", (), {"_name_or_path": name})})()
    args = tiny_config("out")
    assert describe_run(("a",), {"method": "grpo"}, args, model).model == shown


def test_a_resumed_run_keeps_the_date_of_its_first_start(tmp_path: Path) -> None:
    for step in (1, 2):
        trainer = tiny_trainer(tmp_path, max_steps=step, save_strategy="steps", save_steps=1)
        trainer.train(resume_from_checkpoint=step > 1)
        card = read_run_card(tmp_path)
        assert card is not None
        if step == 1:
            write_run_card(tmp_path, replace(card, started="2020-01-01T00:00:00+00:00"))
    assert card.started == "2020-01-01T00:00:00+00:00"
    assert card.settings["max_steps"] == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"method": "grpo"}', '{"tasks": 3}'])
def test_a_damaged_card_is_no_card(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    assert read_run_card(tmp_path) is None


@pytest.mark.parametrize("text", ['{"log_history": [', "[]", "{}"])
def test_a_damaged_log_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "trainer_state.json").write_text(text)
    with pytest.raises(ValueError, match=r"`RUN` must have a .*log.*got '.*trainer_state\.json'"):
        read_run(tmp_path)


@pytest.mark.parametrize("saved_by", ["a checkpoint", "save_state"])
def test_a_run_of_fewer_steps_than_it_logs_has_a_page(tmp_path: Path, saved_by: str) -> None:
    how = {"save_strategy": "steps", "save_steps": 1} if saved_by == "a checkpoint" else {}
    trainer = tiny_trainer(tmp_path / "run", max_steps=1, logging_steps=10, **how)
    trainer.train()
    if saved_by == "save_state":
        trainer.save_state()
    page = page_of([read_run(tmp_path / "run")], tmp_path / "out")
    assert "1 run on 3 tasks: easy, medium, hard" in page
    assert (tmp_path / "out" / "rollout_ledger.png").is_file()
    assert "<td>1</td>" in page  # the step at which it ended


def test_an_empty_log_has_a_page_that_names_what_is_left_out(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "run", [], step=3)
    write_run_card(folder, a_card(tasks=("a", "b")))
    page = page_of([read_run(folder)], tmp_path / "out")
    assert "No accuracy was measured." in page
    assert "not measured" in page
    assert page.count("Left out, because") == 1
    assert "the picture &#39;Accuracy per task&#39;" in page
    assert "<img" not in page


def test_a_task_that_was_never_scored_is_named_and_is_in_no_worst(tmp_path: Path) -> None:
    scored = a_run([[0.25, 0.5]])
    run = replace(scored, tasks=("t0", "silent"))
    assert run.over_tasks(np.min).y.tolist() == [0.25, 0.5]
    page = page_of([run], tmp_path)
    assert "Never scored, and so in no worst or average: silent." in page
    assert "in &#39;Accuracy per task&#39; the panel &#39;silent&#39;" in page


def test_a_panel_without_numbers_is_left_out_of_its_picture() -> None:
    run = a_run([[0.25, 0.5]])
    titles = [ax.get_title() for ax in draw([run])["generation_cost"].axes]
    assert titles == ["groups generated per group trained", "rounds of generation per step"]
    without_tokens = replace(run, log=[{k: v for k, v in entry.items() if "tokens" not in k} for entry in run.log])
    assert len(draw([without_tokens])["worst_and_average"].axes) == 2
    low = a_run([[0.01, 0.02]])
    assert "thresholds" not in draw([low])


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`RUN` must be a folder with a 'trainer_state.json' or with checkpoints"):
        read_run(tmp_path)


def test_a_log_without_tasks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(
        json.dumps({"global_step": 1, "log_history": [{"step": 1, "loss": 0.0}]})
    )
    with pytest.raises(ValueError, match=r"`RUN` must be a folder of a run with tasks, got"):
        read_run(tmp_path)


def test_runs_of_different_tasks_are_not_mixed(runs: Path, tmp_path: Path) -> None:
    log = [{"step": 1, "tasks/other/weight": 1.0}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 1, "log_history": log}))
    with pytest.raises(ValueError, match=r"`RUN` must have the same tasks in one report"):
        read_runs([str(runs / "dapo"), str(tmp_path)])


def test_worst_and_average_are_over_the_tasks_of_one_evaluation() -> None:
    run = a_run([[0.2, 0.4, 0.6], [0.3, 0.3, 0.9]])
    assert run.over_tasks(np.min).y.tolist() == [0.2, 0.3, 0.6]
    assert run.over_tasks(np.mean).y.tolist() == pytest.approx([0.25, 0.35, 0.75])


def test_a_level_is_reached_at_the_first_measurement_at_or_above_it() -> None:
    run = a_run([[0.2, 0.5, 0.4, 0.8], [0.9, 0.9, 0.9, 0.9]], tokens_per_step=10.0)
    assert first_reached(run, 0.5) == (2.0, 20.0)
    assert first_reached(run, 0.6) == (4.0, 40.0)
    assert first_reached(run, 0.9) is None


def test_a_band_reaches_from_the_lowest_to_the_highest_seed() -> None:
    x = np.array([1.0, 2.0])
    drawn = band([Curve(x, np.array([0.0, 1.0])), Curve(x, np.array([1.0, 1.0]))])
    assert drawn.mean.tolist() == [0.5, 1.0]
    assert drawn.low.tolist() == [0.0, 1.0]
    assert drawn.high.tolist() == [1.0, 1.0]


def test_seeds_of_different_length_are_compared_where_all_have_values() -> None:
    long = Curve(np.array([0.0, 10.0]), np.array([0.0, 10.0]))
    short = Curve(np.array([2.0, 6.0]), np.array([2.0, 6.0]))
    drawn = band([long, short])
    assert (drawn.x[0], drawn.x[-1]) == (2.0, 6.0)
    np.testing.assert_allclose(drawn.mean, drawn.x)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(1, 8))
def test_smoothing_stays_within_the_values_and_ends_on_their_last_mean(values: list[float], window: int) -> None:
    curve = Curve(np.arange(len(values), dtype=float), np.array(values))
    smooth = smoothed(curve, window=window).y
    assert smooth.size == len(values)
    assert smooth.min() >= min(values) - 1e-9
    assert smooth.max() <= max(values) + 1e-9
    assert smooth[-1] == pytest.approx(np.mean(values[-window:]), abs=1e-9)


def test_smoothing_counts_groups_not_steps() -> None:
    curve = Curve(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert smoothed(curve, weights=np.array([1.0, 3.0]), window=2).y.tolist() == [1.0, 0.25]


def test_carrying_forward_leaves_out_what_was_never_known() -> None:
    carried = carried_forward(Curve(np.array([2.0, 4.0]), np.array([0.2, 0.4])), np.array([1.0, 2.0, 3.0, 4.0]))
    assert carried.x.tolist() == [2.0, 3.0, 4.0]
    assert carried.y.tolist() == [0.2, 0.2, 0.4]


def test_the_command_writes_the_pictures_and_one_page(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(folder) for folder in sorted(runs.iterdir())]
    assert main(["report", *folders, "--output", str(tmp_path / "out"), "--title", "A <report>"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = draw(read_runs(folders))
    assert names == {"report.html", *(f"{name}.png" for name in drawn)}
    assert drawn.keys() >= {"worst_and_average", "accuracy_per_task", "weights_and_shares", "rollout_ledger"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "A &lt;report&gt;" in page
    assert page.count("data:image/png;base64,") == len(drawn)
    assert "://" not in page
    assert "report.html" in capsys.readouterr().out


def test_a_mistake_on_the_command_line_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere"), "--output", str(tmp_path)]) == 2
    assert "`RUN` must be a folder" in capsys.readouterr().err


def test_every_panel_has_named_axes_and_every_picture_with_several_lines_a_legend(runs: Path) -> None:
    figures = draw(read_runs([str(folder) for folder in sorted(runs.iterdir())]))
    for name, figure in figures.items():
        assert figure.legends, name
        shown = [ax for ax in figure.axes if ax.get_visible()]
        assert any(ax.get_xlabel() for ax in shown), name
        assert any(ax.get_ylabel() or ax.get_title() or ax.get_yticklabels() for ax in shown), name


def test_nine_tasks_and_a_single_run_are_drawn(tmp_path: Path) -> None:
    run = a_run([[0.1 * k, 0.1 * k + 0.05] for k in range(9)])
    assert write_report([run], tmp_path).is_file()


# Names that HTML, TeX or matplotlib would read as something else.
NAMES = ("math [hard]", "a$b$", "<b>", "a_b^c", "_x", "{{ 7 * 7 }}", "$\\frac{$", "größe", "a rather long name " * 4)


def with_names(run: Run, names: tuple[str, ...]) -> Run:
    """The same run with other names of tasks."""
    rename = {f"tasks/{old}/": f"tasks/{new}/" for old, new in zip(run.tasks, names, strict=True)}
    log = [
        {next((k.replace(o, n) for o, n in rename.items() if o in k), k): v for k, v in entry.items()}
        for entry in run.log
    ]
    return replace(run, label=names[1], tasks=names, log=log)


def test_names_are_shown_as_they_are_written(tmp_path: Path) -> None:
    run = with_names(a_run([[0.1 * k, 0.1 * k + 0.05] for k in range(9)]), NAMES)
    figures = draw([run])
    titles = [ax.get_title().replace("\n", " ") for ax in figures["accuracy_per_task"].axes]
    assert titles == [name.strip() for name in NAMES]
    legend = [text.get_text().strip("\u200b") for text in figures["weights_and_shares"].legends[0].get_texts()]
    assert legend == list(NAMES)
    page = page_of([run], tmp_path)
    for name in NAMES:
        assert escape(name, quote=False) in page.replace("&#39;", "'").replace("&#34;", '"')
    assert "<b>" not in page


def test_a_figure_can_be_saved_by_its_reader(tmp_path: Path) -> None:
    run = with_names(a_run([[0.1 * k, 0.1 * k + 0.05] for k in range(9)]), NAMES)
    for name, figure in draw([run]).items():
        figure.savefig(tmp_path / f"{name}.png")  # matplotlib would read "$\\frac{$" as a broken formula


def test_names_are_shown_as_they_are_written_in_the_model_card() -> None:
    names = ("math [hard]", "a|b", "<b>", "a_b", "*x*")
    settings = {
        "method": "grpo",
        "task_weighting": "uniform",
        "task_weight_tradeoff": 0.2,
        "group_filter": "none",
        "oversampling": 1.0,
        "num_generations": 8,
        "seed": 1,
    }
    section = multi_task_section(settings, dict.fromkeys(names, 0.2), [])
    rows = [line for line in section.splitlines() if "0.200" in line]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [
        r"math \[hard\]",
        r"a\|b",
        "&lt;b&gt;",
        r"a\_b",
        r"\*x\*",
    ]


def test_accuracy_before_and_after_stands_first(tmp_path: Path) -> None:
    run = replace(a_run([[0.25, 0.1, 0.5], [0.5, 0.6, 0.75]]), card=a_card(settings={"beta": 0.04}))
    page = page_of([run], tmp_path)
    table = re.sub(r"<[^>]*>", " ", page[page.index("Accuracy before and after") : page.index("Where the runs ended")])
    assert "Before is the measurement at step 1, after that at step 3." in table
    words = " ".join(table.split())
    assert "t0 25.0% 50.0% +25.0" in words
    assert "worst task 25.0% 50.0% +25.0" in words
    assert "average 37.5% 62.5% +25.0" in words
    for known in ("MT-GRPO", "a/model", "2026-01-02", "beta", "0.04"):
        assert known in page


def test_a_single_measurement_is_one_at_the_end(tmp_path: Path) -> None:
    words = " ".join(re.sub(r"<[^>]*>", " ", page_of([a_run([[0.25]])], tmp_path)).split())
    assert "t0 not measured 25.0% not measured" in words
    assert "After is the measurement at step 1." in words


def in_browser(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    return subprocess.run(
        [str(CHROMIUM), *flags, *options, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_opens_in_a_browser_without_an_error(runs: Path, tmp_path: Path) -> None:
    read = read_runs([str(runs / "mt_grpo-seed0")])
    page = write_report(read, tmp_path / "out")
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><title>broken</title><script>nothing.here()</script>")
    assert ":CONSOLE" in in_browser(broken, tmp_path / "first").stderr
    opened = in_browser(page, tmp_path / "second")
    assert ":CONSOLE" not in opened.stderr
    assert opened.stdout.count("<img ") == len(draw(read))


# A window of Chromium is at least 500 pixels wide, so that the page is shown in a frame of each width.
PROBE = """<!doctype html><body><script>
for (const width of [400, 1400]) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:800px;border:0`;
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const before = root.scrollWidth;
    page.querySelectorAll("details").forEach(part => { part.open = true; });
    const opened = root.scrollWidth;
    page.querySelector("label.picture input").checked = true;
    const large = page.querySelector("label.picture img").getBoundingClientRect().width;
    document.body.setAttribute(`data-w${width}`, [before, opened, root.scrollWidth, Math.round(large)].join(","));
  };
  frame.srcdoc = SOURCE;
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_fits_a_telephone_and_a_screen_and_a_picture_can_be_enlarged(tmp_path: Path) -> None:
    run = with_names(a_run([[0.1 * k, 0.1 * k + 0.05] for k in range(9)]), NAMES)
    run = replace(run, card=a_card(settings={f"setting_{i}": "x" * 60 for i in range(3)}))
    others = [replace(run, label=f"{'label' * 9}{i}") for i in range(4)]
    source = page_of([run, *others], tmp_path / "out")
    probe = tmp_path / "probe.html"
    quoted = json.dumps(source).replace("</", "<\\/")
    probe.write_text(PROBE.replace("SOURCE", quoted), encoding="utf-8")
    dom = in_browser(probe, tmp_path / "profile", "--virtual-time-budget=10000").stdout
    for width in (400, 1400):
        found = re.search(rf'data-w{width}="([\d,]+)"', dom)
        assert found is not None
        *widths, large = map(int, found[1].split(","))
        assert max(widths) <= width
        assert large >= 1400
