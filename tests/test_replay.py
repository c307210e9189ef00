"""From chosen groups to the loss: a group may have fewer members than others, and what is missing trains nowhere."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.small_tasks import mixture
from tests.tiny import tiny_trainer
from trl_mtgrpo.host.contract import GENERATION_FIELDS
from trl_mtgrpo.host.distributed import Ranks
from trl_mtgrpo.host.replay import LossRows, filler_rows, loss_rows
from trl_mtgrpo.rollouts import GroupFacts, Prompts, RolloutSource, Row, RowStore
from trl_mtgrpo.rollouts.facts import NOWHERE
from trl_mtgrpo.sampling import group_outcomes


ONE_RANK = Ranks(SimpleNamespace(num_processes=1, process_index=0, device="cpu"))
SIZE = 3


def store(num_rows: int, **changes: Any) -> RowStore:
    """Rows that differ in all that they have; row i has i + 1 tokens."""
    rows = [
        Row(
            task_id=0,
            index=i,
            prompt=f"p{i}",
            prompt_ids=[i],
            completion_ids=[i] * (i + 1),
            completion=f"c{i}",
            **{name: make(i) for name, make in changes.items()},
        )
        for i in range(num_rows)
    ]
    result = RowStore()
    result.add(rows)
    return result


def batch(slots: list[list[int]], fillers: list[bool] | None = None, task: int = 0) -> SimpleNamespace:
    """Groups of task `task` whose members lie in `slots`, with their slot as reward."""
    place = np.stack([np.zeros_like(slots), slots], axis=2)
    place[place[:, :, 1] == NOWHERE] = NOWHERE
    reward = np.where(place[:, :, 1] == NOWHERE, np.nan, place[:, :, 1])
    ids = np.full(len(slots), task)
    groups = replace(
        GroupFacts.empty(SIZE, 2),
        task=ids,
        reward=reward,
        success=reward,
        parts=np.repeat(reward[:, :, None], 2, axis=2).astype(np.float32),
        place=place,
    )
    return SimpleNamespace(groups=groups, is_filler=np.array(fillers or [False] * len(slots)))


def replayed(slots: list[list[int]], rows: RowStore, **options: Any) -> tuple[LossRows, dict[str, Any]]:
    """What the host is answered for such a batch, by name."""
    result = loss_rows(batch(slots, **options), mixture(), rows, ONE_RANK)
    return result, dict(zip(GENERATION_FIELDS, result.door.output, strict=True))


def test_whole_groups_are_answered_as_they_were_generated() -> None:
    result, answer = replayed([[3, 1, 0]], store(4, logprobs=lambda i: [-float(i)] * (i + 1)))
    assert [row.index for row in result.rows] == [3, 1, 0]
    assert not result.is_filler.any()
    assert answer["completion_ids"] == [[3] * 4, [1] * 2, [0]]
    assert answer["completions"] == ["c3", "c1", "c0"]
    assert answer["logprobs"] == [[-3.0] * 4, [-1.0] * 2, [-0.0]]
    assert answer["tool_mask"] is None
    assert result.door.values[:, 0].tolist() == [3.0, 1.0, 0.0]
    assert result.door.values[:, 1:].isnan().all()  # functions of other tasks


def test_a_member_that_does_not_exist_becomes_a_masked_row_without_score() -> None:
    result, answer = replayed([[2, NOWHERE, 1], [0, NOWHERE, NOWHERE]], store(3))
    missing = [False, True, False, False, True, True]
    assert result.is_filler.tolist() == missing
    assert len(result.rows) == 6
    assert result.door.values[:, 0].isnan().tolist() == missing
    for i, (mask, tokens) in enumerate(zip(answer["tool_mask"], answer["completion_ids"], strict=True)):
        assert mask == [0 if missing[i] else 1] * len(tokens)


def test_its_place_is_taken_by_a_row_of_its_own_group() -> None:
    result, _ = replayed([[2, NOWHERE, 1], [0, NOWHERE, NOWHERE]], store(3))
    assert [row.index for row in result.rows] == [2, 2, 1, 0, 0, 0]


def test_a_group_that_fills_the_batch_is_outside_the_loss_as_a_whole() -> None:
    result, answer = replayed([[0, 1, 2], [2, 1, NOWHERE]], store(3), fillers=[False, True])
    assert result.is_filler.tolist() == [False] * 3 + [True] * 3
    assert result.door.values[3:].isnan().all()
    assert [sum(mask) for mask in answer["tool_mask"]] == [1, 2, 3, 0, 0, 0]


def test_tokens_of_tools_stay_out_of_the_loss_beside_rows_that_are_masked() -> None:
    _, answer = replayed([[1, 2, NOWHERE]], store(3, loss_mask=lambda i: [1] + [0] * i))
    assert answer["tool_mask"] == [[1, 0], [1, 0, 0], [0, 0]]


def test_fields_of_the_host_come_back_under_its_names() -> None:
    _, answer = replayed([[0, 1, 2]], store(3, host=lambda i: {"images": [f"image{i}"]}))
    assert answer["images"] == [["image0"], ["image1"], ["image2"]]
    assert answer["tool_images"] == []


def test_rows_outside_the_loss_are_known_before_anything_is_fetched() -> None:
    ragged = batch([[0, NOWHERE, 2], [1, 2, 0]], fillers=[False, True])
    assert filler_rows(ragged).tolist() == [[False, True, False], [True, True, True]]


# With the real trainer


class ThreeOfFour:
    """Rollouts of the trainer, the last member of every second group taken away."""

    def __init__(self, inner: RolloutSource) -> None:
        self.inner = inner

    def produce(self, prompts: Prompts, episodes: int, rng: np.random.Generator) -> GroupFacts:
        facts = self.inner.produce(prompts, episodes, rng)
        gone = np.zeros(facts.reward.shape, dtype=bool)
        gone[::2, -1] = True
        reward = np.where(gone, np.nan, facts.reward)
        outcome = group_outcomes(reward, correct=np.where(gone, np.nan, facts.success))
        return replace(
            facts,
            members=(~gone).sum(axis=1),
            reward=reward,
            success=np.where(gone, np.nan, facts.success),
            parts=np.where(gone[:, :, None], np.nan, facts.parts).astype(np.float32),
            place=np.where(gone[:, :, None], NOWHERE, facts.place),
            outcome=outcome,
            accepted=outcome == 0,
        )


def test_a_group_of_fewer_members_trains_with_a_baseline_of_those_it_has(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, rollout_source=ThreeOfFour, max_steps=4, oversampling=2.0)
    prepared = watched_ragged(trainer)
    trainer.train()
    ragged = carried = 0
    for now, (collected, inputs) in enumerate(prepared):
        outside = torch.tensor(filler_rows(collected).ravel())
        assert (inputs["advantages"][outside] == 0).all()
        assert (inputs["task_ids"][outside] == -1).all()
        assert ((inputs["completion_mask"] * inputs["tool_mask"])[outside] == 0).all() if outside.any() else True
        assert int(inputs["num_items_in_batch"]) == int(inputs["completion_mask"][~outside].sum())
        for i, reward in enumerate(torch.tensor(collected.groups.reward, dtype=torch.float32)):
            if collected.is_filler[i]:
                continue
            has = ~reward.isnan()
            known = reward[has]
            expected = (known - known.mean()) / (known.std() + 1e-4)
            torch.testing.assert_close(inputs["advantages"].view(4, 4)[i][has], expected)
            ragged += int(not has.all())
            carried += int(not has.all() and collected.groups.generation[i] < now)
    assert ragged > 0
    assert carried > 0
    assert (trainer.multi_task_state.groups.imbalance == 0).all()
    assert (trainer.multi_task_state.tokens.imbalance == 0).all()


def watched_ragged(trainer: Any) -> list[tuple[Any, dict[str, torch.Tensor]]]:
    """Every later batch with the loss inputs that became of it."""
    batches: list[tuple[Any, dict[str, torch.Tensor]]] = []
    prepare = trainer._run._prepare_loss

    def recording(host: Any, collected: Any, state: Any) -> dict[str, torch.Tensor]:
        batches.append((collected, prepare(host, collected, state)))
        return batches[-1][1]

    trainer._run._prepare_loss = recording
    return batches


def test_carried_groups_of_fewer_members_survive_a_checkpoint(tmp_path: Path) -> None:
    def trainer(folder: str, steps: int) -> Any:
        options = {"save_strategy": "steps", "save_steps": 2, "oversampling": 3.0, "max_surplus_age": 2}
        return tiny_trainer(tmp_path / folder, rollout_source=ThreeOfFour, max_steps=steps, **options)

    straight, resumed = trainer("straight", 4), trainer("resumed", 4)
    straight.train()
    middle = resumed._run.checkpoints.read(str(tmp_path / "straight" / "checkpoint-2"), 2).carried
    assert (middle.members == 3).any()
    assert ((middle.place[:, :, 1] == NOWHERE).sum(axis=1) == 4 - middle.members).all()
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
