"""Pass rates of made-up prompts that agree with a task's accuracy and its share of mixed groups."""

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


FloatVector = NDArray[np.float64]

# Spreads of difficulty that are tried, in logits, and the prompts on which they are.
_SPREADS = np.concatenate([[0.0], np.geomspace(0.05, 60.0, 79)])
_NODES = 201
# Logits of a task's skill between which it is sought; beyond them a pass rate is 0 or 1 in double precision.
_REACH = 400.0


def difficulties(num_prompts: int) -> FloatVector:
    """
    Difficulties of the prompts of a task: equally likely quantiles of the standard normal distribution.

    Args:
        num_prompts (`int`):
            Prompts of the task.

    Returns:
        `np.ndarray`: shape `(n,)`, ascending.
    """
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / num_prompts) for i in range(num_prompts)])


def most_mixed(accuracy: float, num_generations: int) -> float:
    r"""
    The largest share of mixed groups that a task can have, with all its prompts alike: \(1 - p^G - (1 - p)^G\).

    Args:
        accuracy (`float`):
            Mean pass rate (p).
        num_generations (`int`):
            Rollouts per group (G).

    Returns:
        `float`
    """
    return float(1.0 - accuracy**num_generations - (1.0 - accuracy) ** num_generations)


def pass_rates(accuracy: float, acceptance: float, num_generations: int, difficulty: FloatVector) -> FloatVector:
    r"""
    Pass rates \(\sigma(\text{skill} - \text{spread} \cdot \text{difficulty})\), the Rasch model, whose mean is the
    task's accuracy and of whose groups of G the given share is mixed.

    Args:
        accuracy (`float`):
            Mean pass rate of the task, in 0..1.
        acceptance (`float`):
            Share of groups with a right and a wrong rollout. What is above [`most_mixed`] is taken for that.
        num_generations (`int`):
            Rollouts per group (G).
        difficulty (`np.ndarray`, shape `(n,)`):
            How hard each prompt is, see [`difficulties`].

    Returns:
        `np.ndarray`: shape `(n,)`.
    """
    # A thousandth is far below what a run's log can tell, and a run has few different values then.
    skill, spread = _fitted(round(accuracy, 3), round(acceptance, 3), num_generations)
    return _sigmoid(skill - spread * difficulty)


@lru_cache(maxsize=4096)
def _fitted(accuracy: float, acceptance: float, num_generations: int) -> tuple[float, float]:
    nodes = difficulties(_NODES)
    skills = _skills(accuracy, nodes)
    rates = _sigmoid(skills[:, None] - _SPREADS[:, None] * nodes)
    mixed = (1.0 - rates**num_generations - (1.0 - rates) ** num_generations).mean(axis=1)
    # Mixed groups become fewer as prompts become more different.
    spread = float(np.interp(-acceptance, -mixed, _SPREADS))
    return float(np.interp(spread, _SPREADS, skills)), spread


def _skills(accuracy: float, nodes: FloatVector) -> FloatVector:
    """The skill of each spread at which the mean pass rate is `accuracy`, by bisection."""
    low, high = np.full(len(_SPREADS), -_REACH), np.full(len(_SPREADS), _REACH)
    for _ in range(60):
        middle = (low + high) / 2.0
        above = _sigmoid(middle[:, None] - _SPREADS[:, None] * nodes).mean(axis=1) > accuracy
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2.0


def _sigmoid(logits: FloatVector) -> FloatVector:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -_REACH, _REACH)))
