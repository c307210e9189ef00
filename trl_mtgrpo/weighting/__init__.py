"""
How the task weights move. A weighting maps what was observed of each task to weights on the simplex; the sampler turns
the weights into a batch. Strategies are frozen values, all their memory is in a [`WeightingState`]:

```python
>>> import numpy as np
>>> from trl_mtgrpo.weighting import ImprovementAwareWeighting, TaskSignal
>>> weighting = ImprovementAwareWeighting(tradeoff=0.2)
>>> state = weighting.init(num_tasks=3)
>>> signal = TaskSignal(
...     rewards=np.array([0.8, 0.5, 0.3]),
...     improvements=np.array([0.02, 0.1, 0.0]),
...     counts=np.array([12, 12, 8]),
... )
>>> state = weighting.update(signal, state)
>>> [round(weight, 3) for weight in weighting.weights(state).tolist()]
[0.328, 0.328, 0.345]

```

This package needs numpy and the standard library only.
"""

from .base import TaskSignal, TaskVector, TaskWeighting, WeightingState, bounded_simplex, softmax, softmax_gradient
from .fixed import FixedWeighting
from .guard import GuardState, PlateauGuard
from .improvement_aware import ImprovementAwareWeighting
from .optimizers import WeightOptimizer, optimizer_step
from .reward_only import RewardOnlyWeighting
from .sec import SelfEvolvingCurriculum


__all__ = [
    "FixedWeighting",
    "GuardState",
    "ImprovementAwareWeighting",
    "PlateauGuard",
    "RewardOnlyWeighting",
    "SelfEvolvingCurriculum",
    "TaskSignal",
    "TaskVector",
    "TaskWeighting",
    "WeightOptimizer",
    "WeightingState",
    "bounded_simplex",
    "optimizer_step",
    "softmax",
    "softmax_gradient",
]
