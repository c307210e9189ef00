"""The documentation: links, words, public names, and every Python block run as it stands."""

import contextlib
import inspect
import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer

import trl_mtgrpo


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "data")
FRONT = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.is_file()]
EVERYTHING = [*PAGES, *FRONT]

# Made from docstrings, or written for those who work on the code: neither short nor free of its words.
FOR_DEVELOPERS = {"api.md", "architecture.md", "checkpoint-file.md", "decisions.md"}
USER_PAGES = [page for page in PAGES if page.parent == DOCS and page.name not in FOR_DEVELOPERS]

# Blocks that need more than a test machine: math-verify, and a model with data of the reader's.
NOT_RUN = {"tasks-and-rewards.md": 1, "your-own-dataset.md": 1, "programs.md": 1}

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")

sys.path.insert(0, str(DOCS))

import docstrings  # noqa: E402
import make_pictures  # noqa: E402


def blocks(page: Path, info: str) -> list[str]:
    return [code for found, code in _FENCE.findall(page.read_text(encoding="utf-8")) if found.strip() == info]


def anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    entries = re.findall(r"^::: (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings} | {*entries}


def prose(page: Path) -> str:
    """A page without its code, its links' addresses and its comments."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    text = re.sub(r"^ {4}\S.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"<!--.*?-->|`[^`\n]*`|\\\(.*?\\\)|\\\[.*?\\\]", " ", text, flags=re.DOTALL)
    return re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)


def glossary() -> set[str]:
    """The words that the page of concepts defines, which are bold there at the beginning of a definition."""
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    definitions = [line for line in text.splitlines() if line.startswith("- **")]
    found = {word.lower() for line in definitions for word in re.findall(r"\*\*([\w ]+)\*\*", line)}
    return found | {"held"}


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


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.parametrize("page", USER_PAGES, ids=lambda page: page.name)
def test_a_page_for_users_has_at_most_900_words(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", [*USER_PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_intervals_stand_in_the_table_of_results_only(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "results.md":
        text = re.sub(r"^\| `.*$", "", text, flags=re.MULTILINE)
        assert text.count("±") == 1  # what the sign means, above the table
    else:
        assert "±" not in text


def test_the_glossary_has_the_words_that_pages_must_not_use_before_it() -> None:
    assert {"group", "informative", "share", "refill", "surplus", "filler", "ledger", "bundle", "guard"} <= glossary()


@pytest.mark.parametrize("page", [*USER_PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_no_word_of_the_glossary_is_used_before_the_concepts_are_linked(page: Path) -> None:
    if page.name == "concepts.md":
        return
    before = prose(page).split("concepts.md", 1)[0].lower()
    # Words that mean what they mean everywhere: the page's subject may be named before the definition.
    ordinary = {"accuracy", "worst task", "improvement", "failed", "solved", "round", "checkpoint state"}
    title = re.compile(r"^# .*$", re.MULTILINE)
    words = {word for word in glossary() - ordinary if re.search(rf"\b{word}s?\b", title.sub("", before))}
    assert not words


def test_every_public_name_has_an_entry_and_none_has_two() -> None:
    entries = re.findall(r"^::: trl_mtgrpo\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(entries) == sorted(set(trl_mtgrpo.__all__) - {"__version__"})


def test_docstrings_are_read_with_their_headings_types_and_links() -> None:
    text = docstrings.rewritten(inspect.getdoc(trl_mtgrpo.MultiTaskGRPOConfig) or "")
    assert "\nParameters: Task weights\n" in text
    assert "[`PlateauGuard`][trl_mtgrpo.PlateauGuard]" in text
    assert docstrings.plain_type('`str` or `float`, *optional*, defaults to `"adaptive"`') == "str or float"
    assert docstrings.plain_type("`dict[str, float]`, *optional*") == "dict[str, float]"


def test_every_setting_is_explained_somewhere_besides_the_api() -> None:
    own = set(trl_mtgrpo.MultiTaskGRPOConfig.__dataclass_fields__) - set(
        trl_mtgrpo.MultiTaskGRPOConfig.__mro__[1].__dataclass_fields__
    )
    text = "".join(page.read_text(encoding="utf-8") for page in USER_PAGES)
    shown = {name for name in own if not name.startswith("_")}
    assert not {name for name in shown if f"`{name}" not in text}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert set(re.findall(r"[\w/-]+\.md", navigation)) == {page.relative_to(DOCS).as_posix() for page in PAGES}


def test_the_pictures_are_those_of_the_script_and_of_the_runs() -> None:
    found = json.loads(make_pictures.CURVES.read_text(encoding="utf-8"))
    if make_pictures.read_runs("three"):
        assert found == make_pictures.collect()
    assert (DOCS / "images" / "worst_task.svg").read_text(encoding="utf-8") == make_pictures.worst_task(found)
    assert (DOCS / "images" / "concepts.svg").read_text(encoding="utf-8") == make_pictures.concepts()
    assert (DOCS / "images" / "program.svg").read_text(encoding="utf-8") == make_pictures.program()
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    for arm, name in (("grpo-b12", "GRPO"), ("dapo-b12", "DAPO"), ("mt_grpo-b12", "MT-GRPO")):
        assert f"{name} {100 * found[arm]['mean'][-1]:.0f} %" in shown


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the names of Hub models lead to a tiny model."""
    for name in ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"):
        model = tiny_model()
        model.config.max_position_embeddings = 1024  # room for answers of the default length
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer(chat=name.endswith("Instruct")).save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WITH_CODE = [page for page in EVERYTHING if blocks(page, "python") and page.name != "README.md"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
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
    namespace: dict[str, Any] = {"letters": letters, "letter_reward": letter_reward}
    run(patched(plain, diff), "migrated script", namespace)
    assert isinstance(namespace["trainer"], trl_mtgrpo.MultiTaskGRPOTrainer)
    assert namespace["trainer"].state.global_step == 1


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


def letter_reward(completions: list[Any], **kwargs: Any) -> list[float]:
    """Right for about half of random completions, as text or as messages."""
    texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
    return [float(any(c.isdigit() for c in text)) for text in texts]


@pytest.mark.usefixtures("desk")
def test_the_script_of_the_readme_trains_eight_prompts_a_step_and_warns_of_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = blocks(ROOT / "README.md", "python")[0]
    assert len([line for line in script.splitlines() if line.strip()]) <= 9
    # The machine of this test and one short step; the script stays as it is otherwise.
    assert '"out", ' in script
    script = script.replace('"out", ', '"out", **small, ')
    small = {"use_cpu": True, "bf16": False, "max_steps": 1, "report_to": "none"}
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": f"{i}?"}] for i in range(16)]})
    namespace: dict[str, Any] = {"math_train": data, "code_train": data, "small": small}
    namespace |= {"math_reward": letter_reward, "code_reward": letter_reward}
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        run(script, "README.md", namespace)
    trainer = namespace["trainer"]
    assert trainer.args.generation_batch_size // trainer.args.num_generations >= 8
    assert trainer.state.global_step == 1
    assert sum(trainer.multi_task_state.groups.trained) >= 8
    assert not [str(w.message) for w in caught if not issubclass(w.category, FutureWarning | DeprecationWarning)]
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    page = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for name in set(trl_mtgrpo.__all__) - {"__version__"}:
        assert f'id="trl_mtgrpo.{name}"' in page
