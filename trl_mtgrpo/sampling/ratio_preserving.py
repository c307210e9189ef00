"""
How many groups of each task to generate, round by round, and which accepted groups train (the paper's Algorithm 2).

The planner does no I/O: it proposes counts per task, the caller generates and reports, and every rank that asks with
the same arguments gets the same answer.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .acceptance import AcceptanceEstimate, beta_parameters
from .ledger import BatchLedger
from .requests import FloatVector, IntVector, RequestGoal, apportion, fair_cut, pooled, size_requests


# M_os of both experiments: with it the paper's own requests reach M_os M_acc groups per missing group.
PAPER_OVERSAMPLING = 3.0
# Most groups of an adaptive step, in batches. Three batches a round is what the paper's rule costs; what more than 16
# batches buys and what fewer lose is in docs/data/step_price.md.
MOST_BATCHES = 16
# Most groups per missing group while nothing is known of a task, and batches that a round may cost.
FIRST_REQUEST = 3
# The sum of both parameters of a Beta distribution behind which no observation stands.
NOTHING_KNOWN = 2.0
# How many times M_os M_acc groups per missing group a request may hold where its surplus is kept.
DEEPER = 4
# Groups of a task without a single acceptance after which a step that knows no better stops asking for more.
GIVE_UP_BATCHES, GIVE_UP_LEAST = 4, 60


@dataclass(frozen=True)
class RatioPreservingSampler:
    """
    The ratio-preserving sampler of [Multi-Task GRPO](https://huggingface.co/papers/2602.05547), Algorithm 2, as a
    planner: n ~ Multinomial(B, z) groups are desired, and rounds of generation are requested until each task has its
    own, or the budget ends.

    With `oversampling="adaptive"` each request is sized by need: the deficits, what is believed about acceptance and
    how firmly, and what becomes of a surplus (see [`size_requests`]). With a factor the requests are the paper's,
    Multinomial(M_os B, ẑ) with ẑ ∝ z m, then Multinomial(M_os B, def m / Σ def m) with m = min(1 / (1 - ρ), M_acc).
    With the factor 1.0 the first request is the desired draw itself: a second, independent draw of the same size would
    only move the mix away from what is wanted.

    Args:
        num_groups (`int`):
            B, groups per training step.
        oversampling (`str` or `float`, *optional*, defaults to `"adaptive"`):
            `"adaptive"`, or the paper's M_os (3.0 in both experiments).
        max_rounds (`int`, *optional*, defaults to `10`):
            N_rs, resampling rounds after the first generation (the paper's 3-task value; 2 for 9 tasks).
        max_inflation (`float`, *optional*, defaults to `5.0`):
            M_acc, greatest acceptance inflation (paper). An adaptive request holds at most 3 M_acc groups per missing
            group, which is what M_os = 3 makes of it in the paper's rule, four times that when surplus is kept, and 3
            groups while nothing is known of the task.
        acceptance_aware (`bool`, *optional*, defaults to `True`):
            Whether requests allow for the groups that the filter will drop. Otherwise m = 1.
        preserve_ratio (`bool`, *optional*, defaults to `True`):
            Whether each task must have its desired number. `False` is DAPO's refill: requests follow z, any group
            fills any place.
        group_multiple (`int`, *optional*, defaults to `1`):
            Each request's total is rounded up to a multiple of this, so that all ranks get equally many rows.
        max_surplus_age (`int`, *optional*, defaults to `0`):
            Steps for which the caller keeps accepted groups beyond the desired ones. It does not change what the
            sampler keeps, only how much a surplus is worth to it.
        round_cost (`float`, *optional*):
            What avoiding one further round is worth to an adaptive request, in batches of `num_groups` groups. 0.25
            when surplus is kept and 1.65 otherwise: on the paper's 3-task series about 1.05 rounds per step with
            surplus kept for two steps, and 1.3 without.
        max_waste (`float`, *optional*):
            Expected useless groups, as a share of the expected need, at which an adaptive request stops growing.
            0.1 when surplus is kept, 1.0 otherwise, where waste is the price of few rounds.
        fill_probability (`float`, *optional*):
            Sizes an adaptive request to fill all deficits with this probability, as far as `max_inflation` and
            `max_waste` allow, instead of weighing it against `round_cost`.
        max_groups (`int`, *optional*):
            Most groups generated per step; a request is cut to what is left, each place that is owed getting the same
            number of groups. When not given, min(3 (1 + N_rs), 16) B for adaptive requests, and for a factor what its
            rounds come to.
        max_tokens (`float`, *optional*):
            Generated tokens per step at which no further round is planned; requests are cut to what is left, by the
            tokens that groups have cost so far. The first round is always made, if only of `group_multiple` groups.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.sampling import RatioPreservingSampler
    >>> sampler = RatioPreservingSampler(num_groups=8, oversampling=1.0)
    >>> rng = np.random.default_rng(0)
    >>> ledger = sampler.open(np.array([0.75, 0.25]), rng)
    >>> request = sampler.plan(ledger, np.array([0.5, 0.5]), rng)
    >>> ledger = ledger.record(generated=request, accepted=request)
    >>> sampler.plan(ledger, np.array([0.5, 0.5]), rng) is None
    True

    ```
    """

    num_groups: int
    oversampling: Literal["adaptive"] | float = "adaptive"
    max_rounds: int = 10
    max_inflation: float = 5.0
    acceptance_aware: bool = True
    preserve_ratio: bool = True
    group_multiple: int = 1
    max_surplus_age: int = 0
    round_cost: float | None = None
    max_waste: float | None = None
    fill_probability: float | None = None
    max_tokens: float | None = None
    max_groups: int | None = None

    def __post_init__(self) -> None:
        if self.num_groups < 1:
            raise ValueError(f"`num_groups` must be at least 1, got {self.num_groups}. Pass the groups per step.")
        if self.oversampling != "adaptive" and not (
            not isinstance(self.oversampling, str) and np.isfinite(self.oversampling) and self.oversampling >= 1.0
        ):
            raise ValueError(
                f"`oversampling` must be 'adaptive' or a factor of at least 1, got {self.oversampling!r}. The paper "
                "uses 3.0."
            )
        if self.max_rounds < 0:
            raise ValueError(f"`max_rounds` must be non-negative, got {self.max_rounds}. Pass 0 for no refill.")
        if not self.max_inflation >= 1:
            raise ValueError(f"`max_inflation` must be at least 1, got {self.max_inflation}. The paper uses 5.")
        if self.group_multiple < 1:
            raise ValueError(
                f"`group_multiple` must be at least 1, got {self.group_multiple}. Pass 1 for a single process."
            )
        if self.max_surplus_age < 0:
            raise ValueError(
                f"`max_surplus_age` must be non-negative, got {self.max_surplus_age}. Pass 0 to drop surplus."
            )
        if self.fill_probability is not None and not 0 < self.fill_probability < 1:
            raise ValueError(
                f"`fill_probability` must be in (0, 1), got {self.fill_probability}. Leave it out for the default."
            )
        if self.round_cost is not None and not self.round_cost >= 0:
            raise ValueError(f"`round_cost` must be non-negative, got {self.round_cost}. Pass 0 to save no rounds.")
        if self.max_waste is not None and not self.max_waste >= 0:
            raise ValueError(f"`max_waste` must be non-negative, got {self.max_waste}. Leave it out for the default.")
        if self.max_groups is not None and not self.max_groups >= 1:
            raise ValueError(f"`max_groups` must be at least 1, got {self.max_groups}. Leave it out for the default.")
        if self.max_tokens is not None and not self.max_tokens > 0:
            raise ValueError(f"`max_tokens` must be positive, got {self.max_tokens}. Leave it out for no limit.")

    @property
    def group_limit(self) -> int | None:
        """
        Most groups that a step generates; `None` for a factor without `max_groups`, which its rounds bound. Where it
        is below `group_multiple` it is raised to that: ranks cannot share fewer groups.
        """
        limit = self.max_groups
        if limit is None:
            if self.oversampling != "adaptive":
                return None
            limit = min(MOST_BATCHES, FIRST_REQUEST * (1 + self.max_rounds)) * self.num_groups
        return max(limit, self.group_multiple)

    def open(self, task_weights: ArrayLike, rng: np.random.Generator, carried: ArrayLike | None = None) -> BatchLedger:
        """
        The ledger of a new step, with its desired counts drawn (Algorithm 2, line 1).

        Args:
            task_weights (`numpy.ndarray` of shape `(K,)`):
                z, on the simplex.
            rng (`numpy.random.Generator`):
                Source of the draw, the same on every rank.
            carried (`numpy.ndarray` of `int`, shape `(K,)`, *optional*):
                Accepted groups kept from earlier steps; they count toward the deficits.

        Returns:
            [`BatchLedger`]: what the caller knows besides is added by [`BatchLedger.with_context`].

        Raises:
            ValueError: If `task_weights` are off the simplex, or a count is negative.
        """
        weights = np.asarray(task_weights, dtype=np.float64)
        if weights.ndim != 1 or not ((weights >= 0).all() and abs(float(weights.sum()) - 1.0) <= 1e-6):
            raise ValueError(
                f"`task_weights` must be non-negative and add up to 1, got {weights.tolist()}. Pass the weights of a "
                "`TaskWeighting`."
            )
        weights = weights / weights.sum()
        desired = rng.multinomial(self.num_groups, weights).astype(np.int64)
        return BatchLedger.start(weights, desired, carried, self.preserve_ratio)

    def plan(
        self, ledger: BatchLedger, acceptance: AcceptanceEstimate | ArrayLike, rng: np.random.Generator
    ) -> IntVector | None:
        """
        Groups to generate next, shape `(K,)`, or `None` when the step has what it wants or its budget ends.

        Args:
            ledger ([`BatchLedger`]):
                The step so far.
            acceptance ([`AcceptanceEstimate`] or `numpy.ndarray` of shape `(K,)`):
                1 - ρ per task: an estimate, or rates that are taken for certain.
            rng (`numpy.random.Generator`):
                Source of the multinomial draws of a fixed factor; the same on every rank.
        """
        # A task that yields nothing leaves its places to others instead of using up the step's rounds.
        deficits = np.where(self._given_up(ledger), 0, ledger.deficits)
        if not deficits.any() or ledger.rounds > self.max_rounds:
            return None
        alpha, beta = beta_parameters(acceptance, ledger.weights.size)
        most = self._affordable(ledger, unknown=alpha + beta <= NOTHING_KNOWN)
        if most is not None and most == 0:
            return None
        if self.oversampling == "adaptive":
            request = self._adaptive_request(ledger, deficits, alpha, beta, rng)
        else:
            request = self._fixed_request(ledger, deficits, alpha, beta, rng)
        if ledger.rounds == 0:
            request = request + ledger.probes
        inflated = self._inflation(alpha, beta)
        usable = ledger.weights if self.max_surplus_age else deficits.astype(np.float64)
        request = self._rounded(request, usable * inflated)
        # Of a factor's draw, which follows no deficit, every group is as good as another.
        follows = self.oversampling == "adaptive" and self.preserve_ratio
        owed = (np.maximum(deficits, 1) if follows else request).astype(np.float64)
        if most is not None and int(request.sum()) > most:
            request = fair_cut(request, owed, most)
        return self._within_tokens(request, owed, ledger)

    def select(self, task_ids: ArrayLike, ledger: BatchLedger, rng: np.random.Generator) -> IntVector:
        """
        Which of the accepted groups train: min(n_k, c_k) of each task, the earliest first, then others at random until
        the batch is full (Algorithm 2, last lines). Without `preserve_ratio`: the carried groups, then others at
        random.

        Args:
            task_ids (`numpy.ndarray` of `int`, shape `(N,)`):
                Task of each available group, the carried ones first, so that the oldest train first.
            ledger ([`BatchLedger`]):
                The step's ledger.
            rng (`numpy.random.Generator`):
                Source of the random fill; the same on every rank.

        Returns:
            `numpy.ndarray` of `int`: ascending positions in `task_ids`, at most `num_groups`.
        """
        ids = np.asarray(task_ids, dtype=np.int64)
        num_tasks = ledger.desired.size
        if ids.size and not (ids.min() >= 0 and ids.max() < num_tasks):
            raise ValueError(
                f"`task_ids` must be in 0..{num_tasks - 1}, got {ids.min()}..{ids.max()}. Pass positions of tasks."
            )
        quota = ledger.desired if self.preserve_ratio else ledger.carried
        # Position of each group among those of its own task: (N,)
        by_task = np.argsort(ids, kind="stable")
        counts = np.bincount(ids, minlength=num_tasks)
        rank = np.empty(ids.size, dtype=np.int64)
        rank[by_task] = np.arange(ids.size) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = rank < quota[ids]
        keep = np.flatnonzero(chosen)[: self.num_groups]
        room = self.num_groups - keep.size
        others = np.flatnonzero(~chosen)
        if room > 0 and others.size:
            extra = rng.choice(others, size=min(room, others.size), replace=False)
            keep = np.sort(np.concatenate([keep, extra]))
        return keep

    def _adaptive_request(
        self, ledger: BatchLedger, deficits: IntVector, alpha: FloatVector, beta: FloatVector, rng: np.random.Generator
    ) -> IntVector:
        if not self.acceptance_aware:
            return deficits if self.preserve_ratio else rng.multinomial(int(deficits.sum()), ledger.weights)
        weights = ledger.weights
        unknown = alpha + beta <= NOTHING_KNOWN
        if not self.preserve_ratio:
            unknown = np.array([unknown.all()])
            deficits, alpha, beta = pooled(deficits, alpha, beta, weights)
            weights = np.ones(1)
        horizon = self.num_groups * self.max_surplus_age
        # A kept surplus is seldom lost, so few groups buy few rounds; without, every spare group is paid for.
        round_cost, max_waste = (0.25, 0.1) if self.max_surplus_age else (1.65, 1.0)
        round_cost = round_cost if self.round_cost is None else self.round_cost
        goal = RequestGoal(
            round_cost=round_cost * self.num_groups,
            fill_probability=self.fill_probability,
            max_waste=max_waste if self.max_waste is None else self.max_waste,
            rounds_left=self.max_rounds + 1 - ledger.rounds,
            reuse_mean=horizon * weights,
            reuse_variance=horizon * weights * (1.0 - weights),
        )
        caps = self._caps(ledger, deficits, unknown)
        request = size_requests(deficits, caps, alpha, beta, goal, self.group_multiple)
        if not self.preserve_ratio:
            return rng.multinomial(int(request.sum()), ledger.weights).astype(np.int64)
        if self.max_surplus_age:
            # What has yielded nothing is asked for as much again, so that its rounds grow with the log of its cost.
            again = np.where(ledger.accepted == 0, np.minimum(ledger.generated, caps), 0)
            request = np.maximum(request, np.where(deficits > 0, again, 0))
        return request

    def _fixed_request(
        self, ledger: BatchLedger, deficits: IntVector, alpha: FloatVector, beta: FloatVector, rng: np.random.Generator
    ) -> IntVector:
        first = ledger.rounds == 0
        if self.oversampling == 1.0 and first and self.preserve_ratio:
            return deficits
        total = round(float(self.oversampling) * self.num_groups)
        total += -total % self.group_multiple
        shares = ledger.weights if first or not self.preserve_ratio else deficits.astype(np.float64)
        if self.preserve_ratio:
            shares = shares * self._inflation(alpha, beta)
        return rng.multinomial(total, shares / shares.sum()).astype(np.int64)

    def _caps(self, ledger: BatchLedger, deficits: IntVector, unknown: NDArray[np.bool_]) -> IntVector:
        """Most groups to ask of each task (or of the batch) in this round, shape of `deficits`."""
        # Where a surplus is thrown away, a guess that is too high is paid for, and asking again is not.
        deepest = PAPER_OVERSAMPLING * self.max_inflation * (DEEPER if self.max_surplus_age else 1)
        per_place = np.where(unknown, FIRST_REQUEST, deepest)
        caps = np.ceil(per_place * deficits).astype(np.int64)
        if ledger.rounds and self.preserve_ratio:
            # What has yielded nothing in this step is not asked for more than it takes to give it up.
            dry = ledger.accepted == 0
            caps = np.where(dry, np.minimum(caps, self._patience(ledger) - ledger.generated), caps)
        return caps

    def _patience(self, ledger: BatchLedger) -> IntVector:
        if ledger.patience is not None:
            return ledger.patience
        return np.full(ledger.desired.size, max(GIVE_UP_BATCHES * self.num_groups, GIVE_UP_LEAST))

    def _given_up(self, ledger: BatchLedger) -> NDArray[np.bool_]:
        patience = self._patience(ledger)
        if not self.preserve_ratio:  # any group fills any place, so the tasks are given up together or not at all
            hopeless = ledger.accepted.sum() == 0 and ledger.generated.sum() >= patience.max()
            return np.full(ledger.desired.size, hopeless)
        return np.asarray((ledger.accepted == 0) & (ledger.generated > 0) & (ledger.generated >= patience))

    def _inflation(self, alpha: FloatVector, beta: FloatVector) -> FloatVector:
        """m = min(1 / (1 - ρ), M_acc), shape `(K,)`."""
        if not self.acceptance_aware:
            return np.ones(alpha.size)
        return np.minimum((alpha + beta) / alpha, self.max_inflation)

    def _rounded(self, request: IntVector, shares: FloatVector) -> IntVector:
        missing = -int(request.sum()) % self.group_multiple
        return request + apportion(missing, shares) if missing else request

    def _affordable(self, ledger: BatchLedger, unknown: NDArray[np.bool_]) -> int | None:
        """Groups that the step may still generate in this round, a multiple of `group_multiple`; `None` for any."""
        if self.group_limit is None:
            return None
        # What counts is rollouts: groups that ended early have cost less than one.
        most = self.group_limit - math.ceil(float(ledger.generated.sum()) - ledger.spared)
        if self.oversampling == "adaptive" and unknown.all():
            most = min(most, max(FIRST_REQUEST * self.num_groups, self.group_multiple))
        return max(most - most % self.group_multiple, 0)

    def _within_tokens(self, request: IntVector, owed: FloatVector, ledger: BatchLedger) -> IntVector | None:
        """`request`, or as much of it as the step's tokens still buy."""
        if self.max_tokens is None:
            return request
        left = self.max_tokens - float(ledger.tokens.sum())
        if left <= 0 and ledger.rounds > 0:
            return None
        cost = ledger.expected_tokens
        if cost is None or float(cost @ request) <= left:
            return request
        # The cost grows with the amount but for rounding, so the largest amount that fits is near where they cross.
        fits, above = 0, int(request.sum()) // self.group_multiple
        while above - fits > 1:
            middle = (fits + above) // 2
            smaller = fair_cut(request, owed, middle * self.group_multiple)
            fits, above = (middle, above) if float(cost @ smaller) <= left else (fits, middle)
        if fits == 0 and ledger.rounds > 0:
            return None
        return fair_cut(request, owed, min(max(fits, 1) * self.group_multiple, int(request.sum())))
