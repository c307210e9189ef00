"""What a run says besides its metrics: warnings, each once, progress inside a long step, and the rollout table."""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rollouts import CollectedBatch
from ..sampling import OUTCOMES, BatchLedger, StallDoctor
from ..state.run_state import MultiTaskState
from ..tasks.failures import RewardFailure
from .causes import are_solved, explain, list_names
from .ledger_table import format_ledger, ledger_table
from .memory import memory_sentences
from .metrics import is_known
from .pilots import pilot_sentences
from .screen import Screen


logger = logging.getLogger(__name__)

# Seconds of generation after which a step is long enough to speak of its rounds.
LONG_STEP = 10.0

# The host's metric of each generate call, over all ranks: the share of completions without an end.
CUT_SHARE = "completions/clipped_ratio"
# Share of a batch's completions without an end from which on the limit, and not the model, decides what is learned.
MOSTLY_CUT = 0.5

_UNSCORED = OUTCOMES.index("unscored")


class NothingToLearnError(RuntimeError):
    """No completion of the first batch got a score, or no group trained for `max_empty_steps` batches in a row."""


@dataclass
class RunReporter:
    """
    Says what the reader can act on, once per cause.

    Args:
        names (`tuple[str, ...]`):
            Task names in order.
        num_rows (`np.ndarray`):
            Training rows per task, shape `(K,)`.
        filters (`bool`):
            Whether any group can be kept out of training.
        max_empty_steps (`int`):
            Generation batches in a row without a trainable group before the run stops.
        screen ([`Screen`], *optional*):
            Where progress and the table at the end are shown; `None` where they are not to be.
        skips (`bool`, *optional*, defaults to `False`):
            Whether solved prompts are passed over.
        speaks (`bool`, *optional*, defaults to `True`):
            Whether this process says what all of them know.
        clock (`Callable`, *optional*, defaults to `time.monotonic`):
            Seconds; they decide only whether progress is shown.
    """

    names: tuple[str, ...]
    num_rows: NDArray[np.int64]
    filters: bool
    max_empty_steps: int
    screen: Screen | None = None
    skips: bool = False
    speaks: bool = True
    clock: Callable[[], float] = time.monotonic
    _said: set[str] = field(default_factory=set)
    _failed: dict[str, str] = field(default_factory=dict)
    _dropped: int = 0
    _is_first: bool = True
    _opened: float | None = None
    _step: int = 0
    _ceiling: int | None = None
    _fruitless: NDArray[np.int64] | None = None

    def open(self, step: int, ceiling: int | None = None) -> None:
        """
        Looks at a step before its generation.

        Args:
            step (`int`):
                The optimizer step that follows.
            ceiling (`int`, *optional*):
                Most groups that the step may generate.
        """
        self._opened, self._step, self._ceiling = self.clock(), step, ceiling

    def round(self, ledger: BatchLedger, outcomes: NDArray[np.int64], scored: int = 0) -> None:
        """
        Looks at a step after each round of its generation. Every rank calls it and decides alike.

        Args:
            ledger ([`BatchLedger`]):
                The step after the round.
            outcomes (`np.ndarray`):
                Groups generated in the step so far per task and outcome, shape `(K, len(OUTCOMES))`.
            scored (`int`, *optional*, defaults to `0`):
                Completions of them that got a reward: a group with one is unscored, since one makes no comparison.

        Raises:
            NothingToLearnError: when no completion of the first batch has got a score.
        """
        if self._is_first:
            self._check_scored(outcomes, scored, at_least=int(ledger.desired.sum()))
        missing = ledger.deficits
        if self.screen is None or self._opened is None or not missing.any() or self.clock() - self._opened < LONG_STEP:
            return
        order = [int(k) for k in np.argsort(-missing, kind="stable") if missing[k]]
        places = ", ".join(f"{self.names[k]} {missing[k]}" for k in order[:5])
        rest = f" and {len(order) - 5} more" if len(order) > 5 else ""
        limit = "" if self._ceiling is None else f" of at most {self._ceiling:,}"
        self.screen.show(
            f"step {self._step}, round {ledger.rounds}: {ledger.generated.sum():,} groups generated{limit}; "
            f"{missing.sum()} of {ledger.desired.sum()} places open in {len(order)} task(s): {places}{rest}"
        )

    def batch(self, batch: CollectedBatch, state: MultiTaskState) -> bool:
        """
        Looks at a collected batch. Every rank calls it and decides alike.

        Args:
            batch ([`CollectedBatch`]):
                The batch.
            state ([`MultiTaskState`]):
                The state after it.

        Returns:
            `bool`: whether there is nothing left to learn: the run has trained, and for `max_empty_steps` batches in
            a row every task answered nearly all of its prompts right.

        Raises:
            NothingToLearnError: when no completion of the first batch has got a score, or after `max_empty_steps`
                batches in a row without a trainable group for any other reason.
        """
        if self._is_first:
            scored = int((~np.isnan(batch.generated.reward)).sum())
            self._check_scored(batch.outcomes, scored, at_least=1)
        self._is_first = False
        trained = bool(batch.group_ledger.trained.any())
        before = 0 if trained or self._fruitless is None else self._fruitless
        self._fruitless = None if trained else before + batch.outcomes
        diagnoses = StallDoctor().diagnose(self.names, state.stalls, self.num_rows)
        stalled = [name for name, cause in zip(self.names, state.stalls.causes(), strict=True) if cause is not None]
        for name, message in zip(stalled, diagnoses, strict=True):
            self._warn(f"stalled {name}", f"{message} It gets a smaller share until it yields again.")
        self._said -= {f"stalled {name}" for name in self.names if name not in stalled}
        self._forgetting(state)
        unfilled = int(batch.is_filler.sum())
        if unfilled and self.filters:
            self._warn("unfilled", self._unfilled(batch, unfilled))
        if state.empty_steps >= self.max_empty_steps:
            fruitless = batch.outcomes if self._fruitless is None else self._fruitless
            if state.groups.trained.any() and are_solved(fruitless):
                self._warn(
                    "learned",
                    f"Training ends after step {self._step}: all tasks are solved, and no group of the last "
                    f"{state.empty_steps} batches could train. Harder prompts would be learned from; a larger "
                    "`max_empty_steps` waits longer for prompts that are not solved.",
                )
                return True
            cause = explain(self.names, fruitless)
            raise NothingToLearnError(
                f"`max_empty_steps` must exceed the generation batches in a row without a trainable group, got "
                f"{state.empty_steps} of them. {cause or 'Nothing was generated.'}{self._failures()} Check the reward "
                "functions on a few completions, or choose prompts of another difficulty."
            )
        return False

    def cut(self, shares: Sequence[float], limit: int) -> None:
        """
        Says that most completions of a batch were cut before their end.

        Args:
            shares (`Sequence[float]`):
                Share of cut completions in each generate call of the batch.
            limit (`int`):
                Most tokens of a completion.
        """
        share = sum(shares) / len(shares) if shares else 0.0
        if share > MOSTLY_CUT:
            self._warn(
                "cut",
                f"{share:.0%} of the completions of a step were cut at `max_completion_length={limit}`, before the "
                f"model had ended them. Set `max_completion_length={2 * limit}` or more, or ask for shorter answers "
                "in the prompts (metric `completions/clipped_ratio`).",
            )

    def guard(self, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> None:
        """Names tasks that the guard has begun to hold, and those that it has released."""
        for k in np.flatnonzero(after & ~before):
            self._warn(
                f"held {self.names[k]}",
                f"Task {self.names[k]!r} takes a large share and does not improve; its weight is bounded until it "
                "moves (metric `tasks/<name>/held`). Check that the task can be learned, or set "
                "`plateau_guard=False`.",
            )
        for k in np.flatnonzero(before & ~after):
            self._said.discard(f"held {self.names[k]}")
            logger.info("Task %r moves again; its weight is free.", self.names[k])

    def checkpoint(self, name: str, steps_left: int) -> None:
        """Looks at a checkpoint that is about to be written."""
        if steps_left:
            self._warn(
                "checkpoint",
                f"{name} lies inside a generation batch, {steps_left} optimizer steps before its end, and cannot be "
                "resumed. Let `save_steps` and `max_steps` be multiples of the steps per generation batch.",
            )

    def finished(self, step: int, max_steps: int) -> None:
        """Says that a resumed run had ended already."""
        self._warn(
            "finished",
            f"The checkpoint is at step {step} and `max_steps` is {max_steps}: nothing is trained. Raise `max_steps` "
            "to train on.",
        )

    def failures(self, failures: Sequence[RewardFailure]) -> None:
        """Names reward functions whose rows were dropped, and counts those."""
        for failure in failures:
            self._dropped += len(failure.rows)
            self._failed.setdefault(failure.task, failure.message)
            self._warn(f"{failure.task} {failure.function} {failure.reason}", failure.message)

    def without_reward(
        self, task_ids: NDArray[np.int64], rows: NDArray[np.int64], unscored: NDArray[np.bool_]
    ) -> None:
        """Names tasks of which some completions of a call got no reward; a task without any is said to be stalled."""
        for k in np.setdiff1d(task_ids[unscored], np.setdiff1d(task_ids, task_ids[~unscored])):
            row = int(rows[unscored & (task_ids == k)][0])
            first = f" (the first for row {row})" if row >= 0 else ""
            self._warn(
                f"without reward {self.names[k]}",
                f"Completions of task {self.names[k]!r} got no reward{first}: every "
                "reward function answered None. They count as neither right nor wrong and do not train. Return "
                "a number for them, or filter such rows out.",
            )

    def take_dropped(self) -> dict[str, float]:
        """How many rows were dropped since the last time, as a metric; nothing where none was."""
        dropped, self._dropped = self._dropped, 0
        return {"rewards/dropped_rows": float(dropped)} if dropped else {}

    def unscored(self, names: Sequence[str]) -> None:
        """Names tasks whose evaluation rows got no score: then there is no worst task, as it may be one of them."""
        if names:
            self._warn(
                f"unscored {sorted(names)}",
                f"No evaluation row of {list_names(names)} got a score, so neither the worst task nor the average is "
                "known and neither is reported. Check that the reward function can read the answers, or leave the "
                "task's `eval_dataset` out.",
            )

    def knows_best_metric(self, wanted: str, metrics: Mapping[str, Any]) -> bool:
        """
        Whether an evaluation has measured what decides about the best checkpoint.

        Args:
            wanted (`str`):
                `metric_for_best_model`.
            metrics (`dict[str, float]`):
                What the evaluation has measured.

        Returns:
            `bool`: `False`, after a warning, for a metric of a task that has no score. A name that is none of the
            method's is left to the host, whose error lists the names.
        """
        key = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
        if is_known(metrics.get(key)) or not (key in metrics or self._is_measurable(key)):
            return True
        self._warn(
            "best metric",
            f"`metric_for_best_model` must be measured by an evaluation, got no value of {key!r}: no checkpoint is "
            "taken for the best until it is. Check that the task has evaluation rows and that its reward function "
            "scores them, or choose 'eval_worst_task_accuracy'.",
        )
        return False

    def end(self, state: MultiTaskState) -> None:
        """Shows where the run's rollouts went, per task."""
        if not state.generation:
            return
        sentences = memory_sentences(self.names, state.draws.memory, state.groups.generated, self.skips)
        sentences += pilot_sentences(self.names, state.pilots, state.groups.generated, state.rollouts.generated)
        for sentence in sentences:
            logger.info(sentence) if self.screen is None else self.screen.show(sentence)
        if self.screen is None:
            logger.info("Rollouts of this run:\n%s", format_ledger(state.task_names, state.groups, state.tokens))
        else:
            self.screen.show(
                "Where the rollouts of this run went, in groups:",
                ledger_table(state.task_names, state.groups, state.tokens),
            )

    def _forgetting(self, state: MultiTaskState) -> None:
        recent, best = state.forgetting.recent, state.forgetting.best
        for k, name in enumerate(self.names):
            if state.forgetting.regressed[k]:
                self._warn(
                    f"regressed {name}",
                    f"Task {name!r} has forgotten: its accuracy was {best[k]:.0%} and is "
                    f"{recent[k, 1] / recent[k, 0]:.0%} now. Its solved prompts no longer reduce its share "
                    "until it is back (metric `tasks/<name>/regressed`). Raise `task_weight_floor` if it does not "
                    "come back.",
                )
            else:
                self._said.discard(f"regressed {name}")
            if state.draws.memory.polarised[k]:
                self._warn(
                    f"polarised {name}",
                    f"Groups of task {name!r} have become twice as dear at the same accuracy while prompts were "
                    "passed over; it is drawn uniformly from now on (metric `tasks/<name>/polarised`). "
                    "`prompt_memory='off'` does the same for all tasks.",
                )

    def _check_scored(self, outcomes: NDArray[np.int64], scored: int, at_least: int) -> None:
        total = int(outcomes.sum())
        if scored or total < at_least or int(outcomes[:, _UNSCORED].sum()) < total:
            return
        asked = [name for name, count in zip(self.names, outcomes.sum(axis=1), strict=True) if count]
        cause = self._failures() or " Every reward function answered None or NaN for every completion."
        raise NothingToLearnError(
            f"`reward_funcs` must score some completions, got no score in the first {total} groups of "
            f"{list_names(asked)}.{cause} Call them on a few completions before training."
        )

    def _failures(self) -> str:
        """What the reward functions of this rank failed with, one task of each."""
        found = list(self._failed.values())
        more = f" {len(found) - 1} more task(s) failed." if len(found) > 1 else ""
        return f" {found[0]}{more}" if found else ""

    def _unfilled(self, batch: CollectedBatch, unfilled: int) -> str:
        missing = batch.plan.deficits
        short = sorted(np.flatnonzero(missing), key=lambda k: -missing[k])
        tasks = f" ({', '.join(f'{self.names[k]} {missing[k]}' for k in short[:3])})" if short else ""
        return (
            f"The budget of a step ended with {unfilled} of {len(batch.is_filler)} groups missing{tasks}; the step "
            "trains on what it has (metric `sampling/unfilled_groups`). Raise the limit that ends a step "
            "(`max_resampling_rounds`), or give tasks with a high `tasks/<name>/filtered_ratio` prompts of another "
            "difficulty."
        )

    def _is_measurable(self, key: str) -> bool:
        found = _MEASURED.match(key)
        return found is not None and (found["task"] is None or found["task"] in self.names)

    def _warn(self, key: str, message: str) -> None:
        if key not in self._said:
            self._said.add(key)
            if self.speaks:
                logger.warning(message)


_MEASURED = re.compile(
    r"^eval_(?:.+_)?(?:tasks/(?P<task>[^/]+)/(?:accuracy|reward|completion_length|completions)"
    r"|worst_task_accuracy|average_accuracy|task_accuracy_spread|relative_change)$"
)
