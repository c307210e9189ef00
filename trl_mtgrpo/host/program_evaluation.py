"""Evaluation of mixtures with programs: the program runs for each row, one row per rollout goes to the host."""

from collections.abc import Sequence
from typing import Any

import torch
from trl import GRPOTrainer

from ..rollouts.traces import Trace
from ..tasks.rows import TaskRow
from .doors import Door, Live, write_generation
from .evaluation import ScoredDoor
from .programs import HostPrograms


class ProgramDoor(Live):
    """
    Answers the host with rollouts that were made: of each its last call, with the reward of the rollout.

    Args:
        programs ([`HostPrograms`]):
            Makes the rollouts.
        rows (`list[TaskRow]`):
            This rank's rows with their traces.
        traces (`list[Trace]`):
            What the programs did.
        listener ([`Door`]):
            Who hears of the rewards, where it is an evaluation.
    """

    def __init__(
        self, programs: HostPrograms, rows: Sequence[TaskRow], traces: Sequence[Trace], listener: Door
    ) -> None:
        self.programs, self.rows, self.traces, self.listener = programs, list(rows), list(traces), listener

    def generate(self, host: GRPOTrainer, prompts: list[Any]) -> tuple[Any, ...]:
        fields = [self._fields(trace) for trace in self.traces]
        if any(entry["tool_mask"] is None for entry in fields) and any(entry["tool_mask"] for entry in fields):
            for entry in fields:
                entry["tool_mask"] = entry["tool_mask"] or [1] * len(entry["completion_ids"])
        return write_generation(fields)

    def rewards(self, host: GRPOTrainer, *arguments: Any) -> torch.Tensor:
        rollouts = self.programs.rewards.score(host, self.rows, self.traces)
        scored = rollouts.scored
        self.programs.counts.rollouts(scored.task_ids, scored.scores.reward, rollouts.failed)
        if isinstance(self.listener, ScoredDoor):
            self.listener.evaluation.add(scored)
        scoring = self.programs.mixture.scoring
        known = scoring.host_values(scored.scores.parts, scored.task_ids, scored.scores.reward)
        return torch.tensor(known, dtype=torch.float32, device=self.programs.trainer.accelerator.device)

    def _fields(self, trace: Trace) -> dict[str, Any]:
        answer = trace.calls[-1].answer if trace.calls else None
        tokenizer = self.programs.trainer._tokenizer
        if answer is None:  # a rollout without a call is scored and holds a place
            return {
                "prompt_ids": [tokenizer.pad_token_id],
                "completion_ids": [tokenizer.eos_token_id],
                "completions": "",
                "logprobs": [0.0] if self.programs.trainer.use_vllm else None,
                "tool_mask": [0],
            }
        return {
            "prompt_ids": answer.prompt_ids,
            "completion_ids": answer.completion_ids,
            "completions": answer.completion,
            "logprobs": answer.logprobs,
            "tool_mask": None,
        }


def evaluate_rows(programs: HostPrograms, host: GRPOTrainer, rows: list[TaskRow], listener: Door) -> ProgramDoor:
    """
    Runs the programs of evaluation rows. Every rank calls it, with as many rows.

    Args:
        programs ([`HostPrograms`]):
            Makes the rollouts.
        host ([`~trl.GRPOTrainer`]):
            The host's own methods.
        rows (`list[TaskRow]`):
            This rank's rows.
        listener ([`Door`]):
            Who hears of the rewards.

    Returns:
        [`ProgramDoor`]
    """
    programs.calls.host = host
    traced, traces = programs.roll(rows)
    table = programs.table(traced, traces)
    programs.record(table)
    ids = programs.ranks.gather([row.task_id for row in rows])
    programs.counts.calls(ids[table.columns[:, 0]], table.columns)
    return ProgramDoor(programs, traced, traces, listener)
