"""What `python -m trl_mtgrpo simulate` says about a run before it, and after it."""

import re
from pathlib import Path

import numpy as np
import pytest
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.__main__ import main
from trl_mtgrpo.report.forecast import POLICIES, RunOutline, forecast


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


def test_an_impossible_acceptance_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--acceptance", "a=1.5"]) == 2
    assert "`acceptance` must be between 0 and 1" in capsys.readouterr().err


def test_a_replayed_run_is_close_to_what_it_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        tasks=three_tasks(),
        args=tiny_config(tmp_path, max_steps=20, save_strategy="steps", save_steps=20),
    )
    trainer.train()
    assert main(["simulate", "--replay", str(tmp_path), "--generations", "4"]) == 0
    shown = capsys.readouterr().out
    actual = int(re.search(r"which generated ([0-9,]+) groups", shown).group(1).replace(",", ""))
    simulated = int(re.search(r"^all tasks +([0-9,]+)", shown, re.MULTILINE).group(1).replace(",", ""))
    assert "20 steps of 4 groups of 4 rollouts" in shown
    assert actual == trainer.multi_task_state.groups.generated.sum()
    assert simulated == pytest.approx(actual, rel=0.35)
