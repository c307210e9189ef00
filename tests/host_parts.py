"""What runs of either trainer are made of beside rewards: rollouts, tools, environments, models and datasets."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from tests.tiny import rows, text_of, tiny_model, tiny_tokenizer


# Rollouts, tools and environments


def rollout_func(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """Random letters in place of generation, the last token of each from an environment."""
    ids = [[33 + int(torch.randint(60, ())) for _ in range(5)] + [1] for _ in prompts]
    return {
        "prompt_ids": trainer.processing_class([text_of(prompt) for prompt in prompts])["input_ids"],
        "completion_ids": ids,
        "logprobs": None,
        "env_mask": [[1, 1, 1, 1, 0, 1] for _ in prompts],
        "first_id": [row[0] for row in ids],
    }


def rollout(leave_out: tuple[str, ...] = (), **fields: Callable[[list[list[int]]], Any]) -> dict[str, Any]:
    """The argument `rollout_func` with other fields, each a function of the completions' ids, or fewer fields."""

    def rolled(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        output = rollout_func(prompts, trainer)
        output |= {name: make(output["completion_ids"]) for name, make in fields.items()}
        return {name: value for name, value in output.items() if name not in leave_out}

    return {"rollout_func": rolled}


TOOL_TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}"
    "{% for call in m.get('tool_calls') or [] %}{{ call['function']['name'] }}{{ call['function']['arguments'] }}"
    "{% endfor %};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)


class CallingTokenizer(PreTrainedTokenizerFast):
    """Reads a digit in a completion as a call of a tool: of the first one for small digits, else of the last."""

    def parse_response(self, response: Any, prefix: Any = None, tools: Any = None) -> dict[str, Any]:
        text = self.decode(response, skip_special_tokens=True)
        digits = [c for c in text if c.isdigit()]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if digits and tools:
            tool = tools[0] if digits[0] < "5" else tools[-1]
            call = {"name": tool.__name__, "arguments": {"number": int(digits[0])}}
            message["tool_calls"] = [{"type": "function", "function": call}]
        return message


def calling_tokenizer() -> PreTrainedTokenizerFast:
    plain = tiny_tokenizer()
    tokenizer = CallingTokenizer(
        tokenizer_object=plain.backend_tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        chat_template=TOOL_TEMPLATE,
    )
    tokenizer.response_template = {"any": "template"}
    return tokenizer


def double(number: int) -> int:
    """
    Doubles a number.

    Args:
        number: The number.

    Returns:
        Twice the number.
    """
    return 2 * number


async def half(number: int) -> float:
    """
    Halves a number.

    Args:
        number: The number.

    Returns:
        Half the number.
    """
    await asyncio.sleep(0)
    return number / 2


def refuse(number: int) -> int:
    """
    Fails on every number.

    Args:
        number: The number.

    Returns:
        Nothing.
    """
    raise ValueError(f"no {number} today")


class Counter:
    """An environment that counts, says where it starts and rewards what was counted."""

    def reset(self, start: int = 0, **kwargs: Any) -> str | None:
        self.total = start
        return f" from {start}" if start else None

    def add(self, number: int) -> int:
        """
        Adds a number.

        Args:
            number: The number.

        Returns:
            The new total.
        """
        self.total += number
        return self.total

    def get_reward(self) -> float:
        return self.total / 10


class SlowCounter(Counter):
    """The same with a reward that must be awaited."""

    async def get_reward(self) -> float:  # type: ignore[override]
        await asyncio.sleep(0)
        return self.total / 20


class Silent:
    """An environment without a reward, whose prompt is its observation."""

    def reset(self, **kwargs: Any) -> str:
        return "say"

    def tell(self, number: int) -> str:
        """
        Tells a number.

        Args:
            number: The number.

        Returns:
            The number.
        """
        return str(number)


def total_of_environments(environments: list[Any], completions: list[Any], **kwargs: Any) -> list[float]:
    return [getattr(environment, "total", 1) / 10 for environment in environments]


# Models


def lora(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"peft_config": LoraConfig(**({"r": 4, "target_modules": "all-linear"} | changes))}


def saved_model(folder: Any) -> Qwen2ForCausalLM:
    """The tiny model with a path of its own, from which TRL builds a reference model."""
    return Qwen2ForCausalLM.from_pretrained(saved_path(folder))


def saved_path(folder: Any) -> str:
    """The path of the tiny model and its tokenizer."""
    path = Path(folder) / "model"
    if not path.exists():
        tiny_model().save_pretrained(path)
        tiny_tokenizer().save_pretrained(path)
    return str(path)


def adapted_model(folder: Any) -> Any:
    """A model with an adapter that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return get_peft_model(
            saved_model(folder), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        )


def expert_model(folder: Any) -> Qwen2MoeForCausalLM:
    """A model whose router has a loss of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2MoeForCausalLM(
            Qwen2MoeConfig(
                vocab_size=98,
                hidden_size=32,
                intermediate_size=64,
                moe_intermediate_size=32,
                shared_expert_intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                num_experts=4,
                num_experts_per_tok=2,
                max_position_embeddings=128,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
                router_aux_loss_coef=0.1,
            )
        )


def seeing_model(folder: Any) -> LlavaForConditionalGeneration:
    """A model that reads images of 8 by 8 points as four tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=CLIPVisionConfig(
                    hidden_size=16,
                    intermediate_size=16,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    image_size=8,
                    patch_size=4,
                    projection_dim=16,
                ),
                text_config=Qwen2Config(
                    vocab_size=99,
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    max_position_embeddings=128,
                    pad_token_id=0,
                    bos_token_id=1,
                    eos_token_id=1,
                ),
                image_token_id=98,
                vision_feature_select_strategy="full",
                vision_feature_layer=-1,
            )
        )


def seeing_processor() -> LlavaProcessor:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return LlavaProcessor(
        CLIPImageProcessorPil(size={"height": 8, "width": 8}, crop_size={"height": 8, "width": 8}),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for message in messages %}{% for part in message['content'] %}"
            "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        ),
    )


# Datasets


def columned(letter: str = "p", size: int = 20, chat: bool = False, **columns: Any) -> Dataset:
    """Rows with an answer and a kind."""
    kinds = ["even" if i % 2 == 0 else "odd" for i in range(size)]
    return rows(letter, size, chat, **({"answer": [str(i) for i in range(size)], "kind": kinds} | columns))


def streamed(letter: str = "p", size: int = 20, **columns: Any) -> IterableDataset:
    return columned(letter, size, **columns).to_iterable_dataset(num_shards=2)


def pictures(letter: str = "p", size: int = 12, several: bool = False, missing: bool = False) -> Dataset:
    """Conversations with an image, or several, or none, per row."""
    images = [Image.fromarray(np.full((8, 8, 3), 20 * i, dtype=np.uint8)) for i in range(size)]
    prompts = [[{"role": "user", "content": f"{letter}{i}"}] for i in range(size)]
    if several:
        return Dataset.from_dict({"prompt": prompts, "images": [images[: 1 + i % 2] for i in range(size)]})
    return Dataset.from_dict(
        {"prompt": prompts, "image": [None if missing and i % 2 else images[i] for i in range(size)]}
    )
