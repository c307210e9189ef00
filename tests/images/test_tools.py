"""Prompts with images beside tools and environments, and the pieces that cut a batch of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import AddedToken

from tests.environments.world import CALLS, RESPONSES, SETTINGS, SUPPRESSED, Guess, OpenGuess, add
from tests.images.world import asked, image_rows, patch_model, patch_processor, picture
from tests.tiny import contains_lower, tiny_config
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.host.sight import by_row, filled, merge, picked
from trl_mtgrpo.rollouts.store import digest
from trl_mtgrpo.tasks.images import images_of, put_images, take_images


CONTENT = (
    "{%- macro shown(content) -%}{% if content is string %}{{ content }}{% else %}{% for part in content %}"
    "{% if part['type'] == 'image' %}<v><i></v>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{%- endmacro -%}"
)
TEMPLATE = (
    CONTENT
    + """
{%- for tool in tools or [] %}{{ tool.function.name }};{% endfor %}
{%- for message in messages %}
{%- if message.role == 'user' %}U{{ shown(message.content) }}
{%- elif message.role == 'tool' %}R{{ shown(message.content) }}
{%- else %}A{{ shown(message.content or '') }}
{%- for call in message.tool_calls or [] %}<call>{{ call.function.name }}
{%- for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}</call>{% endfor %}<eos>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}A{% endif %}"""
)


def calling_trainer(folder: Any, tasks: list[Task], **changes: Any) -> MultiTaskGRPOTrainer:
    processor = patch_processor()
    processor.tokenizer.add_tokens([AddedToken(call, special=False, normalized=False) for call in CALLS])
    processor.tokenizer.chat_template = processor.chat_template = TEMPLATE
    processor.tokenizer.response_template = RESPONSES
    unseen = {"suppress_tokens": [*SUPPRESSED, 98, 99, 100, 101]}
    return MultiTaskGRPOTrainer(
        model=patch_model(vocabulary=102 + len(CALLS)),
        tasks=tasks,
        args=tiny_config(folder, **(SETTINGS | {"generation_kwargs": unseen} | changes)),
        processing_class=processor,
    )


def answered(completions: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(message["role"] == "tool" for message in completion)) for completion in completions]


@pytest.mark.parametrize("length", [None, pytest.param(12, marks=pytest.mark.slow)])
def test_images_train_beside_tools_and_environments(length: int | None, tmp_path: Path) -> None:
    numbers = [1 + i % 4 for i in range(12)]
    tasks = [
        Task("seen", image_rows("s", 12, "several"), answered, tools=[add], max_completion_length=length),
        Task(
            "guess", image_rows("g", 12, "some", number=numbers), [], environment_factory=Guess, success_threshold=1.0
        ),
        Task("plain", Dataset.from_dict({"prompt": asked("t", 12)}), contains_lower, success_threshold=1.0),
    ]
    trainer = calling_trainer(tmp_path, tasks, max_steps=4, oversampling=3.0, solved_discount=0.0)
    trainer.train()
    state = trainer.multi_task_state
    assert (state.groups.trained > 0).all()
    calls = dict.fromkeys(("seen", "guess", "plain"), 0.0)
    for line in trainer.state.log_history:
        for name in calls:
            calls[name] += line.get(f"tasks/{name}/tool_calls", 0.0)
    assert calls["seen"] > 0
    assert calls["guess"] > 0
    assert calls["plain"] == 0


class Showing(OpenGuess):
    def reset(self, number: int, **row: Any) -> Any:
        return [{"type": "image", "image": picture(number)}]


def test_an_image_as_observation_is_refused(tmp_path: Path) -> None:
    rows = image_rows("g", 12, number=[1] * 12)
    task = Task("guess", rows, [], environment_factory=Showing, success_threshold=1.0)
    with pytest.raises(RuntimeError, match="an observation must be text, got an image"):
        calling_trainer(tmp_path, [task], max_steps=1).train()


# Pieces


def patches(counts: list[int]) -> dict[str, Any]:
    """Two patches for each image, numbered; types of as many tokens as a row has images."""
    total = sum(counts)
    return {
        "pixel_values": torch.arange(2 * total, dtype=torch.float32)[:, None],
        "image_grid_thw": torch.tensor([[1, 1, 2]] * total).reshape(total, 3),
        "num_images": counts,
    }


def test_rows_are_cut_out_of_patches_and_put_together_again() -> None:
    rows = by_row(patches([2, 0, 1]), 3)
    assert [len(row["pixel_values"]) for row in rows] == [4, 0, 2]
    merged = merge([rows[2], rows[1]])
    assert merged["pixel_values"][:, 0].tolist() == [4.0, 5.0]
    assert merged["num_images"] == [1, 0]
    assert merge([rows[1]]) == {}
    assert merge(rows)["pixel_values"].equal(patches([2, 0, 1])["pixel_values"])


def test_some_rows_of_what_a_processor_gave_keep_their_own_patches() -> None:
    fields = {name: np.asarray(value) for name, value in patches([2, 0, 1]).items() if name != "num_images"}
    fields["mm_token_type_ids"] = [[1, 1], [0], [1]]
    found = picked(fields, [["a", "b"], None, ["c"]], [1, 2])
    assert found["pixel_values"][:, 0].tolist() == [4.0, 5.0]
    assert found["mm_token_type_ids"] == [[0], [1]]
    assert picked(fields, [["a", "b"], None, ["c"]], [1]) == {"mm_token_type_ids": [[0]]}


def test_rows_that_fill_a_turn_have_no_image() -> None:
    fields = {"pixel_values": torch.ones(2, 3, 1, 1, 1), "token_type_ids": [[1], [1]], "image_sizes": torch.ones(2, 2)}
    more = filled(fields, 2, 3)
    assert more["pixel_values"].flatten().tolist() == [1.0] * 6 + [0.0] * 6
    assert more["token_type_ids"] == [[1], [1], [0, 0, 0], [0, 0, 0]]
    assert more["image_sizes"] is fields["image_sizes"]


def test_rows_cannot_be_cut_out_of_tiles() -> None:
    with pytest.raises(ValueError, match="`tasks` must have equal lengths and no tools beside images that the"):
        picked({"pixel_values": torch.ones(5, 3, 2, 2)}, [["a"], ["b"]], [0])


def test_a_prompt_gives_away_its_images_and_takes_them_back() -> None:
    inside = {"role": "user", "content": [{"type": "image", "image": "a"}, {"type": "text", "text": "?"}]}
    prompt = [
        {"role": "system", "content": "s"},
        inside,
        {"role": "user", "content": [{"type": "image", "image": "b"}]},
    ]
    empty, images = take_images(prompt)
    assert images == ["a", "b"]
    assert "image" not in empty[1]["content"][0]
    assert put_images(empty, images) == prompt
    assert take_images("text") == ("text", [])


def test_images_of_a_row_are_in_the_order_in_which_the_model_sees_them() -> None:
    place, inside = {"type": "image"}, {"type": "image", "image": "own"}
    user = {"role": "user", "content": [place, inside, place]}
    assert images_of({"prompt": [user], "images": ["a", "b"]}) == ["a", "own", "b"]
    plain = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "user", "content": "v"}]
    assert images_of({"prompt": plain, "image": "a"}) == ["a"]
    assert images_of({"prompt": plain, "image": None}) == images_of({"prompt": "text"}) == []


def test_images_of_other_pixels_or_sizes_have_other_digests() -> None:
    images = [picture(1), picture(2), picture(1, 16), picture(1).convert("L"), np.ones(2), np.ones((1, 2)), "a", "b"]
    assert len({digest(image) for image in images}) == len(images)
    assert digest(picture(1)) == digest(picture(1).copy())
