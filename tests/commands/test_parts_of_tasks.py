"""Tools, environments and programs in a task file."""

import json
from pathlib import Path
from typing import Any

import pytest
from desks import sum_task, sums, write_file, write_model, write_rows

from tests.environments.world import tool_tokenizer
from trl_mtgrpo import Task
from trl_mtgrpo.commands.cli import main
from trl_mtgrpo.commands.reading import read_task_file
from trl_mtgrpo.commands.task_rows import load_task


PARTS = '''
class Room:
    made = 0

    def __init__(self, size=3):
        self.size = size

    def reset(self, seed, **row):
        self.seed = seed
        return f"room {seed} of {self.size}"

    def go(self, where: int) -> str:
        """
        Goes.

        Args:
            where: The way.
        """
        return str(where)

    def get_reward(self):
        return 1.0


def look(key: int) -> str:
    """
    Looks.

    Args:
        key: The key.
    """
    return str(key)


def untyped(key):
    return key


def twice(example, call, times=2):
    text = ""
    for _ in range(times):
        text = call("ask", example["prompt"])
    return text


class Twice:
    def __init__(self, times=2):
        self.times = times

    def __call__(self, example, call):
        return twice(example, call, self.times)


def length(completions, **kwargs):
    return [1.0 for _ in completions]
'''
CHAT = [{"role": "user", "content": "{question} "}]


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    # A module of its own for every test: modules are imported once.
    name = f"parts_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(PARTS, encoding="utf-8")
    write_rows(tmp_path / "sums.jsonl", sums())
    return tmp_path


def module(desk: Path) -> str:
    return next(desk.glob("parts_*.py")).stem


def loaded(desk: Path, **task: Any) -> Task:
    file = read_task_file(write_file(desk, [{key: value for key, value in task.items() if value is not None}]))
    return load_task(file, file.tasks[0])


def test_an_environment_makes_its_rows_from_seeds_and_is_evaluated_on_others(desk: Path) -> None:
    environment = {"use": f"{module(desk)}:Room", "options": {"size": 7}}
    task = loaded(desk, name="room", seeds={"train": 5, "eval": 2}, environment=environment)
    assert task.owns_data
    assert task.train_dataset["seed"] == [0, 1, 2, 3, 4]
    assert task.eval_dataset["seed"] == [5, 6]
    assert task.environment_factory().reset(seed=1) == "room 1 of 7"
    assert task.success_threshold == 1.0


def test_seeds_may_be_a_number(desk: Path) -> None:
    task = loaded(desk, name="room", seeds=4, environment=f"{module(desk)}:Room")
    assert len(task.train_dataset) == 4
    assert task.eval_dataset is None


def test_a_prompt_beside_seeds_is_filled_from_them(desk: Path) -> None:
    prompt = [{"role": "user", "content": "Room {seed}."}]
    task = loaded(desk, name="room", seeds=4, environment=f"{module(desk)}:Room", prompt=prompt)
    assert task.train_dataset[3]["prompt"] == [{"role": "user", "content": "Room 3."}]
    assert not task.owns_data


def test_tools_come_by_path_with_their_limits(desk: Path) -> None:
    more = {"tools": [f"{module(desk)}:look"], "tool_timeout": 3, "prompt": CHAT}
    task = loaded(desk, **sum_task(**more))
    assert [tool.__name__ for tool in task.tools] == ["look"]
    assert task.tool_timeout == 3


@pytest.mark.parametrize("name", ["twice", "Twice"])
def test_a_program_is_a_function_or_a_class_with_options(desk: Path, name: str) -> None:
    program = {"use": f"{module(desk)}:{name}", "options": {"times": 3}}
    rewards = {"ask": f"{module(desk)}:length"}
    task = loaded(desk, **sum_task(program=program, trainable_modules=["ask"], module_rewards=rewards))
    asked: list[str] = []
    task.program({"prompt": "p"}, lambda module, prompt: asked.append(module) or "")
    assert asked == ["ask"] * 3
    assert task.trainable_modules == ["ask"]
    assert task.module_rewards["ask"].__name__ == "length"
    assert task.failure_reward == 0.0


def test_a_failed_rollout_may_be_left_to_the_reward(desk: Path) -> None:
    path = write_file(desk, [sum_task(program=f"{module(desk)}:twice")])
    text = path.read_text(encoding="utf-8").replace("  program:", "  failure_reward: null\n  program:")
    path.write_text(text, encoding="utf-8")
    file = read_task_file(path)
    assert load_task(file, file.tasks[0]).failure_reward is None


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "room", "seeds": 4}, "`seeds` of task 'room' must stand beside `environment`, got none"),
        (
            {"name": "room", "seeds": 4, "environment": "nowhere:Room"},
            "`environment` of task 'room' must be a function that can be imported, got 'nowhere:Room'",
        ),
        (sum_task(tools=["nowhere:look"]), "`tools` of task 'sums' must be a function that can be imported, got "),
        (sum_task(program=[1]), "`program` of task 'sums' must be|`use` of `program` of task 'sums' must be text"),
        (
            {"name": "room", "seeds": {"train": 5, "eval": -1}, "environment": "MODULE:Room"},
            "`seeds` must be at least 1 ",
        ),
        (
            {"name": "room", "seeds": 3, "environment": {"use": "MODULE:Room", "options": {"sise": 3}}},
            "`options` of `environment` of task 'room' must be arguments of `parts_.*:Room`, got {'sise': 3}",
        ),
        (
            sum_task(program={"use": "MODULE:twice", "options": {"tmes": 3}}),
            "`options` of `program` of task 'sums' must be arguments of `parts_.*:twice`",
        ),
        (
            sum_task(reward={"use": "MODULE:look", "options": {"kay": 3}}),
            "`options` of reward 'parts_.*:look' of task 'sums' must be arguments of ",
        ),
        (sum_task(trainable_modules=["a"]), "`trainable_modules` of task 'sums' must be left out without `program`"),
        (
            sum_task(failure_reward=-1.0),
            "`failure_reward` of task 'sums' must be left out without `program`, got -1.0",
        ),
        (sum_task(module_rewards={"a": 3}), "`module_rewards` of task 'sums' must be a mapping to text, got "),
        (sum_task(reward=None, program="a:b"), "task 'sums' must have a `reward`, got none"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(desk: Path, task: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"run.yaml, line \d+: .*({message})"):
        loaded(desk, **json.loads(json.dumps(task).replace("MODULE", module(desk))))


def test_an_answer_beside_seeds_is_a_column_of_the_rows(desk: Path) -> None:
    task = loaded(desk, name="room", seeds=3, environment=f"{module(desk)}:Room", answer="{seed}")
    assert task.train_dataset["answer"] == ["0", "1", "2"]


def test_rows_of_seeds_are_not_held_out(desk: Path) -> None:
    with pytest.raises(ValueError, match=r"`eval_size` of task 'room' must be left out beside `seeds`, got 2. Write "):
        loaded(desk, name="room", seeds=4, environment=f"{module(desk)}:Room", eval_size=2)


def checked(desk: Path, capsys: pytest.CaptureFixture[str], knows_tools: bool = True, **task: Any) -> str:
    write_model(desk / "model", chat=not knows_tools, tokenizer=tool_tokenizer() if knows_tools else None)
    main(["check", str(write_file(desk, [task]))])
    shown = capsys.readouterr()
    return shown.out + shown.err


def test_check_shows_tools_in_the_prompt_and_finds_no_defect(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = {"name": "room", "seeds": {"train": 5, "eval": 2}, "environment": f"{module(desk)}:Room"}
    shown = checked(desk, capsys, **room)
    assert "room (its environment adds to it)\n  | go;U" in shown
    assert "by playing" in shown
    assert "No defects found." in shown


def test_check_says_that_a_template_knows_no_tools(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = checked(desk, capsys, knows_tools=False, **sum_task(prompt=CHAT, tools=[f"{module(desk)}:look"]))
    assert "`processing_class` must have a chat template that can show tools and their calls for task 'sums'" in shown


def test_check_says_that_a_tool_lacks_types(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = checked(desk, capsys, **sum_task(prompt=CHAT, tools=[f"{module(desk)}:untyped"]))
    assert "`untyped`, a tool of task 'sums', must have types and a docstring" in shown


def test_two_tasks_of_one_environment_and_its_seeds_are_one_set(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(desk / "model", tokenizer=tool_tokenizer())
    room = {"seeds": {"train": 5, "eval": 2}, "environment": f"{module(desk)}:Room"}
    main(["check", str(write_file(desk, [{"name": "a"} | room, {"name": "b"} | room]))])
    assert "got the same set under 'a' and 'b'" in capsys.readouterr().out
