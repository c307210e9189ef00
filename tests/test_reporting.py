"""What a run says: warnings once, progress inside a long step, and errors that name their cause."""

import io
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny import contains_digit, rows, tiny_trainer

from trl_mtgrpo import Task
from trl_mtgrpo.report.causes import explain
from trl_mtgrpo.report.reporting import NothingToLearnError, RunReporter
from trl_mtgrpo.report.screen import Screen
from trl_mtgrpo.sampling import OUTCOMES, ForgettingAlarm, PromptMemory, StallDoctor
from trl_mtgrpo.sampling.ledger import BatchLedger
from trl_mtgrpo.tasks.failures import RewardFailure


REPORTER = "trl_mtgrpo.report.reporting"


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def outcomes(*tasks: dict[str, int]) -> np.ndarray:
    """Groups per task and outcome."""
    counts = np.zeros((len(tasks), len(OUTCOMES)), dtype=np.int64)
    for k, task in enumerate(tasks):
        for outcome, count in task.items():
            counts[k, OUTCOMES.index(outcome)] = count
    return counts


def a_ledger(desired: list[int], accepted: list[int], generated: list[int], rounds: int = 1) -> BatchLedger:
    whole = np.array(desired, dtype=np.int64)
    none = np.zeros_like(whole)
    return BatchLedger(
        weights=whole / whole.sum(),
        desired=whole,
        carried=none,
        generated=np.array(generated),
        accepted=np.array(accepted),
        tokens=none.astype(float),
        probes=none,
        rounds=rounds,
    )


def a_batch(found: np.ndarray, trained: list[int] | None = None, filler: int = 0, size: int = 4) -> Any:
    counts = np.array(trained if trained is not None else found[:, 0])
    missing = np.zeros_like(counts)
    missing[-1] = filler
    return SimpleNamespace(
        outcomes=found,
        is_filler=np.arange(size) >= size - filler,
        groups=[None] * size,
        generated=SimpleNamespace(reward=np.full((size, 2), np.nan)),
        group_ledger=SimpleNamespace(trained=counts),
        plan=SimpleNamespace(deficits=missing),
    )


def a_state(num_tasks: int, empty_steps: int = 0, trained: int = 0) -> Any:
    return SimpleNamespace(
        stalls=StallDoctor().init(num_tasks),
        forgetting=ForgettingAlarm().init(num_tasks),
        draws=SimpleNamespace(memory=PromptMemory.start(num_tasks)),
        empty_steps=empty_steps,
        groups=SimpleNamespace(trained=np.full(num_tasks, trained)),
        generation=1,
    )


def reporter(names: tuple[str, ...] = ("a", "b"), **changes: Any) -> RunReporter:
    options: dict[str, Any] = {"num_rows": np.full(len(names), 30), "filters": True, "max_empty_steps": 10}
    return RunReporter(names, **(options | changes))


def on_screen(**changes: Any) -> tuple[RunReporter, Clock, io.StringIO]:
    clock, text = Clock(), io.StringIO()
    return reporter(screen=Screen(Console(file=text, width=200)), clock=clock, **changes), clock, text


def test_a_round_with_lone_scores_goes_on() -> None:
    reporter().round(a_ledger([2, 2], [0, 0], [5, 7]), outcomes({"unscored": 5}, {"unscored": 7}), scored=3)


def test_a_first_round_without_any_score_ends_the_run() -> None:
    found = outcomes({"unscored": 5}, {"unscored": 7})
    with pytest.raises(
        NothingToLearnError,
        match=r"`reward_funcs` must score .* got no score in the first 12 groups of 'a', 'b'\. Every reward",
    ):
        reporter().round(a_ledger([2, 2], [0, 0], [5, 7]), found)


def test_one_score_in_the_first_round_is_enough_to_go_on() -> None:
    said = reporter()
    found = outcomes({"unscored": 5}, {"unscored": 6, "failed": 1})
    said.round(a_ledger([2, 2], [0, 0], [5, 7]), found)
    said.batch(a_batch(found), a_state(2, empty_steps=1))


def test_fewer_groups_than_a_batch_decide_nothing_before_its_end() -> None:
    said = reporter()
    found = outcomes({"unscored": 1}, {})
    said.round(a_ledger([2, 2], [0, 0], [1, 0]), found)
    with pytest.raises(NothingToLearnError, match="got no score in the first 1 groups of 'a'"):
        said.batch(a_batch(found), a_state(2, empty_steps=1))


def test_a_later_batch_without_scores_is_left_to_the_limit() -> None:
    said = reporter()
    said.batch(a_batch(outcomes({"informative": 4}, {})), a_state(2))
    found = outcomes({"unscored": 9}, {"unscored": 9})
    said.round(a_ledger([2, 2], [0, 0], [9, 9]), found)
    said.batch(a_batch(found), a_state(2, empty_steps=1))


def test_functions_that_failed_are_the_cause_that_is_said() -> None:
    said = reporter()
    said.failures([RewardFailure("a", "judge", (0,), "exception", "`judge` raised KeyError: 'answer'.", "", False)])
    with pytest.raises(NothingToLearnError, match=r"`judge` raised KeyError: 'answer'\."):
        said.round(a_ledger([2, 2], [0, 0], [4, 4]), outcomes({"unscored": 4}, {"unscored": 4}))


@pytest.mark.parametrize("batch_size", [4, 16])
def test_functions_that_never_score_cost_at_most_four_batches_of_groups(tmp_path: Any, batch_size: int) -> None:
    generated = []

    def silent(completions: list[Any], **kwargs: Any) -> list[None]:
        generated.append(len(completions))
        return [None] * len(completions)

    tasks = [Task(name, rows(name), silent) for name in ("a", "b")]
    trainer = tiny_trainer(tmp_path, tasks, per_device_train_batch_size=4 * batch_size)
    with pytest.raises(NothingToLearnError, match="`reward_funcs` must score some completions"):
        trainer.train()
    assert batch_size <= sum(generated) / 4 <= 4 * batch_size


def test_many_solved_tasks_are_the_cause_that_is_said() -> None:
    names = tuple(f"t{k}" for k in range(30))
    said = reporter(names, max_empty_steps=2)
    found = outcomes(*[{"solved": 3}] * 30)
    said.batch(a_batch(found), a_state(30, empty_steps=1))
    expected = r"got 2 of them\. 30 tasks \('t0', 't1', 't2' and 27 more\) yielded nothing in 180 groups \(solved\)\."
    with pytest.raises(NothingToLearnError, match=expected):
        said.batch(a_batch(found), a_state(30, empty_steps=2))


def test_a_run_that_trained_until_all_was_solved_is_over(caplog: pytest.LogCaptureFixture) -> None:
    said = reporter(max_empty_steps=2)
    found = outcomes({"solved": 9, "failed": 1}, {"solved": 3})
    assert not said.batch(a_batch(found), a_state(2, empty_steps=1, trained=5))
    assert said.batch(a_batch(found), a_state(2, empty_steps=2, trained=5))
    assert "all tasks are solved, and no group of the last 2 batches could train" in caplog.text


@pytest.mark.parametrize("other", [{}, {"failed": 3}, {"constant": 3}, {"solved": 6, "failed": 4}])
def test_a_run_with_a_task_that_is_not_known_to_be_solved_ends_in_an_error(other: dict[str, int]) -> None:
    with pytest.raises(NothingToLearnError):
        reporter(max_empty_steps=1).batch(
            a_batch(outcomes({"solved": 3}, other)), a_state(2, empty_steps=1, trained=5)
        )


def test_a_batch_that_trained_ends_the_count_of_what_yielded_nothing() -> None:
    said = reporter(max_empty_steps=1)
    said.batch(a_batch(outcomes({"informative": 4, "failed": 90}, {})), a_state(2))
    with pytest.raises(NothingToLearnError, match=r"Task 'a' yielded nothing in 5 groups \(solved\)"):
        said.batch(a_batch(outcomes({"solved": 5}, {})), a_state(2, empty_steps=1))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_a_cause_and_tasks_of_one_cause_stand_together(outcome: str) -> None:
    text = explain(("a", "b", "c"), outcomes({outcome: 3}, {}, {outcome: 4}))
    name = "excluded" if outcome == "informative" else outcome
    assert text.startswith(f"2 tasks ('a', 'c') yielded nothing in 7 groups ({name}). ")
    assert len(text.split(". ")) >= 2


def test_nothing_generated_has_no_cause() -> None:
    assert explain(("a", "b"), outcomes({}, {})) == ""


def test_a_long_step_says_after_each_round_what_is_open() -> None:
    said, clock, text = on_screen()
    said.open(step=12, ceiling=288)
    clock.now = 11.0
    said.round(a_ledger([3, 4], [3, 1], [20, 1021]), outcomes({"informative": 3}, {"failed": 1}))
    clock.now = 20.0
    said.round(a_ledger([3, 4], [3, 2], [20, 1041], rounds=2), outcomes({"informative": 3}, {"failed": 1}))
    assert text.getvalue().splitlines() == [
        "step 12, round 1: 1,041 groups generated of at most 288; 3 of 7 places open in 1 task(s): b 3",
        "step 12, round 2: 1,061 groups generated of at most 288; 2 of 7 places open in 1 task(s): b 2",
    ]


@pytest.mark.parametrize("case", ["short", "full", "not opened", "no screen"])
def test_other_steps_say_nothing(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    said, clock, text = on_screen()
    if case == "no screen":
        said.screen = None
    if case != "not opened":
        said.open(step=1)
    clock.now = 1.0 if case == "short" else 99.0
    accepted = [3, 4] if case == "full" else [3, 1]
    said.round(a_ledger([3, 4], accepted, [9, 9]), outcomes({"informative": 3}, {"failed": 1}))
    assert text.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_name_with_brackets_is_shown_in_progress() -> None:
    said, clock, text = on_screen(names=("math [hard]", "b"))
    said.open(step=1)
    clock.now = 99.0
    said.round(a_ledger([3, 4], [0, 4], [9, 9]), outcomes({"failed": 9}, {"informative": 4}))
    assert "math [hard] 3" in text.getvalue()
    assert "at most" not in text.getvalue()


def test_missing_groups_are_named_by_task_once(caplog: pytest.LogCaptureFixture) -> None:
    said = reporter()
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        for _ in range(3):
            said.batch(a_batch(outcomes({"informative": 2}, {"failed": 9}), filler=2), a_state(2))
    (record,) = caplog.records
    assert "2 of 4 groups missing (b 2)" in record.getMessage()


def test_a_task_that_forgets_is_named_once_and_again_only_after_it_was_back(caplog: pytest.LogCaptureFixture) -> None:
    report, calm = reporter(), a_state(2)
    lost = a_state(2)
    lost.forgetting = replace(
        lost.forgetting,
        best=np.array([0.9, 0.0]),
        recent=np.array([[40.0, 16.0], [40.0, 20.0]]),
        regressed=np.array([True, False]),
    )
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        for state in (calm, lost, lost, calm, lost):
            report.batch(a_batch(np.array([[4, 0, 0, 0, 0, 0, 0]] * 2)), state)
    assert [record.message[:78] for record in caplog.records] == [
        "Task 'a' has forgotten: its accuracy was 90% and is 40% now. Its solved prompt"
    ] * 2


def test_a_task_that_is_drawn_uniformly_again_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    report, state = reporter(), a_state(2)
    state.draws.memory = replace(state.draws.memory, polarised=np.array([False, True]))
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        for _ in range(3):
            report.batch(a_batch(np.array([[4, 0, 0, 0, 0, 0, 0]] * 2)), state)
    (record,) = caplog.records
    assert record.message.startswith("Groups of task 'b' have become twice as dear at the same accuracy while prompts")


def test_a_task_is_named_when_held_and_again_only_after_its_release(caplog: pytest.LogCaptureFixture) -> None:
    said = reporter()
    free, held = np.array([False, False]), np.array([False, True])
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        for before, after in ((free, held), (held, free), (free, held)):
            said.guard(before, after)
    assert [record.getMessage()[:8] for record in caplog.records] == ["Task 'b'"] * 2


@pytest.mark.parametrize(
    "wanted", ["tasks/a/accuracy", "eval_tasks/a/reward", "eval_near_tasks/b/accuracy", "worst_task_accuracy"]
)
@pytest.mark.parametrize("unknown", [{}, None, float("nan")])
def test_a_best_metric_without_a_score_is_said_once(
    wanted: str, unknown: Any, caplog: pytest.LogCaptureFixture
) -> None:
    said = reporter()
    key = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
    metrics = {"eval_loss": 0.0} | ({} if unknown == {} else {key: unknown})
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        assert not said.knows_best_metric(wanted, metrics)
        assert not said.knows_best_metric(wanted, metrics)
    (record,) = caplog.records
    assert repr(key) in record.getMessage()
    assert said.knows_best_metric(wanted, {key: 0.0})


@pytest.mark.parametrize("wanted", ["tasks/typo/accuracy", "los", "eval_tasks/a/acuracy"])
def test_a_name_that_no_evaluation_has_is_left_to_the_host(wanted: str, caplog: pytest.LogCaptureFixture) -> None:
    assert reporter().knows_best_metric(wanted, {"eval_loss": 0.0})
    assert caplog.records == []


def test_a_run_goes_on_when_the_task_of_the_best_metric_has_no_score(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def never(completions: list[Any], **kwargs: Any) -> list[None]:
        return [None] * len(completions)

    tasks = [
        Task("right", rows("r"), contains_digit, eval_dataset=rows("r", size=4), success_threshold=1.0),
        Task("silent", rows("s"), never, eval_dataset=rows("s", size=4)),
    ]
    with caplog.at_level(logging.WARNING, logger=REPORTER):
        trainer = tiny_trainer(
            tmp_path,
            tasks,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="steps",
            save_steps=1,
            metric_for_best_model="tasks/silent/accuracy",
        )
        trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.state.best_metric is None
    assert len([r for r in caplog.records if "metric_for_best_model" in r.getMessage()]) == 1
    assert not any(value is None for entry in trainer.state.log_history for value in entry.values())


def test_a_batch_of_mostly_cut_completions_names_the_number_to_set_once(caplog: pytest.LogCaptureFixture) -> None:
    told = reporter()
    told.cut([0.5, 0.5], 16)
    assert caplog.messages == []
    told.cut([0.9, 1.0], 16)
    told.cut([1.0], 16)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("95% of the completions of a step were cut at `max_completion_length=16`")
    assert "Set `max_completion_length=32` or more" in caplog.messages[0]


def test_a_batch_that_generated_nothing_is_not_cut(caplog: pytest.LogCaptureFixture) -> None:
    reporter().cut([], 16)
    assert caplog.messages == []


@pytest.mark.parametrize("masks", [False, True], ids=["trained", "masked"])
def test_a_run_whose_answers_do_not_fit_says_so(masks: bool, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    tasks = [Task("T", rows("t"), contains_digit, success_threshold=1.0)]
    settings = {"max_steps": 2, "max_completion_length": 4, "mask_truncated_completions": masks}
    tiny_trainer(tmp_path, tasks, **settings).train()
    said = [message for message in caplog.messages if "`max_completion_length=4`" in message]
    assert len(said) == 1
    assert "Set `max_completion_length=8` or more" in said[0]
