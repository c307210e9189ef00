"""What rollouts of programs and their calls earn."""

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..rollouts.programs import Calls, rollout_part
from ..rollouts.traces import Trace
from ..tasks import TaskMixture
from ..tasks.logged import merge_logged
from ..tasks.rows import KEY, TaskRow
from .collecting import Scored, Scorer
from .distributed import Ranks
from .doors import Generation
from .logs import ExtraColumns
from .program_tasks import ProgramTasks
from .reward_calls import calculate_rewards


class Seen(NamedTuple):
    """
    A rollout as the host's reward functions and the ledger see it.

    Args:
        row ([`TaskRow`]):
            Its row, with what a program did among the columns.
        prompt (`Any`):
            What the model was asked first.
        completion (`Any`):
            What came of it, in the form of the host's completions.
        completion_ids (`list[int]`):
            Tokens of the last answer.
        fields (`dict[str, Any]`):
            The host's fields of everything that the model wrote.
        failed (`bool`):
            Whether it came to no output.
    """

    row: TaskRow
    prompt: Any
    completion: Any
    completion_ids: list[int]
    fields: dict[str, Any]
    failed: bool = False


class Rollouts(NamedTuple):
    """
    What all ranks know of the rollouts of all.

    Args:
        scored ([`Scored`]):
            Their rewards.
        logged (`dict[str, list]`):
            What reward functions logged for the rollouts of this rank.
        failed (`numpy.ndarray` of `bool`, shape `(N,)`):
            Which of them came to no output.
    """

    scored: Scored
    logged: dict[str, list[Any]]
    failed: NDArray[np.bool_]


class CallTable(NamedTuple):
    """
    The calls of all ranks in the order of the rollouts, one entry each.

    Args:
        columns (`numpy.ndarray` of `int`, shape `(M, 9)`):
            Rollout, role, occurrence, tokens, in the loss, trained, unparsed, tokens of the prompt, truncated.
        bonus (`numpy.ndarray`, shape `(M,)`):
            Reward of the module, NaN for none.
        place (`numpy.ndarray` of `int`, shape `(M, 2)`):
            Where its row lies.
        most (`int`):
            Largest number of calls of any rank.
    """

    columns: NDArray[np.int64]
    bonus: NDArray[np.float64]
    place: NDArray[np.int64]
    most: int


@dataclass(frozen=True, eq=False)
class ProgramRewards:
    """
    Rewards rollouts once, and their calls with what their rollout earned.

    Args:
        trainer (`Any`):
            The trainer.
        mixture ([`TaskMixture`]):
            The tasks.
        tasks ([`ProgramTasks`]):
            Their programs.
        ranks ([`Ranks`]):
            The processes of the run.
        scorer ([`Scorer`]):
            Scores rollouts.
        columns ([`ExtraColumns`]):
            What reward functions log.
    """

    trainer: Any
    mixture: TaskMixture
    tasks: ProgramTasks
    ranks: Ranks
    scorer: Scorer
    columns: ExtraColumns

    def score(self, host: Any, rollouts: list[Seen]) -> Rollouts:
        """
        Rewards rollouts with the host's reward functions. Every rank calls it with as many.

        Args:
            host ([`~trl.GRPOTrainer`]):
                The host's own methods.
            rollouts (`list[Seen]`):
                Those of this rank.

        Returns:
            [`Rollouts`]
        """
        rows, prompts, completions, ids, fields, failures = map(list, zip(*rollouts, strict=True))
        copies = [row.for_host() for row in rows]
        values = calculate_rewards(host, self.mixture, rows, copies, prompts, completions, ids)
        logged = self.columns.take()
        scored = self.scorer.score(values, rows, Generation(prompts, fields, []))
        failed = self.ranks.gather([int(value) for value in failures]).astype(bool)
        parts, reward = scored.scores.parts.copy(), scored.scores.reward.copy()
        for k, task in self.tasks.programs.items():
            dead = failed & (scored.task_ids == k)
            if task.failure_reward is not None and dead.any():
                reward[dead] = task.failure_reward
                parts = rollout_part(parts, self.mixture.scoring.part_weights[k], reward, dead)
                if task.outcome_func is not None:
                    parts[dead, len(task.sources()) - 1] = 0.0
        scoring = self.mixture.scoring
        scores = scoring.score(scoring.host_values(parts, scored.task_ids, reward), scored.task_ids)
        return Rollouts(scored._replace(scores=scores), logged, failed)

    def of_modules(self, rows: list[TaskRow], traces: list[Trace]) -> tuple[list[dict[str, Any]], list[float]]:
        """What the calls of this rank logged and earned for themselves; NaN where their module has no reward."""
        owners = [(row, call) for row, trace in zip(rows, traces, strict=True) for call in trace.calls]
        logged: list[dict[str, Any]] = [{} for _ in owners]
        earned = [float("nan")] * len(owners)
        for k, module, function in self.tasks.module_rewards:
            mine = [i for i, (row, call) in enumerate(owners) if row.task_id == k and call.module == module]
            if not mine:
                continue
            columns: dict[str, list[Any]] = {}

            def log_extra(column: str, values: Any, columns: dict[str, list[Any]] = columns) -> None:
                columns[column] = merge_logged(columns.get(column), values)

            answers = [owners[i][1].answer for i in mine]
            result: Any = function(
                prompts=[owners[i][1].prompt for i in mine],
                completions=[answer.completion for answer in answers if answer is not None],
                completion_ids=[list(answer.completion_ids) for answer in answers if answer is not None],
                trainer_state=self.trainer.state,
                log_extra=log_extra,
                log_metric=self.trainer._log_metric,
                **{KEY: [owners[i][0] for i in mine]},
            )
            values = asyncio.run(result) if asyncio.iscoroutine(result) else result
            for place, (i, value) in enumerate(zip(mine, values, strict=True)):
                earned[i] = float("nan") if value is None else value
                logged[i] |= {column: values[place] for column, values in columns.items()}
        return logged, earned

    def of_calls(self, table: CallTable, rollouts: Rollouts) -> Calls:
        """The calls with their rewards: the rollout's, more by the module's own, or what an unreadable answer gets."""
        columns, scored = table.columns, rollouts.scored
        rollout = columns[:, 0]
        reward, parts = scored.scores.reward[rollout].copy(), scored.scores.parts[rollout].copy()
        task_ids, unparsed = scored.task_ids[rollout], columns[:, 6].astype(bool)
        for k, task in self.tasks.programs.items():
            weights = self.mixture.scoring.part_weights[k]
            first = int(np.flatnonzero(weights)[0])
            more = (task_ids == k) & ~np.isnan(table.bonus) & ~np.isnan(reward)
            reward[more] += table.bonus[more]
            parts[more, first] = np.nan_to_num(parts[more, first]) + table.bonus[more] / weights[first]
            wrong = (task_ids == k) & unparsed
            reward[wrong] = task.format_failure_reward
            parts = rollout_part(parts, weights, reward, wrong)
        return Calls(
            rollout=rollout,
            role=columns[:, 1],
            occurrence=columns[:, 2],
            tokens=columns[:, 3],
            in_loss=columns[:, 4].astype(bool),
            trains=columns[:, 5].astype(bool),
            place=table.place,
            reward=reward,
            parts=parts,
        )


def seen_program(row: TaskRow, trace: Trace) -> Seen:
    """A rollout of a program; its output takes the place of a completion."""
    prompt = trace.calls[0].prompt if trace.calls else row.columns.get("prompt")
    text = "" if trace.output is None else trace.output if isinstance(trace.output, str) else str(trace.output)
    answers = [call.answer for call in trace.calls if call.answer is not None]
    ids = [token for answer in answers for token in answer.completion_ids]
    fields: dict[str, Any] = {"completion_ids": ids} if ids else {"completion_ids": [0], "tool_mask": [0]}
    return Seen(
        row,
        prompt,
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}],
        list(answers[-1].completion_ids) if answers else [],
        {**fields, "completions": [{"role": "assistant"} for _ in answers]},
        trace.failed,
    )


def seen_generation(row: TaskRow, generation: Generation, i: int) -> Seen:
    """A rollout that the host made, row `i` of a generation."""
    fields = generation.rows[i]
    return Seen(row, generation.prompts[i], fields["completions"], list(fields["completion_ids"]), fields)
