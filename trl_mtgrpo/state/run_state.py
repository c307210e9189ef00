"""Everything that must survive between steps, as one frozen value made of the parts of its owners."""

from dataclasses import dataclass, field

from ..rollouts import GroupFacts
from ..rollouts.programs import ProgramMemory
from ..sampling import (
    AcceptanceEstimate,
    ForgettingAlarm,
    ForgettingState,
    PromptMemory,
    StallDoctor,
    StallState,
)
from ..sampling.accounting import RolloutLedger
from ..sampling.pilots import PilotEstimate
from ..weighting import GuardState, PlateauGuard, TaskWeighting, WeightingState
from ..weighting.signals import RewardAverage
from .parts import Draws, WeightOwner


@dataclass(frozen=True, eq=False)
class MultiTaskState:
    """
    The memory of a multi-task run.

    Args:
        task_names (`tuple[str, ...]`):
            Names of the K tasks in order; every vector below follows it.
        generation (`int`):
            Number of generation batches collected so far. With the seed it determines every draw of the next one.
        owner ([`WeightOwner`]):
            The strategy whose memory `weighting` is.
        weighting ([`WeightingState`]):
            Memory of the weighting: logits, optimizer moments, step. Of a strategy of the user's own, whatever frozen
            dataclass its `init` returns.
        guard ([`GuardState`]):
            Memory of the plateau guard.
        reward_average ([`RewardAverage`]):
            Accuracy averages of the tasks.
        acceptance ([`AcceptanceEstimate`]):
            How many of a task's groups carry a gradient.
        unsolved ([`AcceptanceEstimate`]):
            How many of a task's groups are not solved by every rollout, in the same form.
        stalls ([`StallState`]):
            Tasks from which nothing has been accepted for a while.
        forgetting ([`ForgettingState`]):
            Accuracy of the tasks at their best and now.
        draws ([`Draws`]):
            Position in each task's prompts, which prompts those are, and what is known of each.
        groups ([`RolloutLedger`]):
            Totals of the run in groups.
        tokens ([`RolloutLedger`]):
            Totals of the run in completion tokens.
        rollouts ([`RolloutLedger`]):
            Totals of the run in rollouts.
        pilots ([`PilotEstimate`]):
            What beginning groups with a few rollouts costs and saves.
        carried ([`GroupFacts`]):
            Accepted groups kept for the next step, oldest first.
        programs ([`ProgramMemory`]):
            Modules of programs, and how many groups their bundles bring.
        functions (`tuple[tuple[str, ...], ...]`, *optional*, defaults to `()`):
            Names of each task's reward functions in order. Unknown when empty.
        empty_steps (`int`, *optional*, defaults to `0`):
            Generation batches in a row without one trainable group.
    """

    task_names: tuple[str, ...]
    generation: int
    owner: WeightOwner
    weighting: WeightingState
    guard: GuardState
    reward_average: RewardAverage
    acceptance: AcceptanceEstimate
    unsolved: AcceptanceEstimate
    stalls: StallState
    forgetting: ForgettingState
    draws: Draws
    groups: RolloutLedger
    tokens: RolloutLedger
    rollouts: RolloutLedger
    pilots: PilotEstimate
    carried: GroupFacts
    programs: ProgramMemory
    functions: tuple[tuple[str, ...], ...] = field(default=(), metadata={"new_task": ()})
    empty_steps: int = 0


def start_state(
    task_names: tuple[str, ...],
    weighting: TaskWeighting,
    num_rows: tuple[int, ...] = (),
    fingerprints: tuple[str, ...] = (),
    functions: tuple[tuple[str, ...], ...] = (),
) -> MultiTaskState:
    """
    The state before the first generation.

    Args:
        task_names (`tuple[str, ...]`):
            Names of the tasks in order.
        weighting ([`TaskWeighting`]):
            The strategy whose memory it holds.
        num_rows (`tuple[int, ...]`, *optional*, defaults to `()`):
            Training rows of each task. Empty where the host's loader chooses the rows.
        fingerprints (`tuple[str, ...]`, *optional*, defaults to `()`):
            [`fingerprint`] of each task's training rows.
        functions (`tuple[tuple[str, ...], ...]`, *optional*, defaults to `()`):
            Names of each task's reward functions.

    Returns:
        [`MultiTaskState`]
    """
    num_tasks = len(task_names)
    return MultiTaskState(
        task_names=task_names,
        generation=0,
        owner=WeightOwner.of(weighting),
        weighting=weighting.init(num_tasks),
        guard=PlateauGuard().init(num_tasks),
        reward_average=RewardAverage.start(num_tasks),
        acceptance=AcceptanceEstimate.init(num_tasks),
        unsolved=AcceptanceEstimate.init(num_tasks),
        stalls=StallDoctor().init(num_tasks),
        forgetting=ForgettingAlarm().init(num_tasks),
        draws=Draws((0,) * num_tasks, PromptMemory.start(num_tasks), num_rows, fingerprints),
        groups=RolloutLedger.empty(num_tasks),
        tokens=RolloutLedger.empty(num_tasks),
        rollouts=RolloutLedger.empty(num_tasks),
        pilots=PilotEstimate.start(num_tasks),
        carried=GroupFacts.empty(),
        programs=ProgramMemory.start(num_tasks),
        functions=functions,
    )
