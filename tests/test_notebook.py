"""The notebook runs from top to bottom, quickly, and shows the report's pictures."""

import os
import re
import time
from pathlib import Path

import pytest
from tiny import tiny_model, tiny_tokenizer


ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")


def test_the_notebook_runs_and_shows_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The name of the Hub's model leads to a tiny one, so that nothing is downloaded.
    tiny_model().save_pretrained(tmp_path / "Qwen" / "Qwen2.5-0.5B")
    tiny_tokenizer().save_pretrained(tmp_path / "Qwen" / "Qwen2.5-0.5B")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    started = time.monotonic()
    client = nbclient.NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(cwd=str(tmp_path), env=dict(os.environ))
    assert time.monotonic() - started < 180
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 4
    text = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in shown)
    assert "'worst task'" in text
    assert "| **worst task** |" in text


def test_the_notebook_is_kept_with_what_it_shows_and_nothing_of_a_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"]
    saved = [cell.source for cell in notebook.cells]
    saved += [str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in outputs]
    # A path from the root of a machine; not the end of an address or of a path that is relative.
    assert not re.search(r"(?<![\w.:/\-])/\w+/\w", "\n".join(saved))
    assert "untrained model" in notebook.cells[0].source


def test_the_install_cell_names_an_extra_that_exists() -> None:
    source = nbformat.read(NOTEBOOK, as_version=4).cells[1].source
    assert re.search(r"%pip install -q -e \"\.\.\[(\w+)\]\"", source).group(1) == "report"
    assert "\nreport = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
