"""TensorBoard and trackio get the per-task metrics, offline and through their own packages."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

from trl_mtgrpo import MultiTaskGRPOTrainer


TESTS = Path(__file__).parent

WANTED = {
    "tasks/hard/weight",
    "tasks/easy/accuracy",
    "sampling/waste",
    "sampling/total_generated_tokens",
    "eval_tasks/hard/accuracy",
    "eval_worst_task_accuracy",
}


def train(output_dir: Any, **options: Any) -> MultiTaskGRPOTrainer:
    trainer = MultiTaskGRPOTrainer(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        tasks=three_tasks(with_eval=True),
        args=tiny_config(output_dir, **({"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2} | options)),
    )
    trainer.train()
    return trainer


def test_tensorboard_gets_every_key_with_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = train(tmp_path, report_to="tensorboard")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    # The host's writer turns `eval_x` into `eval/x` and everything else into `train/x`.
    names = {f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}" for key in WANTED}
    assert names <= set(board.Tags()["scalars"])
    logged = next(entry for entry in trainer.state.log_history if "tasks/hard/weight" in entry)
    assert board.Scalars("train/tasks/hard/weight")[0].value == pytest.approx(logged["tasks/hard/weight"])


class Records(logging.Handler):
    """Keeps what is logged, also by loggers that do not propagate."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.mark.parametrize("logging_steps", [1, 2])
def test_tasks_absent_from_a_batch_are_no_reason_to_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_steps: int
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    records, host = Records(), logging.getLogger("transformers.integrations")
    host.addHandler(records)
    try:
        trainer = train(
            tmp_path,
            report_to="tensorboard",
            max_steps=6,
            logging_steps=logging_steps,
            task_weighting="fixed",
            fixed_task_weights={"easy": 0.9, "medium": 0.1, "hard": 0.0},
        )
    finally:
        host.removeHandler(records)
    steps = [entry for entry in trainer.state.log_history if "tasks/hard/weight" in entry]
    assert steps
    assert not any("tasks/hard/accuracy" in entry for entry in steps)
    assert all(entry["tasks/hard/generated_groups"] == 0.0 for entry in steps)
    assert not any(value is None for entry in trainer.state.log_history for value in entry.values())
    assert records.messages == []


@pytest.mark.slow
def test_trackio_gets_every_key(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    # In a process of its own: trackio decides where it writes when it is imported.
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_logging_backends import train\n"
        "train(sys.argv[1], report_to='trackio', run_name='one', project='offline')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out"), str(TESTS.parent), str(TESTS)],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "trackio").rglob("*") if path.is_file())
    names = {f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}" for key in WANTED}
    assert [name for name in sorted(names) if name.encode() not in stored] == []
