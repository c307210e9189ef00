"""What a task is: name, data and rewards bound in one checked value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from datasets import Dataset
from torch import nn

from .prompts import is_conversational, kind_name
from .rewards import RewardFunc


AnyReward = RewardFunc | str | nn.Module


@dataclass(frozen=True, eq=False)
class Task:
    """
    One task: its name, its prompts and how answers to them are rewarded.

    Args:
        name (`str`):
            Name under which the task is logged. No slash, because metrics are called `tasks/<name>/...`.
        train_dataset ([`~datasets.Dataset`]):
            Rows with a column `prompt`, all plain strings or all lists of messages. Other columns reach the reward
            functions.
        reward_funcs (`Callable`, `str`, [`~torch.nn.Module`] or a sequence of them):
            One or several rewards in TRL's convention. A function, sync or async, is called with this task's rows and
            columns only; a string or a module is a reward model.
        eval_dataset ([`~datasets.Dataset`], *optional*):
            Rows held out for evaluation.
        success_threshold (`float`, *optional*):
            A completion is correct when its reward, summed over the task's functions with their weights, is at least
            this. Without a threshold and without `outcome_func` the task is measured by its mean reward.
        reward_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Least and greatest reward, which are mapped to 0 and 1 where tasks are compared, so that no task is
            favoured by its units. Used without a threshold only.
        reward_weights (`Sequence[float]`, *optional*):
            One weight per function, all 1.0 by default.
        outcome_func (`Callable`, *optional*):
            A function like a reward function that returns whether each completion is correct, as `True`, `False`, 1, 0
            or `None`. It is measured and never trained on. Takes the place of `success_threshold`.

    Raises:
        `ValueError` or `TypeError`: when an argument is not as described.
    """

    name: str
    train_dataset: Dataset
    reward_funcs: AnyReward | Sequence[AnyReward]
    eval_dataset: Dataset | None = None
    success_threshold: float | None = None
    reward_range: tuple[float, float] = (0.0, 1.0)
    reward_weights: Sequence[float] | None = None
    outcome_func: RewardFunc | None = None
    _is_conversational: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or "/" in self.name:
            raise ValueError(
                f"`name` must be text without a slash, got {self.name!r}. It becomes part of the metrics' names: use "
                "something like 'countdown-easy'."
            )
        given = self.reward_funcs
        several = isinstance(given, Sequence) and not isinstance(given, str)
        object.__setattr__(self, "reward_funcs", tuple(given) if several else (given,))  # type: ignore[arg-type]
        self._check_rewards()
        self._check_measures()
        kind = is_conversational(self.train_dataset, "train_dataset", self.name)
        object.__setattr__(self, "_is_conversational", kind)
        if self.eval_dataset is not None and kind != is_conversational(self.eval_dataset, "eval_dataset", self.name):
            raise ValueError(
                f"`eval_dataset` of task '{self.name}' must have prompts like those of `train_dataset`, got "
                f"{kind_name(not self.is_conversational)} against {kind_name(self.is_conversational)}. Convert one "
                "of the two with `dataset.map`."
            )

    @property
    def is_conversational(self) -> bool:
        """Whether the prompts are lists of messages."""
        return self._is_conversational

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns of the training and evaluation rows, in the order in which they appear."""
        evaluation = self.eval_dataset.column_names if self.eval_dataset is not None else []
        return tuple(dict.fromkeys([*self.train_dataset.column_names, *evaluation]))

    def sources(self) -> list[tuple[AnyReward, float, Literal["reward_funcs", "outcome_func"]]]:
        """
        Every function of the task with its weight and the argument it came from.

        Returns:
            `list[tuple]`: `(function, weight, argument)`; the outcome function comes last, with weight 0.0.
        """
        assert isinstance(self.reward_funcs, tuple)
        assert self.reward_weights is not None
        pairs = zip(self.reward_funcs, self.reward_weights, strict=True)
        functions: list[tuple[AnyReward, float, Literal["reward_funcs", "outcome_func"]]] = [
            (function, weight, "reward_funcs") for function, weight in pairs
        ]
        if self.outcome_func is not None:
            functions.append((self.outcome_func, 0.0, "outcome_func"))
        return functions

    def _check_rewards(self) -> None:
        functions = self.reward_funcs
        assert isinstance(functions, tuple)
        for function in functions or (None,):
            if not callable(function) and not isinstance(function, str):
                raise TypeError(
                    f"`reward_funcs` of task '{self.name}' must be functions or reward models, got {function!r}. Pass "
                    "at least one function `f(prompts, completions, **columns)` that returns a list of numbers."
                )
        if self.reward_weights is None:
            object.__setattr__(self, "reward_weights", (1.0,) * len(functions))
        weights = tuple(float(weight) for weight in self.reward_weights)  # type: ignore[union-attr]
        if len(weights) != len(functions) or not all(math.isfinite(weight) for weight in weights):
            raise ValueError(
                f"`reward_weights` of task '{self.name}' must hold one finite number per function, got "
                f"{list(weights)} for {len(functions)} functions. Leave it out to weight all functions with 1."
            )
        object.__setattr__(self, "reward_weights", weights)
        outcome = self.outcome_func
        if outcome is not None and (not callable(outcome) or isinstance(outcome, nn.Module)):
            raise TypeError(
                f"`outcome_func` of task '{self.name}' must be a function, got {self.outcome_func!r}. It is called "
                "like a reward function and says for each completion whether it is correct."
            )

    def _check_measures(self) -> None:
        threshold = self.success_threshold
        if threshold is not None and not math.isfinite(threshold):
            raise ValueError(
                f"`success_threshold` of task '{self.name}' must be a finite number, got {threshold}. Leave it out to "
                "measure the task by its mean reward."
            )
        if threshold is not None and self.outcome_func is not None:
            raise ValueError(
                f"`success_threshold` of task '{self.name}' must be left out together with `outcome_func`, got "
                f"{threshold}. Keep the one that says what correct means."
            )
        bounds = tuple(self.reward_range)
        if len(bounds) != 2 or not all(math.isfinite(bound) for bound in bounds) or not bounds[0] < bounds[1]:
            raise ValueError(
                f"`reward_range` of task '{self.name}' must be two finite numbers in increasing order, got "
                f"{self.reward_range}. Give the least and the greatest reward a completion can get."
            )
