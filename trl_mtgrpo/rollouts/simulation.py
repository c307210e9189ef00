"""What a run will generate, train and waste, found by running the loop on arrays instead of a model."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sampling import (
    OUTCOMES,
    AcceptanceEstimate,
    ForgettingAlarm,
    ForgettingState,
    RatioPreservingSampler,
    StallDoctor,
    StallState,
)
from ..sampling.accounting import RolloutLedger
from ..sampling.pilots import PilotEstimate
from .facts import GroupFacts, IntVector
from .loop import BatchLoop, BatchSampler
from .programs import ProgramMemory
from .prompts import CountedPrompts, Prompts


FloatVector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """
    What happened in each step to each task; counts of groups, shape `(T, K)` unless noted.

    In every step and for every task, `carried_in + generated = trained + filtered + expired + carried_out`.

    Args:
        desired (`numpy.ndarray`): Groups drawn from the weights.
        generated (`numpy.ndarray`): Groups generated.
        filtered (`numpy.ndarray`): Groups that the filter dropped.
        trained (`numpy.ndarray`): Groups trained, carried ones included.
        carried_in (`numpy.ndarray`): Accepted groups kept from earlier steps.
        carried_out (`numpy.ndarray`): Accepted groups kept for later steps.
        expired (`numpy.ndarray`): Accepted groups thrown away.
        unfilled (`numpy.ndarray`): Desired groups of the task that did not train.
        rounds (`numpy.ndarray` of shape `(T,)`): Rounds of generation.
        acceptance (`numpy.ndarray`): True acceptance.
        tokens_per_group (`numpy.ndarray` of shape `(K,)`): Tokens of a group.
    """

    desired: IntVector
    generated: IntVector
    filtered: IntVector
    trained: IntVector
    carried_in: IntVector
    carried_out: IntVector
    expired: IntVector
    unfilled: IntVector
    rounds: IntVector
    acceptance: FloatVector
    tokens_per_group: FloatVector

    @property
    def least(self) -> FloatVector:
        """Fewest groups that could be expected to yield what was trained, Σ trained / (1 - ρ), shape `(T, K)`."""
        return np.divide(self.trained, self.acceptance, out=np.zeros_like(self.acceptance), where=self.acceptance > 0)

    @property
    def generated_per_least(self) -> float:
        """Generated groups over the theoretical least, for the whole run. 1 is perfect."""
        return float(self.generated.sum() / self.least.sum())

    @property
    def tokens_per_least(self) -> float:
        """Generated tokens over the theoretical least, for the whole run."""
        return float((self.generated @ self.tokens_per_group).sum() / (self.least @ self.tokens_per_group).sum())

    @property
    def generated_per_trained(self) -> float:
        """Generated groups per trained group, for the whole run."""
        return float(self.generated.sum() / self.trained.sum())

    @property
    def owed(self) -> FloatVector:
        """Share of each task's desired groups that nothing of its own filled, over the whole run, shape `(K,)`."""
        desired = self.desired.sum(axis=0)
        return np.asarray(self.unfilled.sum(axis=0) / np.maximum(desired, 1))

    @property
    def rounds_per_step(self) -> float:
        """Mean number of rounds of generation."""
        return float(self.rounds.mean())

    @property
    def exact_mix_ratio(self) -> float:
        """Share of steps whose trained counts are the desired counts."""
        return float((self.trained == self.desired).all(axis=1).mean())


@dataclass(frozen=True, eq=False)
class SimulatedState:
    """What the loop remembers in a simulation; see [`LoopState`]."""

    acceptance: AcceptanceEstimate
    unsolved: AcceptanceEstimate
    stalls: StallState
    carried: GroupFacts
    groups: RolloutLedger
    tokens: RolloutLedger
    rollouts: RolloutLedger
    pilots: PilotEstimate
    programs: ProgramMemory
    forgetting: ForgettingState
    draws: Any = None
    generation: int = 0
    empty_steps: int = 0

    @classmethod
    def start(cls, num_tasks: int, draws: Any = None) -> "SimulatedState":
        return cls(
            draws=draws,
            forgetting=ForgettingAlarm().init(num_tasks),
            acceptance=AcceptanceEstimate.init(num_tasks),
            unsolved=AcceptanceEstimate.init(num_tasks),
            stalls=StallDoctor().init(num_tasks),
            carried=GroupFacts.empty(),
            groups=RolloutLedger.empty(num_tasks),
            tokens=RolloutLedger.empty(num_tasks),
            rollouts=RolloutLedger.empty(num_tasks),
            pilots=PilotEstimate.start(num_tasks),
            programs=ProgramMemory.start(num_tasks),
        )


@dataclass
class SimulatedRollouts:
    """
    A rollout source without payload: each group is accepted with its task's probability.

    Args:
        tokens (`numpy.ndarray` of shape `(K,)`):
            Tokens of a group.
        rates (`numpy.ndarray` of shape `(K,)`):
            Acceptance of the step.
        solved (`numpy.ndarray` of shape `(K,)`):
            Share of the step's groups that are solved; the other rejected ones are failed.
        step (`int`):
            The step.
    """

    tokens: FloatVector
    rates: FloatVector = field(default_factory=lambda: np.zeros(0))
    solved: FloatVector | None = None
    step: int = 0

    def produce(self, prompts: Prompts, episodes: int, rng: np.random.Generator) -> GroupFacts:
        """See [`RolloutSource`]."""
        task = prompts.task
        request = np.bincount(task, minlength=self.rates.size)
        accepted = rng.binomial(request, self.rates)
        place = np.arange(task.size) - np.repeat(np.cumsum(request) - request, request)
        keep = place < accepted[task]
        outcome = np.where(keep, 0, _FAILED)
        if self.solved is not None:
            share = np.divide(self.solved, 1.0 - self.rates, out=np.zeros_like(self.rates), where=self.rates < 1.0)
            solved = rng.binomial(request - accepted, np.clip(share, 0.0, 1.0))
            outcome[~keep & (place < (accepted + solved)[task])] = _SOLVED
        zeros = np.zeros(task.size, dtype=np.int64)
        nothing = np.zeros((task.size, 0))
        return GroupFacts(
            task=task,
            prompt=prompts.row,
            role=zeros,
            occurrence=zeros,
            bundle=np.arange(task.size),
            members=zeros + episodes,
            generation=zeros + self.step,
            tokens=self.tokens[task],  # type: ignore[arg-type]
            outcome=outcome,
            accepted=keep,
            reward=nothing,
            success=nothing,
            parts=np.zeros((task.size, 0, 0), dtype=np.float32),
            place=np.zeros((task.size, 0, 2), dtype=np.int64),
        )


def simulate(
    task_weights: ArrayLike,
    acceptance: ArrayLike,
    sampler: BatchSampler,
    max_surplus_age: int = 2,
    seed: int = 0,
    tokens_per_group: ArrayLike | None = None,
    doctor: StallDoctor | None = None,
    solved: ArrayLike | None = None,
    solved_discount: float = 0.0,
    num_groups: int | None = None,
) -> SimulationResult:
    """
    Runs a sampler over given weights and acceptances.

    The planner sees what it would see in training: its own estimate of acceptance, learned from the rounds made.

    Args:
        task_weights (`numpy.ndarray` of shape `(T, K)`):
            z of each step.
        acceptance (`numpy.ndarray` of shape `(T, K)`):
            True probability that a generated group is informative.
        sampler ([`RatioPreservingSampler`]):
            The planner.
        max_surplus_age (`int`, *optional*, defaults to `2`):
            Steps for which an accepted group that did not train is kept. 0 throws it away.
        seed (`int`, *optional*, defaults to `0`):
            Seed of every draw.
        tokens_per_group (`numpy.ndarray` of shape `(K,)`, *optional*, defaults to ones):
            Tokens of a group of each task.
        doctor ([`StallDoctor`], *optional*):
            Takes the share of tasks that yield nothing, as the trainer's does.
        solved (`numpy.ndarray` of shape `(T, K)` or `(K,)`, *optional*, defaults to zeros):
            Probability that every rollout of a generated group is correct. The other filtered groups are failed.
        solved_discount (`float`, *optional*, defaults to `0.0`):
            How far solved groups shrink a task's share, see [`unsolved_shares`].
        num_groups (`int`, *optional*):
            Places of a batch (B). By default as many as the sampler desires groups.

    Returns:
        [`SimulationResult`]

    Raises:
        ValueError: If the shapes do not fit or an acceptance is not a probability.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo import RatioPreservingSampler, simulate
    >>> weights = np.full((50, 2), 0.5)
    >>> result = simulate(weights, np.full((50, 2), 0.4), RatioPreservingSampler(num_groups=16))
    >>> bool(result.generated_per_least < 1.2), bool((result.unfilled == 0).all())
    (True, True)

    ```
    """
    weights = np.asarray(task_weights, dtype=np.float64)
    rates = np.asarray(acceptance, dtype=np.float64)
    if weights.ndim != 2 or weights.shape != rates.shape:
        raise ValueError(
            f"`task_weights` and `acceptance` must be of one shape (T, K), got {weights.shape} and {rates.shape}. "
            "Repeat constant values over the steps."
        )
    if not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError("`acceptance` must be between 0 and 1, got a value outside. Pass 1 - filtered ratio.")
    if isinstance(sampler, RatioPreservingSampler):
        sampler = replace(sampler, max_surplus_age=max_surplus_age)
    num_steps, num_tasks = weights.shape
    tokens = np.ones(num_tasks) if tokens_per_group is None else np.asarray(tokens_per_group, dtype=np.float64)
    share = None if solved is None else np.broadcast_to(np.asarray(solved, dtype=np.float64), rates.shape)
    if share is not None and not ((share >= 0) & (share <= 1.0 - rates + 1e-9)).all():
        raise ValueError(
            "`solved` must be between 0 and 1 - `acceptance`, got a value outside. Pass the share of groups in which "
            "every rollout is correct."
        )
    loop = BatchLoop(
        sampler=sampler,
        prompts=CountedPrompts(),
        num_generations=1,
        num_groups=num_groups,
        doctor=doctor,
        solved_discount=solved_discount,
        max_surplus_age=max_surplus_age,
        seed=seed,
    )
    source = SimulatedRollouts(tokens)
    columns = {name: np.zeros((num_steps, num_tasks), dtype=np.int64) for name in _COUNT_COLUMNS}
    rounds = np.zeros(num_steps, dtype=np.int64)
    state = SimulatedState.start(num_tasks)
    for step in range(num_steps):
        source.rates, source.solved, source.step = rates[step], None if share is None else share[step], step
        batch, state = loop.collect(state, weights[step], source)
        ledger = batch.group_ledger
        columns["desired"][step] = batch.plan.desired
        columns["generated"][step] = ledger.generated
        columns["filtered"][step] = ledger.filtered.sum(axis=1)
        columns["trained"][step] = ledger.trained
        columns["carried_in"][step] = ledger.carried_in
        columns["expired"][step] = ledger.expired
        columns["carried_out"][step] = ledger.carried_out
        columns["unfilled"][step] = np.maximum(batch.plan.desired - ledger.trained, 0)
        rounds[step] = batch.plan.rounds
    return SimulationResult(**columns, rounds=rounds, acceptance=rates, tokens_per_group=tokens)


_SOLVED, _FAILED = OUTCOMES.index("solved"), OUTCOMES.index("failed")
_COUNT_COLUMNS = (
    "desired",
    "generated",
    "filtered",
    "trained",
    "carried_in",
    "carried_out",
    "expired",
    "unfilled",
)
