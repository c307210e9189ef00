"""Decides how a model from scratch comes to know how tools are called and yet to use them badly."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tiny_agents.tasks import keys, pairs, secret
from tiny_agents.tokenizer import build_tokenizer


CLEAN_STEPS, NOISY_STEPS, BATCH = 350, 50, 96
# Share of wrong moves in the second phase: the skill stays, and is sampled rarely.
NOISE = {"larger": 0.7, "guess": 0.8, "lookup": 0.6}

# A dialogue in pieces: text, and whether the model writes it.
Piece = tuple[str, bool]


def build_model(seed: int) -> LlamaForCausalLM:
    """A decoder of three layers."""
    tokenizer = build_tokenizer()
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        initializer_range=0.05,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, bos_token_id=None, **special)
    return model


def larger_dialogue(rng: np.random.Generator, noise: float) -> list[Piece]:
    known, _ = pairs()
    a, b = known[rng.integers(len(known))]
    said = rng.integers(10, 100) if rng.random() < noise else max(a, b)
    return [(f"<user>max {a} {b}<model>", False), (f"{said}</s>", True)]


def guess_dialogue(rng: np.random.Generator, noise: float) -> list[Piece]:
    number, low, high = int(rng.integers(1, 10)), 1, 9
    pieces = [(f"<user>find {'abcdef'[rng.integers(6)]};guess<model>", False)]
    for _ in range(4):
        n = int(rng.integers(1, 10)) if rng.random() < noise else (low + high) // 2
        word = "yes" if n == number else "up" if n < number else "down"
        pieces += [(f"<call>guess n={n}</call></s>", True), (f"<tool>{word}<model>", False)]
        if n == number:
            break
        low, high = (max(low, n + 1), high) if n < number else (low, min(high, n - 1))
    return [*pieces, ("ok</s>", True)]


def lookup_dialogue(rng: np.random.Generator, noise: float) -> list[Piece]:
    known, _ = keys()
    key = known[rng.integers(len(known))]
    asked = int(rng.integers(10, 100)) if rng.random() < noise else key
    return [
        (f"<user>key {key}?;look<model>", False),
        (f"<call>look key={asked}</call></s>", True),
        (f"<tool>{secret(asked)}<model>", False),
        (f"{secret(asked)}</s>", True),
    ]


DIALOGUES = {"larger": larger_dialogue, "guess": guess_dialogue, "lookup": lookup_dialogue}


def warm_start(folder: Path, seed: int = 0) -> Path:
    """
    Trains the model on dialogues, clean ones and then noisy ones, or finds it where an earlier call left it.

    Args:
        folder (`Path`):
            Where models are kept.
        seed (`int`, *optional*, defaults to `0`):
            Seed of parameters, dialogues and noise.

    Returns:
        `Path`: folder of the model and its tokenizer.
    """
    path = folder / f"tiny-agent-{seed}"
    if (path / "config.json").exists():
        return path
    tokenizer, model, rng = build_tokenizer(), build_model(seed), np.random.default_rng(seed)
    steps = CLEAN_STEPS + NOISY_STEPS
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in tqdm(range(steps), desc="warm start"):
        clean = step < CLEAN_STEPS
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 30, (CLEAN_STEPS - step) / 200 + 0.1) if clean else 5e-4
        batch = [
            _tokens(tokenizer, dialogue(rng, 0.0 if clean else NOISE[name]))
            for name, dialogue in DIALOGUES.items()
            for _ in range(BATCH // len(DIALOGUES))
        ]
        width = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in batch])
        labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _tokens(tokenizer: Any, pieces: list[Piece]) -> tuple[list[int], list[int]]:
    """Tokens of a dialogue, and those that the model is to learn."""
    ids: list[int] = []
    labels: list[int] = []
    for text, own in pieces:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += tokens
        labels += tokens if own else [-100] * len(tokens)
    return ids, labels
