"""Which TRL releases the library trains on: bit-equality and contract tests in one environment per release.

    python benchmarks/trl_versions.py --versions 1.14.0 1.16.0

Environments are built once under `--cache` and kept.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


ROOT = Path(__file__).parent.parent
TESTS = ("tests/test_host_equality.py", "tests/test_contract.py")
# Asks whether the list of tested releases is up to date, which is what this script finds out.
UNASKED = "tests/test_contract.py::test_the_installed_version_is_a_tested_one"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=line")
# Installed before anything that depends on it, which would otherwise choose a build of its own.
TORCH = "torch==2.13.0"
# `requests` is imported but not declared by TRL 1.14 and older.
FURTHER = ("peft>=0.18", "pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100", "rich>=13", "requests", "pillow>=10")


class Result(NamedTuple):
    """What one release did."""

    trl: str
    transformers: str
    passed: int
    failed: int
    first_failure: str
    seconds: float

    def row(self) -> str:
        verdict = "yes" if self.passed and not self.failed else "no"
        cells = (
            self.trl,
            self.transformers,
            verdict,
            self.passed,
            self.failed,
            f"{self.seconds:.0f}",
            self.first_failure,
        )
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def declared_lowest() -> str:
    """The lower bound of TRL in `pyproject.toml`, as a full version number."""
    found = re.search(r'"trl>=([0-9.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("`pyproject.toml` must declare a lower bound of trl, got none. Write it as `trl>=1.16`.")
    bound = found.group(1)
    return bound if bound.count(".") == 2 else f"{bound}.0"


def newest() -> str:
    """The newest release on the package index."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "trl"], check=True, capture_output=True, text=True
    )
    return answer.stdout.split("(", 1)[1].split(")", 1)[0]


def environment(version: str, cache: Path) -> Path:
    """The Python of an environment with this release, built when it is not there yet."""
    folder = cache / f"trl-{version}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, TORCH], check=True)
    subprocess.run([*install, f"trl=={version}", *FURTHER], check=True)
    (folder / "complete").touch()
    return python


def examine(version: str, cache: Path) -> Result:
    """Runs the tests under one release."""
    python = environment(version, cache)
    started = time.monotonic()
    answer = subprocess.run(
        [str(python), *PYTEST, "--deselect", UNASKED, *TESTS],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    output = answer.stdout + answer.stderr
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", output)}
    failure = next((line for line in output.splitlines() if line.startswith(("E  ", "FAILED", "ERROR"))), "")
    transformers = subprocess.run(
        [str(python), "-c", "from importlib.metadata import version; print(version('transformers'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return Result(
        trl=version,
        transformers=transformers.stdout.strip(),
        passed=counts.get("passed", 0),
        failed=counts.get("failed", 0) + counts.get("error", 0),
        first_failure=failure.replace("|", "/")[:160],
        seconds=time.monotonic() - started,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--versions", nargs="+", help="releases; the lowest declared, 1.16.0 and the newest by default"
    )
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".cache" / "trl_versions", help="where environments are kept"
    )
    parser.add_argument("--output", type=Path, help="file for the Markdown table, besides printing it")
    arguments = parser.parse_args()
    versions = arguments.versions or list(dict.fromkeys([declared_lowest(), "1.16.0", newest()]))
    arguments.cache.mkdir(parents=True, exist_ok=True)
    lines = [
        "| TRL | transformers | works | passed | failed | seconds | first failure |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        print(line, flush=True)
    for version in versions:
        lines.append(examine(version, arguments.cache).row())
        print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
