"""Programs as a source of rollouts: run in waves, rewarded once per rollout, one row of the loss per call."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..rollouts import BatchSampler, CollectedBatch
from ..rollouts.facts import GroupFacts
from ..rollouts.judging import Judge
from ..rollouts.programs import BundleLimits, Bundles, Calls, ProgramMemory, judged, ragged_groups
from ..rollouts.prompts import Prompts
from ..rollouts.store import Row, RowStore
from ..rollouts.traces import Trace, example_text
from ..rollouts.waves import Waves
from ..tasks import TaskMixture
from ..tasks.failures import RewardError, RewardFailure, describe_failures
from ..tasks.rows import TaskRow
from .agents import Agents
from .collecting import Scorer
from .distributed import Ranks
from .logs import ExtraColumns
from .program_calls import CallGeneration
from .program_counts import ProgramCounts
from .program_rewards import CallTable, ProgramRewards, Rollouts, seen_program
from .program_tasks import ProgramTasks
from .turns import Turns


logger = logging.getLogger(__name__)

# Roles of one program; more of them are prompts that stand where a name belongs.
_MOST_MODULES = 64


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
        turns ([`Turns`]):
            Bounds how long an answer may be.
        agents ([`Agents`], *optional*):
            Looks after environments; `None` where no task has tools.
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
    turns: Turns
    agents: Agents | None
    all_rollouts: bool
    max_calls: int
    timeout: float | None = None
    generation: int = 0
    modules: list[list[str]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tasks = ProgramTasks(self.mixture)
        self.tasks.sample_with(
            temperature=self.trainer.temperature,
            max_tokens=self.trainer.max_completion_length,
            top_p=self.trainer.top_p,
            top_k=self.trainer.top_k,
        )
        self.rewards = ProgramRewards(self.trainer, self.mixture, self.tasks, self.ranks, self.scorer, self.columns)
        self.calls = CallGeneration(self.trainer, self.turns, self.agents, self.mixture.images.any)
        self.waves = Waves(
            self.calls.prepare, self.calls.generate, self._agree, max_calls=self.max_calls, timeout=self.timeout
        )
        self.counts = ProgramCounts(self.mixture.names)
        self.modules = [[] for _ in self.mixture.names]

    def limits(self, sampler: BatchSampler | None) -> BundleLimits:
        """What bounds the bundles of a step; without a sampler that refills only what is asked for."""
        most = np.where(self.tasks.has_program, self.max_calls, 1)
        return BundleLimits(most, getattr(sampler, "group_limit", None))

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
        logged, bonus = self.rewards.of_modules(rows, traces)
        seen = [seen_program(row, trace) for row, trace in zip(rows, traces, strict=True)]
        ids = [row.task_id for row in rows]
        with self.agents.without_tools(ids) if self.agents else nullcontext():
            rollouts = self.rewards.score(self.calls.host, seen)
        table = self.table(rows, traces, bonus)
        self.calls.record(*table.columns[:, [7, 3, 8]].T)
        scores = rollouts.scored.scores
        calls = self.rewards.of_calls(table, rollouts)
        self.store.add(self._rows(rows, traces, rollouts.logged, logged), reserve=table.most)
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
        self._look(rollouts, calls, traces)
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
        Runs the programs of this rank's rows. Every rank calls it.

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

    def _agree(self, number: int) -> int:
        return int(self.ranks.gather([number]).max())

    def table(
        self,
        rows: list[TaskRow],
        traces: list[Trace],
        bonus: list[float] | None = None,
        positions: Sequence[int] | None = None,
    ) -> CallTable:
        """The calls of all ranks. Every rank calls it; `positions` are those of its rollouts, in order by default."""
        self._name_modules(rows, traces)
        ends = self.scorer.ends
        first = self.ranks.index * len(rows)
        positions = range(first, first + len(rows)) if positions is None else positions
        own: list[list[int]] = []
        for i, row, trace in zip(positions, rows, traces, strict=True):
            for call in trace.calls:
                answer = call.answer
                assert answer is not None
                ids = answer.completion_ids
                own.append(
                    [
                        i,
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
        for task_id, names in enumerate(self.modules):
            if len(names) > _MOST_MODULES:
                raise ValueError(
                    f"`program` of task '{self.mixture.names[task_id]}' must call at most {_MOST_MODULES} modules, "
                    f"got {len(names)} names such as {names[-3:]}. A name is the role of a call, the same in each "
                    "rollout, and stands before the prompt: `call(module, prompt)`."
                )

    def _rows(
        self,
        rows: list[TaskRow],
        traces: list[Trace],
        of_rollouts: dict[str, list[Any]],
        of_calls: list[dict[str, Any]],
    ) -> list[Row]:
        """This rank's rows of the loss, one per call, with what was logged of their rollouts and of them."""
        before = self.counts.num_rollouts + self.ranks.index * len(rows)
        found: list[Row] = []
        for i, (row, trace) in enumerate(zip(rows, traces, strict=True)):
            for call in trace.calls:
                answer = call.answer
                assert answer is not None
                found.append(
                    Row(
                        task_id=row.task_id,
                        index=row.row,
                        prompt=call.prompt,
                        prompt_ids=answer.prompt_ids,
                        completion_ids=answer.completion_ids,
                        completion=answer.completion,
                        logprobs=answer.logprobs,
                        logged={
                            **{column: values[i] for column, values in of_rollouts.items()},
                            **of_calls[len(found)],
                            # With several tasks the table has it anyway.
                            **({"task": self.mixture.names[0]} if self.mixture.num_tasks == 1 else {}),
                            "module": call.module,
                            "occurrence": call.occurrence,
                            "rollout": before + i,
                        },
                    )
                )
        return found

    def _look(self, rollouts: Rollouts, calls: Calls, traces: list[Trace]) -> None:
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
                logger.info("%s", example_text(task.name, traces[i], float(rollouts.scored.scores.reward[i])))
