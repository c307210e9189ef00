"""The version of a release is the same wherever it is told."""

import re
from pathlib import Path

import trl_mtgrpo


ROOT = Path(__file__).parents[1]


def test_the_changelog_tells_of_the_version_after_what_is_not_released() -> None:
    headings = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", trl_mtgrpo.__version__]


def test_the_citation_names_the_version() -> None:
    told = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert told is not None
    assert told.group(1) == trl_mtgrpo.__version__
