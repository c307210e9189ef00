"""Functions and rows for tests of tasks and mixtures."""

from datasets import Dataset

from trl_mtgrpo.tasks.mixture import TaskMixture
from trl_mtgrpo.tasks.task import Task


def one(prompts, **kwargs):
    return [1.0] * len(prompts)


def two(prompts, **kwargs):
    return [2.0] * len(prompts)


async def waiting(prompts, **kwargs):
    return [3.0] * len(prompts)


def solved(prompts, **kwargs):
    return [True] * len(prompts)


def data(num_rows=3, **columns):
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(num_rows)], **columns})


def chat(num_rows=2):
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": "hi"}]] * num_rows})


def mixture():
    return TaskMixture(
        [
            Task("a", data(number=[1, 2, 3]), one, success_threshold=0.9),
            Task(
                "b",
                data(number=["x", "y", "z"], grid=[[1], [2], [3]]),
                [one, two],
                reward_weights=(1.0, 0.5),
                reward_range=(0, 3),
            ),
            Task("c", data(1), one, outcome_func=solved, eval_dataset=data(2)),
        ]
    )


def call(function, rows, **extra):
    """Calls a function as the host calls it for rows of its own."""
    copies = [row.for_host() for row in rows]
    columns = {name: [row[name] for row in copies] for name in copies[0] if name != "prompt"}
    return function(
        prompts=[row["prompt"] for row in copies],
        completions=[f"c{i}" for i in range(len(rows))],
        completion_ids=[[i] for i in range(len(rows))],
        trainer_state="state",
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: None,
        **columns,
        **extra,
    )


class Spy:
    """A reward that remembers what it was called with."""

    def __init__(self):
        self.seen = []

    def __call__(self, **kwargs):
        self.seen.append(kwargs)
        return [0.0] * len(kwargs["prompts"])


HOST = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"}


def labelled(names, **columns):
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(len(names))], "task": names, **columns})
