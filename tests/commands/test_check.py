"""`mtgrpo check` says what a file means, and finds what is planted in it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from desks import sum_task, sums, write_file, write_model, write_rows

from trl_mtgrpo.commands.cli import main


Desk = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture
def desk(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Checks tasks over two files of distinct rows; returns the exit code and what was said."""
    write_rows(tmp_path / "sums.jsonl", sums())
    write_rows(tmp_path / "more.jsonl", sums(100))

    def check(tasks: list[dict[str, Any]], *arguments: str, **content: Any) -> tuple[int, str]:
        path = write_file(tmp_path, tasks, **content)
        code = main(["check", str(path), "--model", str(model), *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return check


def pair(**changes: Any) -> list[dict[str, Any]]:
    """Two tasks without a defect; changes are made to the second one."""
    return [sum_task(), sum_task(**({"name": "more", "file": "more.jsonl"} | changes))]


def defects(shown: str) -> list[str]:
    return re.findall(r"^  \d+\. (.*)$", shown, re.MULTILINE)


def test_a_file_without_a_defect_says_so_and_ends_with_0(desk: Desk) -> None:
    code, shown = desk(pair())
    assert (code, defects(shown)) == (0, [])
    assert "No defects found." in shown


def test_what_a_file_means_is_shown(desk: Desk) -> None:
    _, shown = desk(pair(), processes=2)
    assert re.search(
        r"^sums +20 +4 +14 +14 +4,090 +1$", shown, re.MULTILINE
    )  # rows, tokens and their limit, threshold
    assert "  | What is 100 plus 1? " in shown
    assert re.search(r"^sums +1.00 +0.00 +0.00 +\{answer\}$", shown, re.MULTILINE)
    assert "Batch on 2 processes\n  8 groups of 4 rollouts per batch, 4.0 groups per task" in shown
    assert re.search(r"^all tasks +\d+ +16 ", shown, re.MULTILINE)  # the forecast trains two batches of 8


def test_settings_and_processes_can_be_typed(desk: Desk) -> None:
    _, shown = desk(pair(), "--num_generations", "8", "--processes", "4", "--max_steps", "5")
    assert "8 groups of 8 rollouts per batch" in shown
    assert "5 optimizer steps in all" in shown


def test_guesses_of_acceptance_reach_the_forecast(desk: Desk) -> None:
    code, shown = desk(pair(), "--acceptance", "sums=1", "more=0.1")
    assert re.search(r"^more +0.50 +0.10 ", shown, re.MULTILINE)
    assert code == 0


def test_prompts_are_shown_through_the_chat_template(tmp_path: Path, desk: Desk) -> None:
    chat = write_model(tmp_path / "chat", chat=True)
    prompt = [{"role": "system", "content": "Count."}, {"role": "user", "content": "{question}"}]
    code, shown = desk([sum_task(prompt=prompt)], "--model", str(chat))
    assert "  | Count.What is 0 plus 1?" in shown
    assert code == 0


def bad_rewards(folder: Path) -> None:
    (folder / "planted_rewards.py").write_text(
        "def no_kwargs(completions, answer):\n    return [1.0] * len(completions)\n\n"
        "def always(completions, **kwargs):\n    return [1.0] * len(completions)\n\n"
        "def raising(completions, **kwargs):\n    raise KeyError('nothing')\n\n"
        "def short(completions, **kwargs):\n    return [0.0]\n"
    )


PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a task twice": ({"name": "sums"}, {}, r"`tasks` must have distinct names, got 'sums' 2 times \(lines \d+, \d+\)"),
    "the same set under two names": ({"file": "sums.jsonl"}, {}, r"got the same set under 'sums' and 'more' \(lines"),
    "a set named twice in one task": (
        {"files": {"train": ["more.jsonl", "more.jsonl"]}},
        {},
        r"`files` of task 'more' must name each set once, got '.*more.jsonl' 2 times",
    ),
    "the same rows in another file": (
        {"file": "copy.jsonl"},
        {},
        r"got \d+ of \d+ prompts of 'sums' and 'more'",
    ),
    "a split missing": (
        {"files": None, "eval_size": None, "dataset": {"path": "./set", "split": "tset", "eval_split": "test"}},
        {},
        r"line \d+: task 'more': Unknown split \"tset\"",
    ),
    "a file missing": (
        {"file": "none.jsonl"},
        {},
        r"task 'more': `files` must be files that exist, got '.*none.jsonl'",
    ),
    "no evaluation rows": ({"eval_size": None}, {}, r"must all have evaluation rows or none, got none for \['more'\]"),
    "training rows in evaluation": (
        {"files": {"train": "more.jsonl", "eval": "more.jsonl"}, "eval_size": None},
        {},
        r"`eval` of task 'more' must hold other prompts than its training rows, got 24 prompts",
    ),
    "shares that do not sum": ({"weight": 0.5}, {"weight": 0.4}, r"`weight` must sum to 1 over the tasks, got 0.9"),
    "a negative share": (
        {"weight": -0.5},
        {"weight": 1.5},
        r"between 0 and 1, got \{'sums': 1.5, 'more': -0.5\}",
    ),
    "one share missing": (
        {},
        {"weight": 1.0},
        r"for every task or for none, got none for \['more'\]",
    ),
    "a threshold out of reach": (
        {"success_threshold": 1.5},
        {},
        r"`success_threshold` of task 'more' .* 1.5 above 1",
    ),
    "a signature that does not fit": (
        {"reward": "planted_rewards:no_kwargs"},
        {},
        r"`reward_funcs` of task 'more' must take everything that it is called with, got no parameter for .*no_kwargs",
    ),
    "a reward that is always right": (
        {"reward": "planted_rewards:always", "success_threshold": 1.0},
        {},
        r"`reward` of task 'more' must not take an empty completion for right, got 1",
    ),
    "a reward that raises": ({"reward": "planted_rewards:raising"}, {}, r"must score any completion, got KeyError"),
    "a reward of another length": ({"reward": "planted_rewards:short"}, {}, r"it returned 1 values for 8 completions"),
    "a right answer that scores as wrong": (
        {"reference": "It is {answer} or 5."},
        {},
        r"`reward` of task 'more' must take the right answer for right, got 0 for 'It is 101 or 5.' in row 0",
    ),
    "answers without their mark": ({"answer_after": "####>"}, {}, r"`answer` of task 'more' .* got \d+ empty ones"),
    "an empty prompt": ({"file": "hole.jsonl"}, {}, r"task 'more': .*must have a prompt in every row, got '' in row"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found(name: str, desk: Desk, tmp_path: Path) -> None:
    second, first, text = PLANTED[name]
    bad_rewards(tmp_path)
    write_rows(tmp_path / "copy.jsonl", sums())
    write_rows(tmp_path / "hole.jsonl", [*sums(100), {"question": "", "answer": "#### 1"}])
    write_rows(tmp_path / "set" / "train.jsonl", sums(200))
    write_rows(tmp_path / "set" / "test.jsonl", sums(300))
    tasks = pair(**second)
    tasks[0] |= first
    code, shown = desk(tasks)
    assert code == 1
    assert any(re.search(text, defect) for defect in defects(shown)), shown


def test_fewer_groups_than_tasks_are_a_defect(desk: Desk) -> None:
    code, shown = desk(pair(), "--per_device_train_batch_size", "4")
    assert code == 1
    assert "must give at least one group per task and batch, got 1 groups for 2 tasks" in shown


def test_a_prompt_without_room_for_a_completion_is_a_defect(desk: Desk) -> None:
    code, shown = desk(pair(), max_prompt_tokens=14)
    assert code == 1
    assert re.search(r"`prompt` of task 'more' .* got 15 tokens in row 0 against a limit of 14", shown)
    code, shown = desk(pair(), "--max_completion_length", "4090")
    assert re.search(r"`prompt` of task 'sums' .* against a limit of 6", shown)


def test_a_task_with_shorter_completions_has_room_for_longer_prompts(desk: Desk) -> None:
    code, shown = desk(pair(max_completion_length=10), "--max_completion_length", "4090")
    assert code == 1
    assert re.search(r"^more +20 +4 +15 +15 +4,086 +1$", shown, re.MULTILINE)
    assert len(defects(shown)) == 1


def test_a_batch_that_trl_refuses_is_a_defect_among_others(desk: Desk) -> None:
    code, shown = desk(pair(success_threshold=2.0), "--num_generations", "3")
    assert code == 1
    assert len(defects(shown)) == 2


def test_a_model_without_a_tokenizer_is_a_defect(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    code, shown = desk(pair(), "--model", str(tmp_path / "bare"))
    assert code == 1
    assert "`model` must have a tokenizer that can be loaded" in shown


def test_ten_defects_in_one_file_are_all_reported(desk: Desk, tmp_path: Path) -> None:
    bad_rewards(tmp_path)
    write_rows(tmp_path / "hole.jsonl", [*sums(300), {"question": "What is it?", "answer": "nothing"}])
    write_rows(tmp_path / "long.jsonl", [row | {"question": row["question"] + "?" * 4090} for row in sums(400)])
    tasks = [
        sum_task("a", "sums.jsonl", weight=0.5),
        sum_task("a", "more.jsonl", weight=0.5),
        sum_task("b", "sums.jsonl", weight=-0.5),
        sum_task("c", "hole.jsonl", weight=0.2, success_threshold=3.0),
        sum_task("d", "none.jsonl", weight=0.1),
        sum_task("e", "long.jsonl", weight=0.1, eval_size=None, reward="planted_rewards:no_kwargs"),
    ]
    code, shown = desk(tasks)
    expected = [
        "distinct names, got 'a'",
        "the same set under 'a' and 'b'",
        "must sum to 1",
        "between 0 and 1, got {'b': -0.5}",
        "`success_threshold` of task 'c'",
        "empty ones in its train rows",
        "must be files that exist",
        "none for ['e']",
        "got no parameter for",
        "must leave room for a completion",
        "got 4 groups for 6 tasks",
    ]
    assert code == 1
    assert not [text for text in expected if text not in "\n".join(defects(shown))], shown


def test_a_file_that_cannot_be_understood_ends_with_2(desk: Desk) -> None:
    code, shown = desk(pair(promt="x"))
    assert code == 2
    assert "Did you mean `prompt`?" in shown


def test_a_field_of_the_trainer_that_does_not_exist_is_named_with_its_line(desk: Desk) -> None:
    code, shown = desk(pair(), trainer={"learning_rat": 1.0})
    assert code == 1
    assert re.search(r"run.yaml, line \d+: `learning_rat` must be a field of the trainer.* `learning_rate`\?", shown)


# Traps found in public configurations, in small files of our own.
def test_shares_of_half_a_batch_are_a_defect(desk: Desk) -> None:
    tasks = pair(weight=0.2)
    tasks[0]["weight"] = 0.3
    code, shown = desk(tasks)
    assert (code, len(defects(shown))) == (1, 1)
    assert "must sum to 1 over the tasks, got 0.5 from {'sums': 0.3, 'more': 0.2}" in shown


def test_relative_weights_above_the_batch_are_a_defect(desk: Desk) -> None:
    weights = {"sums": 0.8, "more": 0.4}
    code, shown = desk(pair(), trainer={"task_weighting": "fixed", "fixed_task_weights": weights})
    assert (code, len(defects(shown))) == (1, 1)
    assert "got 1.2 from {'sums': 0.8, 'more': 0.4}" in shown


def test_a_set_named_twice_and_one_missing_are_two_defects(desk: Desk) -> None:
    weights = {"sums": 0.5, "code": 0.5}
    tasks = [sum_task(), sum_task("again")]
    code, shown = desk(tasks, trainer={"task_weighting": "fixed", "fixed_task_weights": weights})
    found = "\n".join(defects(shown))
    assert code == 1
    assert "the same set under 'sums' and 'again'" in found
    assert "`fixed_task_weights` must name tasks of the file, got ['code'] beside ['sums', 'again']" in found
    assert "got none for ['again']" in found


def test_the_file_that_check_was_given_is_the_one_that_is_read(desk: Desk, tmp_path: Path) -> None:
    desk(pair())
    assert [task["name"] for task in yaml.safe_load((tmp_path / "run.yaml").read_text())["tasks"]] == ["sums", "more"]
