"""The drawing of the rooms is that of the imports, and the table for contributors names what is there."""

import re
import sys
from pathlib import Path


ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import make_architecture  # noqa: E402


def paths_of(page: str) -> list[str]:
    """Files of the package that a page names."""
    text = (ROOT / page).read_text(encoding="utf-8")
    rooms = "|".join(make_architecture.rooms())
    return re.findall(rf"`(?:trl_mtgrpo/)?((?:{rooms})/[\w/]*(?:\.py)?)`", text)


def test_the_picture_is_drawn_from_the_imports_of_now() -> None:
    assert make_architecture.PICTURE.read_text(encoding="utf-8") == make_architecture.draw()


def test_imports_between_rooms_go_one_way() -> None:
    edges = {room: make_architecture.imports(room) for room in make_architecture.rooms()}
    assert sorted(room for row in make_architecture.levels(edges) for room in row) == make_architecture.rooms()


def test_the_page_and_the_table_for_contributors_name_files_that_exist() -> None:
    for page, least in (("docs/architecture.md", 12), ("CONTRIBUTING.md", 10)):
        named = paths_of(page)
        assert len(named) >= least
        for name in named:
            assert (ROOT / "trl_mtgrpo" / name).exists(), f"{page} names {name}"
