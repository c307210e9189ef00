"""Random mixtures whose completions are a function of the prompt, and what either trainer makes of each row."""

import asyncio
import copy
import inspect
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from tests.tiny import tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, Task


# Sums of these are exact in float32 in any order.
VALUES = (0.0, 0.25, 0.5, 1.0)
WEIGHTS = (1.0, 0.5, 2.0, -1.0)
OBJECTS = ("trainer_state", "log_extra", "log_metric")
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

COLUMNS: dict[str, Callable[[str, int], Any]] = {
    "answer": lambda letter, i: f"{letter}{i}",
    "number": lambda letter, i: i,
    "hint": lambda letter, i: None if i % 2 else f"hint {i}",
    "nothing": lambda letter, i: None,
    "info": lambda letter, i: {"deep": [i, None], "text": letter},
    "tags": lambda letter, i: [letter, str(i)],
    "task": lambda letter, i: f"own {i}",
    "task_id": lambda letter, i: 100 + i,
    "row": lambda letter, i: 200 - i,
    "index": lambda letter, i: -i,
    "name": lambda letter, i: letter,
    "completion": lambda letter, i: f"told {i}",
    "self": lambda letter, i: i,
    "made": lambda letter, i: f"of the dataset {i}",
}
ARRAYS = ("numpy", "torch", "pandas")
FORMATS = ("none", *ARRAYS, "some columns", "transform", "lazy transform", "narrow transform")
TAKES = ("all", "all and names", "default", "exact")
SILENCE = ("never", "some rows", "always")
FIELDS = ("made", "answer", "env_mask", "shared")

Facts = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class FunctionCase:
    """
    A reward function.

    Args:
        takes (`str`): What its signature asks for.
        silence (`str`): Which rows it gives no opinion on.
        is_async (`bool`): Whether it is awaited.
        logs (`bool`): Whether it logs a column.
        weight (`float`): Its weight.
    """

    takes: str
    silence: str
    is_async: bool
    logs: bool
    weight: float


@dataclass(frozen=True)
class TaskCase:
    """
    A task.

    Args:
        letter (`str`): Its name, and the first letter of its prompts.
        size (`int`): Training rows.
        columns (`tuple[str, ...]`): Columns of the training rows.
        eval_columns (`tuple[str, ...]`, *optional*): Columns of the evaluation rows, `None` for no such rows.
        format (`str`): How rows are read.
        functions (`tuple`): Its reward functions.
        measure (`str`): What correct means: `"nothing"`, `"threshold"` or `"outcome"`.
    """

    letter: str
    size: int
    columns: tuple[str, ...]
    eval_columns: tuple[str, ...] | None
    format: str
    functions: tuple[FunctionCase, ...]
    measure: str


@dataclass(frozen=True)
class Case:
    """
    A mixture and a run.

    Args:
        tasks (`tuple`): The tasks.
        chat (`bool`): Prompts as lists of messages.
        generations (`int`): Rollouts per prompt.
        scale (`str`): How advantages are scaled.
        group_filter (`str`): Which groups train.
        oversampling (`str` or `float`): How many are generated.
        fields (`tuple[str, ...]`): What the rollout function returns beside the completions.
        only_first (`bool`): The first task fills the batch, which then is the whole of its rows in their order.
        seed (`int`): Of the completions and the run.
    """

    tasks: tuple[TaskCase, ...]
    chat: bool
    generations: int
    scale: str
    group_filter: str
    oversampling: str | float
    fields: tuple[str, ...]
    only_first: bool
    seed: int


@st.composite
def cases(draw: st.DrawFn, only_first: bool) -> Case:
    """
    A mixture of one to three tasks.

    Args:
        only_first (`bool`): Whether the first task fills the batch.
    """
    functions = st.builds(
        FunctionCase,
        takes=st.sampled_from(TAKES),
        silence=st.sampled_from(SILENCE),
        is_async=st.booleans(),
        logs=st.booleans(),
        weight=st.sampled_from(WEIGHTS),
    )
    tasks = []
    for letter in "abc"[: draw(st.integers(1, 3))]:
        format = draw(st.sampled_from(FORMATS))
        # As arrays the type of a value would depend on which other values are read with it.
        unlike = {"hint"} if format in ARRAYS else set()
        columns = st.sets(st.sampled_from(sorted(COLUMNS.keys() - unlike)), max_size=5).map(lambda s: tuple(sorted(s)))
        task = TaskCase(
            letter=letter,
            size=draw(st.integers(1, 5)),
            columns=draw(columns),
            eval_columns=draw(st.none() | columns),
            format=format,
            functions=tuple(draw(st.lists(functions, min_size=1, max_size=3))),
            measure=draw(st.sampled_from(["nothing", "threshold", "outcome"])),
        )
        tasks.append(task)
    return Case(
        tasks=tuple(tasks),
        chat=draw(st.booleans()),
        generations=draw(st.integers(2, 4)),
        scale=draw(st.sampled_from(["group", "none"])),
        group_filter=draw(st.sampled_from(["none", "mixed_correctness", "reward_variance"])),
        oversampling=draw(st.sampled_from(["adaptive", 1.0, 2.0])),
        fields=tuple(draw(st.sets(st.sampled_from(FIELDS), max_size=2).map(sorted))),
        only_first=only_first,
        seed=draw(st.integers(0, 1000)),
    )


# Rows and rollouts


def text_of(prompt: Any) -> str:
    """The text of a prompt in whatever form a format gave it, or of a completion."""
    return str(prompt if isinstance(prompt, str) else prompt[-1]["content"])


def _number(*parts: Any) -> int:
    return zlib.crc32(repr(parts).encode())


def dataset(case: Case, task: TaskCase, split: str) -> Dataset | None:
    """A task's rows of one split."""
    columns = task.columns if split == "train" else task.eval_columns
    if columns is None:
        return None
    texts = [f"{task.letter}{split[0]}{i}" for i in range(task.size if split == "train" else 3)]
    prompts = [[{"role": "user", "content": text}] for text in texts] if case.chat else texts
    made = {name: [COLUMNS[name](task.letter, i) for i in range(len(texts))] for name in columns}
    data = Dataset.from_dict({"prompt": prompts, **made})
    if task.format in ARRAYS:
        # Conversations as arrays are no conversations for the host, and pandas formats all columns or none.
        if not case.chat:
            return data.with_format(task.format)
        return (
            data if task.format == "pandas" else data.with_format(task.format, list(columns), output_all_columns=True)
        )
    if task.format == "some columns":
        return data.with_format("python", columns=["prompt", *columns[::2]])
    if task.format == "lazy transform":
        return data.with_transform(_transform)
    if task.format == "transform":
        data.set_transform(_transform)
    if task.format == "narrow transform":
        data.set_transform(_narrow)
    return data


def _transform(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {**batch, "made": [f"made of {text_of(prompt)}" for prompt in batch["prompt"]]}


def _narrow(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {"prompt": batch["prompt"], "made": [f"made of {text_of(prompt)}" for prompt in batch["prompt"]]}


def rollout(case: Case) -> Callable[[list[Any], Any], dict[str, Any]]:
    """A `rollout_func` whose completions depend on the prompt and the place in its group alone."""

    def rolled(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        seen: Counter[str] = Counter()
        texts = [text_of(prompt) for prompt in prompts]
        completions = []
        for text in texts:
            member = seen[text] % case.generations
            seen[text] += 1
            number = _number(case.seed, text, member)
            completion = "ABCD"[member] + "".join(ALPHABET[number // 7**k % 36] for k in range(number % 4))
            ids = trainer.processing_class(completion)["input_ids"]
            completions.append(ids + [1] * (number % 3 > 0))  # some are cut off
        fields = {
            "made": [f"rolled {text}" for text in texts],
            "answer": [_number(text) for text in texts],
            "env_mask": [[int(j == 0 or _number(ids, j) % 3 > 0) for j in range(len(ids))] for ids in completions],
            "shared": "the same",
        }
        return {
            "prompt_ids": trainer.processing_class(texts)["input_ids"],
            "completion_ids": completions,
            "logprobs": None,
            **{name: fields[name] for name in case.fields},
        }

    return rolled


# Rewards


class Told:
    """What reward functions were given, by function, prompt and completion."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], str] = {}

    def add(self, function: str, given: dict[str, Any]) -> None:
        columns = {name: values for name, values in given.items() if name not in OBJECTS}
        for i, (prompt, completion) in enumerate(zip(given["prompts"], given["completions"], strict=True)):
            row = [(name, columns[name][i]) for name in sorted(columns)]
            self.rows[function, text_of(prompt), text_of(completion)] = repr(row)


def visible(case: Case, task: TaskCase, split: str) -> set[str]:
    """The columns that reward functions are given in plain TRL."""
    columns = set(task.columns if split == "train" else task.eval_columns or ())
    if task.format == "some columns":
        columns = set((task.columns if split == "train" else task.eval_columns or ())[::2])
    elif task.format == "narrow transform":
        columns = {"made"}
    elif task.format in ("transform", "lazy transform"):
        columns.add("made")
    return (columns | set(case.fields)) - {"completion", "env_mask"}


def reward_functions(case: Case, task: TaskCase, told: Told) -> list[Callable[..., Any]]:
    """A task's reward functions, which tell what they are given."""
    return [_reward(case, task, slot, told) for slot in range(len(task.functions))]


def _reward(case: Case, task: TaskCase, slot: int, told: Told) -> Callable[..., Any]:
    function, name = task.functions[slot], f"{task.letter}{slot}"
    signature, asked = _signature(case, task, function.takes)
    silence = function.silence
    if slot == 0 and all(f.silence == "always" for f in task.functions):
        silence = "some rows"  # nothing could be learned from a task that is never scored

    def judge(**given: Any) -> list[float | None]:
        bound = signature.bind(**given)  # as a function of this signature would
        bound.apply_defaults()
        told.add(name, given)
        values: list[float | None] = []
        for i, (prompt, completion) in enumerate(zip(given["prompts"], given["completions"], strict=True)):
            text = text_of(completion)
            seen = [bound.arguments[column][i] if column in given else bound.arguments[column] for column in asked]
            number = _number(name, text_of(prompt), text, repr(seen))
            silent = silence == "always" or (silence == "some rows" and text[0] not in "A" and number % 2 == 0)
            values.append(None if silent else VALUES[number // 2 % len(VALUES)])
        if function.logs:
            given["log_extra"](f"note {slot}", [f"{name} {text_of(c)}" for c in given["completions"]])
        return values

    async def judge_later(**given: Any) -> list[float | None]:
        await asyncio.sleep(0)
        return judge(**given)

    chosen: Any = judge_later if function.is_async else judge
    chosen.__name__, chosen.__signature__ = name, signature
    return chosen


def _signature(case: Case, task: TaskCase, takes: str) -> tuple[inspect.Signature, list[str]]:
    """What a function asks for, and the columns that its values depend on."""
    splits = [
        visible(case, task, split) for split in ("train", "eval") if split == "train" or task.eval_columns is not None
    ]
    kind = inspect.Parameter.KEYWORD_ONLY
    if takes == "exact" and all(split == splits[0] for split in splits):
        names = ["prompts", "completions", "completion_ids", *OBJECTS, *sorted(splits[0])]
        return inspect.Signature([inspect.Parameter(name, kind) for name in names]), sorted(splits[0])
    rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    completions = inspect.Parameter("completions", kind)
    if takes == "all and names":
        names = sorted(set.intersection(*splits))[:2]
        return inspect.Signature([completions, *(inspect.Parameter(name, kind) for name in names), rest]), names
    if takes == "default":
        made = inspect.Parameter("made", kind, default="absent")
        return inspect.Signature([completions, made, rest]), ["made"]
    return inspect.Signature([completions, rest]), []


# Runs


def _tiny() -> Qwen2ForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=98,
                hidden_size=4,
                intermediate_size=4,
                num_hidden_layers=1,
                num_attention_heads=1,
                num_key_value_heads=1,
                max_position_embeddings=64,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        )


MODEL = _tiny()
FOLDER = TemporaryDirectory()
TOKENIZERS: dict[bool, PreTrainedTokenizerFast] = {chat: tiny_tokenizer(chat) for chat in (False, True)}


@dataclass
class Rows:
    """What a run did with its rows, by split, and where it left the model."""

    seen: dict[str, Facts] = field(default_factory=lambda: {"train": {}, "eval": {}})
    told: Told = field(default_factory=Told)
    losses: list[float] = field(default_factory=list)
    parameters: torch.Tensor | None = None


class Watched:
    """Notes what a trainer makes of each row: the inputs of its loss and the entries of its table."""

    rows: Rows

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        logs, split = self._logs, "train" if self.model.training else "eval"  # type: ignore[attr-defined]
        size = len(output["prompt_ids"])
        columns = {"prompt": logs["prompt"], "completion": logs["completion"], "logged advantage": logs["advantages"]}
        columns |= {("reward", name): values for name, values in logs["rewards"].items()}
        columns |= {("extra", name): values for name, values in logs["extra"].items()}
        for name, values in columns.items():
            assert len(values) == len(logs["prompt"]), f"{name} has {len(values)} of {len(logs['prompt'])} entries"
        masks = [output["completion_mask"][i].bool() for i in range(size)]
        trains = [
            output["tool_mask"][i][mask].tolist() if "tool_mask" in output else [1] * int(mask.sum())
            for i, mask in enumerate(masks)
        ]
        # Rows that only fill the batch are not in the table.
        shown = [i for i in range(size) if any(trains[i])]
        for place, i in enumerate(shown, len(logs["prompt"]) - len(shown)):
            row = {name: values[place] for name, values in columns.items()}
            row["prompt ids"] = output["prompt_ids"][i][output["prompt_mask"][i].bool()].tolist()
            row["advantage"] = float(output["advantages"][i])
            row["completion ids"] = output["completion_ids"][i][masks[i]].tolist()
            row["mask"] = trains[i]
            key = text_of(row["prompt"]), text_of(row["completion"])
            self.rows.seen[split][key] = row
        if split == "train":
            torch.manual_seed(self.args.seed)  # type: ignore[attr-defined]  # the host shuffles the rows next
        return output


class WatchedHost(Watched, GRPOTrainer):
    """The host."""


class WatchedOwn(Watched, MultiTaskGRPOTrainer):
    """This library's trainer."""


def _settings(case: Case, num_groups: int, steps: int) -> dict[str, Any]:
    return {
        "output_dir": FOLDER.name,
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": num_groups * case.generations,
        "per_device_eval_batch_size": min(2, num_groups) * case.generations,  # the table keeps no more rows than train
        "num_generations": case.generations,
        "max_completion_length": 8,
        "max_steps": steps,
        "learning_rate": 1e-2,
        "scale_rewards": case.scale,
        "shuffle_dataset": not case.only_first,
        "seed": case.seed,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _run(trainer: GRPOTrainer, rows: Rows, evaluates: bool) -> Rows:
    trainer.rows = rows
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    rows.losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    rows.parameters = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    if evaluates:
        trainer.evaluate()
    return rows


def _common(case: Case) -> dict[str, Any]:
    return {
        "model": copy.deepcopy(MODEL),
        "processing_class": TOKENIZERS[case.chat],
        "rollout_func": rollout(case),
    }


def host_rows(case: Case, task: TaskCase) -> Rows:
    """What GRPOTrainer does with every row of one task alone."""
    rows = Rows()
    weights = [function.weight for function in task.functions]
    trainer = WatchedHost(
        reward_funcs=reward_functions(case, task, rows.told),
        args=GRPOConfig(**_settings(case, task.size, 2 if case.only_first else 1), reward_weights=weights),
        train_dataset=dataset(case, task, "train"),
        eval_dataset=dataset(case, task, "eval"),
        **_common(case),
    )
    return _run(trainer, rows, task.eval_columns is not None)


def _correct(completions: Sequence[Any], **kwargs: Any) -> list[bool]:
    return [_number(text_of(completion)) % 2 == 0 for completion in completions]


def own_rows(case: Case) -> Rows:
    """What this library's trainer does with the rows of the mixture."""
    rows = Rows()
    tasks = [
        Task(
            task.letter,
            dataset(case, task, "train"),
            reward_functions(case, task, rows.told),
            eval_dataset=dataset(case, task, "eval"),
            success_threshold=0.75 if task.measure == "threshold" else None,
            outcome_func=_correct if task.measure == "outcome" else None,
            reward_range=(-4.0, 8.0),
            reward_weights=[function.weight for function in task.functions],
        )
        for task in case.tasks
    ]
    if case.only_first:
        weights = {task.letter: float(i == 0) for i, task in enumerate(case.tasks)}
        method: dict[str, Any] = {"method": "grpo", "fixed_task_weights": weights}
    else:
        method = {"group_filter": case.group_filter, "oversampling": case.oversampling, "max_resampling_rounds": 2}
    # One task whose groups are all trained is read by the host's loader, which needs a whole batch of rows.
    size = case.tasks[0].size
    settings = _settings(case, size if case.only_first else min(size, 4) if len(case.tasks) == 1 else 4, 2)
    trainer = WatchedOwn(
        tasks=tasks, args=MultiTaskGRPOConfig(**settings, **method, task_table=False), **_common(case)
    )
    return _run(trainer, rows, any(task.eval_columns is not None for task in case.tasks))


def row_differences(task: TaskCase, own: Rows, host: Rows) -> list[str]:
    """Where a task's rows differ from what the host makes of them when the task is alone."""
    found = []
    for split in ("train", "eval"):
        rows = {key: row for key, row in own.seen[split].items() if key[0].startswith(task.letter)}
        for key, row in rows.items():
            expected = host.seen[split].get(key)
            found += _row_differences(task, row, expected, f"{split} {key}")
        if split == "eval":
            found += [f"eval {key}: not evaluated" for key in host.seen[split].keys() - rows.keys()]
    for key, given in own.told.rows.items():
        if key[0].startswith(task.letter) and host.told.rows.get(key) != given:
            found.append(f"{key} was given {given}, by the host {host.told.rows.get(key)}")
    return found


def _row_differences(task: TaskCase, row: dict[Any, Any], expected: dict[Any, Any] | None, place: str) -> list[str]:
    if expected is None:
        return [f"{place}: not a row of the host"]
    found = []
    for name in sorted(set(expected) | {name for name in row if name[0] == "extra"}, key=str):
        theirs, ours = expected.get(name), _entry(row, name, task.letter)
        if name == ("extra", "task") and theirs is None:  # of an evaluation of several tasks
            theirs = task.letter if ours is not None else None
        if not (theirs == ours or (theirs != theirs and ours != ours)):
            found.append(f"{place} {name}: {theirs!r} and {ours!r}")
    return found


def _entry(row: Mapping[Any, Any], name: Any, letter: str) -> Any:
    if name[0] == "reward":
        return row.get(("reward", f"{letter}/{name[1]}"), row.get(name, "absent"))
    return row.get(name)
