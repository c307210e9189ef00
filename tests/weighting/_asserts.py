"""What every weighting strategy must do, whatever it is; applied to each of them over generated inputs."""

import json
import os

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.weighting import (
    FixedWeighting,
    ImprovementAwareWeighting,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    TaskSignal,
    WeightingState,
)


# `MTGRPO_EXAMPLES=1000` runs the full battery.
thorough = settings(max_examples=int(os.environ.get("MTGRPO_EXAMPLES", "8")), deadline=None)

STRATEGIES = {
    "improvement_aware": ImprovementAwareWeighting(),
    "improvement_aware_neutral": ImprovementAwareWeighting(absent_improvement="neutral"),
    "improvement_aware_adamw": ImprovementAwareWeighting(
        optimizer="adamw", decay=1e-2, improvement_clip=None, absent_improvement="neutral"
    ),
    "improvement_aware_bounded": ImprovementAwareWeighting(floor=0.01, cap=0.8, absent_improvement="neutral"),
    "reward_only": RewardOnlyWeighting(),
    "reward_only_strict": RewardOnlyWeighting(decay=0.0),
    "reward_only_sgd": RewardOnlyWeighting(optimizer="sgd", lr=0.5),
    "sec": SelfEvolvingCurriculum(),
    "sec_decaying": SelfEvolvingCurriculum(decay_unobserved=True, floor=0.01),
    "fixed": FixedWeighting(),
}
# Strategies that promise to leave the weight of an unobserved task alone; the others are the released code's rules.
NEUTRAL = [name for name in STRATEGIES if name not in ("improvement_aware", "sec_decaying")]

unit = st.floats(0.0, 1.0)
change = st.floats(-1.0, 1.0)


@st.composite
def histories(draw, values=unit, changes=change, min_tasks=2):
    """A few signals of one mixture."""
    num_tasks = draw(st.integers(min_tasks, 9))
    vector = lambda element: draw(st.lists(element, min_size=num_tasks, max_size=num_tasks))  # noqa: E731
    return [
        TaskSignal(
            np.array(vector(values)),
            np.array(vector(changes)),
            np.abs(np.array(vector(changes))),
            np.array(vector(st.integers(0, 5))),
        )
        for _ in range(draw(st.integers(1, 6)))
    ]


def run(weighting, history):
    state = weighting.init(history[0].num_tasks)
    for signal in history:
        state = weighting.update(signal, state)
    return state


def rearranged(signal, order):
    return TaskSignal(
        signal.rewards[order], signal.improvements[order], signal.advantages[order], signal.counts[order]
    )


def assert_on_simplex(weights, num_tasks):
    assert weights.shape == (num_tasks,)
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert abs(weights.sum() - 1.0) < 1e-9


def assert_state_equal(left, right):
    assert left.step == right.step
    for name in ("values", "first_moment", "second_moment"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def assert_permutation_equivariant(weighting, history, order):
    plain = weighting.weights(run(weighting, history))
    moved = weighting.weights(run(weighting, [rearranged(signal, order) for signal in history]))
    np.testing.assert_allclose(moved, plain[order], atol=1e-6)


def assert_shift_invariant(weighting, history, shift):
    shifted = [TaskSignal(s.rewards + shift, s.improvements, s.advantages, s.counts) for s in history]
    np.testing.assert_allclose(
        weighting.weights(run(weighting, shifted)), weighting.weights(run(weighting, history)), atol=1e-6
    )


def assert_round_trip(weighting, history):
    state = run(weighting, history)
    assert_state_equal(from_json(WeightingState, json.loads(json.dumps(to_json(state)))), state)


def assert_update_leaves_arguments(weighting, history):
    state = run(weighting, history)
    before = to_json(state)
    signal = history[0]
    copies = [signal.rewards.copy(), signal.improvements.copy(), signal.advantages.copy(), signal.counts.copy()]
    weighting.update(signal, state)
    assert to_json(state) == before
    for now, then in zip((signal.rewards, signal.improvements, signal.advantages, signal.counts), copies, strict=True):
        np.testing.assert_array_equal(now, then)
