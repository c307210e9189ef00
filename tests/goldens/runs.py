"""Multi-task training runs and what each of them decided, so that a change of structure can show that it changes none.

`python -m tests.goldens.runs --record` writes `goldens.json`. A run that comes out differently than recorded is only
written if `CHANGED` of the tests gives a new reason for it.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from tests.goldens.recording import Json, Recorder, differences, parameters_of
from tests.goldens.table import RUNS, Reward, Run
from tests.tiny import contains_digit, rows, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


GOLDENS = Path(__file__).with_name("goldens.json")
ROOT = Path(__file__).parents[2]
NUM_RANKS = 2


def record(name: str, **changes: Any) -> Json:
    """
    Trains a run and returns what was recorded.

    Args:
        name (`str`): A name in `RUNS`.
        **changes (`Any`): Settings in place of the run's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        if RUNS[name].ranks == 1:
            return _train(RUNS[name], Path(folder), changes)
        return _launch(name, Path(folder))


def host_numbers() -> str:
    """What the host alone computes here; goldens are comparable where it is the same."""
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        settings = {
            name: getattr(tiny_config(folder), name)
            for name in ("per_device_train_batch_size", "num_generations", "max_completion_length", "learning_rate")
        }
        trainer = GRPOTrainer(
            model=tiny_model(),
            reward_funcs=contains_digit,
            args=GRPOConfig(
                folder, **settings, max_steps=3, use_cpu=True, bf16=False, report_to="none", save_strategy="no"
            ),
            train_dataset=rows("p"),
            processing_class=tiny_tokenizer(),
        )
        trainer.train()
        return parameters_of(trainer)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads may differ in the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(run: Run, folder: Path, changes: Json) -> Json:
    with _one_thread():
        if run.resume_from is None:
            return _train_once(run, folder, changes)
        saving = {"save_strategy": "steps", "save_steps": run.resume_from, **changes}
        _train_once(run, folder, saving)
        return _train_once(run, folder, saving, str(folder / f"checkpoint-{run.resume_from}"))


def _train_once(run: Run, folder: Path, changes: Json, checkpoint: str | None = None) -> Json:
    recorder = Recorder()
    torch.manual_seed(0)
    trainer = MultiTaskGRPOTrainer(
        model=_saved_model(folder),
        tasks=_tasks(run, recorder),
        args=tiny_config(folder, **({"max_steps": 4, **run.settings} | changes)),
        processing_class=tiny_tokenizer(chat=run.chat),
        **run.trainer(),
    )
    recorder.trainer = trainer
    trainer.add_callback(recorder)
    with recorder.listening():
        trainer.train(resume_from_checkpoint=checkpoint)
    return json.loads(json.dumps(recorder.result()))


def _tasks(run: Run, recorder: Recorder) -> list[Task]:
    def noted(task: str, function: Reward) -> Reward:
        def reward(prompts: list[Any], completions: list[Any], answer: list[Any], **kwargs: Any) -> list[Any]:
            recorder.scoring(task, prompts, completions, answer)
            return function(prompts=prompts, completions=completions, **kwargs)

        reward.__name__ = function.__name__
        return reward

    tasks = []
    for (name, function), size in zip(run.functions.items(), run.sizes, strict=True):
        first, *others = run.rewards(function)
        data = rows(name[0], size, run.chat, answer=[f"{name}{i}" for i in range(size)])
        held_out = rows(name[0], 5, run.chat, answer=["held out"] * 5)
        arguments = {"success_threshold": 1.0, "eval_dataset": held_out if run.with_eval else None, **run.task}
        tasks.append(Task(name, data, [noted(name, first), *others], **arguments))
    return tasks


def _saved_model(folder: Path) -> Qwen2ForCausalLM:
    """The tiny model with a path of its own, from which the host can build a reference model."""
    path = folder / f"model-{os.environ.get('RANK', '0')}"
    if not path.exists():
        tiny_model().save_pretrained(path)
    return Qwen2ForCausalLM.from_pretrained(path)


def _launch(name: str, folder: Path) -> Json:
    """What each rank of a launched run recorded."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    config = str(ROOT / "tests" / "distributed" / "cpu_ddp.yaml")
    start = ["-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", port, "-m"]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CI": "1"}
    command = [sys.executable, *start, "tests.goldens.runs", "--rank-of", name, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=420)
    results = [folder / f"rank{rank}.json" for rank in range(NUM_RANKS)]
    if not all(result.exists() for result in results):
        raise RuntimeError(f"'{name}' must leave a result of each rank, got code {done.returncode}.\n{done.stderr}")
    first, second = (json.loads(result.read_text(encoding="utf-8")) for result in results)
    # Ranks agree on everything else, and the first one tells it.
    return {**first, "second rank": {key: second[key] for key in ("requests", "scored", "weights", "parameters")}}


def _train_as_rank(name: str, folder: Path) -> None:
    result = _train(RUNS[name], folder, {})
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(result), encoding="utf-8")
    torch.distributed.barrier()
    # gloo threads abort some interpreters on their way out, after all work is done.
    os._exit(0)


def read_goldens() -> Json:
    """What was recorded."""
    return json.loads(GOLDENS.read_text(encoding="utf-8")) if GOLDENS.exists() else {"host": None, "runs": {}}


def write_goldens(goldens: Json) -> None:
    """Writes the recorded runs, one field or metric per line."""

    def lines(value: Any, depth: int) -> str:
        if not isinstance(value, dict) or depth == 0:
            return json.dumps(value, separators=(",", ":"))
        inner = ",\n".join(f"{json.dumps(key)}:{lines(part, depth - 1)}" for key, part in value.items())
        return "{\n" + inner + "\n}"

    GOLDENS.write_text(lines(goldens, 4) + "\n", encoding="utf-8")


def record_all(names: Sequence[str], changed: Mapping[str, str]) -> None:
    """
    Writes what runs come to now.

    Args:
        names (`list[str]`): Names in `RUNS`.
        changed (`dict[str, str]`): Why a run may come out differently than recorded.

    Raises:
        SystemExit: for runs that came out differently without a new reason; the others are written.
    """
    goldens = read_goldens()
    host = host_numbers()
    if goldens["host"] not in (None, host):
        raise SystemExit("The host itself computes other numbers here than where the goldens were recorded.")
    refused = []
    for name in names:
        known, found = goldens["runs"].get(name), record(name)
        if reason := changed.get(name):
            found["changed"] = reason
        first = next(differences(known, found), None) if known else None
        if first and known.get("changed") == found.get("changed"):
            refused.append(f"{name}{first}")
        else:
            goldens["runs"][name] = found
        print(f"{name}: {'as recorded' if known and not first else first or 'new'}", flush=True)  # noqa: T201
    goldens = {"host": host, "runs": {name: goldens["runs"][name] for name in RUNS if name in goldens["runs"]}}
    write_goldens(goldens)
    if refused:
        raise SystemExit("Give a reason in `CHANGED` of tests/goldens/test_goldens.py for\n" + "\n".join(refused))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write what comes out now")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    parser.add_argument("--rank-of", help="train as one rank of this run")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.rank_of:
        _train_as_rank(arguments.rank_of, arguments.folder)
    elif arguments.record:
        from tests.goldens.test_goldens import CHANGED

        record_all(arguments.only, CHANGED)
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
