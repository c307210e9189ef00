"""How one gradient moves the task logits: Adam with coupled or decoupled decay, or a plain step, on a K-vector."""

from typing import Literal, TypeAlias

import numpy as np

from .base import TaskVector, WeightingState


WeightOptimizer: TypeAlias = Literal["adam", "adamw", "sgd"]

# PyTorch's defaults, which the released code keeps.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def optimizer_step(
    state: WeightingState, gradient: TaskVector, *, optimizer: WeightOptimizer, lr: float, decay: float
) -> WeightingState:
    """
    One descent step on the logits ξ (Eq. (7) of the paper).

    - `"adam"`: the decay γ joins the gradient before the moments, g ← g + γ ξ. The released code does this, and only
      this form reproduces the paper's regularisation experiment (appendix E).
    - `"adamw"`: the decay shrinks the logits directly, ξ ← (1 - lr γ) ξ. What the paper prints.
    - `"sgd"`: ξ ← ξ - lr (g + γ ξ).

    Adam is scale free: a logit moves by about `lr` per update, whatever the size of the signal.

    Args:
        state ([`WeightingState`]):
            Logits, moments and step before the update.
        gradient (`numpy.ndarray` of shape `(K,)`):
            Gradient with respect to the logits.
        optimizer (`str`):
            One of `"adam"`, `"adamw"`, `"sgd"`.
        lr (`float`):
            Step size.
        decay (`float`):
            γ.
    """
    logits = state.values
    if optimizer != "adamw":
        gradient = gradient + decay * logits
    step = state.step + 1
    if optimizer == "sgd":
        return WeightingState(logits - lr * gradient, state.first_moment, state.second_moment, step)
    if optimizer == "adamw":
        logits = (1.0 - lr * decay) * logits
    first = BETA_1 * state.first_moment + (1.0 - BETA_1) * gradient
    second = BETA_2 * state.second_moment + (1.0 - BETA_2) * gradient**2
    scale = np.sqrt(second / (1.0 - BETA_2**step)) + EPSILON
    return WeightingState(logits - lr * (first / (1.0 - BETA_1**step)) / scale, first, second, step)


def check_optimizer(optimizer: str, lr: float, decay: float) -> None:
    """Raises `ValueError` unless the three describe a descent step."""
    if optimizer not in ("adam", "adamw", "sgd"):
        raise ValueError(
            f"`optimizer` must be one of 'adam', 'adamw', 'sgd', got {optimizer!r}. Pick 'adam' for the default."
        )
    if not lr >= 0:
        raise ValueError(f"`lr` must be non-negative, got {lr}. The paper uses 0.025.")
    if not decay >= 0:
        raise ValueError(f"`decay` must be non-negative, got {decay}. Pass 0 to switch it off.")
