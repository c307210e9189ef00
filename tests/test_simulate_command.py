"""What `python -m trl_mtgrpo simulate` says about a run before it, and after it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.__main__ import main
from trl_mtgrpo.report.forecast import POLICIES, RunOutline, forecast
from trl_mtgrpo.report.replay import outline_of
from trl_mtgrpo.report.runs import Run, read_run


def guessed(**changes: object) -> RunOutline:
    arguments = {"acceptance": {"a": 0.5, "b": 0.9}, "weights": {}, "tokens": 10.0}
    return RunOutline.guessed(**(arguments | {"num_groups": 16, "num_generations": 4, "num_steps": 60} | changes))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_trains_full_batches_where_groups_can_be_had(policy: str) -> None:
    result = forecast(guessed(), POLICIES[policy])
    assert (result.trained.sum(axis=1) == 16).all()


def test_requests_sized_by_need_cost_less_than_the_papers() -> None:
    tokens = {name: float(forecast(guessed(), POLICIES[name]).generated.sum()) for name in ("mt_grpo", "paper")}
    assert tokens["mt_grpo"] < 0.6 * tokens["paper"]


def test_without_a_filter_exactly_the_batch_is_generated() -> None:
    assert (forecast(guessed(), POLICIES["grpo"]).generated.sum(axis=1) == 16).all()


def test_weights_are_scaled_to_one() -> None:
    outline = guessed(weights={"b": 3.0, "a": 1.0})
    np.testing.assert_allclose(outline.weights[0], [0.25, 0.75])


def test_weights_of_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`weights` must name exactly the tasks \['a', 'b'\]"):
        guessed(weights={"a": 1.0, "c": 1.0})


def test_the_command_shows_policies_and_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--acceptance", "countdown=0.5", "zebra=0.9", "--groups", "8", "--steps", "20"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^{name} +[0-9]", shown, re.MULTILINE) for name in [*POLICIES, "countdown", "zebra"])


def test_the_command_shows_another_policy_first(capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", "--acceptance", "a=0.5", "--policy", "paper", "--steps", "5"])
    shown = capsys.readouterr().out
    assert "under 'paper'" in shown
    assert shown.index("\npaper") < shown.index("\nmt_grpo")


@pytest.mark.parametrize("argument", ["countdown", "countdown=much", "=0.5", "countdown=-1"])
def test_a_malformed_guess_is_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--acceptance", argument])
    assert "must be TASK=NUMBER" in capsys.readouterr().err


def test_zero_steps_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--acceptance", "a=0.5", "--steps", "0"])
    assert "must be a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--acceptance", "a=1.5", "b=1"], "`--acceptance` must be a share in 0..1, got 1.5 for 'a'"),
        (["--acceptance", "a=0.5", "a=0.25"], "`--acceptance` must name each task once, got 'a' with [0.5, 0.25]"),
        (["--acceptance", "a=1", "--weights", "a=1", "a=2"], "`--weights` must name each task once, got 'a'"),
    ],
)
def test_a_guess_out_of_range_or_given_twice_is_refused(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_guess_that_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--acceptance", "a=nan"])
    assert "must be TASK=NUMBER" in capsys.readouterr().err


def trained(folder: Path, **settings: Any) -> MultiTaskGRPOTrainer:
    steps = settings["max_steps"]
    config = tiny_config(folder, learning_rate=1e-5, save_strategy="steps", save_steps=steps, **settings)
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(), processing_class=tiny_tokenizer(), tasks=three_tasks(), args=config
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("settings", "batches"),
    [
        ({"max_steps": 6}, 6),
        ({"max_steps": 9, "logging_steps": 4}, 9),  # the last step is in no entry of the log
        ({"max_steps": 12, "logging_steps": 4, "per_device_train_batch_size": 8, "steps_per_generation": 2}, 6),
    ],
    ids=["every step logged", "a rest", "two steps per batch"],
)
def test_a_replayed_run_has_the_batches_of_the_run(tmp_path: Path, settings: dict[str, Any], batches: int) -> None:
    trained(tmp_path, **settings)
    outline = outline_of(read_run(tmp_path))
    assert (len(outline.weights), outline.num_groups) == (batches, 4)


@pytest.mark.slow
def test_a_replayed_run_is_close_to_what_it_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trained(tmp_path, max_steps=60, logging_steps=10)
    assert main(["simulate", "--replay", str(tmp_path), "--generations", "4"]) == 0
    shown = capsys.readouterr().out
    actual = int(re.search(r"which generated ([0-9,]+) groups", shown).group(1).replace(",", ""))
    simulated = int(re.search(r"^all tasks +([0-9,]+)", shown, re.MULTILINE).group(1).replace(",", ""))
    assert "60 steps of 4 groups of 4 rollouts" in shown
    assert actual == trainer.multi_task_state.groups.generated.sum()
    assert simulated == pytest.approx(actual, rel=0.35)


def test_a_log_of_means_stands_for_all_its_batches() -> None:
    def entry(step: int, mean: float, total: float) -> dict[str, Any]:
        own = {"tasks/a/weight": 1.0, "tasks/a/generated_groups": mean, "tasks/a/filtered_ratio": 0.5}
        own |= {"tasks/a/generated_tokens": 10 * mean, "sampling/generated_groups": mean, "sampling/waste": mean / 4}
        return own | {"step": step, "sampling/total_generated_groups": total}

    log = [entry(20, 8.0, 80.0), entry(40, 6.0, 140.0)]
    run = Run("run", "run", ("a",), log)
    outline = outline_of(run)
    assert outline.weights.shape == (20, 1)  # two optimizer steps per batch
    assert outline.num_groups == 4
    np.testing.assert_allclose(outline.tokens_per_rollout, [10.0])


def test_a_run_that_logged_no_training_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`--replay` must be a run that logged a training step, got none in 'run'"):
        outline_of(Run("run", "run", ("a",), [{"step": 1, "eval_tasks/a/accuracy": 0.5}]))
