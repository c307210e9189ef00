"""Made-up prompts have the accuracy and the mixed groups that they were made for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mtgrpo.rollouts.pass_rates import difficulties, most_mixed, pass_rates


@given(
    accuracy=st.floats(0.02, 0.98),
    part=st.floats(0.1, 1.0),
    generations=st.sampled_from([2, 4, 8, 32, 64]),
)
def test_accuracy_and_mixed_groups_are_those_asked_for(accuracy: float, part: float, generations: int) -> None:
    acceptance = part * most_mixed(accuracy, generations)
    rates = pass_rates(accuracy, acceptance, generations, difficulties(2_000))
    mixed = (1.0 - rates**generations - (1.0 - rates) ** generations).mean()
    assert rates.mean() == pytest.approx(accuracy, abs=0.01)
    assert mixed == pytest.approx(acceptance, abs=0.02)


def test_harder_prompts_are_solved_less_often() -> None:
    rates = pass_rates(0.4, 0.5, 8, difficulties(100))
    assert (np.diff(rates) < 0.0).all()


def test_a_task_that_is_all_mixed_has_prompts_that_are_alike() -> None:
    rates = pass_rates(0.5, 1.0, 8, difficulties(100))
    np.testing.assert_allclose(rates, 0.5, atol=1e-6)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_a_task_that_never_or_always_works_has_no_other_prompts(accuracy: float) -> None:
    np.testing.assert_allclose(pass_rates(accuracy, 0.3, 8, difficulties(10)), accuracy, atol=1e-12)
