"""Decides the embedded default: a tiny model that learns real reasoning-gym items without a GPU or the network."""

from tiny_world.evaluation import evaluate_tasks, task_scores
from tiny_world.model import build_model, build_tokenizer
from tiny_world.tasks import TASKS, TinyTask, default_cache_dir, tiny_task_reward, tiny_task_rows
from tiny_world.warm_starts import warm_start
from tiny_world.worlds import WORLDS, WarmTask, World


__all__ = [
    "TASKS",
    "WORLDS",
    "TinyTask",
    "WarmTask",
    "World",
    "build_model",
    "build_tokenizer",
    "default_cache_dir",
    "evaluate_tasks",
    "task_scores",
    "tiny_task_reward",
    "tiny_task_rows",
    "warm_start",
]
