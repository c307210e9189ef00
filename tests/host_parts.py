"""What runs of either trainer are made of: rewards, rollouts, tools, environments, models and datasets."""

import asyncio
import functools
import zlib
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
    Qwen2ForSequenceClassification,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from tests.tiny import contains_digit, rows, text_of, tiny_model, tiny_tokenizer


Reward = Callable[..., Any]

# Rewards: from a plain function to what a trainer is given


def share_of_lower(completions: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.islower() for c in text_of(completion)) / 6 for completion in completions]


def with_second(function: Reward) -> list[Reward]:
    return [function, share_of_lower]


def with_async(function: Reward) -> list[Reward]:
    async def slowly(completions: list[Any], **kwargs: Any) -> list[float]:
        await asyncio.sleep(0)
        return function(completions)

    async def length(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [len(text_of(completion)) / 6 for completion in completions]

    return [slowly, length]


def with_async_object(function: Reward) -> list[Reward]:
    class Judge:
        __name__ = "judge"

        async def __call__(self, completions: list[Any], log_extra: Any, **kwargs: Any) -> list[float]:
            await asyncio.sleep(0)
            log_extra("length", [len(text_of(completion)) for completion in completions])
            return function(completions)

    return [Judge(), function]


def with_abstention(function: Reward) -> list[Reward]:
    """A second function that gives no opinion on half of the completions."""

    def on_long(completions: list[Any], **kwargs: Any) -> list[float | None]:
        return [share_of_lower([c])[0] if "e" in text_of(c) else None for c in completions]

    return [function, on_long]


def by_kind(function: Reward) -> list[Reward]:
    """One function per kind of row, each silent on the other kind's rows."""

    def on_even(completions: list[Any], kind: list[str], **kwargs: Any) -> list[float | None]:
        values = function(completions)
        return [value if k == "even" else None for k, value in zip(kind, values, strict=True)]

    def on_odd(completions: list[Any], kind: list[str], **kwargs: Any) -> list[float | None]:
        values = contains_digit(completions)
        return [value if k == "odd" else None for k, value in zip(kind, values, strict=True)]

    return [on_even, on_odd]


def sometimes_silent(function: Reward) -> list[Reward]:
    """No function has an opinion on some rows."""

    def unsure(completions: list[Any], **kwargs: Any) -> list[float | None]:
        values = function(completions)
        return [None if "z" in text_of(c) or not i else v for i, (c, v) in enumerate(zip(completions, values))]  # noqa: B905

    return [unsure]


def silent_at_first(function: Reward) -> list[Reward]:
    """Nothing is scored in the first step."""

    def later(completions: list[Any], trainer_state: Any, **kwargs: Any) -> list[float | None]:
        return function(completions) if trainer_state.global_step else [None] * len(completions)

    return [later]


def not_numbers(function: Reward) -> list[Reward]:
    def odd(completions: list[Any], **kwargs: Any) -> list[float]:
        values = function(completions)
        return [float("nan") if "y" in text_of(c) else v for c, v in zip(completions, values, strict=True)]

    return [odd, share_of_lower]


def infinite(function: Reward) -> list[Reward]:
    def far(completions: list[Any], **kwargs: Any) -> list[float]:
        return [float("inf") if "b" in text_of(c) else 1e30 * function([c])[0] for c in completions]

    return [far]


def kinds_of_numbers(function: Reward) -> list[Reward]:
    """Numbers as libraries return them: arrays, scalars of numpy and torch, booleans, integers."""

    def array(completions: list[Any], **kwargs: Any) -> Any:
        return np.array(function(completions), dtype=np.float64)

    def tensor(completions: list[Any], **kwargs: Any) -> Any:
        return torch.tensor(function(completions))

    def mixed(completions: list[Any], **kwargs: Any) -> list[Any]:
        kinds = (np.float32, bool, int, torch.tensor)
        return [kinds[i % 4](value) for i, value in enumerate(contains_digit(completions))]

    return [array, tensor, mixed]


def with_logging(function: Reward) -> list[Reward]:
    def logged(completions: list[Any], log_extra: Any, log_metric: Any, **kwargs: Any) -> list[float]:
        log_extra("first", [text_of(completion)[:1] for completion in completions])
        log_metric("mean_length", sum(len(text_of(c)) for c in completions) / len(completions))
        return function(completions)

    return [logged]


def with_logging_now_and_then(function: Reward) -> list[Reward]:
    """Columns and metrics that come and go."""

    def logged(completions: list[Any], trainer_state: Any, log_extra: Any, log_metric: Any, **kwargs: Any) -> Any:
        if trainer_state.global_step % 2 == 0:
            log_extra("length", [len(text_of(completion)) for completion in completions])
            log_metric("longest", max(len(text_of(completion)) for completion in completions))
        return function(completions)

    return [logged, share_of_lower]


def with_exact_arguments(function: Reward) -> list[Reward]:
    """Exactly what the host passes for a dataset with one column `answer`."""

    def exact(
        prompts: Any,
        completions: Any,
        completion_ids: Any,
        answer: Any,
        trainer_state: Any,
        log_extra: Any,
        log_metric: Any,
    ) -> list[float]:
        return [value + 0.01 * len(str(a)) for value, a in zip(function(completions), answer, strict=True)]

    return [exact]


def with_names_of_arguments(function: Reward) -> list[Reward]:
    """Logs which arguments arrive and with which values, but for the objects among them."""

    def told(log_metric: Any, log_extra: Any, trainer_state: Any, **columns: Any) -> list[float]:
        log_metric("names of arguments", zlib.crc32(" ".join(sorted(columns)).encode()))
        log_metric("step", trainer_state.global_step)
        plain = {k: v for k, v in columns.items() if k not in ("environments", "image", "images", "prompts")}
        log_extra(
            "arguments", [repr([(k, plain[k][i]) for k in sorted(plain)]) for i in range(len(plain["completions"]))]
        )
        return function(columns["completions"])

    return [told]


def of_column(column: str) -> Callable[[Reward], list[Reward]]:
    """A reward that depends on a column of the dataset."""

    def made(function: Reward) -> list[Reward]:
        def columned(completions: list[Any], **kwargs: Any) -> list[float]:
            values = [zlib.crc32(repr(value).encode()) % 7 / 7 for value in kwargs[column]]
            return [a + b for a, b in zip(values, function(completions), strict=True)]

        return [columned]

    return made


def as_partial(function: Reward) -> list[Reward]:
    def scaled(completions: list[Any], factor: float, **kwargs: Any) -> list[float]:
        return [factor * value for value in function(completions)]

    return [functools.partial(scaled, factor=0.5)]


def as_object(function: Reward) -> list[Reward]:
    class Judge:
        def __call__(self, completions: list[Any], **kwargs: Any) -> list[float]:
            return function(completions)

        def method(self, completions: list[Any], **kwargs: Any) -> list[float]:
            return share_of_lower(completions)

    return [Judge(), Judge().method, lambda completions, **kwargs: function(completions)]


def of_ids(function: Reward) -> list[Reward]:
    def tokens(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [sum(ids) % 5 / 5 for ids in completion_ids]

    return [tokens]


def too_few(function: Reward) -> list[Reward]:
    def short(completions: list[Any], **kwargs: Any) -> list[float]:
        return function(completions)[1:]

    return [short]


def failing(function: Reward) -> list[Reward]:
    def broken(completions: list[Any], trainer_state: Any, **kwargs: Any) -> list[float]:
        if trainer_state.global_step == 1:
            raise ZeroDivisionError("nothing to divide by")
        return function(completions)

    return [broken]


def reward_model() -> Qwen2ForSequenceClassification:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = Qwen2Config(
            vocab_size=98,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
            num_labels=1,
            name_or_path="tiny-reward-model",
        )
        return Qwen2ForSequenceClassification(config)


def with_model(function: Reward) -> list[Any]:
    return [function, reward_model()]


def lora(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"peft_config": LoraConfig(**({"r": 4, "target_modules": "all-linear"} | changes))}


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
