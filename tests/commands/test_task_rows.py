"""Rows of every source, as the task has them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from desks import sum_task, sums, write_file, write_rows

from trl_mtgrpo import Task
from trl_mtgrpo.commands.reading import read_task_file
from trl_mtgrpo.commands.task_rows import load_task


def loaded(folder: Path, task: dict[str, Any]) -> Task:
    file = read_task_file(write_file(folder, [task]))
    return load_task(file, file.tasks[0])


def test_prompt_and_answer_are_made_from_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "sums.jsonl", sums())
    task = loaded(tmp_path, sum_task(eval_size=None))
    assert task.train_dataset[2]["prompt"] == "What is 2 plus 1? "
    assert task.train_dataset["answer"] == [str(i + 1) for i in range(24)]
    assert task.success_threshold == 1.0


def test_columns_that_nothing_was_made_of_stay(tmp_path: Path) -> None:
    write_rows(tmp_path / "sums.jsonl", [row | {"source": "book"} for row in sums()])
    assert set(loaded(tmp_path, sum_task()).train_dataset.column_names) == {"question", "answer", "prompt", "source"}


def test_held_out_rows_are_the_same_every_time_and_train_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "sums.jsonl", sums())
    first, second = (loaded(tmp_path, sum_task(eval_size=5)) for _ in range(2))
    assert first.eval_dataset["prompt"] == second.eval_dataset["prompt"]
    prompts = [*first.train_dataset["prompt"], *first.eval_dataset["prompt"]]
    assert (len(first.eval_dataset), len(set(prompts))) == (5, 24)


def test_a_split_of_its_own_is_the_evaluation_set(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", sums())
    write_rows(tmp_path / "b.jsonl", sums(100, 3))
    task = loaded(tmp_path, sum_task(files={"train": "a.jsonl", "eval": "b.jsonl"}, eval_size=None))
    assert (len(task.train_dataset), len(task.eval_dataset)) == (24, 3)


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_files_of_every_kind_hold_the_same_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"sums.{kind}"
    if kind == "json":
        write_rows(path, sums())
    elif kind == "csv":
        path.write_text("question,answer\n" + "".join(f'"{r["question"]}","{r["answer"]}"\n' for r in sums()))
    else:
        pq.write_table(pa.Table.from_pylist(sums()), path)
    task = loaded(tmp_path, sum_task(file=path.name, eval_size=None))
    assert task.train_dataset["answer"] == [str(i + 1) for i in range(24)]


def test_a_dataset_folder_is_read_by_split(tmp_path: Path) -> None:
    write_rows(tmp_path / "set" / "train.jsonl", sums())
    write_rows(tmp_path / "set" / "test.jsonl", sums(100, 3))
    source = {"path": "./set", "eval_split": "test"}
    task = loaded(tmp_path, sum_task(files=None, eval_size=None, dataset=source))
    assert (len(task.train_dataset), len(task.eval_dataset)) == (24, 3)


def test_prompts_become_messages(tmp_path: Path) -> None:
    write_rows(tmp_path / "sums.jsonl", sums())
    task = loaded(tmp_path, sum_task(prompt=[{"role": "user", "content": "{question}"}]))
    assert task.is_conversational
    assert task.train_dataset[0]["prompt"] == [{"content": "What is 0 plus 1?", "role": "user"}]


def test_messages_around_a_puzzle_keep_its_reward(tmp_path: Path) -> None:
    source = {"family": "chain_sum", "train_size": 3, "eval_size": 2}
    prompt = [{"role": "user", "content": "{question}"}]
    task = loaded(tmp_path, {"name": "chain", "reasoning_gym": source, "prompt": prompt})
    row = task.train_dataset[0]
    text = [[{"role": "assistant", "content": f"\\boxed{{{row['expected']}}}"}]]
    columns = {name: [row[name]] for name in ("item", "source", "expected")}
    assert task.is_conversational
    assert task.reward_funcs[0](completions=text, **columns) == [1.0]


def test_a_function_of_ones_own_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "my_reward_beside.py").write_text(
        "def length(completions, scale, **kwargs):\n    return [scale * len(c) for c in completions]\n"
    )
    write_rows(tmp_path / "sums.jsonl", sums())
    task = loaded(tmp_path, sum_task(reward={"use": "my_reward_beside:length", "options": {"scale": 2}, "weight": 3}))
    assert task.reward_funcs[0](completions=["abc"]) == [6]
    assert tuple(task.reward_weights) == (3.0,)
    assert task.success_threshold is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"file": "nothing.jsonl"}, r"run.yaml, line \d+: task 'sums': `files` must be files that exist"),
        ({"prompt": "{qestion}"}, r"`prompt` of task 'sums' must name columns .* Did you mean '\{question\}'\?"),
        ({"reward": "nmber"}, r"`reward` of task 'sums' must be one of .* got 'nmber'. Did you mean 'number'\?"),
        ({"reward": {"use": "number", "options": {"far": 1}}}, r"`options` of reward 'number' .* must be out of"),
        ({"reward": "nothing_here:f"}, r"must be a function that can be imported, got 'nothing_here:f'"),
        ({"reward": "math:nothing"}, r"must be a function that can be imported, got 'math:nothing'"),
        ({"reward": "math:pi"}, r"must be a function, got 'math:pi'"),
        ({"eval_size": 24}, r"`eval_size` of task 'sums' must be between 1 and the rows less one, got 24 of 24"),
    ],
)
def test_a_task_that_cannot_be_loaded_is_named_with_its_line(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    write_rows(tmp_path / "sums.jsonl", sums())
    with pytest.raises(ValueError, match=text):
        loaded(tmp_path, sum_task(**changes))
