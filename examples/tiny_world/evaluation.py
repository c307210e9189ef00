"""Decides how accurate a model is on the tiny tasks, by sampling, without TRL."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from tiny_world.tasks import tiny_task_reward


def evaluate_tasks(
    model: Any,
    tokenizer: Any,
    rows_by_task: Mapping[str, Sequence[Mapping[str, str]]],
    samples: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 16,
    batch_size: int = 512,
) -> dict[str, float]:
    """
    Share of right completions per task.

    Args:
        model (`PreTrainedModel`):
            Model to sample from, left in the mode it was in.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer, padding on the left.
        rows_by_task (`Mapping[str, Sequence[Mapping[str, str]]]`):
            Rows of [`tiny_task_rows`] per task name.
        samples (`int`, *optional*, defaults to `4`):
            Completions per prompt.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0 takes the most probable token and needs one sample.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling. The global random state is left as it was.
        max_new_tokens (`int`, *optional*, defaults to `16`):
            Longest completion in tokens.
        batch_size (`int`, *optional*, defaults to `512`):
            Completions per generate call.

    Returns:
        `dict[str, float]`: Accuracy between 0 and 1 per task name.
    """
    scores = task_scores(model, tokenizer, rows_by_task, samples, temperature, seed, max_new_tokens, batch_size)
    return {name: float(values.mean()) for name, values in scores.items()}


def task_scores(
    model: Any,
    tokenizer: Any,
    rows_by_task: Mapping[str, Sequence[Mapping[str, str]]],
    samples: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 16,
    batch_size: int = 512,
) -> dict[str, NDArray[np.float64]]:
    """
    Score of every completion, for standard errors and for the share of prompts that are neither solved nor failed by
    all samples. Arguments as in [`evaluate_tasks`].

    Returns:
        `dict[str, NDArray]`: Per task name an array of shape `(rows, samples)` of zeros and ones, rows as given.
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1, got {samples}. Raise it.")
    strategy = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    was_training = model.training
    model.eval()
    cuda = [model.device] if model.device.type == "cuda" else []
    scores = {}
    with torch.random.fork_rng(devices=cuda), torch.inference_mode():
        torch.manual_seed(seed)
        for name, rows in rows_by_task.items():
            reward = tiny_task_reward(name)
            order = np.argsort([len(row["prompt"]) for row in rows], kind="stable")  # little padding within a batch
            values: list[float] = []
            size = max(1, batch_size // samples)
            for start in range(0, len(rows), size):
                batch = [rows[index] for index in order[start : start + size]]
                prompts = [row["prompt"] for row in batch]
                inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
                read = (inputs["input_ids"], inputs["attention_mask"])
                output = _sampled(model, *read, samples, max_new_tokens, strategy)
                texts = tokenizer.batch_decode(output, skip_special_tokens=True)
                values += reward(
                    [prompt for prompt in prompts for _ in range(samples)],
                    texts,
                    [row["entry"] for row in batch for _ in range(samples)],
                )
            scores[name] = np.empty((len(rows), samples))
            scores[name][order] = np.array(values).reshape(len(rows), samples)
    model.train(was_training)
    return scores


def _sampled(
    model: Any, prompts: torch.Tensor, mask: torch.Tensor, samples: int, max_new_tokens: int, strategy: dict[str, Any]
) -> torch.Tensor:
    """Completions, `samples` of a prompt in a row. A prompt is read once: reading costs more than a short answer."""
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    model(
        input_ids=prompts[:, :-1],
        attention_mask=mask[:, :-1],
        position_ids=positions[:, :-1],
        past_key_values=cache,
        use_cache=True,
    )
    cache.batch_repeat_interleave(samples)
    output = model.generate(
        input_ids=prompts.repeat_interleave(samples, 0),
        attention_mask=mask.repeat_interleave(samples, 0),
        past_key_values=cache,
        max_new_tokens=max_new_tokens,
        **strategy,
    )
    return output[:, prompts.shape[1] :]
