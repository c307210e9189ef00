"""What a type checker, and so an editor, knows of the public names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import trl_mtgrpo


ROOT = Path(trl_mtgrpo.__file__).parent.parent
NAMES = sorted(set(trl_mtgrpo.__all__) - {"__version__"})
# Only this package's own types are asked for: reading the host's takes a minute.
OPTIONS = """
[mypy]
python_version = 3.11
ignore_missing_imports = true
follow_imports = silent
"""
SKIPPED = ("trl", "transformers", "torch", "datasets", "accelerate", "rich", "pandas", "pyarrow", "matplotlib")


@pytest.fixture(scope="module")
def revealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mypy says of each expression."""
    folder = tmp_path_factory.mktemp("types")
    options, script = folder / "mypy.ini", folder / "use.py"
    skip = "\n".join(f"[mypy-{name}.*]\nfollow_imports = skip" for name in SKIPPED)
    options.write_text(f"{OPTIONS}\n{skip}\n")
    expressions = [*NAMES, "config.method", "config.task_weight_optimizer", "config.max_surplus_age"]
    lines = [f"from trl_mtgrpo import {', '.join(NAMES)}", "def use(config: MultiTaskGRPOConfig) -> None:"]
    script.write_text("\n".join([*lines, *(f"    reveal_type({name})" for name in expressions)]))
    command = [sys.executable, "-m", "mypy", "--config-file", options, "--cache-dir", folder / "cache", script]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    types = dict(enumerate(expressions, start=len(lines) + 1))
    return {
        types[int(line)]: kind
        for line, kind in re.findall(r'use\.py:(\d+): note: Revealed type is "(.*)"', found.stdout)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_type(name: str, revealed: dict[str, str]) -> None:
    assert re.match(r"(type\[|def |overload)", revealed[name], re.IGNORECASE), revealed[name]


def test_the_choices_of_a_setting_are_known(revealed: dict[str, str]) -> None:
    assert "'sec_dapo'" in revealed["config.method"]
    assert "'adamw'" in revealed["config.task_weight_optimizer"]
    assert revealed["config.max_surplus_age"].endswith("int")
