"""The pages of errors: each of its texts is raised by the library and matched by a test, and none is missing."""

import ast
import functools
import re
from pathlib import Path

import pytest

import trl_mtgrpo
from trl_mtgrpo.tasks.failures import RewardFailures
from trl_mtgrpo.tasks.rewards import TaskReward
from trl_mtgrpo.tasks.rows import TaskRow


PACKAGE = Path(trl_mtgrpo.__file__).parent
ROOT = Path(__file__).parent.parent
ANY = "…"
# Called by themselves these refuse arguments in the same form; the page has one sentence for all of them.
SIMULATION = "rollouts/simulation.py"
# What says that this library is wrong, what another rank explains, and what becomes part of another message.
NEVER_SEEN = ("AssertionError", "_FailedElsewhere")
INSIDE = "an observation must"
OF_THEIR_OWN = ("weighting", "sampling", "report", "commands", "__main__.py", "__init__.py")


def template(node: ast.AST) -> str:
    """A message with a mark for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    return ANY


@functools.cache
def raised() -> dict[str, str]:
    """Messages that are raised directly, with their place."""
    messages = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        if (inside.parts[0] in OF_THEIR_OWN and path.name != "reporting.py") or inside.as_posix() == SIMULATION:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                message = template(node.exc.args[0])
                if message != ANY and ast.unparse(node.exc.func) not in NEVER_SEEN and not message.startswith(INSIDE):
                    messages[message] = f"{path.name}:{node.lineno}"
    return messages


@functools.cache
def of_rewards() -> set[str]:
    """Messages of reward functions, which are recorded before they are raised."""

    def fail(**kwargs: object) -> list[float]:
        raise KeyError("x")

    def late(**kwargs: object) -> list[float]:
        while True:
            pass

    found = set()
    for function in (fail, late, lambda **_: [], lambda **_: [float("nan")]):
        failures = RewardFailures()
        reward = TaskReward(function, "T", 0, "T/f", failures, timeout=0.05)
        reward(prompts=["p"], _task_row=[TaskRow(0, 0, {})], completions=["c"])
        found |= {failure.message for failure in failures.take()}
    return found


@functools.cache
def entries() -> list[str]:
    """First cells of the tables of messages, above the warnings."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("errors*.md"))]
    tables = [table for page in pages for table in page.split("## Warnings")[0].split("| message | ")[1:]]
    lines = [line for table in tables for line in table.split("\n\n")[0].splitlines() if line.startswith("| ")]
    return [line.split(" | ")[0].removeprefix("| ") for line in lines]


def pattern(text: str) -> re.Pattern[str]:
    """What begins like `text`, anything in place of its marks."""
    return re.compile(".*?".join(re.escape(part) for part in text.removesuffix(ANY).split(ANY)), re.DOTALL)


def test_the_page_has_entries() -> None:
    assert len(entries()) > 50


@pytest.mark.parametrize("entry", entries())
def test_an_entry_is_the_beginning_of_a_message(entry: str) -> None:
    messages = {*raised(), *of_rewards()}
    assert any(pattern(entry).match(message) for message in messages)


@pytest.mark.parametrize("message", raised())
def test_a_message_is_on_the_page(message: str) -> None:
    assert any(pattern(entry).match(message) for entry in entries()), raised()[message]


@pytest.mark.parametrize("entry", entries())
def test_a_test_matches_the_text_of_an_entry(entry: str) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    plain = re.sub(r'"\n\s*r?f?"', "", tests).replace("\\", "").replace(".*", ANY)
    words = [word for part in entry.replace(". Change", f"{ANY} Change").split(ANY) for word in [part.strip()] if word]
    windows = {" ".join(part.split()[i : i + 3]) for part in words for i in range(max(len(part.split()) - 2, 1))}
    # Names in front of a constraint are parameters of some tests, so any three words in a row will do.
    assert any(len(window) >= 8 and window in plain for window in windows)
