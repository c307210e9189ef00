"""Every strategy's weights after three updates on one small input, pinned: a change here changes someone's run."""

import numpy as np
import pytest
from _asserts import STRATEGIES, run

from trl_mtgrpo.weighting import TaskSignal


HISTORY = [
    TaskSignal(
        np.array([0.8, 0.5, 0.3]), np.array([0.3, 0.02, -0.05]), np.array([0.4, 0.7, 0.6]), np.array([4, 3, 1])
    ),
    TaskSignal(np.array([0.8, 0.6, 0.3]), np.array([0.05, 0.0, 0.0]), np.array([0.3, 0.0, 0.0]), np.array([8, 0, 0])),
    TaskSignal(np.array([0.9, 0.6, 0.2]), np.array([0.01, 0.2, 0.1]), np.array([0.2, 0.8, 0.7]), np.array([2, 4, 2])),
]

PINNED = {
    "improvement_aware": [0.306272, 0.341642, 0.352087],
    "improvement_aware_neutral": [0.310149, 0.335055, 0.354796],
    "improvement_aware_adamw": [0.309561, 0.339393, 0.351046],
    "improvement_aware_bounded": [0.310844, 0.335003, 0.354152],
    "reward_only": [0.307915, 0.334445, 0.357640],
    "reward_only_strict": [0.307718, 0.334868, 0.357415],
    "reward_only_sgd": [0.324183, 0.332814, 0.343003],
    "sec": [0.093373, 0.537327, 0.369299],
    "sec_decaying": [0.140486, 0.494815, 0.364698],
    "fixed": [0.333333, 0.333333, 0.333333],
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_weights_are_the_pinned_ones(name):
    weighting = STRATEGIES[name]
    np.testing.assert_allclose(weighting.weights(run(weighting, HISTORY)), PINNED[name], atol=1e-6)
