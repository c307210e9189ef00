"""Everything that must survive between steps, as one frozen value with a checked JSON form."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..rollouts.groups import Group
from ..sampling import AcceptanceEstimate, StallDoctor, StallState
from ..sampling.accounting import RolloutLedger
from ..weighting import GuardState, PlateauGuard, TaskWeighting, WeightingState
from ..weighting.signals import RewardAverage


SCHEMA = 4
STATE_FILE = "multi_task_grpo_state.json"


class StateFileError(ValueError):
    """A state file that is missing, damaged, cut inside a generation batch, or of another schema or task list."""


class StateFile(NamedTuple):
    """
    What a state file says.

    Args:
        state (`dict`):
            JSON form of the state, for [`MultiTaskState.from_json`].
        steps_left (`int`):
            Optimizer steps of the last generation batch that were still to come; 0 at its end.
        num_ranks (`int`):
            Processes of the run that wrote it.
    """

    state: dict[str, Any]
    steps_left: int
    num_ranks: int


@dataclass(frozen=True, eq=False)
class MultiTaskState:
    """
    The memory of a multi-task run.

    Args:
        task_names (`tuple[str, ...]`):
            Names of the K tasks in order; every vector below follows it.
        generation (`int`):
            Number of generation batches collected so far. With the seed it determines every draw of the next one.
        weighting ([`WeightingState`]):
            Memory of the weighting: logits, optimizer moments, step.
        guard ([`GuardState`]):
            Memory of the plateau guard.
        acceptance ([`AcceptanceEstimate`]):
            How many of a task's groups carry a gradient.
        unsolved ([`AcceptanceEstimate`]):
            How many of a task's groups are not solved by every rollout, in the same form.
        stalls ([`StallState`]):
            Tasks from which nothing has been accepted for a while.
        reward_average ([`RewardAverage`]):
            Accuracy averages of the tasks.
        cursors (`tuple[int, ...]`):
            Position in each task's index stream.
        carried (`tuple[Group, ...]`):
            Accepted groups kept for the next step, oldest first.
        groups ([`RolloutLedger`]):
            Totals of the run in groups.
        tokens ([`RolloutLedger`]):
            Totals of the run in completion tokens.
        empty_steps (`int`, *optional*, defaults to `0`):
            Generation batches in a row without one trainable group.
        num_rows (`tuple[int, ...]`, *optional*, defaults to `()`):
            Training rows of each task, on which the order of its prompts rests. Unknown when empty.
    """

    task_names: tuple[str, ...]
    generation: int
    weighting: WeightingState
    guard: GuardState
    acceptance: AcceptanceEstimate
    unsolved: AcceptanceEstimate
    stalls: StallState
    reward_average: RewardAverage
    cursors: tuple[int, ...]
    carried: tuple[Group, ...]
    groups: RolloutLedger
    tokens: RolloutLedger
    empty_steps: int = 0
    num_rows: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values; floats keep every bit."""
        return {
            "task_names": list(self.task_names),
            "generation": self.generation,
            "weighting": self.weighting.to_json(),
            "guard": self.guard.to_json(),
            "acceptance": self.acceptance.to_json(),
            "unsolved": self.unsolved.to_json(),
            "stalls": self.stalls.to_json(),
            "reward_average": self.reward_average.to_json(),
            "cursors": list(self.cursors),
            "carried": [group.to_json() for group in self.carried],
            "groups": self.groups.to_json(),
            "tokens": self.tokens.to_json(),
            "empty_steps": self.empty_steps,
            "num_rows": list(self.num_rows),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], row: Callable[[int, int], dict[str, Any]]) -> "MultiTaskState":
        """
        The state that `to_json` wrote.

        Args:
            value (`dict`):
                What `to_json` returned.
            row (`Callable`):
                Finds the dataset row of a carried group from its task and index.

        Returns:
            [`MultiTaskState`]
        """
        return cls(
            task_names=tuple(value["task_names"]),
            generation=value["generation"],
            weighting=WeightingState.from_json(value["weighting"]),
            guard=GuardState.from_json(value["guard"]),
            acceptance=AcceptanceEstimate.from_json(value["acceptance"]),
            unsolved=AcceptanceEstimate.from_json(value["unsolved"]),
            stalls=StallState.from_json(value["stalls"]),
            reward_average=RewardAverage.from_json(value["reward_average"]),
            cursors=tuple(value["cursors"]),
            carried=tuple(Group.from_json(g, row(g["task_id"], g["row_index"])) for g in value["carried"]),
            groups=RolloutLedger.from_json(value["groups"]),
            tokens=RolloutLedger.from_json(value["tokens"]),
            empty_steps=value["empty_steps"],
            num_rows=tuple(value["num_rows"]),
        )


def start_state(
    task_names: tuple[str, ...], weighting: TaskWeighting, num_rows: tuple[int, ...] = ()
) -> MultiTaskState:
    """
    The state before the first generation.

    Args:
        task_names (`tuple[str, ...]`):
            Names of the tasks in order.
        weighting ([`TaskWeighting`]):
            The strategy whose memory it holds.
        num_rows (`tuple[int, ...]`, *optional*, defaults to `()`):
            Training rows of each task.

    Returns:
        [`MultiTaskState`]
    """
    num_tasks = len(task_names)
    return MultiTaskState(
        task_names=task_names,
        generation=0,
        weighting=weighting.init(num_tasks),
        guard=PlateauGuard().init(num_tasks),
        acceptance=AcceptanceEstimate.init(num_tasks),
        unsolved=AcceptanceEstimate.init(num_tasks),
        stalls=StallDoctor().init(num_tasks),
        reward_average=RewardAverage.start(num_tasks),
        cursors=(0,) * num_tasks,
        carried=(),
        groups=RolloutLedger.empty(num_tasks),
        tokens=RolloutLedger.empty(num_tasks),
        num_rows=num_rows,
    )


def check_task_names(saved: Sequence[str], current: Sequence[str]) -> None:
    """
    Checks that a checkpoint is of the run's tasks, in their order.

    Args:
        saved (`list[str]`):
            Task names in the checkpoint.
        current (`list[str]`):
            Task names of the run.

    Raises:
        StateFileError: showing both lists.
    """
    if list(saved) != list(current):
        raise StateFileError(
            f"`tasks` must be those of the checkpoint {list(saved)}, got {list(current)}. Give the same tasks in the "
            "same order, or set `allow_task_changes=True`."
        )


def check_num_rows(names: Sequence[str], saved: Sequence[int], current: Sequence[int]) -> None:
    """
    Checks that the datasets have as many rows as those of a checkpoint; with another number, every later prompt of
    the task would be another one.

    Args:
        names (`list[str]`):
            Task names.
        saved (`list[int]`):
            Training rows per task in the checkpoint; not checked when empty.
        current (`list[int]`):
            Training rows per task of the run.

    Raises:
        StateFileError: naming the first task that differs.
    """
    for name, before, now in zip(names, saved, current, strict=False):
        if before != now:
            raise StateFileError(
                f"`train_dataset` of task '{name}' must have the {before} rows of the checkpoint, got {now}. Give the "
                "same dataset, or set `allow_task_changes=True` to go on in another order."
            )


def check_carried(state: MultiTaskState, num_generations: int, num_rewards: int) -> None:
    """
    Checks that carried groups can be trained by this run.

    Args:
        state ([`MultiTaskState`]):
            The state of a checkpoint.
        num_generations (`int`):
            Rollouts per prompt (G) of the run.
        num_rewards (`int`):
            Reward columns (F) of the run.

    Raises:
        StateFileError: if a carried group has another shape.
    """
    for group in state.carried:
        if group.rewards.shape != (num_generations, num_rewards):
            raise StateFileError(
                f"`num_generations` and `reward_funcs` must be those of the checkpoint, whose carried groups have "
                f"{group.rewards.shape[0]} rollouts and {group.rewards.shape[1]} rewards, got {num_generations} and "
                f"{num_rewards}. Resume with the same settings, or start anew."
            )


def write_state(path: Path, state: MultiTaskState, steps_left: int = 0, num_ranks: int = 1) -> None:
    """
    Writes a state so that the file is either complete or absent.

    Args:
        path (`Path`):
            Where the file goes; its folder must exist.
        state ([`MultiTaskState`]):
            The state to write.
        steps_left (`int`, *optional*, defaults to `0`):
            Optimizer steps of the generation batch that are still to come.
        num_ranks (`int`, *optional*, defaults to `1`):
            Processes of the run.
    """
    body = json.dumps({"num_ranks": num_ranks, "state": state.to_json(), "steps_left": steps_left}, sort_keys=True)
    document = f'{{"schema": {SCHEMA}, "checksum": "{_checksum(body)}", "body": {body}}}\n'
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_state_file(path: Path) -> StateFile:
    """
    Reads and checks a state file.

    Args:
        path (`Path`):
            The file that [`write_state`] wrote.

    Returns:
        [`StateFile`]

    Raises:
        StateFileError: if the file is missing, truncated, altered or of another schema.
    """
    advice = "Resume from another checkpoint of the run, or start anew."
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StateFileError(f"`{path.name}` must be in the checkpoint, got none in {path.parent}. {advice}") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise StateFileError(
            f"`{path}` must be a complete state file, got a damaged one ({error}). {advice}"
        ) from None
    if not isinstance(document, dict) or not {"schema", "checksum", "body"} <= document.keys():
        raise StateFileError(f"`{path}` must have the fields schema, checksum and body, got others. {advice}")
    if document["schema"] != SCHEMA:
        raise StateFileError(
            f"`{path}` must have schema {SCHEMA}, got {document['schema']}. Resume with the version that wrote it."
        )
    if _checksum(json.dumps(document["body"], sort_keys=True)) != document["checksum"]:
        raise StateFileError(f"`{path}` must match its checksum, got altered contents. {advice}")
    return StateFile(**document["body"])


def read_state(path: Path) -> dict[str, Any]:
    """
    Reads the state that a run can be resumed from.

    Args:
        path (`Path`):
            The file that [`write_state`] wrote.

    Returns:
        `dict`: the JSON form of the state, for [`MultiTaskState.from_json`].

    Raises:
        StateFileError: as [`read_state_file`], and if the checkpoint lies inside a generation batch.
    """
    file = read_state_file(path)
    if file.steps_left:
        raise StateFileError(
            f"`{path.parent}` must lie between two generation batches, got one with {file.steps_left} optimizer steps "
            "of its batch still to come. Resume from an earlier checkpoint, and let `save_steps` and `max_steps` be "
            "multiples of the steps per generation batch."
        )
    return file.state


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8")).hexdigest()
