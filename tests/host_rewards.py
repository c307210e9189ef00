"""Rewards of runs of either trainer: each takes a plain function and returns what a trainer is given."""

import asyncio
import functools
import zlib
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from tests.tiny import contains_digit, text_of


Reward = Callable[..., Any]


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


@functools.cache
def _reward_model_folder() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory()
    reward_model().save_pretrained(folder.name)
    return folder


def reward_model_path() -> str:
    """The reward model in a folder that lasts as long as the tests."""
    return _reward_model_folder().name


def with_model(function: Reward) -> list[Any]:
    return [function, reward_model()]
