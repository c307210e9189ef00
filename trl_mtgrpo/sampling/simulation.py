"""What a run will generate, train and waste, found by running the planner on arrays instead of a model."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from .acceptance import AcceptanceEstimate
from .filtering import OUTCOMES
from .ledger import BatchLedger
from .ratio_preserving import RatioPreservingSampler
from .requests import FloatVector, IntVector
from .stalls import StallDoctor


class BatchSampler(Protocol):
    """What [`simulate`] needs of a sampler; [`RatioPreservingSampler`] is one."""

    def open(self, task_weights: ArrayLike, rng: np.random.Generator, carried: ArrayLike | None = None) -> BatchLedger:
        """The ledger of a new step."""
        ...

    def plan(
        self, ledger: BatchLedger, acceptance: AcceptanceEstimate | ArrayLike, rng: np.random.Generator
    ) -> IntVector | None:
        """Groups to generate next, or `None`."""
        ...

    def select(self, task_ids: ArrayLike, ledger: BatchLedger, rng: np.random.Generator) -> IntVector:
        """Positions of the groups that train."""
        ...


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


def simulate(
    task_weights: ArrayLike,
    acceptance: ArrayLike,
    sampler: BatchSampler,
    max_surplus_age: int = 2,
    seed: int = 0,
    tokens_per_group: ArrayLike | None = None,
    doctor: StallDoctor | None = None,
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

    Returns:
        [`SimulationResult`]

    Raises:
        ValueError: If the shapes do not fit or an acceptance is not a probability.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import RatioPreservingSampler, simulate
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
    shape = (num_steps, num_tasks)
    columns = {name: np.zeros(shape, dtype=np.int64) for name in _COUNT_COLUMNS}
    rounds = np.zeros(num_steps, dtype=np.int64)

    estimate = AcceptanceEstimate.init(num_tasks)
    # One row per age, the oldest first: what is kept when a step opens.
    kept = np.zeros((max_surplus_age, num_tasks), dtype=np.int64)
    seen = np.zeros(num_tasks, dtype=bool)
    stalls = StallDoctor().init(num_tasks)
    for step in range(num_steps):
        rng = np.random.default_rng([seed, step])
        wanted = weights[step] if doctor is None else doctor.adjust(weights[step], stalls)
        ledger = sampler.open(wanted, rng, carried=kept.sum(axis=0)).with_context(
            probes=None if doctor is None else doctor.probes(stalls),
            # As in training, a task's cost is known once a group of it was generated.
            tokens_per_group=np.where(seen, tokens, np.nan),
            patience=None if doctor is None else doctor.patience_left(stalls),
        )
        while (request := sampler.plan(ledger, estimate, rng)) is not None:
            accepted = rng.binomial(request, rates[step])
            ledger = ledger.record(generated=request, accepted=accepted, tokens=request * tokens)
            estimate = estimate.update(request, accepted)
        stock = np.concatenate([kept, ledger.accepted[None]])  # (ages, K)
        ids = np.repeat(np.tile(np.arange(num_tasks), stock.shape[0]), stock.ravel())
        ages = np.repeat(np.arange(stock.shape[0]), stock.sum(axis=1))
        keep = sampler.select(ids, ledger, rng)
        trained = np.zeros_like(stock)
        np.add.at(trained, (ages[keep], ids[keep]), 1)
        left = stock - trained

        columns["desired"][step] = ledger.desired
        columns["generated"][step] = ledger.generated
        columns["filtered"][step] = ledger.generated - ledger.accepted
        columns["trained"][step] = trained.sum(axis=0)
        columns["carried_in"][step] = kept.sum(axis=0)
        columns["expired"][step] = left[0]
        columns["carried_out"][step] = left[1:].sum(axis=0)
        columns["unfilled"][step] = np.maximum(ledger.desired - trained.sum(axis=0), 0)
        rounds[step] = ledger.rounds
        kept = left[1:]
        seen |= ledger.generated > 0
        if doctor is not None:
            outcomes = np.zeros((num_tasks, len(OUTCOMES)), dtype=np.int64)
            outcomes[:, 0] = ledger.accepted
            outcomes[:, OUTCOMES.index("failed")] = ledger.generated - ledger.accepted
            stalls = doctor.update(outcomes, stalls)
    return SimulationResult(**columns, rounds=rounds, acceptance=rates, tokens_per_group=tokens)


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
