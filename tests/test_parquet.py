"""Tasks from verl's parquet files, and from the paper's own format: every field is kept, or refused with a reason."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

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
    with pytest.warns(
        UserWarning, match=r"rows of \['zebra-very_hard'\] in `test` are left out, because `train` has no"
    ):
        tasks = tasks_from_parquet(*files)
    assert [task.name for task in tasks] == ["countdown-medium", "countdown-easy", "zebra-medium"]
    assert [len(task.train_dataset) for task in tasks] == [3, 3, 1]
    assert [task.eval_dataset is None for task in tasks] == [True, True, False]


def test_prompts_are_plain_text_as_the_paper_feeds_them(files):
    task = tasks_from_parquet(files[0])[0]
    assert task.train_dataset[1] == {"prompt": "User: medium 1\nAssistant:", "numbers": [8, 73, 96], "target": 177}


def test_the_paper_s_families_are_rewarded_by_the_rules(files):
    tasks = {task.name: task for task in tasks_from_parquet(files[0])}
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


SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "1+1?"}
ASSISTANT = {"role": "assistant", "content": "3"}


def exact(prompts, completions, ground_truth, **kwargs):
    return [float(c == t) for c, t in zip(completions, ground_truth, strict=True)]


def other(**changes):
    return row("gsm8k", "1+1?", "2") | changes


@pytest.mark.parametrize(
    "messages", [[SYSTEM, USER], [SYSTEM], [USER, ASSISTANT, USER], [SYSTEM, USER, ASSISTANT, USER], [ASSISTANT]]
)
@pytest.mark.parametrize("source", ["gsm8k", "zebra-easy-train"])
def test_every_message_of_a_prompt_is_kept(tmp_path, messages, source):
    rows = [row(source, "?", {"target": "alice"}), row(source, "?", {"target": "bob"}) | {"prompt": messages}]
    (task,) = tasks_from_parquet(
        write(tmp_path / "x.parquet", rows), reward_funcs={"gsm8k": exact} if source == "gsm8k" else None
    )
    assert task.train_dataset[1]["prompt"] == [{"content": m["content"], "role": m["role"]} for m in messages]
    assert task.is_conversational


def test_a_system_message_in_the_evaluation_rows_makes_both_splits_conversations(tmp_path):
    train = write(tmp_path / "train.parquet", [row("zebra-easy-train", "?", {"target": "alice"})])
    held_out = row("zebra-easy-test", "?", {"target": "bob"}, split="test") | {"prompt": [SYSTEM, USER]}
    (task,) = tasks_from_parquet(train, write(tmp_path / "test.parquet", [held_out]))
    assert task.train_dataset[0]["prompt"] == [{"content": "?", "role": "user"}]
    assert len(task.eval_dataset[0]["prompt"]) == 2


def test_a_prompt_that_is_text_stays_text(tmp_path):
    (task,) = tasks_from_parquet(write(tmp_path / "x.parquet", [other(prompt="1+1=")]), reward_funcs={"gsm8k": exact})
    assert task.train_dataset[0]["prompt"] == "1+1="


@pytest.mark.parametrize(
    ("extras", "expected"),
    [
        ([{"a": 1}, {"a": 2, "b": "x"}], {"a": [1, 2], "b": [None, "x"]}),
        ([{"a": 1, "b": "x"}, {"c": [1, 2]}], {"a": [1, None], "b": ["x", None], "c": [None, [1, 2]]}),
        ([None, {"a": {"deep": [{"er": 1}]}}], {"a": [None, {"deep": [{"er": 1}]}]}),
        ([{"a": None}, {"a": 2.5}], {"a": [None, 2.5]}),
        ([{"a": True}, None], {"a": [True, None]}),
    ],
)
@pytest.mark.parametrize("in_files", [1, 2])
def test_fields_of_extra_info_of_any_row_are_columns(tmp_path, extras, expected, in_files):
    rows = [other(extra_info=extra) for extra in extras]
    parts = [rows] if in_files == 1 else [rows[:1], rows[1:]]
    paths = [write(tmp_path / f"{i}.parquet", part) for i, part in enumerate(parts)]
    (task,) = tasks_from_parquet(paths, reward_funcs={"gsm8k": exact})
    for name, values in expected.items():
        assert task.train_dataset[name] == values


def test_a_file_without_extra_info_and_one_with_it_go_together(tmp_path):
    without = {key: value for key, value in other().items() if key != "extra_info"}
    paths = [write(tmp_path / "a.parquet", [without]), write(tmp_path / "b.parquet", [other()])]
    (task,) = tasks_from_parquet(paths, reward_funcs={"gsm8k": exact})
    assert task.train_dataset["difficulty"] == [None, 2]


def test_other_columns_and_fields_are_kept_too(tmp_path):
    changes = {
        "agent_name": "tool",
        "reward_model": {"style": "model", "ground_truth": ["2", "two"], "rubric": "strict"},
    }
    (task,) = tasks_from_parquet(write(tmp_path / "x.parquet", [other(**changes)]), reward_funcs={"gsm8k": exact})
    first = task.train_dataset[0]
    assert (first["agent_name"], first["ability"], first["style"], first["rubric"]) == (
        "tool",
        "math",
        "model",
        "strict",
    )
    assert first["ground_truth"] == ["2", "two"]


@pytest.mark.parametrize("field", ["prompt", "data_source", "ability", "style"])
def test_two_fields_of_one_name_are_refused(tmp_path, field):
    path = write(tmp_path / "x.parquet", [other(extra_info={field: "x", "kept": 1})])
    with pytest.raises(
        ValueError, match=rf"rows of 'gsm8k' must have fields with distinct names, got \['{field}'\] twice"
    ):
        tasks_from_parquet(path, reward_funcs={"gsm8k": exact})


@pytest.mark.parametrize("field", ["ability", "style", "difficulty"])
def test_a_field_can_be_left_out(tmp_path, field):
    path = write(tmp_path / "x.parquet", [other(extra_info={"difficulty": 1, field: "x", "kept": 1})])
    (task,) = tasks_from_parquet(path, reward_funcs={"gsm8k": exact}, drop=[field])
    assert field not in task.train_dataset.column_names
    assert task.train_dataset["kept"] == [1]


def test_a_field_with_a_name_of_the_trainer_s_is_refused(tmp_path):
    path = write(tmp_path / "x.parquet", [other(extra_info={"completions": "x"})])
    with pytest.raises(ValueError, match=r"must not have columns that the trainer passes .*\['completions'\]"):
        tasks_from_parquet(path, reward_funcs={"gsm8k": exact})


def test_a_field_called_task_is_a_column_like_others(tmp_path):
    path = write(tmp_path / "x.parquet", [other(extra_info={"task": "sums"})])
    (task,) = tasks_from_parquet(path, reward_funcs={"gsm8k": exact})
    assert task.train_dataset["task"] == ["sums"]


@pytest.mark.parametrize("source", ["openai/gsm8k", "lighteval/MATH", "a/b/c-train"])
def test_a_name_with_a_slash_is_refused_with_the_cure_and_renamed_on_request(tmp_path, source):
    path = write(tmp_path / "x.parquet", [row(source, "1+1?", "2")])
    name = source.removesuffix("-train")
    short = name.rpartition("/")[2]
    with pytest.raises(ValueError, match=rf"`rename` must give .* Pass `rename=\{{'{name}': '{short}'\}}`"):
        tasks_from_parquet(path, reward_funcs={name: exact})
    for key in {source, name}:
        (task,) = tasks_from_parquet(path, reward_funcs={"m": exact}, rename={key: "m"})
        assert (task.name, task.train_dataset["data_source"]) == ("m", [source])


def test_sources_go_together_only_when_they_are_renamed_to_one_name(tmp_path):
    path = write(
        tmp_path / "x.parquet", [row("math-train", "?", "1"), row("math", "?", "2"), row("math-test", "?", "3")]
    )
    with pytest.raises(
        ValueError, match=r"must have one data source per task, got \['math', 'math-test', 'math-train'\] for"
    ):
        tasks_from_parquet(path, reward_funcs={"math": exact})
    names = {"math-train": "math", "math": "math", "math-test": "held"}
    tasks = tasks_from_parquet(path, reward_funcs={"math": exact, "held": exact}, rename=names)
    assert {task.name: task.train_dataset["ground_truth"] for task in tasks} == {"math": ["1", "2"], "held": ["3"]}


@pytest.mark.parametrize(
    ("source", "truth"),
    [
        ("arc-challenge", {"target": "0 1"}),
        ("arc", {"target": "0 1"}),
        ("countdown", {"target": 7, "numbers": [3, 4]}),
        ("countdown-game-easy", {"target": 7, "numbers": [3, 4]}),
        ("zebra-logic", {"target": "bob"}),
        ("arc-agi-easy", {"target": "0 1"}),
        ("arc-easy", "B"),
        ("arc-easy", {"target": "B"}),
        ("arc-easy-train", {"choices": ["A", "B"]}),
        ("countdown-easy", {"target": 7}),
        ("countdown-easy", {"target": "seven", "numbers": "3,4"}),
        ("zebra-easy", {"answer": "bob"}),
    ],
)
def test_only_the_paper_s_own_data_gets_the_paper_s_reward(tmp_path, source, truth):
    path = write(tmp_path / "x.parquet", [row(source, "?", truth)])
    with pytest.raises(
        ValueError, match="`reward_funcs` must have a function for every data source that is not the paper"
    ):
        tasks_from_parquet(path)
    name = source.removesuffix("-train")
    (task,) = tasks_from_parquet(path, reward_funcs={name: exact})
    assert task.train_dataset["ground_truth"] == [truth]


@pytest.mark.parametrize("family", ["countdown", "zebra", "arc"])
@pytest.mark.parametrize("level", ["easy", "medium", "hard", "very_hard"])
def test_all_levels_of_the_paper_are_known(tmp_path, family, level):
    truth = {"countdown": {"numbers": "3,4", "target": 7}, "zebra": {"target": "bob"}, "arc": {"target": "0 4 4"}}[
        family
    ]
    right = {"countdown": "3 + 4", "zebra": "Bob", "arc": "0 4 4"}[family]
    (task,) = tasks_from_parquet(write(tmp_path / "x.parquet", [row(f"{family}-{level}-train", "?", truth)]))
    columns = {name: task.train_dataset[name] for name in task.reward_funcs[0].columns}
    assert task.reward_funcs[0](completions=[rf"\boxed{{{right}}}"], **columns) == [1.0]


def test_a_renamed_source_of_the_paper_keeps_its_reward(tmp_path):
    path = write(tmp_path / "x.parquet", [row("zebra-easy-train", "?", {"target": "bob"})])
    (task,) = tasks_from_parquet(path, rename={"zebra-easy": "riddles"})
    assert (task.name, task.reward_funcs[0].columns) == ("riddles", ("expected",))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("reward_funcs", {"gsm8k": exact, "gsm": exact}),
        ("reward_funcs", {"gsm8k": exact, "GSM8K": exact}),
        ("reward_funcs", {"gsm8k": exact, "": exact}),
        ("rename", {"gsm": "x"}),
        ("rename", {"gsm8k-test": "x"}),
        ("rename", {"gsm8k": "gsm8k", "math": "m"}),
        ("drop", ["difficult"]),
        ("drop", ["prompt"]),
        ("drop", ["ground_truth"]),
    ],
)
def test_names_that_are_not_in_the_files_are_refused(tmp_path, argument, value):
    path = write(tmp_path / "x.parquet", [other()])
    with pytest.raises(ValueError, match=f"`{argument}` must hold names that are in the files, got"):
        tasks_from_parquet(path, **{"reward_funcs": {"gsm8k": exact}, argument: value})


@pytest.mark.parametrize("reward_model", ["2", {"style": "rule"}, ["2"]])
def test_a_file_without_a_ground_truth_is_an_error(tmp_path, reward_model):
    path = write(tmp_path / "x.parquet", [other(reward_model=reward_model)])
    with pytest.raises(
        ValueError, match=r"whose column 'reward_model' has a field 'ground_truth', got .* in 'x.parquet'"
    ):
        tasks_from_parquet(path, reward_funcs={"gsm8k": exact})


@pytest.mark.parametrize("source", [None, ""])
def test_a_row_without_a_data_source_is_an_error(tmp_path, source):
    path = write(tmp_path / "x.parquet", [other(), other(data_source=source)])
    with pytest.raises(ValueError, match=r"must be files with a data source in every row, got .* in 'x.parquet'"):
        tasks_from_parquet(path, reward_funcs={"gsm8k": exact})


def test_files_that_disagree_about_a_type_are_an_error(tmp_path):
    paths = [
        write(tmp_path / f"{i}.parquet", [other(reward_model={"ground_truth": truth})])
        for i, truth in enumerate(["2", ["2"]])
    ]
    with pytest.raises(ValueError, match="files of 'gsm8k' must agree about the types of their columns"):
        tasks_from_parquet(paths, reward_funcs={"gsm8k": exact})


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (2, 3), color).save(buffer, "PNG")
    return {"bytes": buffer.getvalue()}


def asked(text):
    return [{"role": "user", "content": text}]


def test_images_are_kept_and_stand_where_the_prompt_says(tmp_path):
    rows = [
        other(prompt=[SYSTEM, *asked("<image>What is <image>this?")], images=[png("red"), png("blue")]),
        other(prompt=asked("No picture."), images=None),
        other(prompt=asked("This: <image>"), images=[png("red")]),
    ]
    (task,) = tasks_from_parquet(write(tmp_path / "x.parquet", rows), reward_funcs={"gsm8k": exact})
    first, second, third = task.train_dataset
    assert [image.getpixel((0, 0)) for image in first["images"]] == [(255, 0, 0), (0, 0, 255)]
    assert [part["type"] for part in first["prompt"][1]["content"]] == ["image", "text", "image", "text"]
    assert first["prompt"][0]["content"] == [{"type": "text", "text": "Be brief."}]
    assert (second["images"], third["prompt"][0]["content"][0]["text"]) == (None, "This: ")


def test_images_in_a_file_are_read_by_their_path(tmp_path):
    (tmp_path / "a.png").write_bytes(png("red")["bytes"])
    rows = [other(images=[str(tmp_path / "a.png")])]
    (task,) = tasks_from_parquet(write(tmp_path / "x.parquet", rows), reward_funcs={"gsm8k": exact})
    assert task.train_dataset[0]["images"][0].size == (2, 3)
    assert task.train_dataset[0]["prompt"] == [{"content": "1+1?", "role": "user"}]


def test_images_of_the_paper_s_families_are_kept(tmp_path):
    rows = [row("zebra-easy-train", "who?", {"target": "bob"}) | {"images": [png("red")]}]
    (task,) = tasks_from_parquet(write(tmp_path / "x.parquet", rows))
    assert task.train_dataset[0]["images"][0].size == (2, 3)
    assert task.is_conversational


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"images": [1, 2]}, "must have images as a list of encoded images or paths"),
        ({"images": [{"width": 3}]}, "must have images as a list of encoded images or paths"),
        (
            {"images": [png("red")], "prompt": asked("<image> and <image>")},
            "one `<image>` per image, got 2 for 1 images in row 0",
        ),
        ({"images": [png("red"), png("red")], "prompt": asked("<image>")}, "got 1 for 2 images in row 0"),
        ({"videos": [{"bytes": b"x"}]}, "must have no media but images, got a column 'videos'"),
        ({"audios": ["a.wav"]}, "must have no media but images, got a column 'audios'"),
        ({"audio": {"path": "a.wav"}}, "must have no media but images, got a column 'audio'"),
    ],
)
def test_media_that_cannot_be_kept_are_refused_with_the_reason(tmp_path, changes, text):
    path = write(tmp_path / "x.parquet", [other(**changes)])
    with pytest.raises(ValueError, match=text):
        tasks_from_parquet(path, reward_funcs={"gsm8k": exact})


def test_media_can_be_left_out(tmp_path):
    path = write(tmp_path / "x.parquet", [other(videos=["a.mp4"])])
    (task,) = tasks_from_parquet(path, reward_funcs={"gsm8k": exact}, drop=["videos"])
    assert "videos" not in task.train_dataset.column_names
