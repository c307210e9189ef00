"""What each room may import, read off the folders: the numbers need numpy alone, TRL is known in one room only."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import trl_mtgrpo


PACKAGE = Path(trl_mtgrpo.__file__).parent
HEAVY = ("torch", "trl", "transformers", "datasets", "accelerate", "reasoning_gym", "pandas")

# Each room, the rooms it may import, and the packages it may import beside numpy and the standard library.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "weighting": ((), ()),
    "sampling": ((), ()),
    "tasks": ((), ("torch", "datasets", "pyarrow", "reasoning_gym", "dspy")),
    "rollouts": (("weighting", "sampling", "tasks"), ()),
    "improvement": (("weighting", "sampling", "tasks", "rollouts"), ("torch",)),
    "state": (("weighting", "sampling", "tasks", "rollouts"), ("safetensors",)),
    "report": (
        ("weighting", "sampling", "tasks", "rollouts", "improvement", "state"),
        ("IPython", "jinja2", "matplotlib", "rich", "tqdm", "transformers"),
    ),
    "host": (
        ("weighting", "sampling", "tasks", "rollouts", "improvement", "state", "report"),
        ("torch", "datasets", "accelerate", "transformers", "trl"),
    ),
    "commands": (
        ("weighting", "sampling", "tasks", "rollouts", "improvement", "state", "report", "host"),
        ("datasets", "transformers", "trl", "yaml", "pyarrow", "peft", "trl_mtgrpo"),
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
    modules = "; ".join(f"import trl_mtgrpo.{room}" for room in ("weighting", "sampling", "rollouts"))
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


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imported(path: Path) -> tuple[set[str], set[str]]:
    """Packages, and rooms of this package, that a file imports anywhere."""
    packages, rooms = set(), set()
    parents = list(path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            target = [*parents[: len(parents) - node.level + 1], *(node.module or "").split(".")]
            rooms.add(next(part for part in target if part))
    return packages - set(sys.stdlib_module_names), rooms


def test_every_module_is_in_a_room() -> None:
    top = {path.name for path in PACKAGE.glob("*") if path.name != "__pycache__"}
    assert top == {*ROOMS, "__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_and_packages_that_it_may(room: str) -> None:
    rooms, allowed = ROOMS[room]
    for path in (PACKAGE / room).rglob("*.py"):
        packages, local = imported(path)
        assert packages <= {"numpy", *allowed}, path
        assert local - {room} <= set(rooms), path


def test_rooms_are_listed_after_those_that_they_import() -> None:
    seen: set[str] = set()
    for room, (rooms, _) in ROOMS.items():
        assert set(rooms) <= seen, room
        seen.add(room)


def test_collectives_and_unsafe_loading_stay_in_their_places() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert "torch.distributed" not in text or path.name == "distributed.py", path
        assert "pickle" not in imported(path)[0], path
        assert "torch.load" not in text, path


@pytest.mark.parametrize("module", sorted(trl_mtgrpo._MOVED))
def test_a_module_of_version_0_1_says_where_it_went(module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="must be imported from where it is now: use `"):
        importlib.import_module(f"trl_mtgrpo.{module}")
    assert importlib.import_module(f"trl_mtgrpo.{trl_mtgrpo._MOVED[module]}")


def test_a_name_that_moved_between_rooms_says_where_it_went() -> None:
    with pytest.raises(ImportError, match=r"`trl_mtgrpo.sampling.simulate` is in `trl_mtgrpo.rollouts` now"):
        from trl_mtgrpo.sampling import simulate  # noqa: F401
