"""One rank of a launched run with environments; writes what it saw to `<folder>/rank<r>.json`."""

import argparse
import functools
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import torch

from tests.environments.world import Guess, agent_trainer, answered, chat_rows, four_tasks, guess_task, has_a_letter
from trl_mtgrpo import MultiTaskGRPOTrainer, Task
from trl_mtgrpo.host.turns import Turns
from trl_mtgrpo.tasks.rewards import RewardError


RANK = int(os.environ["RANK"])
HOST = MultiTaskGRPOTrainer.__mro__[1]
HOST_TURN, OWN_TURN = HOST._generate_single_turn, Turns.single


class Uneven(Guess):
    """Ends after one try on rank 1, so that the ranks take differently many turns."""

    def guess(self, n: int) -> str:
        """
        Guesses.

        Args:
            n: The number.
        """
        return "done" if RANK else super().guess(n)


class LateAndUneven(Uneven):
    """Answers late, each rank at its own times."""

    clock = random.Random(RANK)

    def guess(self, n: int) -> str:
        """
        Guesses.

        Args:
            n: The number.
        """
        time.sleep(self.clock.random() / 500)
        return super().guess(n)


class FailsOnRankOne(Guess):
    def reset(self, number: int, **row: Any) -> str:
        if RANK == 1:
            raise LookupError("no such room")
        return super().reset(number, **row)


def hang(a: int, b: int) -> int:
    """
    Never ends on rank 1.

    Args:
        a: One.
        b: Other.
    """
    while RANK == 1:
        time.sleep(0.01)
    return a + b


hang.__name__ = "add"


def more_on_rank_one(example: dict[str, Any], call: Any) -> str:
    text = call("first", example["prompt"])
    for _ in range(2 * RANK):
        text = call("more", f"m{text}")
    return text


def outputs_letter(outputs: list[Any], **kwargs: Any) -> list[float]:
    return [float(any(letter in output for letter in "abc")) for output in outputs]


SCENARIOS: dict[str, Any] = {
    "train": (lambda: [*four_tasks()[:2], guess_task(environment_factory=Uneven), four_tasks()[3]], {}),
    "reset": (lambda: [four_tasks()[0], guess_task(environment_factory=FailsOnRankOne)], {}),
    "hang": (
        lambda: [four_tasks()[0], Task("sum", chat_rows("s"), answered, tools=[hang], tool_timeout=0.2)],
        {"max_steps": 1, "max_tool_calling_iterations": 1},
    ),
    "lengths": (
        lambda: [four_tasks()[0], guess_task(max_completion_length=12), four_tasks()[1]],
        {},
    ),
    "programs": (
        lambda: [
            Task("plain", chat_rows("p"), has_a_letter, eval_dataset=chat_rows("p", 1)),
            Task("prog", chat_rows("x"), outputs_letter, program=more_on_rank_one, eval_dataset=chat_rows("x", 3)),
            guess_task(
                environment_factory=Uneven,
                max_completion_length=12,
                eval_dataset=chat_rows("g", 2, number=[1, 2]),
            ),
        ],
        {"eval_strategy": "steps", "eval_steps": 1},
    ),
    "late": (
        lambda: [*four_tasks()[:2], guess_task(environment_factory=LateAndUneven), four_tasks()[3]],
        {"max_steps": 1},
    ),
    "broken": (lambda: [four_tasks()[0], guess_task()], {"max_steps": 1}),
}


def run(scenario: str, folder: Path, seed: int = 0) -> dict[str, Any]:
    tasks, settings = SCENARIOS[scenario]
    torch.manual_seed(seed)
    trainer = agent_trainer(folder / "out", tasks(), **({"max_steps": 2, "seed": 42 + seed} | settings))
    calls: list[int] = []
    own: list[int] = []  # rows of each turn that this rank has rows for

    @functools.wraps(HOST_TURN)
    def counted(self: Any, prompt_ids: list[Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(len(prompt_ids))
        return HOST_TURN(self, prompt_ids, *args, **kwargs)

    def asked(self: Any, host: Any, prompt_ids: list[Any], *args: Any, **kwargs: Any) -> Any:
        own.append(len(prompt_ids))
        return OWN_TURN(self, host, prompt_ids, *args, **kwargs)

    HOST._generate_single_turn, Turns.single = counted, asked
    if scenario == "broken" and RANK == 1:

        def broken(self: Any, messages: Any) -> Any:
            raise ArithmeticError("no suffix")

        HOST._get_tool_suffix_ids = broken
    error = None
    try:
        trainer.train()
    except (RewardError, RuntimeError, ArithmeticError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {
        "error": error,
        "calls": calls,
        "own": own,
        "parameters": [float(p.detach().double().sum()) for p in trainer.model.parameters()],
        "weights": trainer.task_weights,
        "evaluation": next((line for line in trainer.state.log_history if "eval_loss" in line), {}),
        "groups": trainer.multi_task_state.groups.generated.tolist(),
        "closed": Guess.closed + Uneven.closed + FailsOnRankOne.closed,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, help="as many runs after another in these processes, as a list")
    arguments = parser.parse_args()
    if arguments.repeats:
        result: Any = [run(arguments.scenario, arguments.folder, seed) for seed in range(arguments.repeats)]
    else:
        result = run(arguments.scenario, arguments.folder)
    (arguments.folder / f"rank{RANK}.json").write_text(json.dumps(result), encoding="utf-8")
    # gloo threads abort some interpreters on their way out, after all work is done.
    os._exit(0)


if __name__ == "__main__":
    main()
