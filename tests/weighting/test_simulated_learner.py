"""What the strategies do to a learner that answers to them: the collapse of Figure 2, and what prevents it."""

import numpy as np

from trl_mtgrpo.weighting import ImprovementAwareWeighting, PlateauGuard, RewardOnlyWeighting, TaskSignal


NUM_GROUPS, NUM_MINIBATCHES = 32, 4


def train(weighting, num_steps=720, learnable=(True, True, True), guard=None, seed=0):
    """
    Three tasks that approach a ceiling in proportion to their share of the batch and are slowly forgotten otherwise.
    The in-sample improvement of a minibatch is a sum over its groups, as the released code measures it, with one
    update of the weights per minibatch.
    """
    rng = np.random.default_rng(seed)
    ceiling = np.array([0.65, 0.85, 0.60])
    speed = 0.15 * np.array([0.25, 1.0, 0.1]) * learnable
    accuracy = np.array([0.02, 0.02, 0.27])
    state = weighting.init(3)
    held = guard.init(3) if guard else None
    weights, accuracies = [], []
    for _ in range(num_steps):
        z = weighting.weights(state) if guard is None else guard.bound(weighting.weights(state), held)
        counts = rng.multinomial(NUM_GROUPS, z)
        left = counts.copy()
        for minibatch in range(NUM_MINIBATCHES):
            size = int(left.sum()) // (NUM_MINIBATCHES - minibatch)
            part = rng.multivariate_hypergeometric(left, size)
            left = left - part
            improvement = 0.05 * part * (1 + 0.3 * rng.standard_normal(3))
            state = weighting.update(TaskSignal(accuracy, improvement, counts=part), state)
        share = counts / NUM_GROUPS
        gain = speed * share * np.maximum(accuracy, 0.05) * (1 - accuracy / ceiling)
        accuracy = accuracy + gain - 0.0013 * (1 - share) * accuracy
        if guard:
            held = guard.update(weighting.weights(state), accuracy, held)
        weights.append(z)
        accuracies.append(accuracy)
    return np.array(weights), np.array(accuracies)


def test_strict_worst_task_weights_collapse_onto_one_task_after_another():
    weights, _ = train(RewardOnlyWeighting(decay=0.0))
    dominant = weights.argmax(axis=1)[weights.max(axis=1) > 0.95]
    assert dominant.size > len(weights) / 2
    assert np.unique(dominant).size >= 2
    assert weights.min() < 0.01


def test_improvement_aware_weights_keep_every_task_above_one_percent():
    weights, _ = train(ImprovementAwareWeighting(absent_improvement="zero"))
    assert weights.min() > 0.01


def test_summed_improvements_balance_only_while_an_absent_task_counts_as_zero():
    balanced, _ = train(ImprovementAwareWeighting(absent_improvement="zero"))
    neutral, _ = train(ImprovementAwareWeighting(absent_improvement="neutral"))
    assert neutral.min() < 0.01 < balanced.min()


def test_a_task_that_cannot_be_learned_swallows_the_run_unless_guarded():
    stuck = (False, True, True)
    weighting = ImprovementAwareWeighting(tradeoff=1.2, absent_improvement="zero")
    unguarded, _ = train(weighting, learnable=stuck)
    guarded, _ = train(weighting, learnable=stuck, guard=PlateauGuard())
    assert unguarded[360:, 0].mean() > 0.6
    assert guarded[360:, 0].mean() < 0.45
