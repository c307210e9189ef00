"""Programs as a source of rollouts: run in waves, rewarded once per rollout, one row of the loss per call."""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..rollouts import CollectedBatch
from ..rollouts.facts import GroupFacts
from ..rollouts.judging import Judge
from ..rollouts.programs import Bundles, Calls, ProgramMemory, judged, ragged_groups, rollout_part
from ..rollouts.prompts import Prompts
from ..rollouts.store import Row, RowStore
from ..rollouts.waves import Trace, Waves
from ..tasks import TaskMixture
from ..tasks.failures import RewardError, RewardFailure, describe_failures
from ..tasks.logged import merge_logged
from ..tasks.rows import KEY, TaskRow
from .collecting import Scored, Scorer
from .distributed import Ranks
from .doors import Generation
from .logs import ExtraColumns
from .program_calls import CallGeneration
from .program_counts import ProgramCounts
from .program_tasks import ProgramTasks


logger = logging.getLogger(__name__)


class Rollouts(NamedTuple):
    """
    Rollouts of this rank, and what all ranks know of those of all.

    Args:
        rows (`list[TaskRow]`):
            Their rows, with what the program did among the columns.
        traces (`list[Trace]`):
            What they did.
        scored ([`Scored`]):
            Rewards of the rollouts of all ranks.
        logged (`dict[str, list]`):
            What reward functions logged for the rollouts of this rank.
        failed (`numpy.ndarray` of `bool`, shape `(N,)`):
            Which of all rollouts came to no output.
    """

    rows: list[TaskRow]
    traces: list[Trace]
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


@dataclass(eq=False)
class HostPrograms:
    """
    Makes rollouts of programs through the host.

    Args:
        trainer (`Any`):
            The trainer.
        mixture ([`TaskMixture`]):
            The tasks.
        ranks ([`Ranks`]):
            The processes of the run.
        scorer ([`Scorer`]):
            Scores rollouts.
        judge ([`Judge`]):
            Says which groups may train.
        store ([`RowStore`]):
            Where this rank's rows lie.
        columns ([`ExtraColumns`]):
            What reward functions log.
        all_rollouts (`bool`):
            Whether rollouts that never made a call have a part in its baseline.
        max_calls (`int`):
            Most calls of one rollout.
        timeout (`float`, *optional*):
            Seconds that programs may spend between two waves.
    """

    trainer: Any
    mixture: TaskMixture
    ranks: Ranks
    scorer: Scorer
    judge: Judge
    store: RowStore
    columns: ExtraColumns
    all_rollouts: bool
    max_calls: int
    timeout: float | None = None
    generation: int = 0
    modules: list[list[str]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tasks = ProgramTasks(self.mixture)
        self.calls = CallGeneration(self.trainer)
        self.waves = Waves(
            self.calls.prepare, self.calls.generate, self._agree, max_calls=self.max_calls, timeout=self.timeout
        )
        self.counts = ProgramCounts(self.mixture.names)
        self.modules = [[] for _ in self.mixture.names]

    def begin(self, host: GRPOTrainer, generation: int, memory: ProgramMemory) -> None:
        """Before a batch."""
        self.calls.host, self.generation = host, generation
        self.modules = [list(names) for names in memory.modules]
        self.counts = ProgramCounts(self.mixture.names)

    def remember(self, memory: ProgramMemory) -> ProgramMemory:
        """After a batch: the memory with the names of modules that it brought."""
        return replace(memory, modules=tuple(map(tuple, self.modules)))

    def beside(self, prompts: Prompts, episodes: int, size: int, plain: Callable[..., GroupFacts]) -> GroupFacts:
        """
        The groups of prompts of tasks with and without a program: first those without, then the waves.

        Args:
            prompts ([`Prompts`]):
                What was drawn.
            episodes (`int`):
                Rollouts of each (G).
            size (`int`):
                Most bundles at a time.
            plain (`Callable`):
                Makes the groups of tasks without a program.

        Returns:
            [`GroupFacts`]: in the order of the prompts.
        """
        # The rollouts of each part are shared by all ranks; where they do not divide, its last prompt comes again.
        multiple = self.ranks.size // math.gcd(self.ranks.size, episodes)
        has_program = self.tasks.has_program[prompts.task]
        parts, spare = [], len(prompts.task)
        for chosen, make in ((~has_program, plain), (has_program, self.produce)):
            index = np.flatnonzero(chosen)
            missing = -len(index) % multiple
            bundle = np.concatenate([index, np.arange(spare, spare + missing)])
            index, spare = np.concatenate([index, index[-1:].repeat(missing)]), spare + missing
            task, row = prompts.task[index], prompts.row[index]
            if make is plain:
                parts += [replace(plain(task, row, episodes), bundle=bundle)] if len(index) else []
                continue
            for start in range(0, len(index), size):
                at = slice(start, start + size)
                parts.append(self.produce(task[at], row[at], bundle[at], episodes))
        facts = GroupFacts.join(parts)
        return facts.select(np.argsort(facts.bundle, kind="stable"))

    def produce(
        self, task: NDArray[np.int64], prompt: NDArray[np.int64], bundle: NDArray[np.int64], episodes: int
    ) -> GroupFacts:
        """
        Rollouts of programs and the groups of their calls.

        Args:
            task (`numpy.ndarray` of `int`, shape `(N,)`):
                Task of each bundle.
            prompt (`numpy.ndarray` of `int`, shape `(N,)`):
                Row of the task's train set.
            bundle (`numpy.ndarray` of `int`, shape `(N,)`):
                Number of each.
            episodes (`int`):
                Rollouts of each (G).

        Returns:
            [`GroupFacts`]
        """
        places = list(zip(task.repeat(episodes).tolist(), prompt.repeat(episodes).tolist(), strict=True))
        rows, traces = self.roll(self.mixture.rows(self.ranks.local(places)))
        logged, bonus = self._module_rewards(rows, traces)
        rollouts = self.score(rows, traces)
        table = self.table(rows, traces, bonus)
        self.record(table)
        scores = rollouts.scored.scores
        calls = self._earned(table, rollouts)
        self.store.add(self._rows(rollouts, logged, episodes), reserve=table.most)
        bundles = Bundles(
            task=task,
            prompt=prompt,
            bundle=bundle,
            reward=scores.reward.reshape(-1, episodes),
            success=scores.success.reshape(-1, episodes),
            parts=scores.parts.reshape(len(task), episodes, -1),
        )
        ragged = ragged_groups(calls, bundles, self.generation, self.all_rollouts)
        facts = ragged.facts
        verdict = self.judge(facts.task, facts.reward, facts.success, facts.parts, ragged.in_loss)
        self.counts.rollouts(rollouts.scored.task_ids, scores.reward, rollouts.failed)
        self.counts.calls(rollouts.scored.task_ids[calls.rollout], table.columns)
        self.counts.bundles += len(task)
        self.counts.waves += self.waves.num_waves
        self._look(rollouts, calls)
        return judged(ragged, verdict.outcome, verdict.accepted, self.judge.keeps_all, self.all_rollouts)

    def metrics(self, batch: CollectedBatch) -> dict[str, float]:
        """The metrics of a training batch, see [`ProgramCounts`]."""
        return self.counts.batch_metrics(batch, self.modules, self.tasks.has_program)

    def evaluated(self) -> dict[str, float]:
        """The metrics of an evaluation; its rewards are there already."""
        found = self.counts.metrics(self.modules, self.tasks.has_program)
        return {name: value for name, value in found.items() if not name.endswith("/reward")}

    def roll(self, rows: list[TaskRow]) -> tuple[list[TaskRow], list[Trace]]:
        """
        Runs the programs of this rank's rows; a row of a task without one is asked as it is. Every rank calls it.

        Args:
            rows (`list[TaskRow]`):
                One per rollout.

        Returns:
            `tuple`: the rows with what the program did among their columns, and the traces.

        Raises:
            RewardError: when a program of any rank has a bug.
        """
        traces, bug = self.waves.run([self.tasks.job(row) for row in rows])
        if bug:
            failures = [
                RewardFailure(
                    self.mixture.names[row.task_id],
                    "program",
                    (i,),
                    "exception",
                    f"`program` of task '{self.mixture.names[row.task_id]}' {trace.bug} (row {row.row})",
                    trace.details,
                    True,
                )
                for i, (row, trace) in enumerate(zip(rows, traces, strict=True))
                if trace.bug
            ]
            raise RewardError(describe_failures(self.ranks.gather_objects(failures)))
        return [self.tasks.with_trace(row, trace) for row, trace in zip(rows, traces, strict=True)], traces

    def score(self, rows: list[TaskRow], traces: list[Trace]) -> Rollouts:
        """
        Rewards rollouts with the host's reward functions. Every rank calls it with as many.

        Args:
            rows (`list[TaskRow]`):
                Rows of this rank's rollouts, with their traces.
            traces (`list[Trace]`):
                What they did.

        Returns:
            [`Rollouts`]
        """
        prompts = [_first_prompt(row, trace) for row, trace in zip(rows, traces, strict=True)]
        completions = [_text(trace, prompt) for trace, prompt in zip(traces, prompts, strict=True)]
        ids = [list(answered[-1].completion_ids) if (answered := _answers(trace)) else [] for trace in traces]
        self.mixture.bind(rows)
        assert self.calls.host is not None
        values = self.calls.host._calculate_rewards([row.for_host() for row in rows], prompts, completions, ids)
        logged = self.columns.take()
        fields = [_all_tokens(trace) for trace in traces]
        scored = self.scorer.score(values, rows, Generation(prompts, fields, []))
        failed = self.ranks.gather([int(trace.failed) for trace in traces]).astype(bool)
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
        return Rollouts(rows, traces, scored._replace(scores=scores), logged, failed)

    def _agree(self, number: int) -> int:
        return int(self.ranks.gather([number]).max())

    def _module_rewards(self, rows: list[TaskRow], traces: list[Trace]) -> tuple[list[dict[str, Any]], list[float]]:
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

    def table(self, rows: list[TaskRow], traces: list[Trace], bonus: list[float] | None = None) -> CallTable:
        """The calls of all ranks. Every rank calls it, with as many rows."""
        self._name_modules(rows, traces)
        ends = self.scorer.ends
        offset = self.ranks.index * len(rows)
        own: list[list[int]] = []
        for i, (row, trace) in enumerate(zip(rows, traces, strict=True)):
            for call in trace.calls:
                answer = call.answer
                assert answer is not None
                ids = answer.completion_ids
                own.append(
                    [
                        offset + i,
                        self.modules[row.task_id].index(call.module),
                        call.occurrence,
                        len(ids),
                        int(self.scorer.trains({"completion_ids": ids})),
                        int(self.tasks.is_trained(row.task_id, call.module)),
                        int(call.unparsed),
                        len(answer.prompt_ids),
                        int(ids[-1] not in ends) if len(ids) else 1,
                    ]
                )
        most = self._agree(len(own))
        if most == 0:
            nothing = np.zeros((0, 9), dtype=np.int64)
            return CallTable(nothing, np.zeros(0), np.zeros((0, 2), dtype=np.int64), 0)
        missing = most - len(own)
        columns = self.ranks.gather([*own, *[[-1] * 9] * missing]).astype(np.int64)
        bonus = [float("nan")] * len(own) if bonus is None else bonus
        earned = self.ranks.gather([*bonus, *[float("nan")] * missing]).astype(np.float64)
        place = self.ranks.places(len(columns), self.store.next_slot)
        real = columns[:, 0] >= 0
        return CallTable(columns[real], earned[real], place[real], most)

    def _name_modules(self, rows: list[TaskRow], traces: list[Trace]) -> None:
        """Gives every module that has not been seen a role, the same on all ranks."""
        own = {
            (row.task_id, call.module)
            for row, trace in zip(rows, traces, strict=True)
            for call in trace.calls
            if call.module not in self.modules[row.task_id]
        }
        for task_id, module in sorted(set(self.ranks.gather_objects(sorted(own)))):
            self.modules[task_id].append(module)

    def _earned(self, table: CallTable, rollouts: Rollouts) -> Calls:
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

    def _rows(self, rollouts: Rollouts, logged: list[dict[str, Any]], episodes: int) -> list[Row]:
        """This rank's rows of the loss, one per call."""
        before = self.counts.num_rollouts + self.ranks.index * len(rollouts.rows)
        rows: list[Row] = []
        for i, (row, trace) in enumerate(zip(rollouts.rows, rollouts.traces, strict=True)):
            for call in trace.calls:
                answer = call.answer
                assert answer is not None
                rows.append(
                    Row(
                        task_id=row.task_id,
                        index=row.row,
                        prompt=call.prompt,
                        prompt_ids=answer.prompt_ids,
                        completion_ids=answer.completion_ids,
                        completion=answer.completion,
                        logprobs=answer.logprobs,
                        logged={
                            **{column: values[i] for column, values in rollouts.logged.items()},
                            **logged[len(rows)],
                            # With several tasks the table has it anyway.
                            **({"task": self.mixture.names[0]} if self.mixture.num_tasks == 1 else {}),
                            "module": call.module,
                            "occurrence": call.occurrence,
                            "rollout": before + i,
                        },
                    )
                )
        return rows

    def record(self, table: CallTable) -> None:
        """The host's metrics of completions over the calls of all ranks."""
        self.calls.record(table.columns[:, 7], table.columns[:, 3], table.columns[:, 8].astype(bool))

    def _look(self, rollouts: Rollouts, calls: Calls) -> None:
        """Before the first optimizer step: an example of each program, and what it lacks."""
        task_ids = rollouts.scored.task_ids
        for k, task in self.tasks.programs.items():
            mine = task_ids == k
            if k in self._seen or not mine.any():
                continue
            self._seen.add(k)
            made = task_ids[calls.rollout] == k
            if not made.any() and not rollouts.failed[mine].any():
                raise ValueError(
                    f"`program` of task '{task.name}' must call the model, got no call in any of {int(mine.sum())} "
                    "rollouts. Call it with `call(module, prompt)`."
                )
            known = self.modules[k]
            if made.any() and not calls.trains[made].any():
                raise ValueError(
                    f"`trainable_modules` of task '{task.name}' must name a module that is called, got "
                    f"{list(task.trainable_modules or ())} where the program called {known}. Correct the names."
                )
            for option, message in self.tasks.unknown(k, known):
                logger.warning("`%s` of task '%s' %s", option, task.name, message)
            own = self.ranks.local(task_ids.tolist())
            if self.trainer.accelerator.is_main_process and k in own:
                i = own.index(k)
                logger.info("%s", example_text(task.name, rollouts.traces[i], float(rollouts.scored.scores.reward[i])))


def example_text(name: str, trace: Trace, reward: float) -> str:
    """
    What one rollout of a program did, to be read before training.

    Args:
        name (`str`):
            The task.
        trace ([`Trace`]):
            The rollout.
        reward (`float`):
            What it earned.

    Returns:
        `str`: lines without a trailing newline.
    """
    lines = [f"Example of the program of task '{name}' ({len(trace.calls)} calls, reward {reward:g}):"]
    for number, call in enumerate(trace.calls, 1):
        prompt = call.prompt if isinstance(call.prompt, str) else [dict(message) for message in call.prompt]
        lines += [f"  {number}. {call.module}", f"     prompt: {prompt!r}", f"     answer: {call.text!r}"]
    lines.append(f"  output: {trace.output!r}" if not trace.failed else f"  {trace.ending}: {trace.message}")
    return "\n".join(lines)


def _answers(trace: Trace) -> list[Any]:
    return [call.answer for call in trace.calls]


def _first_prompt(row: TaskRow, trace: Trace) -> Any:
    return trace.calls[0].prompt if trace.calls else row.columns.get("prompt")


def _text(trace: Trace, prompt: Any) -> Any:
    """The output in the form of the host's completions."""
    text = "" if trace.output is None else trace.output if isinstance(trace.output, str) else str(trace.output)
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def _all_tokens(trace: Trace) -> dict[str, Any]:
    ids = [token for answer in _answers(trace) for token in answer.completion_ids]
    return {"completion_ids": ids} if ids else {"completion_ids": [0], "tool_mask": [0]}
