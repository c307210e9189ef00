"""The notebooks run from top to bottom, quickly, and show what they are for."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model, tiny_tokenizer


ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
DSPY_NOTEBOOK = ROOT / "examples" / "dspy_program.ipynb"

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")


def shown_by(path: Path, model: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Outputs of all cells. The name of the Hub's model leads to a tiny one, so that nothing is downloaded."""
    tiny_model().save_pretrained(folder / model)
    tiny_tokenizer(chat=model.endswith("Instruct")).save_pretrained(folder / model)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    client = nbclient.NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(cwd=str(folder), env=dict(os.environ))
    assert time.monotonic() - started < 180
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(outputs: list[Any]) -> str:
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_by(NOTEBOOK, "Qwen/Qwen2.5-0.5B", tmp_path, monkeypatch)
    assert sum("image/png" in output.get("data", {}) for output in shown) == 4
    assert "'worst task'" in text_of(shown)
    assert "| **worst task** |" in text_of(shown)


@pytest.mark.slow
def test_the_notebook_with_a_dspy_program_trains_both_predictors_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dspy", reason="the extra [dspy] is not installed")
    text = text_of(shown_by(DSPY_NOTEBOOK, "Qwen/Qwen2.5-0.5B-Instruct", tmp_path, monkeypatch))
    assert "modules/sums.hint/groups" in text
    assert "modules/sums.answer/groups" in text
    assert "Prediction(" in text


@pytest.mark.parametrize(("path", "pictures"), [(NOTEBOOK, 4), (DSPY_NOTEBOOK, 0)])
def test_a_notebook_is_kept_with_what_it_shows_and_nothing_of_a_machine(path: Path, pictures: int) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs
    assert sum("image/png" in output.get("data", {}) for output in outputs) == pictures
    assert not [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"]
    saved = [cell.source for cell in notebook.cells]
    saved += [str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in outputs]
    # A path from the root of a machine; not the end of an address or of a path that is relative.
    assert not re.search(r"(?<![\w.:/\-])/\w+/\w", "\n".join(saved))
    assert "untrained model" in notebook.cells[0].source


@pytest.mark.parametrize(("path", "extra"), [(NOTEBOOK, "report"), (DSPY_NOTEBOOK, "dspy")])
def test_the_install_cell_names_an_extra_that_exists(path: Path, extra: str) -> None:
    source = nbformat.read(path, as_version=4).cells[1].source
    assert re.search(r"%pip install -q -e \"\.\.\[(\w+)\]\"", source).group(1) == extra
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
