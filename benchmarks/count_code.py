"""Lines of code of the package without docstrings, comments and blanks: `python benchmarks/count_code.py [FOLDER]`."""

import ast
import io
import sys
import tokenize
from pathlib import Path


def lines_of_code(text: str) -> int:
    """Lines that hold a token of code."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "trl_mtgrpo")
    rooms: dict[str, int] = {}
    for path in sorted(root.rglob("*.py")):
        room = path.relative_to(root).parts[0]
        rooms[room] = rooms.get(room, 0) + lines_of_code(path.read_text(encoding="utf-8"))
    for room, count in rooms.items():
        print(f"{count:6,}  {room}")
    print(f"{sum(rooms.values()):6,}  all")


if __name__ == "__main__":
    main()
