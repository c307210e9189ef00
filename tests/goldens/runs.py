"""Multi-task training runs and what each of them decided, so that a change of structure can show that it changes none.

`python -m tests.goldens.runs --record` writes `goldens.json`. A run that comes out differently than recorded is only
written if `CHANGED` of the tests gives a new reason for it.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from tests.tiny import (
    contains_a,
    contains_digit,
    contains_lower,
    rows,
    text_of,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)
from trl_mtgrpo import MultiTaskGRPOTrainer, PlateauGuard, RatioPreservingSampler, RewardOnlyWeighting, Task


GOLDENS = Path(__file__).with_name("goldens.json")
ROOT = Path(__file__).parents[2]
NUM_RANKS = 2
FUNCTIONS = {"easy": contains_lower, "medium": contains_digit, "hard": contains_a}

# Not decided by the run.
_TIMES = ("step_time", "runtime", "per_second", "profiling/")
# What the host says of a batch whose rows, advantages and loss are recorded: one digest per logged line.
_HOST = (
    "completions/",
    "clip_ratio/",
    "entropy",
    "frac_reward_zero_std",
    "learning_rate",
    "epoch",
    "train_loss",
    "kl",
)

Json = dict[str, Any]
Reward = Callable[..., list[Any]]


@dataclass(frozen=True, eq=False)
class Run:
    """
    One recorded run.

    Args:
        settings (`dict`): What is changed in the tiny config.
        rewards (`Callable`): From a plain reward function to the task's reward functions.
        task (`dict`): Arguments of every task.
        trainer (`Callable`): Further arguments of the trainer, built anew for each run.
        with_eval (`bool`): Whether tasks have rows to evaluate on.
        chat (`bool`): Prompts as lists of messages.
        sizes (`Sequence[int]`): Rows of each task.
        functions (`dict`): The plain reward function by task.
        resume_from (`int`): The run trains once, then again from the checkpoint of this step; the second is recorded.
        ranks (`int`): Processes.
    """

    settings: Json = field(default_factory=dict)
    rewards: Callable[[Reward], list[Reward]] = lambda function: [function]
    task: Json = field(default_factory=dict)
    trainer: Callable[[], Json] = dict
    with_eval: bool = False
    chat: bool = False
    sizes: Sequence[int] = (30, 30, 30)
    functions: Mapping[str, Reward] = field(default_factory=lambda: FUNCTIONS)
    resume_from: int | None = None
    ranks: int = 1


class Recorder(TrainerCallback):
    """Writes down what a run asks for, what is scored, what trains and where the weights go."""

    def __init__(self) -> None:
        self.step = 0
        self.requests: dict[int, list[list[int]]] = {}
        self.scored: dict[int, list[tuple[str, list[Any]]]] = {}
        self.weights: list[list[float]] = []
        self.trained: list[Json] = []
        self.trainer: Any = None

    def scoring(self, task: str, prompts: list[Any], completions: list[Any], answers: list[Any]) -> None:
        """Called by the first reward function of each task."""
        seen = [[text_of(p), text_of(c), a] for p, c, a in zip(prompts, completions, answers, strict=True)]
        self.scored.setdefault(self.step, []).append((task, seen))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes each request of any sampler."""
        plan = RatioPreservingSampler.plan

        def noting(sampler: RatioPreservingSampler, *args: Any, **kwargs: Any) -> Any:
            request = plan(sampler, *args, **kwargs)
            if request is not None:
                self.requests.setdefault(self.step, []).append([int(count) for count in request])
            return request

        RatioPreservingSampler.plan = noting  # type: ignore[method-assign]
        try:
            yield
        finally:
            RatioPreservingSampler.plan = plan  # type: ignore[method-assign]

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step
        self.weights.append(list(self.trainer.task_weights.values()))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logged = self.trainer._logs
        prompts, completions = ([text_of(value) for value in logged[name]] for name in ("prompt", "completion"))
        advantages = [float(value).hex() for value in logged["advantages"]]
        extra = {name: list(values) for name, values in logged["extra"].items()}
        self.trained.append(
            {
                "rows": _counted(prompts),
                "flat": sum(float.fromhex(value) == 0.0 for value in advantages),
                "sha256": _digest([prompts, completions, advantages, extra]),
            }
        )

    def result(self) -> Json:
        """Everything noted, as JSON."""
        self.weights.append(list(self.trainer.task_weights.values()))
        logs: dict[str, list[Any]] = {}
        host: list[str] = []
        for line, entry in enumerate(self.trainer.state.log_history):
            # A value that is unknown may be logged as NaN or not at all.
            known = {k: v for k, v in entry.items() if v == v and not any(time in k for time in _TIMES)}
            plain = {name for name in known if name.removeprefix("eval_").startswith(_HOST)}
            host.append(_digest({name: known[name] for name in plain}))
            for name in known.keys() - plain:
                logs.setdefault(name, [None] * len(self.trainer.state.log_history))[line] = _short(known[name])
        return {
            "requests": {str(step): rounds for step, rounds in self.requests.items()},
            "scored": {
                str(step): {
                    "calls": len(calls),
                    "rows": _counted([row[0] for _, seen in calls for row in seen]),
                    "sha256": _digest(calls),
                }
                for step, calls in self.scored.items()
            },
            "trained": self.trained,
            "weights": self.weights,
            "logs": dict(sorted(logs.items())),
            "host": host,
            "parameters": _parameters(self.trainer),
        }


def _counted(prompts: list[str]) -> str:
    """How many rows there are of each task, whose letter its prompts begin with."""
    return " ".join(f"{letter}{count}" for letter, count in sorted(Counter(prompt[0] for prompt in prompts).items()))


def _short(value: Any) -> Any:
    """The same number in fewer characters."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _parameters(trainer: GRPOTrainer) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(trainer.accelerator.unwrap_model(trainer.model).named_parameters()):
        digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


# What the runs are made of


def with_length(function: Reward) -> list[Reward]:
    def length(completions: list[Any], **kwargs: Any) -> list[float]:
        return [sum(c.islower() for c in text_of(completion)) / 6 for completion in completions]

    return [function, length]


def with_abstention(function: Reward) -> list[Reward]:
    """A second function that gives no opinion on many completions."""

    def vowels(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [float("E" in text_of(c)) if any(x.isupper() for x in text_of(c)) else None for c in completions]

    return [function, vowels]


def sometimes_unknown(function: Reward) -> list[Reward]:
    """One function without an opinion on some completions."""

    def unsure(completions: list[Any], **kwargs: Any) -> list[float | None]:
        values = function(completions)
        return [None if "z" in text_of(c) else value for c, value in zip(completions, values, strict=True)]

    return [unsure]


def with_logging(function: Reward) -> list[Reward]:
    def logged(completions: list[Any], log_extra: Any, log_metric: Any, **kwargs: Any) -> list[float]:
        log_extra("first", [text_of(completion)[:1] for completion in completions])
        log_metric("mean_length", sum(len(text_of(c)) for c in completions) / len(completions))
        return function(completions)

    return [logged]


def graded(completions: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.isdigit() for c in text_of(completion)) / 6 for completion in completions]


def never(completions: list[Any], **kwargs: Any) -> list[float]:
    return [0.0] * len(completions)


def nearly_always(completions: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(c != " " for c in text_of(completion))) for completion in completions]


HALVES: Json = {"per_device_train_batch_size": 8, "steps_per_generation": 2}
STRICT_GUARD = {
    "large_share": 0.3,
    "patience": 1,
    "more_than_fair": 1.0,
    "others_gain": 0.01,
    "errors": 0.0,
    "smoothing": 0.5,
    "held_share": 0.2,
}


def acting_guard() -> Json:
    return {"guard": PlateauGuard(**STRICT_GUARD)}


RUNS: dict[str, Run] = {
    "defaults": Run({"max_steps": 6}),
    "mixed, no carry": Run({"max_surplus_age": 0}),
    "variance, carry": Run({"group_filter": "reward_variance", "oversampling": 3.0}),
    "variance, no carry": Run({"group_filter": "reward_variance", "max_surplus_age": 0}),
    "nothing filtered": Run({"group_filter": "none", "oversampling": 1.0}),
    "nothing filtered, carry": Run({"group_filter": "none", "oversampling": 2.0}),
    "three times the batch": Run({"oversampling": 3.0, "max_steps": 5}),
    "three times the batch, no carry": Run({"oversampling": 3.0, "max_surplus_age": 0}),
    "two iterations": Run({"num_iterations": 2, "oversampling": 3.0, "max_steps": 6}),
    "two updates per batch": Run({**HALVES, "max_steps": 6, "oversampling": 2.0}),
    "accumulation beside generation": Run(
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "steps_per_generation": 3}
    ),
    "accumulation over two batches": Run({**HALVES, "gradient_accumulation_steps": 4}),
    "two iterations of two updates": Run({**HALVES, "num_iterations": 2, "max_steps": 8, "oversampling": 2.0}),
    "summed rewards": Run(rewards=with_length, task={"reward_weights": [1.0, 0.5]}),
    "normalised rewards": Run(
        {"multi_objective_aggregation": "normalize_then_sum", "oversampling": 2.0},
        rewards=with_length,
        task={"reward_weights": [1.0, 0.5]},
    ),
    "normalised rewards, variance": Run(
        {"multi_objective_aggregation": "normalize_then_sum", "group_filter": "reward_variance"},
        rewards=with_abstention,
        task={"reward_weights": [0.7, 1.0], "success_threshold": None},
    ),
    "guard acts": Run({"max_steps": 8, "task_weight_lr": 0.3}, trainer=acting_guard),
    "guard acts without refill": Run(
        {"max_steps": 8, "task_weight_lr": 0.3, "max_resampling_rounds": 0}, trainer=acting_guard
    ),
    "no guard": Run({"plateau_guard": False, "task_weight_lr": 0.3}),
    "grpo": Run({"method": "grpo"}),
    "dapo": Run({"method": "dapo"}),
    "sec_grpo": Run({"method": "sec_grpo"}),
    "sec_dapo": Run({"method": "sec_dapo", "max_steps": 5}),
    "dapo, three times": Run({"method": "dapo", "oversampling": 3.0}),
    "fixed weights": Run({"task_weighting": "fixed", "fixed_task_weights": {"easy": 1, "medium": 2, "hard": 5}}),
    "reward only": Run(
        trainer=lambda: {"weighting": RewardOnlyWeighting(lr=0.2, decay=1e-2)}, settings={"max_steps": 5}
    ),
    "solved discount 0": Run({"solved_discount": 0.0, "max_steps": 5}, functions={**FUNCTIONS, "easy": nearly_always}),
    "solved discount 1": Run({"solved_discount": 1.0, "max_steps": 5}, functions={**FUNCTIONS, "easy": nearly_always}),
    "solved discount 2, not acceptance aware": Run({"solved_discount": 2.0, "acceptance_aware": False}),
    "a task without any gain": Run({"max_steps": 8}, functions={**FUNCTIONS, "hard": never}),
    "improvement of rewards": Run({"improvement_source": "reward", "task_weight_lr": 0.2}),
    "no improvement": Run({"improvement_source": "none", "task_weight_lr": 0.2}),
    "mean improvement of few": Run(
        {"improvement_reduction": "mean", "improvement_groups": 1, "absent_improvement": "neutral"}
    ),
    "weights by minibatch": Run(
        {**HALVES, "task_weight_update": "minibatch", "task_weight_lr": 0.2, "max_steps": 6, "oversampling": 2.0}
    ),
    "other weight optimizers": Run(
        {"task_weight_optimizer": "adamw", "task_weight_decay": 1e-2, "task_weight_floor": 0.1, "task_weight_cap": 0.6}
    ),
    "weights by gradient": Run({"task_weight_optimizer": "sgd", "task_weight_lr": 1.0, "improvement_clip": None}),
    "abstaining function": Run(rewards=with_abstention),
    "unknown rewards": Run(rewards=sometimes_unknown, settings={"oversampling": 2.0}),
    "graded rewards": Run(
        task={"success_threshold": None, "reward_range": (0.0, 0.5)}, functions={**FUNCTIONS, "medium": graded}
    ),
    "outcome function": Run(
        task={"success_threshold": None, "outcome_func": contains_digit}, rewards=lambda f: [graded, f]
    ),
    "masked truncation": Run({"mask_truncated_completions": True, "max_completion_length": 48, "max_steps": 3}),
    "logged columns": Run({"oversampling": 2.0}, rewards=with_logging),
    "evaluation": Run({"eval_strategy": "steps", "eval_steps": 2, "oversampling": 2.0}, with_eval=True),
    "evaluation inside a batch": Run({**HALVES, "eval_strategy": "steps", "eval_steps": 1}, with_eval=True),
    "unfilled batches": Run({"max_resampling_rounds": 0, "oversampling": 1.0, "method": "dapo"}),
    "unfilled batches, discounted": Run({"max_resampling_rounds": 0, "oversampling": 1.0, "max_steps": 6}),
    "token budget": Run({"max_generated_tokens": 150, "max_steps": 5}),
    "kl": Run({"beta": 0.1, "oversampling": 3.0}),
    "kl, lora": Run({"beta": 0.1}, trainer=lambda: {"peft_config": LoraConfig(r=4, target_modules="all-linear")}),
    "dr_grpo, batch scale": Run({"loss_type": "dr_grpo", "scale_rewards": "batch", "oversampling": 2.0}),
    "cispo, no scale": Run({"loss_type": "cispo", "scale_rewards": "none", "oversampling": 2.0, "num_iterations": 2}),
    "sequence ratios": Run({"importance_sampling_level": "sequence", "oversampling": 3.0, "num_iterations": 2}),
    "chat": Run({"oversampling": 2.0}, chat=True),
    "small and unequal tasks": Run({"oversampling": 3.0, "max_steps": 5}, sizes=(1, 3, 40)),
    "unshuffled, another seed": Run({"shuffle_dataset": False, "seed": 7}),
    "a filter of the user": Run(trainer=lambda: {"group_filter": lambda rewards: rewards.mean(axis=1) < 0.9}),
    "a sampler of the user": Run(
        trainer=lambda: {"sampler": RatioPreservingSampler(4, oversampling=2.0, max_rounds=1)},
        settings={"max_steps": 4},
    ),
    "resumed": Run({"max_steps": 4, "oversampling": 3.0}, resume_from=2),
    "resumed inside a batch": Run({**HALVES, "max_steps": 5, "num_iterations": 2, "oversampling": 3.0}, resume_from=4),
    "resumed, guard acts": Run({"max_steps": 6, "task_weight_lr": 0.3}, trainer=acting_guard, resume_from=3),
    "two ranks": Run({**HALVES, "max_steps": 5}, ranks=2),
    "two ranks, three times, kl": Run({**HALVES, "oversampling": 3.0, "beta": 0.1}, ranks=2),
    "two ranks, split groups": Run(
        {"per_device_train_batch_size": 6, "num_generations": 3, "max_steps": 5, "oversampling": 1.5}, ranks=2
    ),
    "two ranks, normalised, guard, evaluation": Run(
        {
            "per_device_train_batch_size": 8,
            "multi_objective_aggregation": "normalize_then_sum",
            "task_weight_lr": 0.3,
            "eval_strategy": "steps",
            "eval_steps": 2,
        },
        rewards=with_length,
        trainer=acting_guard,
        with_eval=True,
        ranks=2,
    ),
    "two ranks, resumed": Run({**HALVES, "max_steps": 6, "oversampling": 3.0}, resume_from=4, ranks=2),
}


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
        return _parameters(trainer)


def differences(golden: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where a run left its golden, in the order of the fields; metrics that are new to the golden are none."""
    if isinstance(golden, dict) and isinstance(found, dict):
        for key in golden:
            if key not in found:
                yield f"{path}/{key}: gone"
            else:
                yield from differences(golden[key], found[key], f"{path}/{key}")
        if not path.endswith("/logs"):
            yield from (f"{path}/{key}: new" for key in found if key not in golden)
    elif isinstance(golden, list) and isinstance(found, list):
        for i, (one, other) in enumerate(zip(golden, found, strict=False)):
            yield from differences(one, other, f"{path}/{i}")
        if len(golden) != len(found):
            yield f"{path}: {len(golden)} entries recorded, {len(found)} found"
    elif golden != found:
        yield f"{path}: recorded {golden!r}, found {found!r}"


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
