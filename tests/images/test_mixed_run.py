"""Tasks with images beside tasks of text: what rewards see, what waits, what is measured and what is resumed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image

from tests.images.world import KINDS, asked, image_rows, mixed_tasks, picture, seeing_trainer
from tests.resume_runs import differences, final_facts
from tests.tiny import contains_digit, rows, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.rollouts.store import digest
from trl_mtgrpo.state.state_file import STATE_FILE
from trl_mtgrpo.tasks.images import images_of, put_images


SURPLUS = {"oversampling": 3.0, "max_surplus_age": 2, "solved_discount": 0.0, "max_steps": 6}
SMALL_PARTS = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("settings", [{}, SMALL_PARTS], ids=["whole", "small parts"])
def test_tasks_with_images_train_beside_tasks_of_text(settings: dict[str, Any], model: str, tmp_path: Path) -> None:
    trainer = seeing_trainer(tmp_path, mixed_tasks(), model, **SURPLUS, **settings)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    assert (trainer.multi_task_state.groups.trained > 0).all()
    for ledger in (trainer.multi_task_state.groups, trainer.multi_task_state.tokens):
        went = ledger.trained + ledger.filtered.sum(axis=1) + ledger.expired + ledger.carried_out
        assert np.array_equal(ledger.carried_in + ledger.generated, went)
    changed = [not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True)]
    assert sum(changed) > len(changed) * 0.9  # the part that sees among them


def test_rewards_see_prompts_and_columns_as_in_a_run_of_their_task_alone(tmp_path: Path) -> None:
    seen: list[Any] = []
    seeing_trainer(tmp_path, mixed_tasks(seen), **SURPLUS).train()
    names = {"contains_digit": ("o", "t"), "contains_a": ("s",), "contains_lower": ("m",)}
    letters = set()
    for name, prompts, columns in seen:
        for i, prompt in enumerate(prompts):
            content = prompt[0]["content"]
            text = content if isinstance(content, str) else content[-1]["text"]
            letters.add(text[0])
            assert text[0] in names[name]
            if text[0] == "t":
                assert isinstance(content, str)
                assert columns == {}
                continue
            given = columns["image"][i] if "image" in columns else columns["images"][i]
            given = given if isinstance(given, list) else [] if given is None else [given]
            assert [digest(part["image"]) for part in content[:-1]] == [digest(image) for image in given]
    assert letters == set("ostm")


def test_a_row_without_images_in_a_batch_without_any_has_the_form_of_its_task(tmp_path: Path) -> None:
    seen: list[Any] = []
    task = mixed_tasks(seen)[2]
    task = replace(task, train_dataset=task.train_dataset.select(range(1, 12, 2)))
    assert not any(task.train_dataset["image"])
    seeing_trainer(tmp_path, [task], max_steps=2).train()
    assert {type(prompt[0]["content"]) for _, prompts, _ in seen for prompt in prompts} == {list}


def adapted() -> dict[str, Any]:
    return {"peft_config": LoraConfig(r=2, target_modules=["q_proj", "v_proj"])}


# The host does not find all weights of these models again in its own checkpoints, as its warning says, but those of an
# adapter. So a run of all weights begins with the model of the checkpoint.
@pytest.mark.parametrize(("model", "more"), [("per patch", dict), ("per image", dict), ("per image", adapted)])
def test_a_checkpoint_holds_references_and_resumes_bit_for_bit(model: str, more: Any, tmp_path: Path) -> None:
    saving = {**SURPLUS, "save_strategy": "steps", "save_steps": 3}
    straight = seeing_trainer(tmp_path, mixed_tasks(), model, **saving, **more())
    straight.train()
    folder = tmp_path / "checkpoint-3"
    text = (folder / STATE_FILE).read_text()
    carried = [row for group in json.loads(text)["body"]["payload"] for row in group["rows"]]
    assert any("image_digests" in row for row in carried)
    for row in carried:
        assert "images" not in row
        expected = (1, 1 + row["index"] % 3, 1 - row["index"] % 2, 0)[row["task_id"]]
        assert len(row.get("image_digests", ())) == expected
    assert "PIL" not in text
    assert "bytes" not in text
    weights = {} if more is adapted else {"saved": folder}
    resumed = seeing_trainer(tmp_path, mixed_tasks(), model, **saving, **more(), **weights)
    resumed.train(resume_from_checkpoint=str(folder))
    assert list(differences(final_facts(straight), final_facts(resumed))) == []


@pytest.mark.parametrize("model", KINDS)
def test_what_waits_has_the_log_probabilities_of_what_the_model_saw(model: str, tmp_path: Path) -> None:
    trainer = seeing_trainer(tmp_path, mixed_tasks(), model, **{**SURPLUS, "max_steps": 1, "learning_rate": 0.0})
    trainer.train()
    store, places = trainer._run.store, trainer.multi_task_state.carried.place.reshape(-1, 2)
    kept = [store[slot] for slot in places[:, 1].tolist()]
    seen, blind = [], []
    for row in kept:
        assert not row.images
        images = images_of(trainer._run.mixture.row(row.task_id, row.index).columns)
        assert [digest(image) for image in images] == list(row.image_digests)
        alone = [(images, seen), ([Image.new("RGB", image.size, "red") for image in images], blind)]
        for shown, found in alone if images else alone[:1]:
            prompt = put_images(row.prompt, shown)
            ids, _, fields = trainer._tokenize_prompts([prompt])
            assert ids[0] == list(row.prompt_ids)
            tokens = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
            types = fields.pop("mm_token_type_ids", [None])[0]
            inputs = {name: torch.tensor(np.array(value)) for name, value in fields.items()}
            if types is not None:
                inputs["mm_token_type_ids"] = torch.tensor([list(types) + [0] * len(row.completion_ids)])
            with torch.no_grad():
                logits = trainer.model(input_ids=tokens, **inputs).logits[0]
            size = len(row.completion_ids)
            logps = logits[-size - 1 : -1].log_softmax(-1).gather(1, tokens[0, -size:, None])[:, 0]
            found.append((logps - torch.tensor(row.behaviour)).abs().max().item())
    assert len(seen) > len(blind) > 8
    assert max(seen) < 1e-5
    assert np.median(blind) > 1e-4


@pytest.mark.parametrize("model", KINDS)
def test_the_improvement_is_the_change_of_the_loss_on_rows_with_images(model: str, tmp_path: Path) -> None:
    tasks = mixed_tasks()[:2]
    trainer = seeing_trainer(
        tmp_path,
        tasks,
        model,
        loss_type="grpo",
        max_steps=1,
        learning_rate=1e-2,
        **SMALL_PARTS,
        steps_per_generation=4,
    )
    run, changes = trainer._run, []
    measure = run._measured

    def measured(host: Any, batch: Any, num_calls: int) -> Any:
        change, after = measure(host, batch, num_calls), 0.0
        for inputs in batch.micro_batches:
            old = inputs.get("old_per_token_logps", inputs["train_per_token_logps"])
            with torch.no_grad():
                after += float(trainer._compute_loss(trainer.model, {**inputs, "old_per_token_logps": old}))
        before = sum(-float(inputs["advantages"].mean()) for inputs in batch.micro_batches) / len(batch.micro_batches)
        changes.append((change.sums.sum() / change.counts.sum(), before - after))
        return change

    run._measured = measured
    trainer.train()
    ((improvement, decrease),) = changes
    assert improvement == pytest.approx(decrease, abs=1e-5)
    assert abs(decrease) > 1e-4


def test_a_forward_in_parts_is_the_one_of_all_rows(tmp_path: Path) -> None:
    trainer = seeing_trainer(tmp_path, mixed_tasks(), "per patch", max_steps=1)
    trainer.train()
    inputs = trainer._buffered_inputs[0]
    tokens = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    fields = {name: inputs[name] for name in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")}
    assert not all(inputs["num_images"])
    with torch.no_grad():
        whole, parts = (
            trainer._get_per_token_logps_and_entropies(
                trainer.model, tokens, attention, inputs["completion_ids"].shape[1], batch_size=size, **fields
            )[0]
            for size in (None, 1)
        )
    own = inputs["completion_mask"].bool()
    torch.testing.assert_close(whole[own], parts[own], atol=1e-5, rtol=0)


def test_every_task_is_evaluated_also_in_batches_without_images(tmp_path: Path) -> None:
    trainer = seeing_trainer(
        tmp_path, mixed_tasks(with_eval=True), "per patch", per_device_eval_batch_size=4, max_steps=1
    )
    metrics = trainer.evaluate()
    for name in ("one", "several", "some", "text"):
        assert metrics[f"eval_tasks/{name}/completions"] == 3 * 4
        assert 0.0 <= metrics[f"eval_tasks/{name}/accuracy"] <= 1.0
    own = Dataset.from_dict({"prompt": asked("x", 2), "image": [picture(1), None], "task": ["one", "text"]})
    assert trainer.evaluate(own)["eval_tasks/one/completions"] == 4


def test_images_that_differ_when_a_row_is_read_again_stop_the_run(tmp_path: Path) -> None:
    calls = iter(range(10_000))

    def shaded(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"prompt": batch["prompt"], "image": [picture(next(calls)) for _ in batch["prompt"]]}

    other = Dataset.from_dict({"prompt": asked("o", 12)}).with_transform(shaded)
    tasks = [Task("noise", other, contains_digit, success_threshold=1.0), mixed_tasks()[3]]
    with pytest.raises(ValueError, match="`train_dataset` of task 'noise' must give the same images each time a"):
        seeing_trainer(tmp_path / "a", tasks, **SURPLUS).train()
    seeing_trainer(tmp_path / "b", tasks, **{**SURPLUS, "max_surplus_age": 0}).train()


def test_images_inside_prompts_are_seen_and_wait(tmp_path: Path) -> None:
    def inside(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        parts = [[{"type": "text", "text": p}, {"type": "image", "image": picture(len(p))}] for p in batch["prompt"]]
        return {"prompt": [[{"role": "user", "content": content}] for content in parts]}

    data = Dataset.from_dict({"prompt": [f"q{i}" for i in range(12)]}).with_transform(inside)
    tasks = [Task("inside", data, contains_digit, success_threshold=1.0), mixed_tasks()[3]]
    trainer = seeing_trainer(tmp_path, tasks, **SURPLUS)
    trainer.train()
    assert trainer.multi_task_state.groups.trained[0] > 0


# Before the first step


def test_images_need_lists_of_messages(tmp_path: Path) -> None:
    tasks = [Task("seen", rows("s", image=[picture(1)] * 30), contains_digit)]
    with pytest.raises(ValueError, match="`train_dataset` of task 'seen' must have lists of messages as prompts"):
        seeing_trainer(tmp_path, tasks)


def test_images_need_a_model_that_sees(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`processing_class` must be the processor of a model that sees for task"):
        MultiTaskGRPOTrainer(
            model=tiny_model(), tasks=mixed_tasks(), args=tiny_config(tmp_path), processing_class=tiny_tokenizer(True)
        )


def test_generation_that_gathers_no_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`ds3_gather_for_generation` must be True for tasks with images, got False"):
        seeing_trainer(tmp_path, mixed_tasks(), ds3_gather_for_generation=False)


def test_a_program_whose_rows_have_images_is_refused(tmp_path: Path) -> None:
    task = Task("calls", image_rows(), contains_digit, program=lambda example, call: call("say", "x"))
    with pytest.raises(ValueError, match="`program` of task 'calls' must be left out for rows with images, got both"):
        seeing_trainer(tmp_path, [task, *mixed_tasks()])
