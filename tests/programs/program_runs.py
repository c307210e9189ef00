"""Programs, tasks and runs for tests of programs."""

from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer

from tests.host_runs import SETTINGS, Option, Outcome, parameters_of, saved_model, share_of_lower
from tests.tiny import rows, text_of, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOConfig, MultiTaskGRPOTrainer, ProgramFailure, Task


_TIMES = ("step_time", "runtime", "per_second", "profiling/")
# What only this library logs; everything else must be the host's, value for value.
OWN_METRICS = (
    *("tasks/", "sampling/", "task_weights/", "modules/"),
    *("worst_task_accuracy", "average_accuracy", "task_accuracy_spread"),
)
# Columns of the completions table that only programs have.
OWN_COLUMNS = ("extra/task", "extra/module", "extra/occurrence", "extra/rollout")


def one_call(example: dict[str, Any], call: Any) -> str:
    return call("answer", example["prompt"])


def two_calls(example: dict[str, Any], call: Any) -> str:
    first = call("draft", f"d{example['prompt']}")
    return call("final", f"f{first}")


def ragged(example: dict[str, Any], call: Any) -> str:
    """One call of the first module, none to three of the second; some rollouts fail on the way."""
    text = call("plan", example["prompt"])
    for _ in range(sum(map(ord, text)) % 4):
        text = call("act", f"a{text}")
        if "z" in text or "Z" in text:
            raise ProgramFailure("z is not allowed")
    return text


def lower_share(outputs: list[Any], **kwargs: Any) -> list[float]:
    return [sum(c.islower() for c in output or "") / 6 for output in outputs]


def has_lower(outputs: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(c.islower() for c in output or "")) for output in outputs]


def program_task(program: Any = two_calls, reward: Any = lower_share, name: str = "prog", **options: Any) -> Task:
    return Task(name, rows(name[0], size=options.pop("size", 20)), reward, program=program, **options)


def program_trainer(folder: Any, tasks: list[Task], **changes: Any) -> MultiTaskGRPOTrainer:
    torch.manual_seed(0)
    chat = changes.pop("chat", False)
    options = {name: changes.pop(name) for name in ("callbacks", "sampler") if name in changes}
    return MultiTaskGRPOTrainer(
        model=changes.pop("model", None) or tiny_model(),
        tasks=tasks,
        args=tiny_config(folder, **changes),
        processing_class=tiny_tokenizer(chat=chat),
        **options,
    )


def finished(trainer: GRPOTrainer) -> Outcome:
    trainer.train()
    logs = [{k: v for k, v in line.items() if not any(t in k for t in _TIMES)} for line in trainer.state.log_history]
    table = {name: list(column) for name, column in trainer._logs.items() if name not in ("rewards", "extra")}
    table |= {f"{part}/{name}": list(c) for part in ("rewards", "extra") for name, c in trainer._logs[part].items()}
    table = {name: column for name, column in table.items() if name not in OWN_COLUMNS}
    logs = [{k: v for k, v in line.items() if not k.removeprefix("eval_").startswith(OWN_METRICS)} for line in logs]
    return Outcome(parameters_of(trainer), logs, table, saved={}, returned=None, error=None)


def host_run(option: Option, folder: Path) -> Outcome:
    """The host alone on the rows of the program's task, in their order."""
    from trl import GRPOConfig

    torch.manual_seed(0)
    trainer = GRPOTrainer(
        model=saved_model(folder),
        reward_funcs=share_of_lower,
        args=GRPOConfig(output_dir=str(folder), shuffle_dataset=False, **(SETTINGS | option.settings)),
        train_dataset=rows("p", size=20, chat=option.chat),
        eval_dataset=rows("e", size=4, chat=option.chat) if option.with_eval else None,
        processing_class=tiny_tokenizer(chat=option.chat),
    )
    return finished(trainer)


def program_run(option: Option, folder: Path) -> Outcome:
    """The same as a program of one call."""

    def share(outputs: list[Any], completions: list[Any], **kwargs: Any) -> list[float]:
        assert [text_of(completion) for completion in completions] == outputs
        return share_of_lower(completions)

    share.__name__ = share_of_lower.__name__
    torch.manual_seed(0)
    trainer = MultiTaskGRPOTrainer(
        model=saved_model(folder),
        tasks=[
            Task(
                "t",
                rows("p", size=20, chat=option.chat),
                share,
                eval_dataset=rows("e", size=4, chat=option.chat) if option.with_eval else None,
                program=one_call,
            )
        ],
        args=MultiTaskGRPOConfig(
            output_dir=str(folder),
            method="grpo",
            shuffle_dataset=False,
            task_table=False,
            **(SETTINGS | option.settings),
        ),
        processing_class=tiny_tokenizer(chat=option.chat),
    )
    run = finished(trainer)
    plain = {k.replace("/t/share_of_lower", "/share_of_lower"): v for k, v in run.table.items()}
    logs = [{k.replace("/t/share_of_lower", "/share_of_lower"): v for k, v in line.items()} for line in run.logs]
    return run._replace(logs=logs, table=plain)
