"""Decides how a model from scratch comes to know the right answers and yet to sample them rarely."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tiny_world.evaluation import evaluate_tasks, task_scores
from tiny_world.model import build_model, build_tokenizer
from tiny_world.puzzle import Puzzle
from tiny_world.tasks import TASKS, default_cache_dir, draw_puzzles, task_items, tiny_task_rows
from tiny_world.worlds import WORLDS, WarmTask, World


REPORT_NAME = "warm_start.json"

_RECIPE = {"lr": 2e-3, "warmup_steps": 30, "final_lr_ratio": 0.1, "noisy_lr": 5e-4, "max_grad_norm": 1.0, "version": 1}
_IGNORED = -100
_NUM_PROMPTS = 64  # held-out prompts behind the accuracies in the report


def warm_start(world: World | str, seed: int = 0, cache_dir: Path | str | None = None, progress: bool = True) -> Path:
    """
    Trains the tiny model on generated puzzles, or finds the model that an earlier call trained.

    A clean phase teaches all tasks, a short noisy phase hides the skill: a share of wrong answers of the right form
    lowers what the model samples, while the right answer stays the most probable one, as in a pretrained model whose
    pass@k lies far above its pass@1. Every optimizer step holds rows of all tasks.

    Args:
        world (`World` or `str`):
            A world, or its name in `tiny_world.worlds.WORLDS`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the parameters, the puzzles' order and the noise.
        cache_dir (`Path` or `str`, *optional*):
            Where models and items are kept. The user's cache folder if not given.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `Path`: Folder with the model, its tokenizer and `warm_start.json`: per task, after the clean phase and at
        the end, the sampled and greedy accuracy and the share of groups of 8 that are neither solved nor failed.
    """
    world = WORLDS[world] if isinstance(world, str) else world
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    recipe = {**_RECIPE, "world": asdict(world), "tasks": [repr(TASKS[name]) for name in world.task_names]}
    recipe["versions"] = {name: version(name) for name in ("reasoning-gym", "torch")}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = root / "warm_starts" / f"{world.name}-seed{seed}-{digest}"
    if folder.exists():
        return folder

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        model, report = _train(world, seed, root, progress)
        model.save_pretrained(partial)
        build_tokenizer().save_pretrained(partial)
        (partial / REPORT_NAME).write_text(json.dumps({"seed": seed, "recipe": recipe, **report}, indent=2) + "\n")
        try:
            os.replace(partial, folder)
        except OSError:  # another process was faster, its result is the same
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _train(world: World, seed: int, root: Path, progress: bool) -> tuple[Any, dict[str, Any]]:
    tokenizer, model = build_tokenizer(), build_model(seed)
    rng = np.random.default_rng([seed, 1])
    num_steps = world.clean_steps + world.noisy_steps
    with tqdm(total=num_steps, disable=not progress, desc="warm start: puzzles") as bar:
        sources = {name: task_items(TASKS[name], root) for name in world.task_names}
        held_out = {name: tiny_task_rows(name, "test", _NUM_PROMPTS, 0, root) for name in world.task_names}
        streams = {name: draw_puzzles(TASKS[name], items, "train", rng) for name, items in sources.items()}
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=_RECIPE["lr"], betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        report: dict[str, Any] = {}
        model.train()
        for step in range(num_steps):
            noisy = step >= world.clean_steps
            if step == world.clean_steps:
                report["after_clean"] = _strength(model, tokenizer, held_out, world.max_completion_length)
            bar.set_description(f"warm start: {'hiding' if noisy else 'learning'}")
            for group in optimizer.param_groups:
                group["lr"] = _RECIPE["noisy_lr"] if noisy else _learning_rate(step, world.clean_steps)
            batches = (_draw(part, streams[part.task], noisy, rng) for part in world.tasks)
            _optimizer_step(model, optimizer, tokenizer, zip(world.tasks, batches, strict=True))
            bar.update()
        report["at_start"] = _strength(model, tokenizer, held_out, world.max_completion_length)
    return model, report


def _learning_rate(step: int, num_steps: int) -> float:
    """Linear warm-up, then half a cosine down to the final ratio."""
    low = _RECIPE["final_lr_ratio"]
    cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * step / num_steps))
    return _RECIPE["lr"] * cosine * min(1.0, (step + 1) / _RECIPE["warmup_steps"])


def _draw(part: WarmTask, puzzles: Iterator[Puzzle], noisy: bool, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Prompts with their labels, some of them wrong in the noisy phase."""
    family = TASKS[part.task].family
    pairs = []
    for puzzle in islice(puzzles, part.rows):
        wrong = noisy and rng.random() < part.noise
        pairs.append((puzzle.prompt, family.wrong_answer(puzzle, rng) if wrong else puzzle.answer))
    return pairs


def _optimizer_step(
    model: Any, optimizer: torch.optim.Optimizer, tokenizer: Any, batches: Iterable[tuple[WarmTask, Any]]
) -> None:
    for part, pairs in batches:  # tasks differ in length, so one forward pass each: almost no padding
        input_ids, labels = _tokenize(pairs, tokenizer.get_vocab(), tokenizer.eos_token_id)
        # No attention mask: padding is on the right, where a causal model cannot look.
        hidden = model.model(input_ids=input_ids, use_cache=False).last_hidden_state
        told = labels != _IGNORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[told]), labels[told])
        (part.share * loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), _RECIPE["max_grad_norm"])
    optimizer.step()
    optimizer.zero_grad()


def _tokenize(
    pairs: list[tuple[str, str]], vocabulary: dict[str, int], eos_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and next-token labels, both of shape `(rows, length)`; labels cover the answer and its end."""
    length = max(len(prompt) + len(answer) for prompt, answer in pairs)
    input_ids = np.zeros((len(pairs), length), dtype=np.int64)
    labels = np.full((len(pairs), length), _IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        tokens = [vocabulary[character] for character in prompt + answer] + [eos_id]
        input_ids[row, : len(tokens) - 1] = tokens[:-1]
        labels[row, len(prompt) - 1 : len(tokens) - 1] = tokens[len(prompt) :]
    return torch.from_numpy(input_ids), torch.from_numpy(labels)


def _strength(
    model: Any, tokenizer: Any, rows: dict[str, list[dict[str, str]]], max_new_tokens: int
) -> dict[str, dict[str, float]]:
    scores = task_scores(model, tokenizer, rows, samples=8, max_new_tokens=max_new_tokens)
    greedy = evaluate_tasks(model, tokenizer, rows, samples=1, temperature=0.0, max_new_tokens=max_new_tokens)
    return {
        "sampled": {name: float(values.mean()) for name, values in scores.items()},
        "greedy": greedy,
        "mixed_groups": {name: float((values.std(axis=1) > 0).mean()) for name, values in scores.items()},
    }
