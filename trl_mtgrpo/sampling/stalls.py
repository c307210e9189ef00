"""Which tasks yield nothing, why, and how little they are allowed to cost until they yield again."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .filtering import OUTCOMES


ADVICE = {
    "solved": "Every rollout is correct: give it harder prompts, or leave it out next time.",
    "failed": "No rollout is correct: give it easier prompts, more rollouts per prompt, or a warm start.",
    "constant": "Rewards do not differ within a prompt: check the reward function, or sample with more variety.",
    "unscored": "The reward function gives no scores: check that it can read the answers.",
    "masked": "Nothing that it writes enters the loss: allow longer completions, or check the masks.",
    "singleton": "Its calls are made by single rollouts: give the program's modules names by role, or more rollouts.",
}


# Groups per accepted group that a task is taken for before one was accepted, an acceptance of 0.08.
USUAL_AT_FIRST = 12.0
# How many accepted groups back the usual number of groups between two of them reaches.
MEMORY = 8.0
# A task that goes without for so many times its usual wait has changed: by chance once in exp(5) = 148 waits.
UNUSUAL = 5.0


@dataclass(frozen=True, eq=False)
class StallState:
    """
    What is known of each task since its last accepted group.

    Args:
        empty_steps (`numpy.ndarray` of `int`, shape `(K,)`): Steps in which it was generated and nothing was accepted.
        outcomes (`numpy.ndarray` of `int`, shape `(K, len(OUTCOMES))`): Groups by outcome, in the order of `OUTCOMES`.
        stalled_steps (`numpy.ndarray` of `int`, shape `(K,)`): Steps since it was found stalled; 0 if it is not.
        usual (`numpy.ndarray` of shape `(K,)`): Groups per accepted group, as far as any were accepted.
    """

    empty_steps: NDArray[np.int64] = field(metadata={"new_task": 0})
    outcomes: NDArray[np.int64] = field(metadata={"new_task": 0})
    stalled_steps: NDArray[np.int64] = field(metadata={"new_task": 0})
    usual: NDArray[np.float64] = field(metadata={"new_task": USUAL_AT_FIRST})

    @property
    def stalled(self) -> NDArray[np.bool_]:
        """Which tasks are stalled, shape `(K,)`."""
        return self.stalled_steps > 0

    def causes(self) -> list[str | None]:
        """Most frequent outcome of each stalled task, a name of `OUTCOMES`; `None` for the others."""
        names = [OUTCOMES[1 + int(row[1:].argmax())] for row in self.outcomes]
        return [name if stalled else None for name, stalled in zip(names, self.stalled, strict=True)]


@dataclass(frozen=True)
class StallDoctor:
    """
    Finds tasks from which nothing is accepted, takes away their share of the batch, and tries them again now and then.

    A task is stalled when nothing was accepted from at least `min_groups` groups, and from five times as many as it
    usually takes, in at least `patience` steps. Its weight is then 0 and the others share the batch, but a few of its
    groups are generated beside the desired ones after 2, 4, 8 .. steps and then every `probe_interval` steps. One
    accepted group ends the stall. When every task is stalled the weights stay as they are: whether a run with nothing
    to learn from goes on is for the caller to say.

    Args:
        patience (`int`, *optional*, defaults to `1`):
            Steps without an accepted group.
        min_groups (`int`, *optional*, defaults to `60`):
            Groups without an accepted one. A task with acceptance 0.05 goes as long without by chance in 1 case of 20.
        probe_interval (`int`, *optional*, defaults to `10`):
            Steps between two trials of a stalled task.
        probe_groups (`int`, *optional*, defaults to `2`):
            Groups per trial.

    Raises:
        ValueError: If an argument is not positive.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import StallDoctor
    >>> doctor = StallDoctor.for_batch(num_groups=20)
    >>> outcomes = np.array([[4, 2, 2, 0, 0, 0, 0], [0, 0, 60, 0, 0, 0, 0]])
    >>> state = doctor.update(outcomes, doctor.init(num_tasks=2))
    >>> state.causes(), doctor.adjust(np.array([0.5, 0.5]), state).tolist()
    ([None, 'failed'], [1.0, 0.0])

    ```
    """

    patience: int = 1
    min_groups: int = 60
    probe_interval: int = 10
    probe_groups: int = 2

    def __post_init__(self) -> None:
        for setting in fields(self):
            if getattr(self, setting.name) < 1:
                raise ValueError(
                    f"`{setting.name}` must be at least 1, got {getattr(self, setting.name)}. Pass a positive number."
                )

    @classmethod
    def for_batch(cls, num_groups: int) -> "StallDoctor":
        """
        The doctor of a run with `num_groups` groups per step: it acts after three batches, where these are fewer than
        60 groups, and tries stalled tasks with a quarter of a batch, 2 to 16 groups.
        """
        return cls(min_groups=min(3 * num_groups, cls.min_groups), probe_groups=min(max(2, num_groups // 4), 16))

    def init(self, num_tasks: int) -> StallState:
        """Nothing generated yet."""
        none = np.zeros(num_tasks, dtype=np.int64)
        outcomes = np.zeros((num_tasks, len(OUTCOMES)), dtype=np.int64)
        return StallState(none, outcomes, none, np.full(num_tasks, USUAL_AT_FIRST))

    def update(self, outcomes: NDArray[np.int64], state: StallState) -> StallState:
        """
        The state after a step.

        Args:
            outcomes (`numpy.ndarray` of `int`, shape `(K, len(OUTCOMES))`):
                Groups generated in the step by outcome, in the order of `OUTCOMES`; the first column is the accepted.
        """
        accepted = outcomes[:, 0]
        generated = outcomes.sum(axis=1)
        empty = np.where(accepted > 0, 0, state.empty_steps + (generated > 0))
        since = state.outcomes + outcomes
        waits = since.sum(axis=1)
        # A long wait is believed at once, a short one as far as it goes: taking a hard task for dead costs more.
        wait = waits / np.maximum(accepted, 1)
        lately = np.maximum((MEMORY * state.usual + waits) / (MEMORY + accepted), wait)
        usual = np.where(accepted > 0, lately, state.usual)
        seen = np.where(accepted[:, None] > 0, 0, since)
        stalled = (empty >= self.patience) & (seen.sum(axis=1) >= self._enough(usual))
        return StallState(empty, seen, np.where(stalled, state.stalled_steps + 1, 0), usual)

    def adjust(self, weights: NDArray[np.float64], state: StallState) -> NDArray[np.float64]:
        """`weights` without the stalled tasks, shape `(K,)`; as they are when no other task has weight."""
        rest = np.where(state.stalled, 0.0, weights)
        total = float(rest.sum())
        return rest / total if total > 0 else weights

    def probes(self, state: StallState) -> NDArray[np.int64]:
        """Groups to try in this step beside the desired ones, shape `(K,)`, for `BatchLedger.with_context`."""
        steps = state.stalled_steps
        doubled = (steps > 1) & (steps < self.probe_interval) & (steps & (steps - 1) == 0)
        due = state.stalled & (doubled | (steps % self.probe_interval == 0))
        return np.where(due & ~state.stalled.all(), self.probe_groups, 0)

    def patience_left(self, state: StallState) -> NDArray[np.int64]:
        """
        Groups without an accepted one after which a task would be stalled, shape `(K,)`, for
        `BatchLedger.with_context`; the whole patience where a stalled task is asked for as all tasks are.
        """
        enough = self._enough(state.usual)
        left = np.where(state.stalled, enough, enough - state.outcomes.sum(axis=1))
        return np.maximum(left, 1.0).astype(np.int64)

    def _enough(self, usual: NDArray[np.float64]) -> NDArray[np.float64]:
        """Groups without an accepted one that are too many to be chance, shape `(K,)`."""
        return np.maximum(np.ceil(UNUSUAL * usual), self.min_groups)

    def diagnose(self, task_names: Sequence[str], state: StallState, num_rows: ArrayLike | None = None) -> list[str]:
        """
        What was seen of each stalled task, and what to do about it.

        Args:
            task_names (`Sequence[str]`):
                Names in order.
            state ([`StallState`]):
                What is known of the tasks.
            num_rows (`numpy.ndarray` of `int`, shape `(K,)`, *optional*):
                Prompts of each task, to say where they are too few: all of them were tried twice or more.

        Returns:
            `list[str]`: one text per stalled task.
        """
        counts = state.outcomes.sum(axis=1)
        rows = np.full(counts.size, np.inf) if num_rows is None else np.asarray(num_rows)
        return [
            f"Task {name!r} yielded nothing in {counts[k]} groups over {state.empty_steps[k]} steps ({cause}). "
            f"{ADVICE[cause]}"
            + (
                f" It has only {rows[k]} rows, each tried {counts[k] // rows[k]} times: add prompts."
                if counts[k] >= 2 * rows[k]
                else ""
            )
            for k, (name, cause) in enumerate(zip(task_names, state.causes(), strict=True))
            if cause is not None
        ]
