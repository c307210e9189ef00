"""The documentation: links, public names, and every Python block run as it stands."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

import trl_mtgrpo


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
EVERYTHING = [*PAGES, *(path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.is_file())]

# Blocks that need more than a test machine: math-verify, and the example of a docstring.
NOT_RUN = {"tasks-and-rewards.md": 1, "api.md": 1, "programs.md": 1}

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")

sys.path.insert(0, str(DOCS))

import make_api  # noqa: E402


def blocks(page: Path, info: str) -> list[str]:
    return [code for found, code in _FENCE.findall(page.read_text(encoding="utf-8")) if found.strip() == info]


def anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", EVERYTHING, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target) if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_public_name_has_an_entry() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert set(trl_mtgrpo.__all__) - {"__version__"} == set(re.findall(r"^### (\w+)$", text, re.MULTILINE))


def test_the_api_page_is_what_the_docstrings_say() -> None:
    assert (DOCS / "api.md").read_text(encoding="utf-8") == make_api.render(), "run `python docs/make_api.py`"


def test_every_setting_is_explained_somewhere_besides_the_api() -> None:
    own = set(trl_mtgrpo.MultiTaskGRPOConfig.__dataclass_fields__) - set(
        trl_mtgrpo.MultiTaskGRPOConfig.__mro__[1].__dataclass_fields__
    )
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "api.md")
    shown = {name for name in own if not name.startswith("_")}
    assert not {name for name in shown if f"`{name}" not in text}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert set(re.findall(r"[\w-]+\.md", navigation)) == {page.name for page in PAGES}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the names of Hub models lead to a tiny model."""
    for name in ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-3B"):
        tiny_model().save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in EVERYTHING if blocks(page, "python")], ids=lambda page: page.name)
@pytest.mark.usefixtures("desk")
def test_every_python_block_runs(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": f"docs.{page.stem}"}
    if page.name == "checkpointing.md":  # speaks of a run that the reader has
        namespace["trainer"] = interrupted_run()
    for number, code in enumerate(blocks(page, "python"), start=1):
        run(code, f"{page.name}, block {number}", namespace)


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, name, "exec", dont_inherit=True), namespace)


def interrupted_run() -> trl_mtgrpo.MultiTaskGRPOTrainer:
    """A trainer whose `out` holds one checkpoint, under the name that the page uses."""
    trainers = [
        trl_mtgrpo.MultiTaskGRPOTrainer(
            model=tiny_model(),
            processing_class=tiny_tokenizer(),
            tasks=three_tasks(),
            args=tiny_config("out", max_steps=steps, save_strategy="steps", save_steps=1),
        )
        for steps in (1, 2)
    ]
    trainers[0].train()
    Path("out/checkpoint-1").rename("out/checkpoint-400")
    return trainers[1]


def test_blocks_that_are_not_run_are_counted() -> None:
    counted = {page.name: len(blocks(page, "python notest")) for page in EVERYTHING}
    assert {name: count for name, count in counted.items() if count} == NOT_RUN
    assert not [page.name for page in EVERYTHING if blocks(page, "py") or blocks(page, "python3")]


@pytest.mark.usefixtures("desk")
def test_the_migrated_script_of_the_docs_trains() -> None:
    page = DOCS / "migrate.md"
    plain, diff = blocks(page, "python")[0], blocks(page, "diff")[0].splitlines()
    assert 0 < sum(line.startswith(("+", "-")) for line in diff) < 10
    letters = Dataset.from_dict({"prompt": ["a, b, "] * 16, "answer": ["c"] * 16})
    namespace: dict[str, Any] = {"letters": letters, "letter_reward": wrong}
    run(patched(plain, diff), "migrated script", namespace)
    assert isinstance(namespace["trainer"], trl_mtgrpo.MultiTaskGRPOTrainer)
    assert namespace["trainer"].state.global_step == 1


def wrong(completions: list[str], **kwargs: Any) -> list[float]:
    return [0.0] * len(completions)


def patched(script: str, diff: list[str]) -> str:
    """The script with removed lines replaced by the added lines that follow them."""
    lines, position = script.splitlines(), 0
    for change in diff:
        if change.startswith("-"):
            position = lines.index(change[1:])
            del lines[position]
        elif change.startswith("+"):
            lines.insert(position, change[1:])
            position += 1
    return "\n".join(lines)


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("side", ["-", "+"])
def test_both_sides_of_the_diff_in_the_readme_train(side: str) -> None:
    diff = blocks(ROOT / "README.md", "diff")[0].splitlines()
    assert 0 < sum(line.startswith(("+", "-")) for line in diff) < 10
    script = "\n".join(line[1:] for line in diff if not line or line[0] in (" ", side))
    # The model and the batch of this test; the diff says nothing of either.
    script = script.replace('output_dir="out"', 'output_dir="out", **small')
    small = {"use_cpu": True, "per_device_train_batch_size": 16, "max_completion_length": 6, "max_steps": 1}
    data = Dataset.from_dict({"prompt": ["a, b, "] * 16})
    namespace: dict[str, Any] = {"math_train": data, "code_train": data, "math_reward": wrong, "code_reward": wrong}
    namespace |= {"concatenate_datasets": concatenate_datasets, "small": small}
    run(script, "README.md", namespace)
    assert isinstance(namespace["trainer"], trl_mtgrpo.MultiTaskGRPOTrainer) == (side == "+")
    assert namespace["trainer"].state.global_step == 1


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "quickstart.html").is_file()
