"""The rollout source of the trainer: prompts go to the host's generation, facts come back, rows stay in the store."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from trl import GRPOTrainer

from ..rollouts.facts import GroupFacts
from ..rollouts.judging import Judge
from ..rollouts.pilot import PilotRule, Rollouts
from ..rollouts.prompts import Prompts
from ..rollouts.store import Row, RowStore
from ..tasks import TaskMixture
from ..tasks.failures import RewardError, describe_failures
from ..tasks.images import take_images
from ..tasks.rows import TaskRow
from ..tasks.scoring import Scores
from .distributed import Ranks
from .doors import Generated, Generation
from .logs import ExtraColumns
from .reward_calls import calculate_rewards


class Scored(NamedTuple):
    """
    Rows of all ranks in global order, as far as every rank knows them.

    Args:
        task_ids (`numpy.ndarray` of shape `(N,)`):
            Task of each row.
        prompt (`numpy.ndarray` of shape `(N,)`):
            Row of the task's dataset.
        tokens (`numpy.ndarray` of shape `(N,)`):
            Tokens that the model wrote.
        in_loss (`numpy.ndarray` of `bool`, shape `(N,)`):
            Rows with a token in the loss.
        scores ([`Scores`]):
            What they earned.
        activity (`numpy.ndarray` of `int`, shape `(N, 3)`):
            Turns, tool calls and failed tool calls; shape `(N, 0)` where no task has tools.
    """

    task_ids: NDArray[np.int64]
    prompt: NDArray[np.int64]
    tokens: NDArray[np.int64]
    in_loss: NDArray[np.bool_]
    scores: Scores
    activity: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scorer:
    """
    Scores rows of all ranks, and raises on all of them together what went wrong on one.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        ranks ([`Ranks`]):
            The processes of the run.
        reporter (`Any`):
            Hears of rows that were dropped.
        ends (`frozenset[int]`):
            Tokens that end a completion.
        masks_truncated (`bool`):
            Whether completions without an end stay out of the loss.
        activity (`Callable`):
            Turns, tool calls and failed tool calls of this rank's rows; nothing where no task has tools.
    """

    mixture: TaskMixture
    ranks: Ranks
    reporter: Any
    ends: frozenset[int]
    masks_truncated: bool
    activity: Callable[[Generation], list[tuple[int, ...]]] = lambda generation: [()] * len(generation.rows)

    def score(self, values: Any, rows: Sequence[TaskRow], generation: Generation) -> Scored:
        """
        Scores what was generated for this rank's rows.

        Args:
            values (`torch.Tensor`):
                What the host's reward functions gave for the rows of all ranks, shape `(N, C)`.
            rows (`list[TaskRow]`):
                This rank's rows.
            generation ([`Generation`]):
                What was generated for them.

        Returns:
            [`Scored`]

        Raises:
            RewardError: when a reward function failed on any rank.
        """
        failures = self.mixture.failures.take()
        fatal = any(failure.fatal for failure in failures)
        local = [
            [row.task_id, row.row, tokens, self.trains(fields), fatal, len(failures), *done]
            for row, tokens, fields, done in zip(
                rows, generation.num_tokens, generation.rows, self.activity(generation), strict=True
            )
        ]
        facts = self.ranks.gather(local).astype(np.int64)
        if facts[:, 4].any():
            raise RewardError(describe_failures(self.ranks.gather_objects(failures)))
        if facts[:, 5].any():
            self.reporter.failures(self.ranks.gather_objects(failures))
        scores = self.mixture.scoring.score(values.float().cpu().numpy(), facts[:, 0])
        if not facts[:, 5].any():  # said already
            self.reporter.without_reward(facts[:, 0], facts[:, 1], np.isnan(scores.reward))
        return Scored(facts[:, 0], facts[:, 1], facts[:, 2], facts[:, 3].astype(bool), scores, facts[:, 6:])

    def trains(self, fields: dict[str, Any]) -> bool:
        """Whether a row of these fields has a token in the loss."""
        ids, mask = fields["completion_ids"], fields.get("tool_mask")
        if self.masks_truncated and (not ids or ids[-1] not in self.ends):
            return False
        return len(ids) > 0 if mask is None else any(mask)


class ProgramSource(Protocol):
    """Makes the rollouts of a mixture in which some tasks have a program."""

    def beside(self, prompts: Prompts, episodes: int, size: int, plain: Callable[..., GroupFacts]) -> GroupFacts:
        """The groups of `prompts`, at most `size` bundles of programs at a time; `plain` makes the others."""
        ...


@dataclass(eq=False)
class HostRollouts:
    """
    Generates through the host, for tasks of one conversation per rollout.

    Args:
        mixture ([`TaskMixture`]):
            The tasks.
        ranks ([`Ranks`]):
            The processes of the run.
        scorer ([`Scorer`]):
            Scores the rows.
        judge ([`Judge`]):
            Says which groups may train.
        store ([`RowStore`]):
            Where this rank's rows lie.
        columns ([`ExtraColumns`]):
            What reward functions log.
        groups_per_call (`int`):
            Largest number of groups in one generate call.
        groups_of_task (`numpy.ndarray` of shape `(K,)`, *optional*):
            The same for each task; no limit by default.
        multiple (`int`, *optional*, defaults to `1`):
            Of what the number of groups in a call must be a multiple, so that every rank gets equally many rows.
        probing (`Callable`):
            Opens a context in which the host stops when it has generated for the rows that it gets.
        programs ([`ProgramSource`], *optional*):
            Makes the rollouts of tasks with a program.
        pilots ([`PilotRule`], *optional*):
            Makes groups that begin with a few rollouts.
    """

    mixture: TaskMixture
    ranks: Ranks
    scorer: Scorer
    judge: Judge
    store: RowStore
    columns: ExtraColumns
    groups_per_call: int
    groups_of_task: NDArray[np.float64] | None = None
    multiple: int = 1
    probing: Callable[[Any], AbstractContextManager[Any]] = nullcontext
    programs: ProgramSource | None = None
    pilots: PilotRule | None = None
    _host: Any = None
    _given: list[TaskRow] | None = None
    _generation: int = 0
    _activity: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)

    def begin(self, host: GRPOTrainer, generation: int, given: list[TaskRow] | None) -> None:
        """
        Before a batch.

        Args:
            host ([`~trl.GRPOTrainer`]):
                The host's own methods.
            generation (`int`):
                Index of the generation batch.
            given (`list[TaskRow]`, *optional*):
                This rank's rows where the host's loader chose them.
        """
        self._host, self._generation, self._given = host, generation, given
        self._activity = []

    def activity(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Task, and turns, tool calls and failed tool calls, of everything generated since `begin`."""
        task_ids, activity = zip(*self._activity, strict=True) if self._activity else ([], [])
        none = np.zeros((0, 3), dtype=np.int64)
        return np.concatenate([none[:, 0], *task_ids]), np.concatenate([none, *activity])

    def produce(self, prompts: Prompts, episodes: int, rng: np.random.Generator) -> GroupFacts:
        """See [`RolloutSource`]."""
        if self.programs is not None:
            return self.programs.beside(prompts, episodes, self.groups_per_call, self._plain)
        if len(prompts.task) * episodes % self.ranks.size:
            raise ValueError(
                f"`sampler` must ask for groups whose rows {self.ranks.size} processes can share equally, got "
                f"{len(prompts.task)} of {episodes} rows. Ask for a multiple of "
                f"{self.ranks.size // math.gcd(self.ranks.size, episodes)}."
            )
        if self.pilots is not None and prompts.pilot is not None and prompts.pilot.any():
            unfiltered = replace(self.judge, group_filter=None)
            make = partial(self._rollouts, most=self.groups_per_call * episodes)
            return self.pilots.produce(prompts, episodes, rng, make, self.judge, unfiltered, self._generation)
        return self._plain(prompts.task, prompts.row, episodes)

    def _rollouts(self, task: NDArray[np.int64], row: NDArray[np.int64], most: int) -> Rollouts:
        """Rollouts of any number, at most `most` in a call; one is repeated until all ranks have equally many."""
        padding = -len(task) % self.ranks.size
        tasks, rows = (np.concatenate([of, of[:1].repeat(padding)]) for of in (task, row))
        ends = [*range(most, len(tasks), most), len(tasks)]
        parts = [self._rows(tasks[a:b], rows[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
        made = Rollouts.join([Rollouts(s.tokens, s.in_loss, *s.scores, place) for s, place in parts])
        made.tokens[0] += made.tokens[len(task) :].sum()  # they were generated too
        return made.first(len(task))

    def _plain(self, task: NDArray[np.int64], row: NDArray[np.int64], episodes: int) -> GroupFacts:
        """One group of each prompt, in order."""
        calls = split_calls(task, self.groups_per_call, self.groups_of_task, self.multiple)
        return GroupFacts.join([self._call(task[first:end], row[first:end], first, episodes) for first, end in calls])

    def _call(
        self, task: NDArray[np.int64], prompt: NDArray[np.int64], first_bundle: int, episodes: int
    ) -> GroupFacts:
        scored, place = self._rows(task.repeat(episodes), prompt.repeat(episodes))
        shape = (len(task), episodes)
        reward, success = scored.scores.reward.reshape(shape), scored.scores.success.reshape(shape)
        parts = scored.scores.parts.reshape(*shape, -1)
        verdict = self.judge(task, reward, success, parts, scored.in_loss.reshape(shape))
        zeros = np.zeros(len(task), dtype=np.int64)
        return GroupFacts(
            task=task,
            prompt=scored.prompt.reshape(shape)[:, 0],
            role=zeros,
            occurrence=zeros,
            bundle=np.arange(first_bundle, first_bundle + len(task)),
            members=zeros + episodes,
            generation=zeros + self._generation,
            tokens=scored.tokens.reshape(shape).sum(axis=1),
            outcome=verdict.outcome,
            accepted=verdict.accepted,
            reward=reward,
            success=success,
            parts=parts,
            place=place.reshape(*shape, 2),
        )

    def _rows(self, task: NDArray[np.int64], prompt: NDArray[np.int64]) -> tuple[Scored, NDArray[np.int64]]:
        """One rollout of each row of all ranks, in their order: what came of it, and where it lies, shape `(R, 2)`."""
        places = list(zip(task.tolist(), prompt.tolist(), strict=True))
        rows = self._given if self._given is not None else self.mixture.rows(self.ranks.local(places))
        generation = self.generate(rows)
        rows = [
            row._replace(columns={**row.columns, **extra}) for row, extra in zip(rows, generation.extra, strict=True)
        ]
        host_rows = self.mixture.host_rows(rows)
        prompts = self.mixture.images.prompts(rows, generation.prompts)
        values = calculate_rewards(
            self._host,
            self.mixture,
            rows,
            host_rows,
            prompts,
            generation.column("completions"),
            generation.column("completion_ids"),
        )
        logged = self.columns.take()
        scored = self.scorer.score(values, rows, generation)
        if scored.activity.shape[1]:
            self._activity.append((scored.task_ids, scored.activity))
        seen = [take_images(prompt) for prompt in prompts]
        first = self.store.add(
            [
                Row(
                    task_id=row.task_id,
                    index=row.row,
                    prompt=prompt,
                    prompt_ids=fields["prompt_ids"],
                    completion_ids=fields["completion_ids"],
                    completion=fields["completions"],
                    loss_mask=fields.get("tool_mask"),
                    logprobs=fields.get("logprobs"),
                    logged={column: column_values[i] for column, column_values in logged.items()},
                    host={"tool_images": fields["tool_images"]} if fields.get("tool_images") is not None else {},
                    images=images,
                )
                for i, (row, fields, (prompt, images)) in enumerate(zip(rows, generation.rows, seen, strict=True))
            ]
        )
        return scored, self.ranks.places(len(task), first)

    def generate(self, rows: list[TaskRow]) -> Generation:
        """What the host generates for rows of this rank; every rank calls it with as many."""
        with self.probing(rows):
            try:
                self._host._generate_and_score_completions(self.mixture.host_rows(rows))
            except Generated as stopped:
                return stopped.generation
        raise AssertionError("the host prepared rows without generating")


def split_calls(
    task: NDArray[np.int64], most: int, most_of_task: NDArray[np.float64] | None, multiple: int
) -> list[tuple[int, int]]:
    """
    Cuts the groups of a round into generate calls.

    Args:
        task (`numpy.ndarray` of shape `(N,)`):
            Task of each group.
        most (`int`):
            Most groups of a call.
        most_of_task (`numpy.ndarray` of shape `(K,)`, *optional*):
            Most groups of each task in a call.
        multiple (`int`):
            Of what each call but the last is a multiple.

    Returns:
        `list[tuple[int, int]]`: first group of each call, and the one after its last.
    """
    if most_of_task is None:
        return [(first, min(first + most, len(task))) for first in range(0, len(task), most)]
    starts, counts = [0], np.zeros(len(most_of_task), dtype=np.int64)
    for start in range(0, len(task), multiple):
        block = np.bincount(task[start : start + multiple], minlength=len(counts))
        if start > starts[-1] and ((counts + block).sum() > most or (counts + block > most_of_task).any()):
            starts.append(start)
            counts = np.zeros_like(counts)
        counts = counts + block
    return list(zip(starts, [*starts[1:], len(task)], strict=True)) if len(task) else []
