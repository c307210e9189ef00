"""Evaluation with programs: each row is rolled out in its own way, and one row per rollout goes to the host."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..rollouts.traces import Trace
from ..tasks.rows import TaskRow
from .doors import Door, Generation, Live, write_generation
from .evaluation import ScoredDoor
from .program_rewards import Seen, seen_generation, seen_program
from .programs import HostPrograms


class ProgramDoor(Live):
    """
    Answers the host with rollouts that were made.

    Args:
        programs ([`HostPrograms`]):
            Scores them.
        rollouts (`list[Seen]`):
            This rank's rollouts.
        fields (`list[dict[str, Any]]`):
            The host's fields of the row that stands for each: of a program its last call.
        host_rows (`list[dict[str, Any]]`):
            The host's copies of these rows.
        listener ([`Door`]):
            Who hears of the rewards, where it is an evaluation.
    """

    def __init__(
        self,
        programs: HostPrograms,
        rollouts: list[Seen],
        fields: Sequence[dict[str, Any]],
        host_rows: list[dict[str, Any]],
        listener: Door,
    ) -> None:
        self.programs, self.rollouts, self.fields, self.listener = programs, rollouts, fields, listener
        self.host_rows = host_rows

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        fields = self.fields
        if any(entry.get("tool_mask") for entry in fields):
            fields = [{**e, "tool_mask": e.get("tool_mask") or [1] * len(e["completion_ids"])} for e in fields]
        return write_generation(fields)

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        rollouts = self.programs.rewards.score(host, self.rollouts)
        scored = rollouts.scored
        self.programs.counts.rollouts(scored.task_ids, scored.scores.reward, rollouts.failed)
        if isinstance(self.listener, ScoredDoor):
            self.listener.evaluation.add(scored)
        scoring = self.programs.mixture.scoring
        known = scoring.host_values(scored.scores.parts, scored.task_ids, scored.scores.reward)
        return torch.tensor(known, dtype=torch.float32, device=self.programs.trainer.accelerator.device)


def evaluate_rows(
    programs: HostPrograms,
    host: GRPOTrainer,
    rows: list[TaskRow],
    generate: Callable[[list[TaskRow]], Generation],
    listener: Door,
) -> ProgramDoor:
    """
    Rolls out evaluation rows: those of programs in waves, all others by the host. Every rank calls it, with as many.

    Args:
        programs ([`HostPrograms`]):
            Makes the rollouts of programs.
        host ([`~trl.GRPOTrainer`]):
            The host's own methods.
        rows (`list[TaskRow]`):
            This rank's rows.
        generate (`Callable`):
            Lets the host generate for rows, as many on every rank.
        listener ([`Door`]):
            Who hears of the rewards.

    Returns:
        [`ProgramDoor`]
    """
    programs.calls.host = host
    has_program = programs.tasks.has_program[[row.task_id for row in rows]]
    fields: dict[int, dict[str, Any]] = {}
    seen: dict[int, Seen] = {}

    others = np.flatnonzero(~has_program).tolist()
    generation = _generated(programs, [rows[i] for i in others], generate)
    for at, i in enumerate(others):
        row = rows[i]._replace(columns={**rows[i].columns, **generation.extra[at]})
        seen[i], fields[i] = seen_generation(row, generation, at), generation.rows[at]

    mine = np.flatnonzero(has_program).tolist()
    traced, traces = programs.roll([rows[i] for i in mine])
    first = programs.ranks.index * len(rows)
    table = programs.table(traced, traces, positions=[first + i for i in mine])
    asked = list(rows)
    for i, row, trace in zip(mine, traced, traces, strict=True):
        seen[i], fields[i] = seen_program(row, trace), _last_call(programs, trace)
        if trace.calls:
            asked[i] = row._replace(columns={**row.columns, "prompt": trace.calls[-1].prompt})

    ids = programs.ranks.gather([row.task_id for row in rows])
    programs.counts.calls(ids[table.columns[:, 0]], table.columns)
    of_others = _lengths(programs, [fields.get(i) if not has_program[i] else None for i in range(len(rows))])
    programs.calls.record(*np.concatenate([table.columns[:, [7, 3, 8]], of_others]).T)
    order = range(len(rows))
    host_rows = programs.mixture.host_rows(asked)
    return ProgramDoor(programs, [seen[i] for i in order], [fields[i] for i in order], host_rows, listener)


def _generated(
    programs: HostPrograms, rows: list[TaskRow], generate: Callable[[list[TaskRow]], Generation]
) -> Generation:
    """What the host generates for rows of tasks without a program; ranks may have differently many of them."""
    most = int(programs.ranks.gather([len(rows)]).max())
    if most == 0:
        return Generation([], [], [])
    # A rank with fewer of them adds rows that nobody reads and that know of no tools.
    has_program, mixture = programs.tasks.has_program, programs.mixture
    prompt = mixture.row(int(has_program.argmin()), 0).columns.get("prompt")
    spare = TaskRow(int(has_program.argmax()), -1, {"prompt": prompt})
    with _unrecorded(programs.trainer) as recorded:
        made = generate(rows + [spare] * (most - len(rows)))
    if "tools/call_frequency" in recorded:
        real = int(programs.ranks.gather([len(rows)]).sum())
        metrics = programs.trainer._metrics["train" if programs.trainer.model.training else "eval"]
        metrics["tools/call_frequency"].append(
            recorded["tools/call_frequency"][-1] * most * programs.ranks.size / real
        )
        metrics["tools/failure_frequency"] += recorded["tools/failure_frequency"]
    own = slice(len(rows))
    return Generation(mixture.images.prompts(rows, made.prompts[own]), made.rows[own], made.extra[own])


@contextmanager
def _unrecorded(trainer: Any) -> Iterator[dict[str, list[float]]]:
    """While it lasts the host's metrics go elsewhere: they count rows that nobody reads."""
    mode = "train" if trainer.model.training else "eval"
    elsewhere: dict[str, list[float]] = defaultdict(list)
    before = trainer._metrics[mode]
    trainer._metrics[mode] = elsewhere
    try:
        yield elsewhere
    finally:
        trainer._metrics[mode] = before


def _lengths(programs: HostPrograms, fields: Sequence[dict[str, Any] | None]) -> NDArray[np.int64]:
    """Tokens of the prompt, tokens that the model wrote and whether it was cut, of the rows of all ranks that are."""
    own = [
        [-1] * 3
        if row is None
        else [
            len(row["prompt_ids"]),
            len(row["completion_ids"]) if row.get("tool_mask") is None else sum(row["tool_mask"]),
            int(row["completion_ids"][-1] not in programs.scorer.ends),
        ]
        for row in fields
    ]
    found = programs.ranks.gather(own).astype(np.int64)
    real: NDArray[np.int64] = found[found[:, 0] >= 0]
    return real


def _last_call(programs: HostPrograms, trace: Trace) -> dict[str, Any]:
    answer = trace.calls[-1].answer if trace.calls else None
    tokenizer = programs.trainer._tokenizer
    if answer is None:  # a rollout without a call is scored and holds a place
        return {
            "prompt_ids": [tokenizer.pad_token_id],
            "completion_ids": [tokenizer.eos_token_id],
            "completions": "",
            "logprobs": [0.0] if programs.trainer.use_vllm else None,
            "tool_mask": [0],
        }
    return {
        "prompt_ids": answer.prompt_ids,
        "completion_ids": answer.completion_ids,
        "completions": answer.completion,
        "logprobs": answer.logprobs,
    }
