"""Tiny models that see, of two kinds: one row of pixels per image, or as many patches as an image has."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from tests.host_parts import seeing_model, seeing_processor
from tests.tiny import contains_a, contains_digit, contains_lower, tiny_config, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer, Task


PARTS = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<v><i></v>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
)


def patch_model(folder: Any = None, seed: int = 0, vocabulary: int = 102) -> Qwen2VLForConditionalGeneration:
    """A model that reads an image as one token per square of 8 points."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen2VLForConditionalGeneration(
            Qwen2VLConfig(
                text_config={
                    "vocab_size": vocabulary,
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "max_position_embeddings": 256,
                    "pad_token_id": 0,
                    "bos_token_id": 1,
                    "eos_token_id": 1,
                    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
                },
                vision_config={
                    "depth": 1,
                    "embed_dim": 16,
                    "hidden_size": 32,
                    "num_heads": 2,
                    "mlp_ratio": 2,
                    "patch_size": 4,
                    "spatial_merge_size": 2,
                    "temporal_patch_size": 1,
                },
                vision_start_token_id=98,
                vision_end_token_id=99,
                image_token_id=100,
                video_token_id=101,
            )
        )


class PatchProcessor(Qwen2VLProcessor):
    """Without videos, whose processor needs a further library."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None, **kwargs: Any) -> None:
        self.image_token, self.video_token = "<i>", "<m>"
        self.image_token_id, self.video_token_id = 100, 101
        self.video_processor = None
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def patch_processor() -> PatchProcessor:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<v>", "</v>", "<i>", "<m>"]})
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=1, size={"shortest_edge": 64, "longest_edge": 1024}
    )
    return PatchProcessor(images, tokenizer, chat_template=PARTS)


def picture(shade: int, width: int = 8) -> Image.Image:
    return Image.fromarray(np.full((8, width, 3), shade % 256, dtype=np.uint8))


def asked(letter: str, size: int) -> list[Any]:
    return [[{"role": "user", "content": f"{letter}{i}"}] for i in range(size)]


def image_rows(letter: str = "p", size: int = 12, kind: str = "one", **columns: Any) -> Dataset:
    """Rows with `"one"` image each, `"several"`, with `"some"` missing."""
    pictures = [picture(20 * i, 8 + 8 * (i % 2)) for i in range(size)]
    prompts = asked(letter, size)
    if kind == "several":
        lists = [[pictures[i], *pictures[: i % 3]] for i in range(size)]
        return Dataset.from_dict({"prompt": prompts, "images": lists, **columns})
    shown = [None if kind == "some" and i % 2 else image for i, image in enumerate(pictures)]
    return Dataset.from_dict({"prompt": prompts, "image": shown, **columns})


def seeing_parts(kind: str) -> tuple[Any, Any]:
    """A model and its processor."""
    if kind == "per image":
        return seeing_model(None), seeing_processor()
    return patch_model(), patch_processor()


KINDS = ("per image", "per patch")


def mixed_tasks(seen: list[Any] | None = None, size: int = 12, with_eval: bool = False) -> list[Task]:
    """One image in a row, several, some rows without, and a task of text; tasks write down what they are given."""

    def recording(function: Any) -> Any:
        def reward(prompts: list[Any], completions: list[Any], **kwargs: Any) -> list[float]:
            own = {name: kwargs[name] for name in ("image", "images") if name in kwargs}
            if seen is not None:
                seen.append((function.__name__, prompts, own))
            return function(completions)

        return reward

    def task(name: str, data: Any, function: Any) -> Task:
        evaluated = data(size=3) if with_eval else None
        return Task(name, data(size=size), recording(function), success_threshold=1.0, eval_dataset=evaluated)

    return [
        task("one", lambda size: image_rows("o", size), contains_digit),
        task("several", lambda size: image_rows("s", size, "several"), contains_a),
        task("some", lambda size: image_rows("m", size, "some"), contains_lower),
        task("text", lambda size: Dataset.from_dict({"prompt": asked("t", size)}), contains_digit),
    ]


def seeing_trainer(folder: Any, tasks: list[Task], kind: str = "per image", **changes: Any) -> MultiTaskGRPOTrainer:
    model, processor = seeing_parts(kind)
    if saved := changes.pop("saved", None):
        model = type(model).from_pretrained(saved)
    options = {name: changes.pop(name) for name in ("sampler", "peft_config") if name in changes}
    return MultiTaskGRPOTrainer(
        model=model, tasks=tasks, args=tiny_config(folder, **changes), processing_class=processor, **options
    )
