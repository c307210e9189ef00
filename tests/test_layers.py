"""What each layer may import: the numbers need numpy alone, and the host is known in one layer only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trl_mtgrpo


PACKAGE = Path(trl_mtgrpo.__file__).parent
HEAVY = ("torch", "trl", "transformers", "datasets", "accelerate", "reasoning_gym", "pandas")

# Modules that need numpy and the standard library, also where nothing else is installed.
NUMBERS = ("weighting", "sampling", "signals", "accounting", "rollouts", "state", "checkpoints", "resuming")
# What the modules of each further layer may import beside those above it.
LAYERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "data": (
        (
            "answers",
            "failures",
            "mixture",
            "parquet",
            "prompts",
            "puzzles",
            "reasoning_gym",
            "rewards",
            "surrogate",
            "task_sampler",
            "tasks",
            "time_limit",
        ),
        ("torch", "datasets", "pyarrow", "reasoning_gym"),
    ),
    "ranks": (
        ("behaviour", "collector", "distributed", "improvement", "loss_inputs", "metrics", "replay", "reporting"),
        ("torch", "datasets", "pyarrow", "reasoning_gym", "accelerate"),
    ),
}


def loaded(statement: str) -> set[str]:
    """Heavy modules that a fresh interpreter has loaded after a statement."""
    report = f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(result.stdout.split())


def test_the_check_can_fail() -> None:
    assert "torch" in loaded("import torch")


def test_importing_the_package_and_its_numbers_loads_nothing_heavy() -> None:
    modules = "; ".join(f"import trl_mtgrpo.{module}" for module in NUMBERS)
    assert loaded(f"import trl_mtgrpo; {modules}") == set()


def test_public_numpy_names_load_nothing_heavy() -> None:
    names = "ImprovementAwareWeighting, RatioPreservingSampler, simulate"
    assert loaded(f"from trl_mtgrpo import {names}") == set()


def test_all_public_names_can_be_imported() -> None:
    for name in trl_mtgrpo.__all__:
        assert getattr(trl_mtgrpo, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = trl_mtgrpo.nothing


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, this one left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def local_imports(path: Path) -> set[str]:
    """First-level modules of this package that a file of its first level imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found.add(node.module.split(".")[0])
    return found


def files(module: str) -> list[Path]:
    folder = PACKAGE / module
    return sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{module}.py"]


@pytest.mark.parametrize("module", NUMBERS)
def test_a_module_of_numbers_imports_numpy_and_the_standard_library(module: str) -> None:
    for path in files(module):
        assert imports(path) - set(sys.stdlib_module_names) <= {"numpy"}, path


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    modules, allowed = LAYERS[layer]
    for module in modules:
        for path in files(module):
            assert imports(path) - set(sys.stdlib_module_names) <= {"numpy", *allowed}, path


def test_a_layer_uses_only_modules_of_its_own_line_or_above() -> None:
    above = set(NUMBERS)
    for module in NUMBERS:
        if (PACKAGE / f"{module}.py").exists():
            assert local_imports(PACKAGE / f"{module}.py") <= above, module
    for modules, _ in LAYERS.values():
        above |= set(modules)
        for module in modules:
            assert local_imports(PACKAGE / f"{module}.py") <= above, module


def test_collectives_and_configs_stay_in_their_layers() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "torch.distributed" not in text, path
        assert "pickle" not in imports(path), path
        assert "torch.load" not in text, path
