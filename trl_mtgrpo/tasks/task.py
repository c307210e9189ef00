"""What a task is: name, data and rewards bound in one checked value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset
from torch import nn

from .environments import check_environment, environment_reward, owned_rows
from .failures import ProgramFailure
from .names import as_number
from .prompts import is_conversational, kind_name, visible_columns
from .rewards import RewardFunc, function_name
from .signatures import check_program, check_signature
from .task_options import check_options
from .tools import check_tools


AnyReward = RewardFunc | str | nn.Module
Source = Literal["reward_funcs", "get_reward", "outcome_func"]
# What the functions of a task with a program get besides its columns.
PROGRAM_COLUMNS = ("outputs", "traces", "failed")


@dataclass(frozen=True, eq=False)
class Task:
    """
    One task: its name, its prompts and how answers to them are rewarded.

    Args:
        name (`str`):
            Name under which the task is logged. No slash, because metrics are called `tasks/<name>/...`.
        train_dataset ([`~datasets.Dataset`]):
            Rows with a column `prompt`, all plain strings or all lists of messages. The reward functions get the other
            columns, as in TRL: `completion` and `completion_ids` are left out. `None` for an environment that owns its
            data; its rows then have the one column `seed`, see `num_rows`.
        reward_funcs (`Callable`, `str`, [`~torch.nn.Module`] or a sequence of them):
            One or several rewards in TRL's convention. A function, sync or async, is called with this task's rows and
            columns only; a string or a module is a reward model, which several tasks may share. May be left out with
            an environment that has `get_reward`.
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
            or `None` where that is not known. It is measured and never trained on. Takes the place of
            `success_threshold`.
        max_completion_length (`int`, *optional*):
            Most tokens of a completion, no more than the run's. By default the run's.
        tools (`Sequence[Callable]`, *optional*, defaults to `()`):
            Functions, sync or async, that the model may call, with types and a docstring as in TRL.
        environment_factory (`Callable`, *optional*):
            Makes an environment in TRL's convention: `reset(**row)` may return an observation, public methods are
            tools, `get_reward` may give the reward. One is made per concurrent rollout. `reset` must be a function of
            its row, so that a run resumes exactly.
        num_rows (`int`, *optional*):
            Rows of a task whose environment owns its data (`train_dataset=None`); `reset` gets the row's number as
            `seed`.
        max_environments (`int`, *optional*):
            Most environments of this task that exist at a time. By default as many as a generate call has rows.
        tool_timeout (`float`, *optional*):
            Seconds that one call of a tool may take. No limit by default.
        program (`Callable`, *optional*):
            A program of several calls, `program(example, call) -> output`, with `call(module, prompt) -> str` as the
            only way to the model. The reward functions get `outputs`, `traces` and `failed`, one per rollout.
        module_rewards (`Mapping[str, Callable]`, *optional*):
            By module of the program, a reward that is added for this module's rows only.
        trainable_modules (`Sequence[str]`, *optional*):
            Modules of the program that are trained; all of them by default.
        failure_reward (`float`, *optional*, defaults to `0.0`):
            Reward of a rollout that came to no output: the program raised one of `failure_exceptions`, or made too
            many calls. With `None` the reward functions give it.
        format_failure_reward (`float`, *optional*, defaults to `-1.0`):
            Reward of a call whose answer could not be parsed; the other calls of the rollout keep theirs.
        failure_exceptions (`tuple[type[Exception], ...]`, *optional*, defaults to `(ProgramFailure,)`):
            What the program may raise to end a rollout. Anything else stops the run.

    Raises:
        `ValueError` or `TypeError`: when an argument is not as described.
    """

    name: str
    train_dataset: Dataset | None
    reward_funcs: AnyReward | Sequence[AnyReward] = ()
    eval_dataset: Dataset | None = None
    success_threshold: float | None = None
    reward_range: tuple[float, float] = (0.0, 1.0)
    reward_weights: Sequence[float] | None = None
    outcome_func: RewardFunc | None = None
    max_completion_length: int | None = None
    tools: Sequence[Callable[..., Any]] = ()
    environment_factory: Callable[[], Any] | None = None
    num_rows: int | None = None
    max_environments: int | None = None
    tool_timeout: float | None = None
    program: Callable[..., Any] | None = None
    module_rewards: Mapping[str, RewardFunc] | None = None
    trainable_modules: Sequence[str] | None = None
    failure_reward: float | None = 0.0
    format_failure_reward: float = -1.0
    failure_exceptions: tuple[type[Exception], ...] = (ProgramFailure,)
    _is_conversational: bool = field(init=False, repr=False, default=True)
    _owns_data: bool = field(init=False, repr=False, default=False)
    _class: type = field(init=False, repr=False, default=type(None))
    _example: list[Any] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or "/" in self.name:
            example = self.name.replace("/", "-").strip() if isinstance(self.name, str) else ""
            raise ValueError(
                f"`name` must be text without a slash, got {self.name!r}. It becomes part of the metrics' names: "
                f"rename the task, to {example or 'countdown-easy'!r} for example."
            )
        check_options(self)
        self._set("reward_funcs", _several(self.reward_funcs))
        self._set("tools", tuple(self.tools))
        if self.environment_factory is not None:
            # Made to see what it is, and used later as the first one.
            self._example.append(check_environment(self.name, self.environment_factory))
            self._set("_class", type(self._example[0]))
        self._check_rewards()
        self._check_measures()
        self._check_data()
        self._check_program()
        if self.is_agentic:
            check_tools(self)

    def __repr__(self) -> str:
        rows = [f"{len(dataset):,} {split.removesuffix('_dataset')} rows" for split, dataset in self.splits.items()]
        named = {
            "reward_funcs": [function for function, *_ in self.sources()],
            "tools": self.tools,
            "program": [] if self.program is None else [self.program],
        }
        shown = [f"{key}=[{', '.join(map(_short, value))}]" for key, value in named.items() if value]
        if self.success_threshold is not None:
            shown.append(f"success_threshold={self.success_threshold:g}")
        return f"Task({', '.join([repr(self.name), *rows, *shown])})"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def is_conversational(self) -> bool:
        """Whether the prompts are lists of messages."""
        return self._is_conversational

    @property
    def is_agentic(self) -> bool:
        """Whether the model has tools, of its own or of an environment."""
        return bool(self.tools) or self.environment_factory is not None

    @property
    def owns_data(self) -> bool:
        """Whether the rows are numbers that the environment makes its data from."""
        return self._owns_data

    @property
    def environment_class(self) -> type:
        """Class of the environments."""
        return self._class

    def make_environment(self) -> Any:
        """An environment of the user's own; the first one is that which was made with the task."""
        assert self.environment_factory is not None
        return self._example.pop() if self._example else self.environment_factory()

    @property
    def splits(self) -> dict[Literal["train_dataset", "eval_dataset"], Dataset]:
        """The task's datasets by the argument that holds them."""
        given: dict[Literal["train_dataset", "eval_dataset"], Dataset | None]
        given = {"train_dataset": self.train_dataset, "eval_dataset": self.eval_dataset}
        return {name: dataset for name, dataset in given.items() if dataset is not None}

    def check_signatures(self, may_add_columns: bool = False) -> None:
        """
        Check that every function can be called with the rows of both splits.

        Args:
            may_add_columns (`bool`, *optional*, defaults to `False`):
                Whether a `rollout_func` may add columns to the rows.

        Raises:
            `ValueError`: when a function asks for a column that nothing can add, or does not take what it is given.
        """
        for split, dataset in self.splits.items():
            for function, _, source in self.sources():
                if not isinstance(function, str | nn.Module):
                    check_signature(
                        function,
                        self.name,
                        source,
                        split,
                        dataset,
                        may_add_columns=may_add_columns
                        or self.environment_factory is not None
                        or self.program is not None,
                        has_environments=self.environment_factory is not None,
                    )

    def sources(self) -> list[tuple[AnyReward, float, Source]]:
        """
        Every function of the task with its weight and what it came from.

        Returns:
            `list[tuple]`: `(function, weight, source)`; the environment's own reward comes after `reward_funcs`, with
            weight 1.0 as in TRL, and the outcome function last, with weight 0.0.
        """
        assert isinstance(self.reward_funcs, tuple)
        assert self.reward_weights is not None
        pairs = zip(self.reward_funcs, self.reward_weights, strict=True)
        functions: list[tuple[AnyReward, float, Source]] = [
            (function, weight, "reward_funcs") for function, weight in pairs
        ]
        if hasattr(self._class, "get_reward"):
            functions.append((environment_reward(self._class), 1.0, "get_reward"))
        if self.outcome_func is not None:
            functions.append((self.outcome_func, 0.0, "outcome_func"))
        return functions

    def _check_rewards(self) -> None:
        functions = self.reward_funcs
        assert isinstance(functions, tuple)
        for function in functions or (() if hasattr(self._class, "get_reward") else (None,)):
            if not callable(function) and not isinstance(function, str):
                raise TypeError(
                    f"`reward_funcs` of task '{self.name}' must be functions or reward models, got {function!r}. Pass "
                    "at least one function `f(prompts, completions, **columns)` that returns a list of numbers."
                )
        weights = _numbers((1.0,) * len(functions) if self.reward_weights is None else self.reward_weights)
        if weights is None or len(weights) != len(functions):
            raise ValueError(
                f"`reward_weights` of task '{self.name}' must hold one finite number per function, got "
                f"{self.reward_weights!r} for {len(functions)} functions. Leave it out to weight all functions with 1."
            )
        self._set("reward_weights", weights)
        outcome = self.outcome_func
        if outcome is not None and (not callable(outcome) or isinstance(outcome, nn.Module)):
            raise TypeError(
                f"`outcome_func` of task '{self.name}' must be a function, got {self.outcome_func!r}. It is called "
                "like a reward function and says for each completion whether it is correct."
            )

    def _check_measures(self) -> None:
        given = self.success_threshold
        threshold = None if given is None else as_number(given)
        if given is not None and threshold is None:
            raise ValueError(
                f"`success_threshold` of task '{self.name}' must be a finite number, got {given!r}. Leave it out to "
                "measure the task by its mean reward."
            )
        self._set("success_threshold", threshold)
        if threshold is not None and self.outcome_func is not None:
            raise ValueError(
                f"`success_threshold` of task '{self.name}' must be left out together with `outcome_func`, got "
                f"{threshold}. Keep the one that says what correct means."
            )
        bounds = _numbers(self.reward_range)
        if bounds is None or len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise ValueError(
                f"`reward_range` of task '{self.name}' must be two finite numbers in increasing order, got "
                f"{self.reward_range!r}. Give the least and the greatest reward a completion can get."
            )
        self._set("reward_range", bounds)

    def _check_program(self) -> None:
        if self.program is None:
            return
        check_program(self.program, self.name)
        assert self.reward_weights is not None
        if not any(self.reward_weights):
            raise ValueError(
                f"`reward_weights` of task '{self.name}' must weight a function of a task with a program, got "
                f"{self.reward_weights}. What failed rollouts get is given through it."
            )
        for split, dataset in self.splits.items():
            added = [name for name in visible_columns(dataset) if name in PROGRAM_COLUMNS]
            if added:
                raise ValueError(
                    f"`{split}` of task '{self.name}' must not have columns that its program adds, got {added}. "
                    "Rename them with `dataset.rename_column`."
                )

    def _check_data(self) -> None:
        if self.train_dataset is None and self.environment_factory is not None and self.num_rows is not None:
            self._set("_owns_data", True)
            self._set("train_dataset", owned_rows(self.num_rows))
        if self.environment_factory is not None:
            for argument, dataset in self.splits.items():
                if "environment" in (getattr(dataset, "column_names", None) or ()):
                    raise ValueError(
                        f"`{argument}` of task '{self.name}' must not have a column 'environment', got one. The task "
                        "says which environment its rows have: remove it with `dataset.remove_columns`, or rename it."
                    )
        kind = is_conversational(self.train_dataset, "train_dataset", self.name)
        self._set("_is_conversational", kind)
        if self.is_agentic and not kind:
            raise ValueError(
                f"`train_dataset` of task '{self.name}' must have prompts that are lists of messages, because the "
                "model is told of its tools by the chat template, got text. Convert them with `dataset.map`: "
                "`[{'role': 'user', 'content': prompt}]`."
            )
        if self.eval_dataset is not None and kind != is_conversational(self.eval_dataset, "eval_dataset", self.name):
            raise ValueError(
                f"`eval_dataset` of task '{self.name}' must have prompts like those of `train_dataset`, got "
                f"{kind_name(not self.is_conversational)} against {kind_name(self.is_conversational)}. Convert one "
                "of the two with `dataset.map`."
            )


def _short(function: AnyReward | Callable[..., Any]) -> str:
    return function if isinstance(function, str) else function_name(function)


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)


def _numbers(given: Any) -> tuple[float, ...] | None:
    """Finite numbers out of a sequence or an array of them; `None` for anything else."""
    values = given.tolist() if callable(getattr(given, "tolist", None)) else given
    if not isinstance(values, Sequence) or isinstance(values, str):
        return None
    numbers = [as_number(value) for value in values]
    return None if any(number is None for number in numbers) else tuple(n for n in numbers if n is not None)
