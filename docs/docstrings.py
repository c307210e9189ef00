"""
Reads the package's docstrings for the site: a griffe extension that `mkdocs.yml` names.

They are in the form of the Hugging Face libraries. The parser of mkdocstrings takes Google's, which differs in the
types of arguments, in links and in the headings between the fields of a config.
"""

import re
from typing import Any

import griffe

import trl_mtgrpo


_PARAMETERS = re.compile(r"^(?:Args|Parameters):$")
_HEADING = re.compile(r"^    > (.+)$")
_TYPED = re.compile(r"^    (\*{0,2}\w+(?:, \w+)*) \((.+)\):$")
_LINK = re.compile(r"\[`~?([\w.]+)`\](?![(\[])")


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """
        Called for every object of the package.

        Args:
            obj (`griffe.Object`):
                A module, class, function or attribute.
            **kwargs:
                What else griffe passes.
        """
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """
    A docstring as the parser takes it.

    Args:
        text (`str`):
            As it stands in the code.

    Returns:
        `str`
    """
    lines: list[str] = []
    inside = code = False
    for line in text.split("\n"):
        if line.strip().startswith("```"):
            code = not code
        if code:
            lines.append(line)
            continue
        if line and not line.startswith(" "):
            inside = bool(_PARAMETERS.match(line))
        if inside and (heading := _HEADING.match(line)):
            # A heading begins a section of its own; a section without a field before it is left out.
            if lines and _PARAMETERS.match(lines[-1]):
                lines.pop()
            lines += ["", f"Parameters: {heading.group(1)}"]
        elif inside and (typed := _TYPED.match(line)):
            lines.append(f"    {typed.group(1)} ({plain_type(typed.group(2))}):")
        elif inside and not line.strip() and lines and lines[-1].startswith("Parameters:"):
            continue
        else:
            lines.append(_LINK.sub(linked, line))
    return "\n".join(lines)


def plain_type(text: str) -> str:
    """
    The type of an argument without its markup; defaults are in the signature.

    Args:
        text (`str`):
            Such as "`str`, *optional*, defaults to `"batch"`".

    Returns:
        `str`
    """
    text = re.sub(r", \*optional\*.*$", "", text)
    return re.sub(r"[\[\]`~]", "", text) if not re.search(r"`\w+\[", text) else re.sub(r"[`~]", "", text)


def linked(match: re.Match[str]) -> str:
    """
    A name in brackets as a link to its entry, or as code where it has none.

    Args:
        match (`re.Match`):
            The name as it stands in the code.

    Returns:
        `str`
    """
    name, _, member = match.group(1).partition(".")
    public = name in trl_mtgrpo.__all__
    return f"[`{match.group(1)}`][trl_mtgrpo.{match.group(1)}]" if public and not member else f"`{match.group(1)}`"
