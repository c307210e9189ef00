"""A row of a mixture is what GRPOTrainer makes of it when its task is alone, from its arguments to its table."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from accelerate.utils import imports
from hypothesis import HealthCheck, given, settings
from trl.trainer import grpo_trainer

from tests.fuzz.mixture_cases import (
    Case,
    FunctionCase,
    TaskCase,
    cases,
    host_rows,
    own_rows,
    row_differences,
)


def _number_of_cases(few: int) -> settings:
    many = settings.get_current_profile_name() == "fuzz"
    return settings(deadline=None, max_examples=1000 if many else few, suppress_health_check=[HealthCheck.too_slow])


pytestmark = pytest.mark.filterwarnings("ignore:::trl_mtgrpo")


@pytest.fixture(scope="module", autouse=True)
def _many_short_runs() -> Iterator[None]:
    """What one run of a process may do once and a thousand runs must not do each."""
    gc.collect()
    gc.freeze()  # the host collects garbage at each start of training
    with pytest.MonkeyPatch.context() as patch:
        # Each trainer with an async function starts a loop in a thread, with files of its own, until the process ends.
        patch.setattr(grpo_trainer, "start_event_loop_in_daemon", cache(grpo_trainer.start_event_loop_in_daemon))
        patch.setattr(imports, "_is_package_available", cache(imports._is_package_available))
        yield
    gc.unfreeze()


@given(case=cases(only_first=False))
@_number_of_cases(15)
def test_a_row_of_a_mixture_is_what_the_host_makes_of_it(case: Case) -> None:
    own, hosts = own_rows(case), {task.letter: host_rows(case, task) for task in case.tasks}
    assert [line for task in case.tasks for line in row_differences(task, own, hosts[task.letter])] == []
    assert own.seen["train"] or case.group_filter != "none"


@given(case=cases(only_first=True))
@_number_of_cases(10)
def test_where_one_task_fills_the_batch_losses_and_parameters_are_the_hosts(case: Case) -> None:
    own, host = own_rows(case), host_rows(case, case.tasks[0])
    assert row_differences(case.tasks[0], own, host) == []
    assert own.seen["train"].keys() == host.seen["train"].keys()
    assert own.losses == host.losses
    assert own.parameters is not None
    assert host.parameters is not None
    assert torch.equal(own.parameters, host.parameters)


def test_the_comparison_sees_another_argument_reward_advantage_and_row() -> None:
    function = FunctionCase("all and names", "never", is_async=False, logs=True, weight=1.0)
    task = TaskCase("a", 3, ("answer",), ("answer",), "none", (function,), "threshold")
    case = Case((task,), False, 3, "group", "none", 1.0, (), False, seed=0)
    own = own_rows(case)
    assert row_differences(task, own, host_rows(case, task)) == []
    others = {
        "advantage": replace(case, scale="none"),
        "completion": replace(case, seed=1),
        "a0": replace(case, fields=("made",)),
        "not a row": replace(case, tasks=(replace(task, size=1),)),
        "reward": replace(case, tasks=(replace(task, functions=(replace(function, takes="all"),)),)),
    }
    for what, other in others.items():
        found = row_differences(task, own, host_rows(other, other.tasks[0]))
        assert any(what in line for line in found), what
