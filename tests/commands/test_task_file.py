"""What is read from a task file, and how a mistake in it is shown."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from trl_mtgrpo.commands.reading import read_task_file
from trl_mtgrpo.commands.task_file import (
    HubDataset,
    LocalFiles,
    ReasoningGym,
    RewardEntry,
    TaskEntry,
    TaskFile,
    TaskFileError,
    VerlFiles,
)
from trl_mtgrpo.commands.yaml_lines import load_yaml


GOOD = """\
model: some/model
trainer:
  learning_rate: 1e-6
tasks:
  - name: sums
    files: sums.jsonl
    prompt: "{question}"
    reward: number
  - name: hub
    dataset: {path: openai/gsm8k, name: main, eval_split: test}
    prompt:
      - {role: user, content: "{question}"}
    reward: {use: boxed, options: {format_reward: 0.1}, weight: 2}
    weight: 0.5
  - name: puzzles
    reasoning_gym: {family: countdown, level: easy, train_size: 10}
"""


def read(folder: Path, text: str = GOOD, *changes: tuple[str, str]):
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return read_task_file(path)


def test_every_kind_of_entry_becomes_its_value(tmp_path: Path) -> None:
    file = read(tmp_path)
    sums, hub, puzzles = file.tasks
    assert sums.source == LocalFiles("sums.jsonl")
    assert hub.source == HubDataset("openai/gsm8k", "main", "train", "test")
    assert puzzles.source == ReasoningGym("countdown", "easy", train_size=10)
    assert sums.reward == (RewardEntry("number"),)
    assert hub.reward == (RewardEntry("boxed", {"format_reward": 0.1}, 2),)
    assert hub.prompt == [{"role": "user", "content": "{question}"}]
    assert file.weights == {"hub": 0.5}
    assert [task.line for task in file.tasks] == [5, 9, 15]


def test_a_number_without_a_point_is_a_number() -> None:
    assert load_yaml("a: 1e-6")["a"] == 1e-6
    assert load_yaml("a: 1e6x")["a"] == "1e6x"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("    prompt: ", "    promt: "), r"line 7: `promt` must be a field of task 'sums'.*Did you mean `prompt`\?"),
        (("model:", "modell:"), r"line 1: `modell` must be a field of the file.*Did you mean `model`\?"),
        (("level: easy", "levels: easy"), r"line 16: `levels` must be a field of `reasoning_gym` of task 'puzzles'"),
        (("use: boxed", "used: boxed"), r"line 13: `used` must be a field of `reward` of task 'hub'"),
        (("    files: sums.jsonl\n", ""), r"line 5: task 'sums' must have exactly one of .* got none"),
        (("    reward: number\n", ""), r"line 5: task 'sums' must have a `reward`, got none"),
        (("train_size: 10", "train_size: ten"), r"line 16: `train_size` .* must be a whole number, got 'ten'"),
        (("weight: 0.5", "weight: half"), r"line 14: `weight` of task 'hub' must be a number, got 'half'"),
        (("role: user, ", ""), r"line 11: `prompt` of task 'hub' must be text or a list of"),
        (("path: openai/gsm8k, ", ""), r"line 10: `dataset` of task 'hub' must have `path`"),
        (("name: sums", "name: [sums]"), r"line 5: `name` .* must be text, got \['sums'\]"),
        (("trainer:\n", "trainer:\n  learning_rate: 1\n"), r"line 4: `learning_rate` must be given once"),
        (("{path: openai", "{{path: openai"), r"run.yaml"),
    ],
    ids=lambda value: value[1][:24].strip() if isinstance(value, tuple) else "",
)
def test_a_mistake_is_shown_with_its_line_and_a_name_that_fits(
    tmp_path: Path, change: tuple[str, str], text: str
) -> None:
    with pytest.raises(TaskFileError, match=text):
        read(tmp_path, GOOD, change)


def test_a_file_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"`tasks` must be a list of at least one task, got None"):
        read(tmp_path, "model: some/model\n")


def test_a_file_that_is_not_there_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"must be a file that can be read, got '.*nothing.yaml'"):
        read_task_file(tmp_path / "nothing.yaml")


def test_another_model_takes_the_place_of_the_files(tmp_path: Path) -> None:
    read(tmp_path)
    assert read_task_file(tmp_path / "run.yaml", "other/model").model == "other/model"
    (tmp_path / "folder").mkdir()
    assert read_task_file(tmp_path / "run.yaml", str(tmp_path / "folder")).model == str(tmp_path / "folder")


PAGE = (Path(__file__).parents[2] / "docs" / "task-file.md").read_text(encoding="utf-8")


def test_the_file_of_the_page_is_understood(tmp_path: Path) -> None:
    file = read(tmp_path, re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0])
    assert [task.name for task in file.tasks] == ["gsm8k", "capitals"]


@pytest.mark.parametrize("kind", [TaskFile, TaskEntry, HubDataset, LocalFiles, ReasoningGym, VerlFiles, RewardEntry])
def test_every_field_is_explained_on_the_page(kind: type) -> None:
    names = [f.name for f in fields(kind) if f.metadata.get("in_file", True)]
    assert not [name for name in names if not re.search(rf"[`{{ ,]{name}[`:]", PAGE)]
