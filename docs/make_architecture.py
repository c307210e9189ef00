"""Draws docs/images/architecture.svg from the imports between rooms: `python docs/make_architecture.py`."""

import ast
import re
from html import escape
from pathlib import Path


ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trl_mtgrpo"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"

WIDTH, BOX_HEIGHT, GAP, MARGIN = 940, 62, 46, 20


def rooms() -> list[str]:
    """Folders of the package that hold modules."""
    return sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


def imports(room: str) -> set[str]:
    """Rooms that the modules of a room import."""
    found = set()
    for path in (PACKAGE / room).rglob("*.py"):
        parents = list(path.relative_to(PACKAGE).parent.parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                target = [*parents[: len(parents) - node.level + 1], *(node.module or "").split(".")]
                found.add(next((part for part in target if part), ""))
    return found & set(rooms()) - {room}


def levels(edges: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by the longest chain of imports below them; raises where imports go in a circle."""
    placed: dict[str, int] = {}
    while len(placed) < len(edges):
        ready = [room for room in edges if room not in placed and edges[room] <= set(placed)]
        if not ready:
            raise ValueError(f"imports go in a circle among {sorted(set(edges) - set(placed))}")
        for room in ready:
            placed[room] = max((placed[other] + 1 for other in edges[room]), default=0)
    return [[room for room in edges if placed[room] == level] for level in range(max(placed.values()) + 1)]


def direct(edges: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Edges that no chain of others says already."""

    def below(room: str) -> set[str]:
        return edges[room].union(*(below(other) for other in edges[room]))

    return {
        (room, other)
        for room in edges
        for other in edges[room]
        if not any(other in below(between) for between in edges[room] - {other})
    }


def summary(room: str) -> str:
    """First sentence of the room's description."""
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    return re.split(r"[.:](?:\s|$)", " ".join(text.split()))[0] + "."


def lines_of(text: str, width: int) -> list[str]:
    """`text` in at most two lines of about `width` characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines if len(lines) <= 2 else [lines[0], f"{lines[1]} ..."]


def draw() -> str:
    """The picture as SVG: what imports stands above what it imports."""
    edges = {room: imports(room) for room in rooms()}
    rows = levels(edges)[::-1]
    height = 2 * MARGIN + len(rows) * BOX_HEIGHT + (len(rows) - 1) * GAP
    centre, boxes = {}, []
    for i, row in enumerate(rows):
        top = MARGIN + i * (BOX_HEIGHT + GAP)
        width = (WIDTH - 2 * MARGIN - (len(row) - 1) * 24) / len(row) if len(row) > 1 else 380.0
        left = (WIDTH - len(row) * width - (len(row) - 1) * 24) / 2
        for j, room in enumerate(row):
            x = left + j * (width + 24)
            centre[room] = (x + width / 2, top)
            text = [
                f'<text x="{x + width / 2:.0f}" y="{top + 38 + 14 * n}" class="small">{escape(line)}</text>'
                for n, line in enumerate(lines_of(summary(room), int(width / 6.4)))
            ]
            boxes += [
                f'<rect x="{x:.0f}" y="{top}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="6"/>',
                f'<text x="{x + width / 2:.0f}" y="{top + 20}" class="name">{room}/</text>',
                *text,
            ]
    arrows = [
        f'<line x1="{centre[room][0]:.0f}" y1="{centre[room][1] + BOX_HEIGHT}" x2="{centre[other][0]:.0f}" '
        f'y2="{centre[other][1] - 5}"/>'
        for room, other in sorted(direct(edges))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>Rooms of the package; an arrow means that the upper one imports the lower one</title>",
            "<style>rect{fill:#f4f6fb;stroke:#4c5b8a}line{stroke:#8a93ad;marker-end:url(#tip)}"
            "text{font-family:sans-serif;text-anchor:middle;fill:#1c2233}.name{font-weight:bold;font-size:15px}"
            ".small{font-size:12px}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#8a93ad"/></marker></defs>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
