"""
Finished runs of the learning benchmark: one packed file per world in the repository, new ones in `outputs/learning`.

    python benchmarks/learning_runs.py     # packs the new ones

A new run of the same world, method and seed takes the place of a packed one.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


ROOT = Path(__file__).parent.parent
PACKED = ROOT / "benchmarks" / "results"
NEW = ROOT / "outputs" / "learning"


def result_path(world: str, arm: str, seed: int) -> Path:
    """Where a run is written."""
    return NEW / world / arm.replace(":", "_") / f"seed{seed}.json"


def packed_path(world: str) -> Path:
    """Where the runs of a world are kept."""
    return PACKED / f"{world}.jsonl.gz"


def read_runs(world: str) -> list[dict[str, Any]]:
    """
    The finished runs of a world.

    Args:
        world (`str`):
            Name of the world.

    Returns:
        `list[dict[str, Any]]`: in the order of methods and seeds.
    """
    found = {_key(run): run for run in (*_packed(world), *_new(world))}
    return [found[key] for key in sorted(found)]


def is_finished(world: str, arm: str, seed: int) -> bool:
    """Whether a run is there, packed or new."""
    return any((run["arm"], run["seed"]) == (arm, seed) for run in read_runs(world))


def pack(world: str) -> int:
    """
    Puts the new runs of a world with those that are kept.

    Args:
        world (`str`):
            Name of the world.

    Returns:
        `int`: how many runs are kept.
    """
    runs = read_runs(world)
    text = "".join(json.dumps(run, separators=(",", ":")) + "\n" for run in runs)
    PACKED.mkdir(parents=True, exist_ok=True)
    # Without a time, so that equal runs make equal files.
    packed_path(world).write_bytes(gzip.compress(text.encode(), mtime=0))
    return len(runs)


def _key(run: dict[str, Any]) -> tuple[str, str]:
    return run["arm"].replace(":", "_"), f"seed{run['seed']}"


def _packed(world: str) -> Iterator[dict[str, Any]]:
    if packed_path(world).exists():
        lines = gzip.decompress(packed_path(world).read_bytes()).decode().splitlines()
        yield from (json.loads(line) for line in lines)


def _new(world: str) -> Iterator[dict[str, Any]]:
    yield from (json.loads(path.read_text(encoding="utf-8")) for path in (NEW / world).glob("*/seed*.json"))


def main() -> None:
    worlds = {path.name for path in NEW.glob("*") if path.is_dir() and path.name != "scratch"}
    for world in sorted(worlds):
        print(f"{world}: {pack(world)} runs in {packed_path(world).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
