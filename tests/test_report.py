"""The report of finished runs: what is read, what is drawn, and the page."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.__main__ import main
from trl_mtgrpo.report import Run, draw, read_run, read_runs, write_report
from trl_mtgrpo.report.curves import Curve, band, carried_forward, smoothed
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


def test_a_run_is_read_from_its_last_checkpoint(runs: Path) -> None:
    run = read_run(runs / "mt_grpo-seed0")
    assert run.label == "mt_grpo"
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
    assert run.groups is None
    assert "rollout_ledger" not in draw([run])


def test_without_evaluations_accuracy_is_that_of_training(runs: Path) -> None:
    run = read_run(runs / "dapo")
    assert not run.is_evaluated
    assert run.over_tasks(np.min).y.size > 0


def test_a_label_can_be_given(runs: Path) -> None:
    labels = [run.label for run in read_runs([f"ours={runs / 'mt_grpo-seed0'}", str(runs / "dapo")])]
    assert labels == ["ours", "dapo"]


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
    assert names == {"report.html", *(f"{name}.png" for name in draw(read_runs(folders)))}
    assert len(names) == 8
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "A &lt;report&gt;" in page
    assert page.count("data:image/png;base64,") == 7
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


def in_browser(page: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    return subprocess.run(
        [str(CHROMIUM), *flags, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_opens_in_a_browser_without_an_error(runs: Path, tmp_path: Path) -> None:
    page = write_report(read_runs([str(runs / "mt_grpo-seed0")]), tmp_path / "out")
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><title>broken</title><script>nothing.here()</script>")
    assert ":CONSOLE" in in_browser(broken, tmp_path / "first").stderr
    opened = in_browser(page, tmp_path / "second")
    assert ":CONSOLE" not in opened.stderr
    assert opened.stdout.count("<img ") == 7
