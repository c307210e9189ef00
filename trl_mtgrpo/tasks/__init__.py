"""
What a task is: its name, data and rewards, and how several of them become one run.
"""

from .mixture import TaskMixture
from .task import Task


__all__ = ["Task", "TaskMixture"]
