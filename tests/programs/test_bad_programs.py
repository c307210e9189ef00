"""What is wrong with a program is said with its task, before anything is trained, and nothing hangs."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.programs.program_runs import lower_share, one_call, program_task, program_trainer, two_calls
from tests.tiny import rows, tiny_config
from trl_mtgrpo import Task
from trl_mtgrpo.tasks.failures import RewardError


def train(folder: Path, program: Any, reward: Any = lower_share, **options: Any) -> Any:
    changes = {name: options.pop(name) for name in list(options) if hasattr(tiny_config(folder), name)}
    trainer = program_trainer(folder, [program_task(program, reward, **options)], max_steps=1, **changes)
    trainer.train()
    return trainer


def test_a_program_that_never_calls_the_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`program` of task 'prog' must call the model, got no call in any of 16"):
        train(tmp_path, lambda example, call: "constant", method="grpo")


def test_a_bug_names_task_row_and_line(tmp_path: Path) -> None:
    def program(example: dict[str, Any], call: Any) -> str:
        call("m", example["prompt"])
        return example["answr"]

    with pytest.raises(RewardError, match=r"`program` of task 'prog' must raise nothing but.*KeyError(?s:.)*answr"):
        train(tmp_path, program)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_calls_from_two_threads_of_one_rollout_are_an_error(tmp_path: Path) -> None:
    def program(example: dict[str, Any], call: Any) -> str:
        threads = [threading.Thread(target=lambda: call("m", "x"), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "x"

    with pytest.raises(RewardError, match="from the thread that it runs in"):
        train(tmp_path, program)


def test_an_endless_program_ends_at_the_cap_as_a_failure(tmp_path: Path) -> None:
    def program(example: dict[str, Any], call: Any) -> str:
        while True:
            call("m", example["prompt"])

    trainer = train(tmp_path, program, max_program_calls=3, group_filter="none")
    line = trainer.state.log_history[0]
    assert line["tasks/prog/failed_rollouts"] == 1.0
    assert line["tasks/prog/calls_per_rollout"] == 3.0


def test_a_context_that_is_exceeded_ends_the_rollout_as_a_failure(tmp_path: Path) -> None:
    def program(example: dict[str, Any], call: Any) -> str:
        call("short", example["prompt"])
        return call("long", "x" * 200)

    line = train(tmp_path, program, group_filter="none").state.log_history[0]
    assert line["tasks/prog/failed_rollouts"] == 1.0
    assert line["tasks/prog/calls_per_rollout"] == 1.0


def test_a_tool_that_blocks_ends_the_rollout_after_the_time(tmp_path: Path) -> None:
    released = threading.Event()

    def program(example: dict[str, Any], call: Any) -> str:
        text = call("m", example["prompt"])
        if example["prompt"] == "p0":
            released.wait(600)
        return text

    started = time.monotonic()
    train(tmp_path, program, program_timeout=0.3, group_filter="none", size=4)
    assert time.monotonic() - started < 300
    released.set()


def test_an_unknown_module_to_train_is_named_with_those_that_are_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, two_calls, trainable_modules=["finl", "draft"], group_filter="none")
    assert "`trainable_modules` of task 'prog' names modules that no rollout of the first batch called: ['finl']" in (
        caplog.text
    )
    assert "Called were ['draft', 'final']" in caplog.text


def test_modules_to_train_that_are_never_called_end_the_run_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`trainable_modules` of task 'prog' must name a module that is called"):
        train(tmp_path, two_calls, trainable_modules=["nobody"])


def test_a_reward_without_a_value_per_rollout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="one number or None per row"):
        train(tmp_path, one_call, lambda outputs, **kwargs: [1.0])


def test_a_failing_reward_of_a_module_is_an_error_that_names_it(tmp_path: Path) -> None:
    def broken(completions: list[Any], **kwargs: Any) -> list[float]:
        raise ZeroDivisionError("oops")

    with pytest.raises(RewardError, match="`module_rewards` of task 'prog' must not raise, got ZeroDivisionError"):
        train(tmp_path, two_calls, module_rewards={"draft": broken})


def test_columns_that_the_program_adds_are_reserved() -> None:
    with pytest.raises(ValueError, match="columns that its program adds, got \\['outputs'\\]"):
        Task("t", rows("p", outputs=["x"] * 30), lower_share, program=one_call)


def test_a_reward_that_takes_too_little_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must take everything that it is called with"):
        program_trainer(tmp_path, [program_task(one_call, lambda outputs: [0.0] * len(outputs))])


def test_a_reward_needs_a_weight() -> None:
    with pytest.raises(
        ValueError, match="`reward_weights` of task 't' must weight a function of a task with a program"
    ):
        Task("t", rows("p"), lower_share, program=one_call, reward_weights=[0.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [("group_baseline", "all"), ("module_balance", "weights"), ("max_program_calls", 0), ("program_timeout", -1)],
)
def test_settings_of_programs_are_checked(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        tiny_config(tmp_path, **{name: value})


def test_an_example_is_shown_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        train(tmp_path, two_calls)
    shown = [record.getMessage() for record in caplog.records if "Example of the program" in record.getMessage()]
    assert len(shown) == 1
    assert "1. draft" in shown[0]
    assert "2. final" in shown[0]
    assert "reward" in shown[0]
