"""Decides the real example: a pretrained model from a package registry, and three tasks that it half knows."""

from real_model.pretrained import is_cached, pretrained_model
from real_model.tasks import QUESTIONS, Question, best_constant_score, line_end, real_tasks


__all__ = [
    "QUESTIONS",
    "Question",
    "best_constant_score",
    "is_cached",
    "line_end",
    "pretrained_model",
    "real_tasks",
]
