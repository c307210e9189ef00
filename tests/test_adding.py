"""Parts of the user's own: each is a few lines, is asked for nothing else, and trains through the real trainer."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import three_tasks, tiny_trainer
from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.host.collecting import HostRollouts
from trl_mtgrpo.rollouts import Prompts


PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
# The parts as the page shows them, and how many lines they may take.
LIMITS = {"HalfWayThere": 20, "InOrder": 40, "ShortEnough": 40, "UntilEnough": 40}


def classes() -> dict[str, str]:
    """Source of each class on the page."""
    return {
        node.name: ast.unparse(node)
        for block in BLOCKS
        for node in ast.parse(block).body
        if isinstance(node, ast.ClassDef)
    }


def part(name: str) -> Any:
    """A class of the page, which needs nothing but imports beside itself."""
    imports = [
        node for block in BLOCKS for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    namespace: dict[str, Any] = {"__name__": __name__}
    exec("\n".join(map(ast.unparse, imports)), namespace)
    nodes = [node for block in BLOCKS for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    module = ast.Module([node for node in nodes if node.name == name], type_ignores=[])
    exec(compile(module, name, "exec"), namespace)
    return namespace[name]


def trained(folder: Path, steps: int = 3, **parts: Any) -> MultiTaskGRPOTrainer:
    """A run of some steps with these parts, whose books balance and whose model has moved."""
    trainer = tiny_trainer(folder, max_steps=steps, save_strategy="steps", save_steps=1, **parts)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    assert trainer.state.global_step == steps
    assert any(not torch.equal(*pair) for pair in zip(before, trainer.model.parameters(), strict=True))
    assert (trainer.multi_task_state.groups.imbalance == 0).all()
    assert trainer.multi_task_state.groups.trained.sum() > 0
    return trainer


@pytest.mark.parametrize("name", LIMITS)
def test_a_part_takes_few_lines(name: str) -> None:
    assert len(classes()[name].splitlines()) <= LIMITS[name]


def test_a_weighting_moves_the_weights_by_its_own_rule(tmp_path: Path) -> None:
    trainer = trained(tmp_path, weighting=part("HalfWayThere")())
    accuracy = trainer.multi_task_state.reward_average.values
    wanted = accuracy * (1 - accuracy) + 0.01
    assert list(trainer.task_weights.values()) == pytest.approx((wanted / wanted.sum()).tolist())


def recorded(seen: list[Any]) -> Any:
    """A rollout source that writes down what it was asked for and what it answered."""

    class Recorded:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def produce(self, prompts: Any, episodes: int, rng: np.random.Generator) -> Any:
            facts = self.inner.produce(prompts, episodes, rng)
            seen.append((prompts, facts))
            return facts

    return Recorded


def test_a_prompt_source_decides_which_rows_are_generated(tmp_path: Path) -> None:
    seen: list[Any] = []
    sizes = [len(task.train_dataset) for task in three_tasks()]
    trainer = trained(tmp_path, prompt_source=part("InOrder")(sizes), rollout_source=recorded(seen))
    for k, size in enumerate(sizes):
        drawn = np.concatenate([prompts.row[prompts.task == k] for prompts, _ in seen])
        assert drawn.tolist() == [i % size for i in range(len(drawn))]
        assert trainer.multi_task_state.draws.cursors[k] == len(drawn)
        made = np.concatenate([facts.prompt[facts.task == k] for _, facts in seen])
        assert made.tolist() == drawn.tolist()


def test_a_prompt_source_goes_on_where_its_checkpoint_stopped(tmp_path: Path) -> None:
    sizes, seen = [len(task.train_dataset) for task in three_tasks()], []
    straight = trained(tmp_path / "straight", prompt_source=part("InOrder")(sizes))
    resumed = tiny_trainer(
        tmp_path / "resumed", prompt_source=part("InOrder")(sizes), rollout_source=recorded(seen), max_steps=3
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-1"))
    assert seen
    assert resumed.multi_task_state.draws == straight.multi_task_state.draws
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_rollout_source_around_the_trainers_own_decides_what_may_train(tmp_path: Path) -> None:
    seen: list[Any] = []

    def short(inner: Any) -> Any:
        return recorded(seen)(part("ShortEnough")(inner, most_tokens=5))

    trainer = trained(tmp_path, rollout_source=short, max_resampling_rounds=30)
    accepted = [tokens for _, facts in seen for tokens in facts.tokens[facts.accepted]]
    left_out = [tokens for _, facts in seen for tokens in facts.tokens[(facts.outcome == 0) & ~facts.accepted]]
    assert max(accepted) <= 4 * 5 < min(left_out)
    assert trainer.multi_task_state.groups.trained.sum() <= len(accepted)


def test_a_sampler_of_three_methods_plans_and_selects(tmp_path: Path) -> None:
    own = part("UntilEnough")
    assert {name for name in vars(own) if not name.startswith("_")} == {"open", "plan", "select"}
    trainer = trained(tmp_path, tasks=three_tasks()[:2], sampler=own(num_groups=4))
    assert trainer.multi_task_state.groups.trained.sum() == 3 * 4
    assert trainer.multi_task_state.groups.carried_out.sum() == 0  # it keeps nothing


def test_a_sampler_whose_rows_processes_cannot_share_is_refused() -> None:
    ranks = SimpleNamespace(size=4, index=0)
    rollouts = HostRollouts(*[None] * 6, groups_per_call=8)  # type: ignore[arg-type]
    rollouts.ranks = ranks
    prompts = Prompts(np.zeros(3, dtype=np.int64), np.arange(3), np.ones(3))
    with pytest.raises(ValueError, match=r"`sampler` must ask for groups whose rows 4 processes can share .* 3 of 2"):
        rollouts.produce(prompts, 2, np.random.default_rng(0))
