"""The real trainer generates what the simulator says it will, trains the drawn counts, and its books balance."""

from typing import Any

import pytest

from benchmarks.rollout_training import train_and_predict


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """Sixty steps of 32 groups from tasks that accept nine, five and one group in ten."""
    return train_and_predict(num_steps=60)


@pytest.mark.slow
def test_the_cost_is_within_five_percent_of_the_simulation_of_the_same_draws(run: dict[str, Any]) -> None:
    for cost in ("generated_per_trained", "tokens_per_trained"):
        assert run["measured"][cost] == pytest.approx(run["replayed"][cost], rel=0.05)


def test_the_waste_is_within_five_percent_of_the_prediction_from_the_true_acceptance(run: dict[str, Any]) -> None:
    assert run["measured"]["generated_per_least"] == pytest.approx(run["predicted"]["generated_per_least"], rel=0.05)


def test_the_acceptance_seen_is_that_of_the_rewards(run: dict[str, Any]) -> None:
    assert run["acceptance_seen"] == pytest.approx(run["acceptance"], abs=0.03)


def test_every_step_trains_the_drawn_counts(run: dict[str, Any]) -> None:
    assert run["most_rounds"] <= 10, "a step that reached its budget may train another mix"
    assert run["exact_mix"] == 1.0


def test_the_books_balance_in_every_step(run: dict[str, Any]) -> None:
    assert run["steps_checked"] == 60
    assert run["largest_imbalance"] == 0
    assert run["largest_token_imbalance"] == 0
