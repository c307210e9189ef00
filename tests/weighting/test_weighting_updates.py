"""Each strategy's update against the same update written by hand."""

import re

import numpy as np
import pytest
from _asserts import run

from trl_mtgrpo.weighting import (
    FixedWeighting,
    ImprovementAwareWeighting,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    TaskSignal,
    WeightingState,
    optimizer_step,
)


def adam_by_hand(logits, gradients, lr, decay):
    """Textbook Adam with the decay inside the gradient, one scalar at a time."""
    result = []
    for k in range(len(logits)):
        x, m, v = logits[k], 0.0, 0.0
        for t, gradient in enumerate(gradients[k], start=1):
            g = gradient + decay * x
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            x -= lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        result.append(x)
    return result


def test_adam_couples_the_decay_into_the_gradient():
    state = WeightingState(np.array([1.0, -2.0]), np.zeros(2), np.zeros(2), 0)
    gradients = [[0.3, -0.1, 0.2], [0.0, 0.5, -0.4]]
    for t in range(3):
        state = optimizer_step(state, np.array([g[t] for g in gradients]), optimizer="adam", lr=0.1, decay=0.05)
    np.testing.assert_allclose(state.values, adam_by_hand([1.0, -2.0], gradients, 0.1, 0.05), atol=1e-12)


def test_adamw_shrinks_the_logits_apart_from_the_gradient():
    # A zero gradient leaves the moments empty, so only xi <- (1 - .1 * .5) xi acts.
    state = WeightingState(np.array([2.0]), np.zeros(1), np.zeros(1), 0)
    state = optimizer_step(state, np.zeros(1), optimizer="adamw", lr=0.1, decay=0.5)
    np.testing.assert_allclose(state.values, [1.9])


def test_sgd_takes_a_plain_step():
    # xi - lr (g + decay xi) = 1 - .1 (.5 + .2 * 1) = .93
    state = WeightingState(np.array([1.0]), np.zeros(1), np.zeros(1), 0)
    state = optimizer_step(state, np.array([0.5]), optimizer="sgd", lr=0.1, decay=0.2)
    np.testing.assert_allclose(state.values, [0.93])


@pytest.mark.parametrize("num_tasks", [3, 9])
@pytest.mark.parametrize("absent", ["neutral", "zero"])
def test_improvement_aware_weights_equal_the_update_written_by_hand(num_tasks, absent):
    rng = np.random.default_rng(num_tasks)
    weighting = ImprovementAwareWeighting(
        tradeoff=0.25, lr=0.025, decay=1e-4, improvement_clip=0.1, absent_improvement=absent
    )
    state = weighting.init(num_tasks)
    logits, m, v, t = [0.0] * num_tasks, [0.0] * num_tasks, [0.0] * num_tasks, 0
    clipped_values = absent_tasks = 0
    for _ in range(40):
        rewards = rng.uniform(size=num_tasks)
        for _ in range(4):
            raw, counts = rng.normal(0, 0.15, num_tasks), rng.integers(0, 3, num_tasks)
            state = weighting.update(TaskSignal(rewards, raw, np.zeros(num_tasks), counts), state)

            exponentials = [np.exp(x) for x in logits]
            z = [e / sum(exponentials) for e in exponentials]
            improvement = [min(max(value, -0.1), 0.1) for value in raw]
            clipped_values += sum(abs(value) > 0.1 for value in raw)
            absent_tasks += int((counts == 0).sum())
            present = [k for k in range(num_tasks) if counts[k] > 0]
            average = sum(z[k] * improvement[k] for k in present) / sum(z[k] for k in present) if present else 0.0
            for k in range(num_tasks):
                if counts[k] == 0:
                    improvement[k] = average if absent == "neutral" else 0.0
            s = [improvement[k] + 0.25 * rewards[k] for k in range(num_tasks)]
            mean = sum(z[k] * s[k] for k in range(num_tasks))
            t += 1
            for k in range(num_tasks):
                g = z[k] * (s[k] - mean) + 1e-4 * logits[k]
                m[k] = 0.9 * m[k] + 0.1 * g
                v[k] = 0.999 * v[k] + 0.001 * g * g
                logits[k] -= 0.025 * (m[k] / (1 - 0.9**t)) / ((v[k] / (1 - 0.999**t)) ** 0.5 + 1e-8)
    exponentials = np.exp(logits)
    assert clipped_values > 0
    assert absent_tasks > 0
    np.testing.assert_allclose(weighting.weights(state), exponentials / exponentials.sum(), atol=1e-6)


def test_without_a_clip_the_whole_improvement_counts():
    signal = TaskSignal(np.zeros(3), np.array([5.0, 0.2, 0.0]))
    clipped = ImprovementAwareWeighting(optimizer="sgd", lr=1.0)
    free = ImprovementAwareWeighting(optimizer="sgd", lr=1.0, improvement_clip=None)
    first, second, _ = clipped.weights(run(clipped, [signal]))
    assert first == second
    first, second, _ = free.weights(run(free, [signal]))
    assert first < second


def test_released_rule_raises_the_weight_of_a_task_that_was_not_sampled():
    signal = TaskSignal(np.full(2, 0.5), np.array([0.1, 0.0]), counts=np.array([8, 0]))
    weighting = ImprovementAwareWeighting(absent_improvement="zero")
    assert weighting.weights(run(weighting, [signal]))[1] > 0.5


@pytest.mark.parametrize(
    ("decay", "expected"),
    [(1e-5, (0.000, 0.001, 0.999)), (5e-4, (0.009, 0.016, 0.976)), (1e-2, (0.10, 0.16, 0.75))],
)
def test_reward_only_decay_reproduces_the_regularisation_experiment(decay, expected):
    weighting = RewardOnlyWeighting(decay=decay)
    state = run(weighting, [TaskSignal(np.array([0.8, 0.5, 0.3]))] * 1600)
    # The published values have three or two decimals.
    tolerance = 2e-3 if decay < 1e-2 else 5e-3
    np.testing.assert_allclose(weighting.weights(state), expected, atol=tolerance)


@pytest.mark.parametrize("decay", [1e-5, 5e-4, 1e-2])
def test_reward_only_with_adamw_collapses_whatever_the_decay(decay):
    weighting = RewardOnlyWeighting(decay=decay, optimizer="adamw")
    state = run(weighting, [TaskSignal(np.array([0.8, 0.5, 0.3]))] * 1600)
    assert weighting.weights(state)[2] > 0.99


def test_sec_by_hand():
    # Q = .5 * .8 = .4 and .5 * .4 = .2, then only the first is seen: .5 * .4 + .5 * .2 = .3; softmax((1.5, 1)).
    history = [
        TaskSignal(np.zeros(2), advantages=np.array([0.8, 0.4])),
        TaskSignal(np.zeros(2), advantages=np.array([0.2, 0.0]), counts=np.array([4, 0])),
    ]
    weighting = SelfEvolvingCurriculum()
    state = run(weighting, history)
    np.testing.assert_allclose(state.values, [0.3, 0.2])
    np.testing.assert_allclose(weighting.weights(state)[0], 1 / (1 + np.exp(-0.5)))


def test_sec_shrinks_unobserved_tasks_only_when_asked_to():
    history = [
        TaskSignal(np.zeros(2), advantages=np.array([0.8, 0.8])),
        TaskSignal(np.zeros(2), advantages=np.array([0.8, 0.0]), counts=np.array([4, 0])),
    ]
    assert run(SelfEvolvingCurriculum(), history).values[1] == 0.4
    assert run(SelfEvolvingCurriculum(decay_unobserved=True), history).values[1] == 0.2


def test_fixed_weights_never_move():
    weighting = FixedWeighting([0.5, 0.3, 0.2])
    state = run(weighting, [TaskSignal(np.array([0.0, 0.5, 1.0]))] * 5)
    np.testing.assert_array_equal(weighting.weights(state), [0.5, 0.3, 0.2])
    assert state.step == 5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ImprovementAwareWeighting(optimizer="rmsprop"), "`optimizer` must be one of 'adam', 'adamw', 'sgd'"),
        (lambda: ImprovementAwareWeighting(lr=-1), "`lr` must be non-negative, got -1"),
        (lambda: ImprovementAwareWeighting(decay=-1), "`decay` must be non-negative, got -1"),
        (lambda: ImprovementAwareWeighting(tradeoff=-1), "`tradeoff` must be non-negative, got -1"),
        (lambda: ImprovementAwareWeighting(improvement_clip=0), "`improvement_clip` must be positive or None, got 0"),
        (
            lambda: ImprovementAwareWeighting(absent_improvement="x"),
            "`absent_improvement` must be 'neutral' or 'zero'",
        ),
        (lambda: ImprovementAwareWeighting(floor=0.5).init(3), "`floor` must be at most 1/K = 0.3333 for 3 tasks"),
        (lambda: RewardOnlyWeighting(cap=0.2).init(3), "`cap` must be at least 1/K = 0.3333 for 3 tasks, got 0.2"),
        (lambda: RewardOnlyWeighting(tradeoff=0), "`tradeoff` must be positive, got 0"),
        (lambda: SelfEvolvingCurriculum(alpha=0), "`alpha` must be in (0, 1], got 0"),
        (lambda: SelfEvolvingCurriculum(temperature=0), "`temperature` must be positive, got 0"),
        (lambda: FixedWeighting([0.5, 0.6]), "`weights` must be non-negative and add up to 1, got [0.5, 0.6]"),
        (lambda: FixedWeighting([0.5, 0.5]).init(3), "`weights` must be of shape (3,), got (2,)"),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
