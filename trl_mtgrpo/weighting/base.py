"""What a weighting strategy sees, remembers and answers, and the arithmetic on the simplex that strategies share."""

from dataclasses import dataclass, field, fields
from typing import Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray


TaskVector: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TaskSignal:
    """
    What one update of the task weights may look at. Index k is the position of the task in the mixture.

    Args:
        rewards (`numpy.ndarray` of shape `(K,)`):
            J_k, the task's outcome over everything generated (accuracy, or mean reward scaled to 0..1). A task that
            was not generated keeps its last value; NaN means that it has never been observed.
        improvements (`numpy.ndarray` of shape `(K,)`, *optional*, defaults to zeros):
            I_k before clipping: what the policy update changed in the task's objective, after minus before.
        advantages (`numpy.ndarray` of shape `(K,)`, *optional*, defaults to zeros):
            Mean absolute advantage over the task's rollouts in the trained batch.
        counts (`numpy.ndarray` of shape `(K,)`, *optional*, defaults to ones):
            Number of groups of the task in the trained batch. 0 means that `improvements` and `advantages` say nothing
            about the task.

    Raises:
        ValueError: If the shapes differ, a value is infinite, or a count is negative.
    """

    rewards: TaskVector
    improvements: TaskVector = None  # type: ignore[assignment]
    advantages: TaskVector = None  # type: ignore[assignment]
    counts: TaskVector = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        num_tasks = np.size(self.rewards)
        defaults = {"improvements": 0.0, "advantages": 0.0, "counts": 1.0}
        for place in fields(self):
            value = getattr(self, place.name)
            value = np.full(num_tasks, defaults[place.name]) if value is None else np.array(value, dtype=np.float64)
            if value.shape != (num_tasks,):
                raise ValueError(
                    f"`{place.name}` must be of shape ({num_tasks},) like `rewards`, got {value.shape}. Pass one "
                    "value per task, in the order of the mixture."
                )
            if np.isinf(value).any():
                raise ValueError(
                    f"`{place.name}` must be finite or NaN, got {value.tolist()}. Check the task's reward function."
                )
            object.__setattr__(self, place.name, value)
        if not (self.counts >= 0).all():
            raise ValueError(
                f"`counts` must be non-negative, got {self.counts.tolist()}. Pass 0 for a task that was not trained."
            )

    @property
    def num_tasks(self) -> int:
        """Number of tasks K."""
        return self.rewards.size

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Which tasks had a group in the trained batch, shape `(K,)`."""
        return self.counts > 0


@dataclass(frozen=True, eq=False)
class WeightingState:
    """
    Everything a weighting strategy remembers. A checkpoint is this value written down, a resumed run this value read.

    A field with one entry per task says in its metadata what a task gets that is new on resume; a strategy whose
    memory is a frozen dataclass of its own does the same.

    Args:
        values (`numpy.ndarray` of shape `(K,)`):
            The logits ξ, the Q values of a bandit, or the weights themselves, as the strategy defines them.
        first_moment (`numpy.ndarray` of shape `(K,)`):
            Running mean of the gradient. Zero for strategies without an optimizer.
        second_moment (`numpy.ndarray` of shape `(K,)`):
            Running mean of the squared gradient. Zero for strategies without an optimizer.
        step (`int`):
            Number of updates made.
    """

    values: TaskVector = field(metadata={"new_task": "mean"})
    first_moment: TaskVector = field(metadata={"new_task": 0.0})
    second_moment: TaskVector = field(metadata={"new_task": "mean"})
    step: int

    @classmethod
    def zeros(cls, num_tasks: int) -> "WeightingState":
        """The state before the first update: zero logits, which stand for uniform weights."""
        if num_tasks < 1:
            raise ValueError(f"`num_tasks` must be at least 1, got {num_tasks}. Pass the number of tasks.")
        return cls(np.zeros(num_tasks), np.zeros(num_tasks), np.zeros(num_tasks), 0)

    @property
    def num_tasks(self) -> int:
        """Number of tasks K."""
        return self.values.size


class TaskWeighting(Protocol):
    """
    How the task weights z move. Three pure functions; all memory is in the [`WeightingState`] handed back and forth.

    A task that had no group in the trained batch (`signal.counts == 0`) must not gain or lose weight *because* it was
    not observed: its improvement and advantage are unknown, not zero.
    """

    def init(self, num_tasks: int) -> WeightingState:
        """The state before the first update."""
        ...

    def update(self, signal: TaskSignal, state: WeightingState) -> WeightingState:
        """The state after seeing `signal`. Leaves its arguments as they were."""
        ...

    def weights(self, state: WeightingState) -> TaskVector:
        """Task weights z on the simplex, shape `(K,)`."""
        ...


def softmax(logits: TaskVector) -> TaskVector:
    """Softmax of `logits`, shape `(K,)`; finite for any finite input."""
    exponentials = np.exp(logits - logits.max())
    return cast(TaskVector, exponentials / exponentials.sum())


def softmax_gradient(signal: TaskVector, weights: TaskVector) -> TaskVector:
    """
    Gradient of Σ_k z_k s_k with respect to the logits of z, the direction both subroutines of the paper descend.

    $$ g_k = z_k (s_k - \\sum_j z_j s_j) $$

    Args:
        signal (`numpy.ndarray` of shape `(K,)`):
            s, one value per task. A low signal means that the weight goes up in a descent step.
        weights (`numpy.ndarray` of shape `(K,)`):
            z = softmax(ξ).

    Example:

    ```python
    >>> import numpy as np
    >>> from trl_mtgrpo.weighting import softmax_gradient
    >>> softmax_gradient(np.array([1.0, 0.0]), np.array([0.5, 0.5])).tolist()
    [0.25, -0.25]

    ```
    """
    # Only differences count; taking them first keeps a common offset from costing digits.
    centred = signal - signal.max()
    return cast(TaskVector, weights * (centred - weights @ centred))


def fill_unknown(values: TaskVector, known: NDArray[np.bool_], weights: TaskVector) -> TaskVector:
    """
    `values` with the unknown entries replaced by the weight-averaged known value, shape `(K,)`.

    In [`softmax_gradient`] such an entry is neutral: it pulls its task neither up nor down relative to the average.
    """
    share = float(weights[known].sum())
    if share > 0:
        average = float(values[known] @ (weights[known] / share))
    else:
        average = float(values[known].mean()) if known.any() else 0.0
    return np.where(known, values, average)


def bounded_simplex(weights: TaskVector, floor: float = 0.0, cap: float | TaskVector = 1.0) -> TaskVector:
    """
    Weights with a floor under and a cap over every task's share.

    The floor mixes with the uniform distribution, z = floor + (1 - K floor) w, so that order is kept. What a cap cuts
    off is given to the other tasks in proportion to their weights, until none exceeds it.

    Args:
        weights (`numpy.ndarray` of shape `(K,)`):
            Weights on the simplex.
        floor (`float`, *optional*, defaults to `0.0`):
            Least share of a task. The paper has none.
        cap (`float` or `numpy.ndarray` of shape `(K,)`, *optional*, defaults to `1.0`):
            Greatest share of a task, one for all or one each.

    Raises:
        ValueError: If no weights satisfy the bounds: K floor > 1, or the caps add up to less than 1.
    """
    num_tasks = weights.size
    check_bounds(floor, cap, num_tasks)
    bounded = floor + (1.0 - num_tasks * floor) * weights
    caps = np.broadcast_to(np.asarray(cap, dtype=np.float64), (num_tasks,))
    capped = np.zeros(num_tasks, dtype=bool)
    # Each pass caps at least one more task, so K passes suffice.
    while (over := (bounded > caps) & ~capped).any():
        capped |= over
        free = ~capped
        rest = 1.0 - float(caps[capped].sum())
        bounded = np.where(capped, caps, bounded)
        if free.any():
            share = float(bounded[free].sum())
            bounded[free] = bounded[free] * (rest / share) if share > 0 else rest / int(free.sum())
    return cast(TaskVector, bounded / bounded.sum())


def check_bounds(floor: float, cap: float | TaskVector, num_tasks: int | None = None) -> None:
    """Raises `ValueError` unless some weights of `num_tasks` tasks respect `floor` and `cap`."""
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"`floor` must be between 0 and 1, got {floor}. Pass the least share of a task, 0 for none.")
    if not (np.all(np.asarray(cap) >= 0.0) and np.all(np.asarray(cap) <= 1.0)):
        raise ValueError(f"`cap` must be between 0 and 1, got {cap}. Pass the greatest share of a task, 1 for none.")
    if num_tasks is None:
        return
    if num_tasks * floor > 1.0 + 1e-9:
        raise ValueError(
            f"`floor` must be at most 1/K = {1 / num_tasks:.4g} for {num_tasks} tasks, got {floor}. Lower the floor."
        )
    if float(np.broadcast_to(np.asarray(cap, dtype=np.float64), (num_tasks,)).sum()) < 1.0 - 1e-9:
        raise ValueError(
            f"`cap` must be at least 1/K = {1 / num_tasks:.4g} for {num_tasks} tasks, got {cap}. Raise the cap."
        )


def as_task_vector(name: str, values: ArrayLike, num_tasks: int) -> TaskVector:
    """`values` as float64 of shape `(K,)`, or a `ValueError` that names them."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (num_tasks,):
        raise ValueError(f"`{name}` must be of shape ({num_tasks},), got {vector.shape}. Pass one value per task.")
    return vector
