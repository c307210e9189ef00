"""A program of one call trains, and reports, as the host does without one: parameters and every metric."""

from pathlib import Path

import pytest

from tests.host_runs import Option, differences
from tests.programs.program_runs import host_run, program_run


OPTIONS = {
    "default": {},
    "four updates per generation": {"max_steps": 4, "steps_per_generation": 4},
    "kl and two iterations": {"max_steps": 4, "beta": 0.1, "num_iterations": 2},
    "grpo loss": {"loss_type": "grpo"},
    "batch scaling": {"scale_rewards": "batch"},
}


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_program_of_one_call_is_the_host_bit_for_bit(name: str, chat: bool, tmp_path: Path) -> None:
    option = Option(OPTIONS[name], chat=chat)
    assert differences(host_run(option, tmp_path), program_run(option, tmp_path)) == []


def test_evaluation_of_a_program_of_one_call_is_the_hosts(tmp_path: Path) -> None:
    option = Option({"eval_strategy": "steps", "eval_steps": 1}, with_eval=True)
    assert differences(host_run(option, tmp_path), program_run(option, tmp_path)) == []


def test_the_comparison_sees_a_changed_run(tmp_path: Path) -> None:
    host = host_run(Option(), tmp_path)
    own = program_run(Option({"learning_rate": 9e-3}), tmp_path)
    found = differences(host, own)
    assert "parameters" in found
    assert any("grad_norm" in line for line in found)
