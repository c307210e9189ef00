"""What is remembered of single prompts, which are passed over for it, and what a task's accuracy is in spite of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .acceptance import AcceptanceEstimate
from .filtering import OUTCOMES


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What a byte says: 0 unseen, 1 to 3 informative (few, some, most rollouts right), then streaks of 1 to 6 groups.
STREAK = 6
UNSEEN, INFORMATIVE, FAILED = 0, 1, 4
SOLVED = FAILED + STREAK
CODES = SOLVED + STREAK
# A byte is written as this character and those after it, which JSON takes as they are.
_FIRST = ord("0")

# The least part of solved prompts that is drawn, also in parts of the deviation of their success, and how steeply what
# is drawn falls with their acceptance.
FLOOR = 0.1
DOUBT = 0.8
STEEPNESS = 3.0
# Groups that a belief about a code is worth before any was seen, and those after which it may be the best one.
PRIOR, ENOUGH = 4.0, 10.0
# Memory of a code's beliefs, and of a task's recent cost, in groups of it.
WINDOW = 120.0
# The cost of a trained group at which a task is drawn uniformly again, relative to what it was at this accuracy.
COSTLIER, FLAT = 2.0, 0.05

_INFORMATIVE, _SOLVED, _FAILED = (OUTCOMES.index(name) for name in ("informative", "solved", "failed"))


class Corrected(NamedTuple):
    """
    What uniform draws would have shown, estimated from draws that pass over some prompts.

    Args:
        accuracy (`numpy.ndarray`, shape `(K,)`):
            Mean success; NaN where nothing could be passed over, so that the plain mean holds.
        solved (`numpy.ndarray`, shape `(K,)`):
            Share of prompts that every rollout solves; NaN likewise.
    """

    accuracy: Floats
    solved: Floats


class Seen(NamedTuple):
    """
    What came of N prompts, each with all of its rollouts.

    Args:
        task (`numpy.ndarray` of `int`, shape `(N,)`): Position of the task.
        row (`numpy.ndarray` of `int`, shape `(N,)`): Row of the task's train set.
        outcome (`numpy.ndarray` of `int`, shape `(N,)`): A position in `OUTCOMES`.
        accepted (`numpy.ndarray` of `bool`, shape `(N,)`): Whether something of it may train.
        success (`numpy.ndarray`, shape `(N,)`): Mean success of its rollouts, NaN where it is not known.
    """

    task: Ints
    row: Ints
    outcome: Ints
    accepted: NDArray[np.bool_]
    success: Floats


@dataclass(frozen=True, eq=False)
class PromptMemory:
    """
    One byte per prompt, and per task what is believed of prompts with the same byte.

    Args:
        codes (`tuple[str, ...]`):
            One character per prompt of each task; empty while nothing of the task was seen.
        beliefs (`numpy.ndarray`, shape `(K, 5, CODES)`):
            Decayed sums over the prompts that were generated with a code: how many, how many of them could train,
            their mean success, how many every rollout solved; and how many came up, those passed over included.
            Empty, of shape `(K, 0, CODES)`, before the first step.
        lately (`numpy.ndarray`, shape `(K, 3)`):
            Decayed groups of the task, accepted ones, and their summed accuracy.
        usual (`numpy.ndarray`, shape `(K, 2)`):
            Acceptance and accuracy that costs are compared with; NaN before there are any.
        polarised (`numpy.ndarray` of `bool`, shape `(K,)`):
            Tasks that are drawn uniformly for the rest of the run.
        released (`numpy.ndarray` of `bool`, shape `(K,)`):
            Tasks of which nothing is passed over for now.
        walking (`numpy.ndarray`, shape `(K, CODES)`, *optional*):
            Prompts that came up in the step that is under way; `None` between steps.
    """

    codes: tuple[str, ...] = field(metadata={"new_task": ""})
    beliefs: Floats = field(metadata={"new_task": 0.0})
    lately: Floats = field(metadata={"new_task": 0.0})
    usual: Floats = field(metadata={"new_task": np.nan})
    polarised: NDArray[np.bool_] = field(metadata={"new_task": False})
    released: NDArray[np.bool_] = field(metadata={"new_task": False})
    walking: Floats | None = None

    @classmethod
    def start(cls, num_tasks: int) -> "PromptMemory":
        """Nothing seen."""
        no = np.zeros(num_tasks, dtype=np.bool_)
        return cls(
            ("",) * num_tasks,
            beliefs=np.zeros((num_tasks, 0, CODES)),
            lately=np.zeros((num_tasks, 3)),
            usual=np.full((num_tasks, 2), np.nan),
            polarised=no,
            released=no,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PromptMemory) or self.codes != other.codes:
            return False
        arrays = [place.name for place in fields(self) if place.name not in ("codes", "walking")]
        same = all(np.array_equal(getattr(self, a), getattr(other, a), equal_nan=True) for a in arrays)
        return same and np.array_equal(self.came_up, other.came_up)

    __hash__ = None  # type: ignore[assignment]

    @property
    def came_up(self) -> Floats:
        """Prompts that came up in the step that is under way, by their codes, shape `(K, CODES)`."""
        return np.zeros((len(self.codes), CODES)) if self.walking is None else self.walking

    def _sums(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """The five tables, each of shape `(K, CODES)`."""
        if not self.beliefs.size:
            nothing = np.zeros((len(self.codes), CODES))
            return nothing, nothing, nothing, nothing, nothing
        generated, accepted, success, solved, walked = self.beliefs.swapaxes(0, 1)
        return generated, accepted, success, solved, walked

    def code_of(self, task: int, rows: Ints) -> NDArray[np.uint8]:
        """The codes of some rows of one task, shape `(N,)`."""
        text = self.codes[task]
        if not text:
            return np.zeros(len(rows), dtype=np.uint8)
        some = "".join([text[row] for row in rows.tolist()])
        return np.frombuffer(some.encode("ascii"), dtype=np.uint8) - np.uint8(_FIRST)

    @property
    def acceptance(self) -> Floats:
        """
        Believed acceptance of each code, shape `(K, CODES)`: its counts and a prior of four groups, which is the
        task's mean, or what is believed of the next shorter streak.
        """
        generated, accepted, *_ = self._sums()
        mean = (accepted.sum(axis=1) + 1.0) / (generated.sum(axis=1) + 2.0)
        belief = np.empty_like(accepted)
        for code in range(CODES):
            longer = code > INFORMATIVE + 2 and code not in (FAILED, SOLVED)
            prior = belief[:, code - 1] if longer else mean
            belief[:, code] = (accepted[:, code] + PRIOR * prior) / (generated[:, code] + PRIOR)
        return belief

    def keep(self) -> Floats:
        """
        Probability with which a prompt is drawn when it comes up, by its code, shape `(K, CODES)`.

        It is 1 for everything but solved prompts, and q = (u / a)³ for those, with u their acceptance plus one
        standard deviation and a the best acceptance of any code that was seen ten times. It is never below 0.1, nor
        below 0.8 standard deviations of a rollout's success: the less certain what prompts are worth, the more of
        them are looked at, which bounds the noise of a corrected accuracy.
        """
        belief, generated = self.acceptance, self._sums()[0]
        hopeful = np.minimum(1.0, belief + np.sqrt(belief * (1.0 - belief) / (generated + PRIOR)))
        best = np.where(generated >= ENOUGH, belief, 0.0).max(axis=1, keepdims=True)
        ratio = np.divide(hopeful, best, out=np.ones_like(hopeful), where=best > 0)
        keep = np.ones_like(belief)
        right = np.clip(self._means()[0], 0.0, 1.0)
        least = np.maximum(FLOOR, DOUBT * np.sqrt(right * (1.0 - right)))
        keep[:, SOLVED:] = np.clip(ratio**STEEPNESS, least, 1.0)[:, SOLVED:]
        keep[self.polarised | self.released] = 1.0
        return keep

    def walk(self, task: int, codes: NDArray[np.uint8]) -> "PromptMemory":
        """The memory after prompts of these codes came up, kept or not."""
        walking = self.came_up.copy()
        walking[task] += np.bincount(codes, minlength=CODES)
        return replace(self, walking=walking)

    @property
    def savings(self) -> Floats:
        """
        Share of each task's groups that passing over solved prompts saves against uniform draws, shape `(K,)`; NaN
        while next to no prompt has come up again. It is the same whether they are passed over or only watched.
        """
        weight, belief = self._sums()[4], self.acceptance
        keep = replace(self, released=np.zeros_like(self.released)).keep()
        total = weight.sum(axis=1)
        plain = (weight * belief).sum(axis=1) / np.maximum(total, 1e-9)
        chosen = (weight * keep * belief).sum(axis=1) / np.maximum((weight * keep).sum(axis=1), 1e-9)
        share = 1.0 - plain / np.maximum(chosen, 1e-9)
        again = weight[:, INFORMATIVE:].sum(axis=1)
        return np.where((again >= ENOUGH) & (chosen > 0), share, np.nan)

    def correct(self, seen: Seen) -> Corrected:
        """
        A step's accuracy and solved share per task as uniform draws would show them.

        Augmented inverse propensity: (1 / n) [Σ over what came up of m_s + Σ over what was drawn of (y - m_s) / q_s]
        with m_s the mean of the code before the step. It is right in the mean whatever m is, because q is known.

        Args:
            seen ([`Seen`]):
                What came of the step's prompts.

        Returns:
            [`Corrected`]
        """
        keep, walked = self.keep(), self.came_up.sum(axis=1)
        # Whether some could have been passed over, not whether some were: that would be to look at the answer.
        passed = ((self.came_up > 0) & (keep < 1.0)).any(axis=1)
        if not passed.any():
            nothing = np.full(len(walked), np.nan)
            return Corrected(nothing, nothing)
        code = self._codes(seen)
        inverse = 1.0 / keep[seen.task, code]
        means = self._means()
        values = self._values(seen, code, means)

        def uniform(mean: Floats, value: Floats) -> Floats:
            residual = np.bincount(seen.task, (value - mean[seen.task, code]) * inverse, minlength=len(walked))
            total = ((self.came_up * mean).sum(axis=1) + residual) / np.maximum(walked, 1.0)
            return np.where(passed, np.clip(total, 0.0, 1.0), np.nan)

        return Corrected(*(uniform(mean, value) for mean, value in zip(means, values, strict=True)))

    def update(self, seen: Seen, sizes: tuple[int, ...], accuracy: Floats) -> "PromptMemory":
        """
        The memory after a step.

        Args:
            seen ([`Seen`]):
                What came of the step's prompts.
            sizes (`tuple[int, ...]`):
                Rows of each task.
            accuracy (`numpy.ndarray`, shape `(K,)`):
                Accuracy of the step as uniform draws would show it, NaN where it is not known.
        """
        code = self._codes(seen)
        success, solved = self._values(seen, code, self._means())
        num_tasks, place = len(self.codes), seen.task * CODES + code

        def sums(values: Floats) -> Floats:
            return np.bincount(place, values, minlength=num_tasks * CODES).reshape(num_tasks, CODES).astype(np.float64)

        new = [sums(values) for values in (np.ones(len(place)), seen.accepted.astype(np.float64), success, solved)]
        # A belief fades as its own code is seen, at once where it proves wrong; the mix of codes as the task is.
        generated, accepted, *_ = self._sums()
        belief = AcceptanceEstimate(accepted.ravel(), (generated - accepted).ravel(), WINDOW)
        fade = np.stack([belief.fade(new[0].ravel(), new[1].ravel()).reshape(num_tasks, CODES)] * 4, axis=1)
        mix_fade = np.exp(-self.came_up.sum(axis=1) / (2 * WINDOW))[:, None, None]
        before = np.stack(self._sums(), axis=1)
        beliefs = before * np.concatenate([fade, np.broadcast_to(mix_fade, fade[:, :1].shape)], axis=1)
        beliefs += np.stack([*new, self.came_up], axis=1)
        return replace(
            self._note_cost(seen, accuracy),
            codes=tuple(self._next_codes(seen, task, size) for task, size in enumerate(sizes)),
            # Four digits say all that counts of groups can, and keep the checkpoint small.
            beliefs=beliefs.round(4),
            walking=None,
        )

    def never_solved(self) -> tuple[Ints, ...]:
        """Rows of each task of which the last six groups failed in every rollout: too hard, or a wrong answer key."""
        longest = chr(_FIRST + SOLVED - 1)
        return tuple(
            np.flatnonzero(np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord(longest)).astype(np.int64)
            for text in self.codes
        )

    def forget(self, tasks: NDArray[np.bool_]) -> "PromptMemory":
        """The memory without the single prompts of some tasks, whose rows are others now."""
        return replace(self, codes=tuple("" if gone else text for gone, text in zip(tasks, self.codes, strict=True)))

    def _codes(self, seen: Seen) -> Ints:
        code = np.zeros(len(seen.task), dtype=np.int64)
        for task in np.unique(seen.task).tolist():
            of_task = seen.task == task
            code[of_task] = self.code_of(task, seen.row[of_task])
        return code

    def _means(self) -> tuple[Floats, Floats]:
        """Mean success and solved share of each code, shapes `(K, CODES)`, which start at what the code says."""
        start = np.full(CODES, 0.5)
        start[FAILED:SOLVED], start[SOLVED:] = 0.0, 1.0
        generated, _, success, solved, _ = self._sums()
        return (success + 2.0 * start) / (generated + 2.0), (solved + 2.0 * (start == 1.0)) / (generated + 2.0)

    def _values(self, seen: Seen, code: Ints, means: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """Success and solved of each prompt; where that is not known, the mean of its code, which changes nothing."""
        tells = np.isin(seen.outcome, (_INFORMATIVE, _SOLVED, _FAILED))
        success = np.where(np.isnan(seen.success), means[0][seen.task, code], seen.success)
        return success, np.where(tells, seen.outcome == _SOLVED, means[1][seen.task, code])

    def _next_codes(self, seen: Seen, task: int, size: int) -> str:
        tells = np.isin(seen.outcome, (_INFORMATIVE, _SOLVED, _FAILED))
        index = np.flatnonzero((seen.task == task) & tells)
        if not len(index):
            return self.codes[task]
        text = bytearray(self.codes[task], "ascii") or bytearray(chr(_FIRST) * size, "ascii")
        codes = np.frombuffer(text, dtype=np.uint8)
        for some in _each_once(seen.row[index]):
            at = index[some]
            rows, outcome, success = seen.row[at], seen.outcome[at], np.nan_to_num(seen.success[at], nan=0.5)
            before = codes[rows].astype(np.int64) - _FIRST
            share = INFORMATIVE + (success > 0.25).astype(np.int64) + (success >= 0.75)
            codes[rows] = _FIRST + np.select(
                [outcome == _SOLVED, outcome == _FAILED], [_longer(before, SOLVED), _longer(before, FAILED)], share
            )
        return text.decode("ascii")

    def _note_cost(self, seen: Seen, accuracy: Floats) -> "PromptMemory":
        """Notices tasks whose groups have become twice as dear although they are no better and no worse."""
        num_tasks = len(self.codes)
        groups = np.bincount(seen.task, minlength=num_tasks).astype(np.float64)
        accepted = np.bincount(seen.task[seen.accepted], minlength=num_tasks)
        known = ~np.isnan(accuracy) & (groups > 0)
        new = np.stack([groups, accepted, groups * np.where(known, accuracy, 0.0)], axis=1)
        fade = np.exp(-groups / WINDOW)[:, None]
        lately = np.where(known[:, None], fade * self.lately + new, self.lately)
        size = np.maximum(lately[:, 0], 1.0)
        now = lately[:, 1:] / size[:, None]
        believed = lately[:, 0] >= WINDOW / 2
        noise = np.maximum(FLAT, 3.0 * np.sqrt(now[:, 1] * (1.0 - now[:, 1]) / size))
        flat = np.abs(now[:, 1] - self.usual[:, 1]) <= noise
        # Even if twice the noise speaks for it.
        at_best = (lately[:, 1] + 2.0 * np.sqrt(lately[:, 1] + 1.0)) / size
        skips = self.came_up.sum(axis=1) > groups
        dearer = believed & flat & skips & (COSTLIER * at_best <= self.usual[:, 0])
        renewed = believed & ~flat
        return replace(
            self,
            lately=lately,
            usual=np.where(renewed[:, None], now, self.usual),
            polarised=self.polarised | dearer,
        )


def _longer(before: Ints, first: int) -> Ints:
    """The code of a streak that goes on, or begins."""
    inside = (before >= first) & (before < first + STREAK)
    return np.where(inside, np.minimum(before + 1, first + STREAK - 1), first)


def _each_once(rows: Ints) -> Iterator[Ints]:
    """Positions in order, in parts in which no row comes twice."""
    rest = np.arange(len(rows))
    while len(rest):
        first = np.sort(np.unique(rows[rest], return_index=True)[1])
        yield rest[first]
        rest = np.delete(rest, first)
