"""What a task file says: one frozen value per kind of entry, with strict names and the line of each task.

Whether what it says makes sense together is decided in `defects`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl_mtgrpo import Task


Prompt = str | list[dict[str, Any]]


class TaskFileError(ValueError):
    """A task file that cannot be understood; the message names the line."""


@dataclass(frozen=True)
class HubDataset:
    """
    Rows of a dataset of the Hub, or of a folder that `datasets.load_dataset` reads.

    Args:
        path (`str`):
            As for `load_dataset`; a path that starts with `./` is looked up beside the task file.
        name (`str`, *optional*):
            Configuration of the dataset.
        split (`str`, *optional*, defaults to `"train"`):
            Training rows.
        eval_split (`str`, *optional*):
            Evaluation rows.
        revision (`str`, *optional*):
            Commit, branch or tag.
    """

    path: str
    name: str | None = None
    split: str = "train"
    eval_split: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class LocalFiles:
    """
    Rows of json, jsonl, csv or parquet files, looked up beside the task file.

    Args:
        train (`str` or `list[str]`):
            Files with training rows.
        eval (`str` or `list[str]`, *optional*):
            Files with evaluation rows.
    """

    train: str | list[str]
    eval: str | list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReasoningGym:
    """
    Generated puzzles with their own reward, see [`reasoning_gym_task`].

    Args:
        family (`str`):
            Name of a reasoning-gym dataset.
        level (`str`, *optional*):
            `"easy"`, `"medium"` or `"hard"` for the families that have levels.
        options (`dict`, *optional*):
            Options of the dataset.
        train_size (`int`, *optional*, defaults to `10000`):
            Training rows.
        eval_size (`int`, *optional*, defaults to `200`):
            Evaluation rows.
        seed (`int`, *optional*, defaults to `0`):
            Selects the rows.
        format_reward (`float`, *optional*):
            Reward of a wrong answer in a box, 0.1 when left out.
        chat (`bool`, *optional*, defaults to `False`):
            Whether prompts are messages, for a model with a chat template.
        shots (`int`, *optional*, defaults to `0`):
            Worked examples before each question.
        box (`bool`, *optional*, defaults to `True`):
            Whether the answer is asked for in a box, and read there.
    """

    family: str
    level: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    train_size: int = 10_000
    eval_size: int = 200
    seed: int = 0
    format_reward: float | None = None
    chat: bool = False
    shots: int = 0
    box: bool = True


@dataclass(frozen=True)
class VerlFiles:
    """
    Rows of one data source in verl's parquet files, looked up beside the task file.

    Args:
        data_source (`str`):
            The rows' `data_source` without an ending `-train` or `-test`.
        train (`str` or `list[str]`):
            Files with training rows.
        eval (`str` or `list[str]`, *optional*):
            Files with evaluation rows.
    """

    data_source: str
    train: str | list[str]
    eval: str | list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seeds:
    """
    Numbers that an environment makes its problems from; its `reset` gets one as `seed`.

    Args:
        train (`int`):
            Training rows: the numbers from 0.
        eval (`int`, *optional*, defaults to `0`):
            Evaluation rows: the numbers after those.
    """

    train: int
    eval: int = 0


@dataclass(frozen=True)
class PartEntry:
    """
    An environment or a program.

    Args:
        use (`str`):
            `package.module:name` of a class or function.
        options (`dict`, *optional*):
            Its keyword arguments.
    """

    use: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RewardEntry:
    """
    One reward of a task.

    Args:
        use (`str`):
            A name such as `exact_match`, or `package.module:function`.
        options (`dict`, *optional*):
            Keyword arguments of the named reward, or of the function.
        weight (`float`, *optional*, defaults to `1.0`):
            What it counts for in the sum over the task's rewards.
    """

    use: str
    options: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class TaskEntry:
    """
    One task of the file. Exactly one of `dataset`, `files`, `reasoning_gym`, `verl` and `seeds` says where its rows
    come from.

    Args:
        name (`str`):
            Name under which it is logged.
        dataset ([`HubDataset`], *optional*):
            Rows of a dataset.
        files ([`LocalFiles`], *optional*):
            Rows of files.
        reasoning_gym ([`ReasoningGym`], *optional*):
            Generated rows.
        verl ([`VerlFiles`], *optional*):
            Rows of verl's files.
        seeds ([`Seeds`], *optional*):
            Rows that the environment makes.
        tools (`list[str]`, *optional*):
            Functions that the model may call, each as `package.module:function`.
        environment ([`PartEntry`], *optional*):
            Class of the task's environments, or a function that makes one.
        program ([`PartEntry`], *optional*):
            A program of several calls: a function, or a class that is made once.
        module_rewards (`dict[str, str]`, *optional*):
            By module of the program, a reward as `package.module:function`.
        trainable_modules (`list[str]`, *optional*):
            See [`Task`].
        failure_reward (`float`, *optional*, defaults to `0.0`):
            See [`Task`].
        format_failure_reward (`float`, *optional*, defaults to `-1.0`):
            See [`Task`].
        max_environments (`int`, *optional*):
            See [`Task`].
        tool_timeout (`float`, *optional*):
            See [`Task`].
        prompt (`str` or `list[dict]`, *optional*):
            Text with places such as `{question}`, or messages with such text. The column `prompt` when left out.
        answer (`str`, *optional*):
            Text with places for the right answer, which becomes the column `answer`.
        answer_after (`str`, *optional*):
            The answer is what follows the last of these marks, such as `"####"`.
        reference (`str`, *optional*):
            What a right completion looks like, with the place `{answer}`; used by `check`.
        reward (`str`, [`RewardEntry`] or a list of them, *optional*):
            How completions are rewarded. May be left out where the source has a reward of its own.
        success_threshold (`float`, *optional*):
            See [`Task`]. 1.0 for a single named reward when left out.
        reward_range (`list[float]`, *optional*):
            See [`Task`].
        max_completion_length (`int`, *optional*):
            Most tokens of a completion of this task, no more than the trainer's.
        eval_size (`int`, *optional*):
            Rows held out of the training rows for evaluation, the same in every run.
        weight (`float`, *optional*):
            Fixed share of the batch, in 0..1.
        line (`int`):
            Where the task stands in the file.
    """

    name: str
    dataset: HubDataset | None = None
    files: LocalFiles | None = None
    reasoning_gym: ReasoningGym | None = None
    verl: VerlFiles | None = None
    seeds: Seeds | None = None
    tools: list[str] = field(default_factory=list)
    environment: PartEntry | None = None
    program: PartEntry | None = None
    module_rewards: dict[str, str] = field(default_factory=dict)
    trainable_modules: list[str] | None = None
    failure_reward: float | None = Task.failure_reward
    format_failure_reward: float = Task.format_failure_reward
    max_environments: int | None = None
    tool_timeout: float | None = None
    prompt: Prompt | None = None
    answer: str | None = None
    answer_after: str | None = None
    reference: str | None = None
    reward: tuple[RewardEntry, ...] = ()
    success_threshold: float | None = None
    reward_range: list[float] | None = None
    max_completion_length: int | None = None
    eval_size: int | None = None
    weight: float | None = None
    line: int = field(default=0, compare=False, metadata={"in_file": False})

    @property
    def source(self) -> HubDataset | LocalFiles | ReasoningGym | VerlFiles | Seeds:
        """Where the rows come from."""
        given = self.dataset or self.files or self.reasoning_gym or self.verl or self.seeds
        assert given is not None
        return given


@dataclass(frozen=True)
class TaskFile:
    """
    A whole run.

    Args:
        model (`str`):
            Name on the Hub or a folder; a path that starts with `./` is looked up beside the task file.
        tasks (`tuple[TaskEntry, ...]`):
            The tasks, in order.
        trainer (`dict`, *optional*):
            Fields of [`MultiTaskGRPOConfig`].
        peft (`dict`, *optional*):
            Fields of peft's `LoraConfig`.
        processes (`int`, *optional*):
            Processes that the batch is meant for. `train` refuses another number.
        max_prompt_tokens (`int`, *optional*):
            Longest prompt that is meant; `check` reports longer ones.
        path (`Path`):
            The file.
    """

    model: str
    tasks: tuple[TaskEntry, ...]
    trainer: dict[str, Any] = field(default_factory=dict)
    peft: dict[str, Any] | None = None
    processes: int | None = None
    max_prompt_tokens: int | None = None
    path: Path = field(default=Path(), compare=False, metadata={"in_file": False})

    @property
    def folder(self) -> Path:
        """Where the file lies, and modules beside it."""
        return self.path.parent

    @property
    def weights(self) -> dict[str, float]:
        """Fixed weight by task name, of the tasks that have one."""
        return {task.name: task.weight for task in self.tasks if task.weight is not None}

    @property
    def shares(self) -> dict[str, float]:
        """Fixed shares of the batch by task name: of the tasks, or of the trainer's `fixed_task_weights`."""
        given = self.trainer.get("fixed_task_weights")
        return self.weights or (dict(given) if isinstance(given, Mapping) else {})

    def beside(self, path: str) -> str:
        """A path of the file, taken relative to the folder that holds it."""
        return str(self.path.parent / path)

    def place(self, task: TaskEntry) -> str:
        """Where a task stands, for a message."""
        return f"{self.path.name}, line {task.line}"


def as_list(paths: str | Sequence[str]) -> list[str]:
    """One path or several as a list."""
    return [paths] if isinstance(paths, str) else list(paths)
