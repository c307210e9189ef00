"""What a generation backend is asked for, where it cannot be run here: vLLM's lengths, its server, other ranks."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.environments.world import chat_rows, four_tasks, guess_task, has_a_letter
from trl_mtgrpo import Task
from trl_mtgrpo.host.turns import Turns
from trl_mtgrpo.tasks.mixture import TaskMixture


class Host:
    """Notes what it is asked for and answers with as many rows."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.calls = trainer, []

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        self.calls.append((self.trainer.vllm_generation.max_completion_length, len(prompt_ids), num_generations))
        return [[len(ids)] for ids in prompt_ids], [[0.5]] * len(prompt_ids)


class Ranks:
    """This rank and one whose rows are given."""

    def __init__(self, *other: int) -> None:
        self.other, self.size = list(other), 1 + bool(other)

    def gather(self, values: Any) -> Any:
        return np.array([*values, *([[self.other.pop(0), 0]] if self.size > 1 else [])])


def trainer(mode: str = "colocate") -> Any:
    return SimpleNamespace(
        use_vllm=True,
        vllm_mode=mode,
        max_completion_length=40,
        processing_class=SimpleNamespace(),
        vllm_generation=SimpleNamespace(max_completion_length=40),
    )


def mixture(*lengths: int | None) -> TaskMixture:
    return TaskMixture(
        [Task(f"t{i}", chat_rows("p"), has_a_letter, max_completion_length=n) for i, n in enumerate(lengths)]
    )


def test_vllm_is_called_once_per_length_and_rows_come_back_in_order() -> None:
    tasks, host_trainer = mixture(9, None, 9, 5), trainer()
    turns, host = Turns(host_trainer, tasks, Ranks(), False), Host(host_trainer)
    rows = [tasks.row(k, 0) for k in (1, 0, 3, 2, 1)]
    with turns.of([row.task_id for row in rows]):
        ids, logps = turns.single(host, [[1] * n for n in range(1, 6)], None, {}, 4)
    assert ids == [[1], [2], [3], [4], [5]]
    assert logps == [[0.5]] * 5
    assert host.calls == [(5, 1, 1), (9, 2, 1), (40, 2, 1)]
    assert host_trainer.max_completion_length == host_trainer.vllm_generation.max_completion_length == 40


def test_ranks_call_for_every_length_with_equally_many_rows() -> None:
    tasks, host_trainer = mixture(9, None), trainer()
    turns, host = Turns(host_trainer, tasks, Ranks(3, 0), False), Host(host_trainer)
    with turns.of([1, 1]):
        ids, _ = turns.single(host, [[1], [1, 1]], None, {}, 4)
    assert ids == [[1], [2]]
    assert host.calls == [(9, 3, 1), (40, 2, 1)]


def test_without_lengths_the_call_is_passed_on() -> None:
    tasks, host_trainer = mixture(None, None), trainer("server")
    turns, host = Turns(host_trainer, tasks, Ranks(), False), Host(host_trainer)
    with turns.of([0] * 4):
        turns.single(host, [[1]] * 4, None, {}, 4)
    assert host.calls == [(40, 4, 4)]


@pytest.mark.parametrize(("mode", "each"), [("server", 1), ("colocate", 4)])
def test_a_server_gets_every_prompt_of_a_group_with_environments(mode: str, each: int) -> None:
    tasks, host_trainer = TaskMixture(four_tasks()), trainer(mode)
    turns, host = Turns(host_trainer, tasks, Ranks(), False), Host(host_trainer)
    with turns.of([2] * 4):
        turns.single(host, [[1]] * 4, None, {}, 4)
    assert host.calls == [(40, 4, each)]


def test_a_length_of_all_tasks_bounds_all() -> None:
    tasks, host_trainer = TaskMixture([guess_task(max_completion_length=7)]), trainer()
    turns, host = Turns(host_trainer, tasks, Ranks(), False), Host(host_trainer)
    with turns.of([0]):
        turns.single(host, [[1]], None, {}, 4)
    assert host.calls == [(7, 1, 4)]
