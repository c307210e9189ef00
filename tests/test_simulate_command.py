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
from trl_mtgrpo.report.replay import outline_of, replayed_prompts
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


PROMPTS = ["--prompts", "100", "--generations", "16", "--groups", "8", "--steps", "60"]


def relative_tokens(shown: str) -> dict[str, float]:
    """Tokens of each way of drawing, relative to the run as it is."""
    ways = shown.split("prompt by prompt\n")[1].split("\n\n")[0].splitlines()[2:]
    return {re.split(r"  +", line)[0]: float(re.split(r"  +", line)[3]) for line in ways}


def test_prompts_that_come_several_times_show_what_memory_and_pilots_save(capsys: pytest.CaptureFixture[str]) -> None:
    half_solved = ["simulate", "--acceptance", "a=0.3", "--accuracy", "a=0.8", "--pilot", "4", *PROMPTS]
    assert main(half_solved) == 0
    found = relative_tokens(capsys.readouterr().out)
    assert found.pop("as it is") == 1.0
    assert set(found) == {"prompt_memory=solved", "pilot_generations=4"}
    assert all(value < 0.9 for value in found.values())


def test_a_task_without_solved_prompts_gains_nothing_by_a_memory(capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", "--acceptance", "a=0.4", "--accuracy", "a=0.04", *PROMPTS])
    assert relative_tokens(capsys.readouterr().out)["prompt_memory=solved"] == pytest.approx(1.0, abs=0.03)


def test_more_mixed_groups_than_an_accuracy_allows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--acceptance", "a=0.9", "--accuracy", "a=0.99", "--prompts", "100"]) == 2
    assert "`--acceptance` must be at most 0.0773 for 'a', got 0.9" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--pilot", "4"], ["--accuracy", "a=0.5"]])
def test_what_needs_the_number_of_prompts_asks_for_it(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--acceptance", "a=0.5", *given]) == 2
    assert f"`--prompts` must be given beside `{given[0]}`" in capsys.readouterr().err


def test_prompts_without_an_accuracy_name_the_tasks_that_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--acceptance", "a=0.5", "b=0.2", "--prompts", "50"]) == 2
    assert "`--accuracy` must name exactly the tasks ['a', 'b'], got {}" in capsys.readouterr().err


def test_a_pilot_that_does_not_divide_a_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--acceptance", "a=0.5", "--accuracy", "a=0.5", "--prompts", "50", "--pilot", "3"]) == 2
    assert "`--pilot` must divide `--generations` (8) and be smaller, got 3" in capsys.readouterr().err


def test_a_replayed_run_tells_what_its_prompts_would_save(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, max_steps=12, logging_steps=3)
    assert main(["simulate", "--replay", str(tmp_path), "--generations", "4", "--prompts", "20", "--pilot", "2"]) == 0
    found = relative_tokens(capsys.readouterr().out)
    assert set(found) == {"as it is", "prompt_memory=solved", "pilot_generations=2"}
    assert 0.0 < found["prompt_memory=solved"] < 1.2


def test_a_run_without_an_accuracy_cannot_tell_of_its_prompts() -> None:
    entry = {"step": 1, "tasks/a/weight": 1.0, "tasks/a/generated_groups": 4.0, "tasks/a/filtered_ratio": 0.5}
    run = Run("run", "run", ("a",), [entry | {"tasks/a/generated_tokens": 40.0, "sampling/generated_groups": 4.0}])
    with pytest.raises(ValueError, match=r"logged the accuracy of every task, got none for \['a'\]"):
        replayed_prompts(run, RunOutline.guessed({"a": 0.5}, {}, 10.0, 4, 4, 1), 20)
