"""What is recorded of a run, and how two records are compared."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback
from trl import GRPOTrainer

from tests.tiny import text_of
from trl_mtgrpo import RatioPreservingSampler


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
            # A value that is unknown may be logged as NaN, as None or not at all.
            known = {k: v for k, v in entry.items() if v is not None and v == v and not any(t in k for t in _TIMES)}
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
            "parameters": parameters_of(self.trainer),
        }


def _counted(prompts: list[str]) -> str:
    """How many rows there are of each task, whose letter its prompts begin with."""
    return " ".join(f"{letter}{count}" for letter, count in sorted(Counter(prompt[0] for prompt in prompts).items()))


def _short(value: Any) -> Any:
    """The same number in fewer characters."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def parameters_of(trainer: GRPOTrainer) -> str:
    """A digest of every parameter."""
    digest = hashlib.sha256()
    for name, parameter in sorted(trainer.accelerator.unwrap_model(trainer.model).named_parameters()):
        digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


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
