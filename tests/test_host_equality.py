"""Without tasks the trainer is `GRPOTrainer`, bit for bit, under either config class."""

from pathlib import Path

import pytest
from trl import GRPOConfig, GRPOTrainer

from tests.host_runs import Option, differences, train_plain
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer


CYCLES = {
    "aligned": Option({"max_steps": 4}),
    "four updates per generation": Option({"max_steps": 4, "steps_per_generation": 4}),
    "two iterations": Option({"max_steps": 4, "num_iterations": 2}),
    "kl": Option({"max_steps": 4, "beta": 0.1}),
    "chat": Option({"max_steps": 4}, chat=True),
    "grpo loss": Option({"max_steps": 4, "loss_type": "grpo"}),
}


@pytest.mark.parametrize("config_class", [GRPOConfig, MultiTaskGRPOConfig])
@pytest.mark.parametrize("name", CYCLES)
def test_a_plain_dataset_trains_as_with_the_host(name: str, config_class: type[GRPOConfig], tmp_path: Path) -> None:
    host = train_plain(GRPOTrainer, GRPOConfig, CYCLES[name], tmp_path)
    own = train_plain(MultiTaskGRPOTrainer, config_class, CYCLES[name], tmp_path)
    assert differences(host, own) == []


def test_the_comparison_sees_a_changed_run(tmp_path: Path) -> None:
    one = train_plain(GRPOTrainer, GRPOConfig, CYCLES["aligned"], tmp_path)
    other = train_plain(GRPOTrainer, GRPOConfig, Option({"max_steps": 4, "learning_rate": 9e-3}), tmp_path)
    found = differences(one, other)
    assert "parameters" in found
    assert any("grad_norm" in line for line in found)
