"""Files and options as people write them: no traceback, the place, the value and what to do."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from desks import sum_task, sums, write_file, write_model, write_rows

from trl_mtgrpo.commands.cli import main
from trl_mtgrpo.report.runs import read_runs


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    write_rows(tmp_path / "sums.jsonl", sums())
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *typed: Any) -> tuple[int | str | None, str]:
    try:
        code: Any = main([str(part) for part in typed])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def with_setting(path: Path, name: str, value: str) -> Path:
    content = yaml.safe_load(path.read_text())
    content["trainer"].pop(name, None)
    text = yaml.safe_dump(content, sort_keys=False).replace("trainer:\n", f"trainer:\n  {name}: {value}\n")
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_steps", "yes", "must be a whole number, got True. Change its value"),
        ("max_steps", "2.5", "must be a whole number, got 2.5"),
        ("learning_rate", "on", "must be a number, got True"),
        ("output_dir", "2026-01-01", "must be text, got datetime.date(2026, 1, 1). Put it in quotes"),
        ("output_dir", "5", "must be text, got 5. Put it in quotes"),
        (
            "save_strategy",
            "no",
            "must be text, got False. YAML reads yes, no, on and off as true and false: put it in",
        ),
        ("eval_strategy", "off", "must be text, got False. YAML reads yes, no, on and off"),
        ("run_name", "on", "must be text, got True. YAML reads"),
        ("fixed_task_weights", "[1]", "must be a mapping to a number or text, got [1]"),
        ("lr_scheduler_kwargs", "[1]", "must be a mapping or text, got [1]"),
    ],
)
def test_a_setting_of_another_kind_is_shown_with_its_line(
    desk: Path, capsys: pytest.CaptureFixture[str], name: str, value: str, text: str
) -> None:
    code, shown = said(capsys, "check", with_setting(write_file(desk, [sum_task()]), name, value))
    assert code == 1
    assert f"run.yaml, line 3: `{name}` of `trainer` {text}" in shown


@pytest.mark.parametrize(("name", "value"), [("use_cpu", "yes"), ("plateau_guard", "off"), ("max_steps", "'2'")])
def test_kinds_that_are_meant_are_taken(desk: Path, capsys: pytest.CaptureFixture[str], name: str, value: str) -> None:
    assert said(capsys, "check", with_setting(write_file(desk, [sum_task()]), name, value))[0] == 0


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"processes": 0}, 2, "`processes` must be at least 1, got 0"),
        ({"max_prompt_tokens": -1}, 2, "`max_prompt_tokens` must be at least 1, got -1"),
        ({"peft": {"rr": 1}}, 1, "`rr` must be a field of `peft`, got none of that name. Did you mean `r`?"),
        ({"peft": {"r": "many"}}, 1, "`r` of `peft` must be a whole number, got 'many'"),
        ({"trainer": {"reward_weights": [1.0]}}, 1, "`reward_weights` must be left out of `trainer`, got [1.0]"),
        ({"trainer": {"num_generations": None}}, 1, "`trainer` must hold settings that can be computed with"),
    ],
)
def test_check_finds_what_train_would_refuse(
    desk: Path, capsys: pytest.CaptureFixture[str], more: dict[str, Any], code: int, text: str
) -> None:
    trainer = more.pop("trainer", None)
    found, shown = said(capsys, "check", write_file(desk, [sum_task()], trainer, **more))
    assert found == code
    assert text in shown


def test_messages_need_a_chat_template(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = sum_task(prompt=[{"role": "user", "content": "{question}"}])
    code, shown = said(capsys, "check", write_file(desk, [task]))
    assert code == 1
    assert "`processing_class` must have a chat template for task 'sums', whose prompts are lists of messages" in shown


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "must be a mapping with `model` and `tasks`, got an empty file"),
        (b"\xff\xfe\x00", "must be text in UTF-8, got 'utf-8' codec"),
        ("model: süß\n".encode("latin-1"), "Save it in that encoding"),
    ],
)
def test_a_file_that_is_no_text_is_told_so(
    desk: Path, capsys: pytest.CaptureFixture[str], content: bytes, text: str
) -> None:
    (desk / "run.yaml").write_bytes(content)
    code, shown = said(capsys, "check", desk / "run.yaml")
    assert code == 2
    assert text in shown


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_marks_of_windows_are_read(
    desk: Path, capsys: pytest.CaptureFixture[str], begin: bytes, ending: bytes
) -> None:
    path = write_file(desk, [sum_task()])
    path.write_bytes(begin + path.read_bytes().replace(b"\n", ending))
    (desk / "sums.jsonl").write_bytes((desk / "sums.jsonl").read_bytes().replace(b"\n", ending))
    assert said(capsys, "check", path)[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.jsonl", "", "`files` must have at least one row, got the empty file"),
        ("bad.jsonl", '{"question": 1}\n{bad\n', "task 'sums': JSON parse error"),
        ("cut.parquet", "PAR1", "task 'sums': Parquet file size is 4 bytes"),
    ],
)
def test_rows_that_cannot_be_read_are_a_defect(
    desk: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, text: str
) -> None:
    (desk / name).write_text(content)
    code, shown = said(capsys, "check", write_file(desk, [sum_task(file=name, eval_size=None)]))
    assert code == 1
    assert text in shown


@pytest.mark.parametrize("size", [1, 3])
def test_answers_that_are_all_alike_are_no_defect(desk: Path, capsys: pytest.CaptureFixture[str], size: int) -> None:
    write_rows(desk / "same.jsonl", [{"question": f"q{i}", "answer": "#### 1"} for i in range(size)])
    code, shown = said(capsys, "check", write_file(desk, [sum_task(file="same.jsonl", eval_size=None)]))
    assert code == 0
    assert "not known" in shown


@pytest.mark.parametrize(
    ("content", "use", "text"),
    [
        ("def f(:\n", "odd_syntax:f", "which raised SyntaxError"),
        ("import sys; sys.exit(3)\n", "odd_exit:f", "which raised SystemExit: 3"),
        ("raise KeyError('boo')\n", "odd_raise:f", "which raised KeyError: 'boo'"),
        ("", ":f", "must be written as `package.module:name`, got ':f'"),
        ("", "odd_empty:", "must be written as `package.module:name`, got 'odd_empty:'"),
    ],
)
def test_a_module_that_does_not_import_is_a_defect(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: str, use: str, text: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (desk / f"{use.partition(':')[0] or 'none'}.py").write_text(content)
    code, shown = said(capsys, "check", write_file(desk, [sum_task(reward=use)]))
    assert code == 1
    assert text in shown


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"data_source": "a"}, {"data_source": None}], "must name the data source of every row, got None in row 1"),
        ([{"data_source": 3}], "must name the data source of every row, got 3 in row 0"),
        ([{"prompt": "x"}], "must be parquet files with rows and a column 'data_source', got 0 rows with the columns"),
    ],
)
def test_rows_without_a_source_are_not_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], text: str
) -> None:
    code, shown = said(capsys, "import", parquet(tmp_path, rows))
    assert code == 2
    assert text in shown


@pytest.mark.parametrize("extra", [{}, {"extra_info": "text"}, {"extra_info": None}])
def test_rows_without_further_information_are_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: dict[str, Any]
) -> None:
    code, shown = said(capsys, "import", parquet(tmp_path, [{"data_source": "数学-train"} | extra]))
    assert code == 0
    assert "name: 数学" in shown


def test_a_source_that_is_renamed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"data_source": "openai/gsm8k"}, {"data_source": "openai_gsm8k"}]
    code, shown = said(capsys, "import", parquet(tmp_path, rows))
    assert code == 0
    assert "'openai/gsm8k' is called 'openai_gsm8k' here" in shown
    assert "'openai_gsm8k' is called 'openai_gsm8k_2' here" in shown


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("data.train_batch_size=many", "`data.train_batch_size` must be a whole number of at least 1, got 'many'"),
        ("data.train_batch_size=0", "must be a whole number of at least 1, got 0"),
        ("data.train_batch_size=", "must be a whole number of at least 1, got None"),
        ("data.train_batch_size=2.5", "must be a whole number of at least 1, got 2.5"),
        ("actor_rollout_ref.rollout.n=0", "`actor_rollout_ref.rollout.n` must be a whole number of at least 1"),
        ("trainer.n_gpus_per_node=0", "`trainer.n_gpus_per_node` must be a whole number of at least 1, got 0"),
        ("actor_rollout_ref.actor.optim.lr=fast", "must be a number of at least 0, got 'fast'"),
        ("trainer.save_freq=often", "`trainer.save_freq` must be a whole number of at least -1, got 'often'"),
        ("data.max_response_length=[", "`data.max_response_length` must have a value as Hydra reads it, got '['"),
        ("trainer.sec.bandit.preset_probs=0.5", "must be a list of numbers, got 0.5. Write `[0.5,0.5]`"),
        ("trainer.sec.bandit.groups_to_train=[x]", "must name groups of the training rows, got ['x'] beside ['None-"),
    ],
)
def test_a_setting_that_cannot_be_carried_over_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, text: str
) -> None:
    given = ["data.train_batch_size=8", setting] if "batch_size" not in setting else [setting]
    code, shown = said(capsys, "import", parquet(tmp_path, [{"data_source": "a"}]), *given)
    assert code == 2
    assert text in shown


@pytest.mark.parametrize(
    "typed",
    [["--tokens", "nan"], ["--tokens", "-5"], ["--tokens", "inf"], ["--seed", "-1"], ["--weights", "a=inf"]],
)
def test_numbers_out_of_range_are_refused_by_their_option(
    capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    code, shown = said(capsys, "simulate", "--acceptance", "a=0.5", *typed)
    assert code == 2
    assert f"argument {typed[0]}: must be" in shown


def test_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    folder = tmp_path / "lr=1" / "run"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"`RUN` must be a folder .*, got '.*lr=1/run'"):
        read_runs([str(folder)])
