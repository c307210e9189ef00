"""What is said about generation backends, tools and environments before any is started."""

import logging
from pathlib import Path

import pytest

from tests.tiny import contains_a, rows, three_tasks, tiny_config, tiny_model
from trl_mtgrpo.run_plan import plan_run


def plan(folder: Path, **changes: object) -> None:
    args = tiny_config(folder, use_vllm=True, **changes)
    plan_run(tiny_model(), None, args, None, None, three_tasks(), {})


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


@pytest.mark.parametrize("name", ["tools", "environment_factory"])
def test_tools_and_environments_are_refused_with_tasks(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"`{name}` must be left out of multi-task training.*inside a `rollout_func`"
    ):
        plan_run(tiny_model(), None, tiny_config(tmp_path), None, None, three_tasks(), {name: [print]})


@pytest.mark.parametrize("name", ["tools", "environment_factory"])
def test_tools_and_environments_without_tasks_are_left_to_the_host(name: str, tmp_path: Path) -> None:
    plan = plan_run(tiny_model(), [contains_a], tiny_config(tmp_path), rows("p"), None, None, {name: [print]})
    assert plan.mixture is None
    assert plan.host_arguments["reward_funcs"] == [contains_a]
