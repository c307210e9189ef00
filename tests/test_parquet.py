"""Tasks from verl's parquet files, and from the paper's own format."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trl_mtgrpo.tasks.sources.parquet import tasks_from_parquet


def row(source, content, truth, difficulty=2, split="train"):
    return {
        "data_source": source,
        "prompt": [{"content": content, "role": "user"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"difficulty": difficulty, "index": 0, "question": "q", "split": split},
    }


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def files(tmp_path):
    countdown = [
        row(f"countdown-{level}-{split}", f"User: {level} {n}\nAssistant:", {"numbers": "8,73,96", "target": 177})
        for split in ("train",)
        for level in ("medium", "easy")
        for n in range(3)
    ]
    zebra = [row("zebra-medium-train", "who?", {"target": "alice"})]
    test = [
        row("zebra-medium-test", "who else?", {"target": "bob"}),
        row("zebra-very_hard-test", "?", {"target": "x"}),
    ]
    return (
        [write(tmp_path / "countdown.parquet", countdown), write(tmp_path / "zebra.parquet", zebra)],
        write(tmp_path / "test.parquet", test),
    )


def test_each_data_source_becomes_a_task_in_order(files):
    tasks = tasks_from_parquet(*files)
    assert [task.name for task in tasks] == ["countdown-medium", "countdown-easy", "zebra-medium"]
    assert [len(task.train_dataset) for task in tasks] == [3, 3, 1]
    assert [task.eval_dataset is None for task in tasks] == [True, True, False]


def test_prompts_are_plain_text_as_the_paper_feeds_them(files):
    task = tasks_from_parquet(*files)[0]
    assert task.train_dataset[1] == {"prompt": "User: medium 1\nAssistant:", "numbers": [8, 73, 96], "target": 177}


def test_the_paper_s_families_are_rewarded_by_the_rules(files):
    tasks = {task.name: task for task in tasks_from_parquet(*files)}
    countdown, zebra = tasks["countdown-easy"].reward_funcs[0], tasks["zebra-medium"].reward_funcs[0]
    answers = [r"\boxed{8 + 73 + 96}", r"\boxed{8 + 73}", "8 + 73 + 96"]
    assert countdown(completions=answers, numbers=[[8, 73, 96]] * 3, target=[177] * 3) == [1.0, 0.1, 0.0]
    assert zebra(completions=[r"\boxed{Bob}"], expected=["bob"]) == [1.0]
    assert tasks["zebra-medium"].success_threshold == 1.0


def test_names_choose_and_order_the_tasks(files):
    tasks = tasks_from_parquet(*files, names=["zebra-medium", "countdown-medium"])
    assert [task.name for task in tasks] == ["zebra-medium", "countdown-medium"]


def test_a_name_without_training_rows_is_an_error(files):
    with pytest.raises(
        ValueError, match=r"`names` must be tasks with training rows, got \['zebra-very_hard'\]. The files"
    ):
        tasks_from_parquet(*files, names=["zebra-very_hard"])


def test_another_data_source_needs_a_function(tmp_path):
    path = write(tmp_path / "math.parquet", [row("openai/gsm8k", "1+1?", "2")])
    with pytest.raises(ValueError, match=r"`reward_funcs` must have a function .* none for \['openai/gsm8k'\]"):
        tasks_from_parquet(path)


def test_another_data_source_keeps_its_messages_and_its_ground_truth(tmp_path):
    def exact(prompts, completions, ground_truth, **kwargs):
        return [float(c == t) for c, t in zip(completions, ground_truth, strict=True)]

    path = write(tmp_path / "math.parquet", [row("gsm8k", "1+1?", "2")])
    (task,) = tasks_from_parquet(path, reward_funcs={"gsm8k": exact})
    first = task.train_dataset[0]
    assert first["prompt"] == [{"content": "1+1?", "role": "user"}]
    assert (first["ground_truth"], first["data_source"], first["difficulty"]) == ("2", "gsm8k", 2)
    assert task.reward_funcs == (exact,)


def test_a_file_without_the_columns_is_an_error(tmp_path):
    path = write(tmp_path / "other.parquet", [{"prompt": "a"}])
    with pytest.raises(ValueError, match=r"must be files with the columns .*, got \['prompt'\] in 'other.parquet'"):
        tasks_from_parquet(path)
