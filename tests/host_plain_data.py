"""Options of runs on one dataset: its rewards, its kind and its evaluation."""

from typing import Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from tests import host_parts as parts
from tests import host_rewards as rewards
from tests.host_parts import columned, streamed
from tests.host_runs import Option
from tests.tiny import tiny_tokenizer


# Every evaluation below runs after each of two steps.
EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}


def trained(train: Any, evaluation: Any = None) -> Any:
    """Datasets, built anew for each run."""
    return lambda: {"train_dataset": train(), "eval_dataset": evaluation() if evaluation else None}


def evaluated(evaluation: Any) -> Any:
    return trained(columned, evaluation)


def _with_answer(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**batch, "answer": [f"seen {prompt}" for prompt in batch["prompt"]]}


def _transformed(letter: str = "p") -> Dataset:
    data = columned(letter).remove_columns("answer")
    data.set_transform(_with_answer)
    return data


def _generated() -> IterableDataset:
    def yielded() -> Any:
        for i in range(30):
            yield {"prompt": f"p{i}", "answer": str(i), "kind": "even" if i % 2 == 0 else "odd"}

    return IterableDataset.from_generator(yielded)


def _sets(make: Any, kind: type = dict) -> Any:
    return lambda: kind({"first": make("e", 5), "second": make("f", 3)})


REWARDS: dict[str, Option] = {
    "exact signature": Option(EVALUATED, rewards=rewards.with_exact_arguments, with_eval=True, fast=True),
    "names and values of arguments": Option(
        EVALUATED, rewards=rewards.with_names_of_arguments, data=trained(columned, columned)
    ),
    "a function per kind of row": Option(
        EVALUATED, rewards=rewards.by_kind, data=trained(columned, columned), fast=True
    ),
    "nobody scores some rows": Option(EVALUATED, rewards=rewards.sometimes_silent, with_eval=True),
    "nobody scores a step": Option(rewards=rewards.silent_at_first),
    "not a number": Option(rewards=rewards.not_numbers),
    "infinite reward": Option(rewards=rewards.infinite),
    "infinite reward unscaled": Option({"scale_rewards": "none"}, rewards=rewards.infinite),
    "arrays, tensors, booleans": Option(rewards=rewards.kinds_of_numbers),
    "partial": Option(rewards=rewards.as_partial),
    "object, method and lambda": Option(rewards=rewards.as_object),
    "async object": Option(rewards=rewards.with_async_object),
    "of token ids": Option(rewards=rewards.of_ids),
    "columns now and then": Option(
        {"log_completions": True, "num_completions_to_print": 0, "max_steps": 4},
        rewards=rewards.with_logging_now_and_then,
    ),
    "a function outside a list": Option(rewards=lambda function: function),
    "functions of one name": Option(rewards=lambda function: [function, function]),
    "reward model alone": Option(EVALUATED, rewards=lambda function: [rewards.reward_model()], with_eval=True),
    "reward model by its path": Option(
        rewards=lambda function: [rewards.reward_model_path(), function],
        trainer=lambda: {"reward_processing_classes": [tiny_tokenizer(), None]},
    ),
    "negative weight": Option({"reward_weights": [1.0, -0.5]}, rewards=rewards.with_second),
    "weight of nothing": Option({"reward_weights": [0.0, 1.0]}, rewards=rewards.with_abstention),
    "normalised silence": Option(
        {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [0.3, 1.0]},
        rewards=rewards.by_kind,
        data=trained(columned),
    ),
    "logged in evaluation": Option(
        {**EVALUATED, "log_completions": True, "num_completions_to_print": 0},
        rewards=rewards.with_logging,
        with_eval=True,
    ),
}

DATASETS: dict[str, Option] = {
    **{
        f"a column {name}": Option(
            EVALUATED,
            rewards=rewards.of_column(name),
            data=trained(
                lambda name=name: columned(**{name: [i % 3 for i in range(20)]}),
                lambda name=name: columned("e", 4, **{name: [5, 6, 7, 8]}),
            ),
            fast=name == "task_id",
        )
        for name in ("task", "task_id", "row", "index", "environment", "self", "function", "weight")
    },
    "a column completion": Option(data=trained(lambda: columned(completion=["told"] * 20))),
    "nested columns": Option(
        rewards=rewards.of_column("info"),
        data=trained(lambda: columned(info=[{"deep": [i, None], "text": "x" * (i % 3)} for i in range(20)])),
    ),
    "missing values": Option(rewards=rewards.of_column("hint"), data=trained(lambda: columned(hint=[None, "h"] * 10))),
    "a column prompts": Option(data=trained(lambda: columned(prompts=["x"] * 20)), error="multiple values"),
    "columns of training only": Option(
        EVALUATED,
        rewards=rewards.with_names_of_arguments,
        data=trained(columned, lambda: Dataset.from_dict({"prompt": ["e0", "e1"]})),
    ),
    "prompts only": Option(
        rewards=rewards.with_names_of_arguments, data=trained(lambda: columned().select_columns("prompt"))
    ),
    "stream": Option(rewards=rewards.with_names_of_arguments, data=trained(streamed), fast=True),
    "stream unshuffled": Option({"shuffle_dataset": False}, data=trained(streamed)),
    "stream of a generator": Option({"max_steps": 3, "num_iterations": 2}, data=trained(_generated)),
    "stream and stream": Option(EVALUATED, data=trained(streamed, lambda: streamed("e", 4))),
    "transform": Option(rewards=rewards.of_column("answer"), data=trained(_transformed), fast=True),
    "transform everywhere": Option(
        EVALUATED, rewards=rewards.of_column("answer"), data=trained(_transformed, lambda: _transformed("e"))
    ),
    "lazy transform": Option(
        rewards=rewards.of_column("answer"), data=trained(lambda: columned().with_transform(_with_answer))
    ),
    "numpy format": Option(
        rewards=rewards.of_column("n"), data=trained(lambda: columned(n=list(range(20))).with_format("numpy"))
    ),
    "torch format": Option(
        rewards=rewards.of_column("n"), data=trained(lambda: columned(n=list(range(20))).with_format("torch"))
    ),
    "format of some columns": Option(
        rewards=rewards.with_names_of_arguments,
        data=trained(lambda: columned().with_format("python", columns=["prompt", "kind"])),
    ),
    "fewer rows than a batch": Option(
        {"num_train_epochs": 3, "max_steps": -1}, data=trained(lambda: columned(size=2))
    ),
    "epochs": Option({"num_train_epochs": 2, "max_steps": -1}, data=trained(lambda: columned(size=7))),
    "epochs inside a window": Option(
        {"num_train_epochs": 2, "max_steps": -1, "gradient_accumulation_steps": 2, "steps_per_generation": 1},
        data=trained(lambda: columned(size=10)),
    ),
    "a dict of training sets": Option(data=trained(lambda: {"a": columned()}), error="train_dataset"),
    "no dataset": Option(data=dict, error="train_dataset"),
    "no prompts": Option(data=trained(lambda: columned().remove_columns("prompt")), error="KeyError"),
}

EVALUATIONS: dict[str, Option] = {
    "evaluated stream": Option(EVALUATED, data=evaluated(lambda: streamed("e", 5)), fast=True),
    "dict of sets": Option(EVALUATED, data=evaluated(_sets(columned)), fast=True),
    "dict of streams": Option(EVALUATED, data=evaluated(_sets(streamed))),
    "DatasetDict": Option(EVALUATED, data=evaluated(_sets(columned, DatasetDict))),
    "IterableDatasetDict": Option(EVALUATED, data=evaluated(_sets(streamed, IterableDatasetDict))),
    "one completion each": Option({**EVALUATED, "num_generations_eval": 1}, with_eval=True),
    "two completions each": Option({**EVALUATED, "num_generations_eval": 2}, with_eval=True),
    "uneven evaluation batches": Option(
        {**EVALUATED, "per_device_eval_batch_size": 4}, data=evaluated(lambda: columned("e", 7))
    ),
    "evaluation first": Option({**EVALUATED, "eval_on_start": True}, with_eval=True),
    "evaluation inside a generation batch": Option(
        {**EVALUATED, "steps_per_generation": 4, "max_steps": 4}, with_eval=True
    ),
    "evaluated chat": Option(EVALUATED, chat=True, with_eval=True),
    "evaluated rollout function": Option(
        EVALUATED, trainer=lambda: {"rollout_func": parts.rollout_func}, with_eval=True
    ),
    "evaluated with kl": Option({**EVALUATED, "beta": 0.1}, with_eval=True),
    "evaluated before training": Option(script=lambda trainer, folder: trainer.evaluate(), with_eval=True),
    "evaluated other set": Option(
        script=lambda trainer, folder: (trainer.train(), trainer.evaluate(columned("o", 3)))[1:], fast=True
    ),
    "evaluated other stream": Option(script=lambda trainer, folder: trainer.evaluate(streamed("o", 3))),
    "evaluated other sets": Option(script=lambda trainer, folder: trainer.evaluate(_sets(columned)())),
    "evaluated under another name": Option(
        script=lambda trainer, folder: trainer.evaluate(metric_key_prefix="test"), with_eval=True
    ),
    "predicted": Option(script=lambda trainer, folder: trainer.predict(columned("o", 3)).metrics),
    "evaluated without a set": Option(script=lambda trainer, folder: trainer.evaluate(), error="eval_dataset"),
    "best model": Option(
        {
            **EVALUATED,
            "save_strategy": "steps",
            "save_steps": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_reward",
            "max_steps": 3,
        },
        with_eval=True,
    ),
    "best model of several sets": Option(
        {
            **EVALUATED,
            "save_strategy": "best",
            "metric_for_best_model": "eval_second_loss",
        },
        data=evaluated(_sets(columned)),
    ),
    "sets of unlike columns": Option(
        EVALUATED,
        rewards=rewards.with_names_of_arguments,
        data=evaluated(lambda: {"first": columned("e", 4), "second": Dataset.from_dict({"prompt": ["f0", "f1"]})}),
    ),
}
