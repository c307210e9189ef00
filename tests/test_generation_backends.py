"""What is said about generation backends before one is started."""

import logging
from pathlib import Path

import pytest

from tests.tiny import three_tasks, tiny_config, tiny_model
from trl_mtgrpo.host.run_plan import Parts, plan_run


def plan(folder: Path, **changes: object) -> None:
    args = tiny_config(folder, use_vllm=True, **changes)
    plan_run(tiny_model(), None, args, None, None, three_tasks(), Parts(), {})


def test_sleep_mode_beside_refills_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="trl_mtgrpo"):
        plan(tmp_path, vllm_enable_sleep_mode=True)
    assert "sends the weights to vLLM again for every refill round" in caplog.text
    assert "Set `vllm_enable_sleep_mode=False`" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [{}, {"vllm_enable_sleep_mode": True, "method": "grpo"}, {"vllm_enable_sleep_mode": True, "vllm_mode": "server"}],
)
def test_nothing_is_said_where_weights_travel_once(
    changes: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="trl_mtgrpo"):
        plan(tmp_path, **changes)
    assert "vllm_enable_sleep_mode" not in caplog.text
