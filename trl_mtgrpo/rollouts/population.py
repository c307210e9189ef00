"""The loop on made-up prompts, each with a pass rate of its own: what remembering them saves, and what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sampling import PromptMemory, RatioPreservingSampler, StallDoctor, group_outcomes
from .facts import GroupFacts, IntVector
from .judging import Verdict
from .loop import BatchLoop, BatchSampler
from .pilot import PilotRule, Rollouts
from .prompts import Prompts
from .remembered import RememberedPrompts
from .simulation import SimulatedState


FloatVector = NDArray[np.float64]
# From the step and a task to the pass rate of each of its prompts, shape `(n_k,)`.
PassRates = Callable[[int, int], FloatVector]


@dataclass(frozen=True, eq=False)
class PopulationResult:
    """
    What happened in each step to each task, shape `(T, K)` unless noted.

    Args:
        generated (`numpy.ndarray`): Groups generated.
        trained (`numpy.ndarray`): Groups trained.
        acceptance (`numpy.ndarray`): Share of informative groups if prompts are drawn uniformly.
        accuracy (`numpy.ndarray`): True mean pass rate.
        measured (`numpy.ndarray`): What the task weights were told of it, NaN where nothing was generated.
        raw (`numpy.ndarray`): Mean success of what was generated.
        rollouts (`numpy.ndarray`): Rollouts generated.
        piloted (`numpy.ndarray` of `bool`): Whether its groups begin with a pilot.
        pilot_saving (`numpy.ndarray`): What pilots are believed to save or cost, NaN where unknown.
        saving (`numpy.ndarray`): What the memory believes that passing over solved prompts saves, NaN where unknown.
        desired (`numpy.ndarray`): Groups drawn from the weights.
        rounds (`numpy.ndarray` of shape `(T,)`): Rounds of generation.
        passes (`numpy.ndarray` of shape `(K,)`): How often each prompt came up.
        rows (`list[numpy.ndarray]`): Rows that each step generated, task after task.
    """

    generated: IntVector
    trained: IntVector
    rollouts: IntVector
    piloted: NDArray[np.bool_]
    pilot_saving: FloatVector
    acceptance: FloatVector
    accuracy: FloatVector
    measured: FloatVector
    raw: FloatVector
    saving: FloatVector
    desired: IntVector
    rounds: IntVector
    passes: FloatVector
    rows: list[IntVector]

    @property
    def generated_per_least(self) -> float:
        """Generated groups over the least that uniform draws could have cost, Σ trained / acceptance."""
        least = np.divide(self.trained, self.acceptance, out=np.zeros_like(self.acceptance), where=self.acceptance > 0)
        return float(self.generated.sum() / least.sum())

    @property
    def exact_mix_ratio(self) -> float:
        """Share of steps whose trained counts are the desired counts."""
        return float((self.trained == self.desired).all(axis=1).mean())


@dataclass
class PopulationRollouts:
    """
    A rollout source without payload: each rollout of a prompt is right with the prompt's pass rate.

    Args:
        rates (`list[numpy.ndarray]`):
            Pass rates of the step, of each task's prompts.
        step (`int`):
            The step.
        pilots ([`PilotRule`], *optional*):
            Makes groups that begin with a pilot.
    """

    rates: Sequence[FloatVector] = field(default_factory=list)
    step: int = 0
    pilots: PilotRule | None = None

    def produce(self, prompts: Prompts, episodes: int, rng: np.random.Generator) -> GroupFacts:
        """See [`RolloutSource`]."""
        task, size = prompts.task, len(prompts.task)
        if self.pilots is not None and prompts.pilot is not None and prompts.pilot.any():
            return self.pilots.produce(
                prompts, episodes, rng, lambda task, row: self._rollouts(task, row, rng), _judge, _judge, self.step
            )
        chance = self._chance(task, prompts.row)
        success = (rng.random((size, episodes)) < chance[:, None]).astype(np.float64)
        outcome = group_outcomes(success, correct=success)
        zeros = np.zeros(size, dtype=np.int64)
        return GroupFacts(
            task=task,
            prompt=prompts.row,
            role=zeros,
            occurrence=zeros,
            bundle=np.arange(size),
            members=zeros + episodes,
            generation=zeros + self.step,
            tokens=zeros + episodes,
            outcome=outcome,
            accepted=outcome == 0,
            reward=success,
            success=success,
            parts=np.zeros((size, episodes, 0), dtype=np.float32),
            place=np.zeros((size, episodes, 2), dtype=np.int64),
        )

    def _chance(self, task: IntVector, row: IntVector) -> FloatVector:
        chance = np.zeros(len(task))
        for k in np.unique(task).tolist():
            chance[task == k] = self.rates[k][row[task == k]]
        return chance

    def _rollouts(self, task: IntVector, row: IntVector, rng: np.random.Generator) -> Rollouts:
        success = (rng.random(len(task)) < self._chance(task, row)).astype(np.float64)
        ones = np.ones(len(task), dtype=np.int64)
        return Rollouts(
            tokens=ones,
            in_loss=ones.astype(bool),
            reward=success,
            success=success,
            parts=np.zeros((len(task), 0), dtype=np.float32),
            place=np.zeros((len(task), 2), dtype=np.int64),
        )


def _judge(task: IntVector, reward: FloatVector, success: FloatVector, *others: Any) -> Verdict:
    outcome = group_outcomes(reward, correct=success)
    return Verdict(outcome == 0, outcome)


@dataclass(frozen=True, eq=False)
class SimulatedDraws:
    """What a prompt source remembers in a simulation."""

    cursors: tuple[int, ...]
    memory: PromptMemory


def simulate_prompts(
    task_weights: ArrayLike,
    sizes: Sequence[int],
    pass_rates: PassRates,
    sampler: BatchSampler,
    num_generations: int,
    prompt_memory: str = "off",
    seed: int = 0,
    doctor: StallDoctor | None = None,
    solved_discount: float = 0.0,
    pilot_generations: int | None = None,
    pilot_tasks: Literal["auto", "all"] = "auto",
) -> PopulationResult:
    """
    Runs the trainer's loop, prompt by prompt, over given weights and pass rates.

    Args:
        task_weights (`numpy.ndarray` of shape `(T, K)`):
            z of each step.
        sizes (`list[int]`):
            Prompts of each task.
        pass_rates (`Callable`):
            From the step and the task to the pass rate of each of its prompts.
        sampler ([`RatioPreservingSampler`]):
            The planner.
        num_generations (`int`):
            Rollouts per prompt (G).
        prompt_memory (`str`, *optional*, defaults to `"off"`):
            `"solved"` passes over most prompts that are solved, `"off"` only watches.
        seed (`int`, *optional*, defaults to `0`):
            Seed of every draw.
        doctor ([`StallDoctor`], *optional*):
            Takes the share of tasks that yield nothing.
        solved_discount (`float`, *optional*, defaults to `0.0`):
            How far solved groups shrink a task's share, see [`unsolved_shares`].
        pilot_generations (`int`, *optional*):
            Rollouts that a group begins with; all of them when not given.
        pilot_tasks (`str`, *optional*, defaults to `"auto"`):
            Which tasks begin their groups so: those for which it pays, or `"all"`.

    Returns:
        [`PopulationResult`]

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo import RatioPreservingSampler
    >>> from trl_mtgrpo.rollouts import simulate_prompts
    >>> solved_or_even = np.repeat([1.0, 0.5], 50)
    >>> plain, memory = (
    ...     simulate_prompts(
    ...         np.ones((60, 1)), [100], lambda step, task: solved_or_even, RatioPreservingSampler(8), 8, mode
    ...     )
    ...     for mode in ("off", "solved")
    ... )
    >>> bool(memory.generated.sum() < 0.8 * plain.generated.sum())
    True

    ```
    """
    weights = np.asarray(task_weights, dtype=np.float64)
    num_steps, num_tasks = weights.shape
    pilots = None
    if pilot_generations is not None:
        pilots = PilotRule(pilot_generations, True, np.ones(num_tasks, dtype=bool), pilot_tasks)
    loop = BatchLoop(
        sampler=sampler,
        prompts=RememberedPrompts(sizes, seed, skips=prompt_memory == "solved"),
        num_generations=num_generations,
        doctor=doctor,
        solved_discount=solved_discount,
        max_surplus_age=sampler.max_surplus_age if isinstance(sampler, RatioPreservingSampler) else 0,
        seed=seed,
        pilots=pilots,
    )
    source, rows = PopulationRollouts(pilots=pilots), []
    state = SimulatedState.start(num_tasks, SimulatedDraws((0,) * num_tasks, PromptMemory.start(num_tasks)))
    counts: dict[str, Any] = {
        name: np.zeros((num_steps, num_tasks), dtype=np.int64)
        for name in ("generated", "trained", "rollouts", "desired")
    }
    values: dict[str, Any] = {name: np.zeros((num_steps, num_tasks)) for name in _VALUES}
    counts["piloted"] = np.zeros((num_steps, num_tasks), dtype=np.bool_)
    rounds = np.zeros(num_steps, dtype=np.int64)
    for step in range(num_steps):
        source.step, source.rates = step, [pass_rates(step, task) for task in range(num_tasks)]
        if pilots is not None:
            counts["piloted"][step] = pilots.active(state.pilots)
        batch, state = loop.collect(state, weights[step], source)
        counts["generated"][step] = batch.group_ledger.generated
        counts["trained"][step] = batch.group_ledger.trained
        counts["rollouts"][step] = batch.rollout_ledger.generated
        counts["desired"][step] = batch.plan.desired
        g = num_generations
        values["acceptance"][step] = [(1.0 - p**g - (1.0 - p) ** g).mean() for p in source.rates]
        values["accuracy"][step] = [p.mean() for p in source.rates]
        values["measured"][step] = batch.accuracy
        values["raw"][step] = batch.reward
        values["saving"][step] = state.draws.memory.savings
        values["pilot_saving"][step] = state.pilots.saving
        rounds[step] = batch.plan.rounds
        rows.append(batch.generated.prompt)
    passes = np.array(state.draws.cursors) / np.array(sizes)
    return PopulationResult(**(counts | values), rounds=rounds, passes=passes, rows=rows)


_VALUES = ("acceptance", "accuracy", "measured", "raw", "saving", "pilot_saving")
