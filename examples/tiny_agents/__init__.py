"""A model small enough to learn three tasks with tools on a laptop."""

from tiny_agents.tasks import build_tasks
from tiny_agents.warm_start import warm_start


__all__ = ["build_tasks", "warm_start"]
