"""What the package says of itself, and that it says it once."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trl_mtgrpo
from trl_mtgrpo.commands.cli import main


ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_setup_py_holds_nothing() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [(call.func.id, call.args, call.keywords) for call in calls] == [("setup", [], [])]


def test_the_version_is_the_packages_own() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT


def test_only_the_python_of_the_tests_is_claimed() -> None:
    versions = [line for line in PROJECT["classifiers"] if line.startswith("Programming Language")]
    assert versions == ["Programming Language :: Python :: 3.11"]
    assert not [line for line in PROJECT["classifiers"] if line.startswith("License")]
    assert PROJECT["license"] == "Apache-2.0"


def test_the_console_script_is_the_module_that_python_runs() -> None:
    module, _, function = PROJECT["scripts"]["mtgrpo"].partition(":")
    assert getattr(__import__(module, fromlist=[function]), function) is main
    shown = subprocess.run(
        [sys.executable, "-m", "trl_mtgrpo", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout == f"trl_mtgrpo {trl_mtgrpo.__version__}\n"


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in ("train", "simulate", "report", "check", "import"))


@pytest.mark.parametrize("arguments", [["simulate", "--acceptance", "a=0.5", "--max_steps", "2"], ["import"], []])
def test_what_cannot_be_understood_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_an_output_that_cannot_be_written_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trainer_state.json").write_text(
        '{"global_step": 1, "log_history": [{"step": 1, "tasks/a/weight": 1.0, "sampling/generated_groups": 4.0}]}'
    )
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "file" / "page")]) == 2
    assert "`--output` must be a folder that can be written, got" in capsys.readouterr().err
