"""Reads YAML so that a mistake can be shown by its line."""

import re
from pathlib import Path
from typing import Any

import yaml


class Lines(dict[str, Any]):
    """
    A mapping of a YAML file that knows where its entries stand.

    Args:
        line (`int`):
            Line of its first entry, counted from 1.
        lines (`dict[str, int]`):
            Line of each entry.
    """

    line: int = 0
    lines: dict[str, int]

    def line_of(self, name: str) -> int:
        """The line of an entry, that of the mapping where the entry is missing."""
        return self.lines.get(name, self.line)


class _Loader(yaml.SafeLoader):
    def construct_lines(self, node: yaml.MappingNode) -> Lines:
        self.flatten_mapping(node)
        values = Lines()
        values.line, values.lines = node.start_mark.line + 1, {}
        for key_node, value_node in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ValueError(f"line {line}: a name must be text, got {key!r}. Put it in quotes.")
            if key in values:
                raise ValueError(
                    f"line {line}: `{key}` must be given once, got it again after line {values.lines[key]}. Remove "
                    "one of the two."
                )
            values[key] = self.construct_object(value_node, deep=True)
            values.lines[key] = line
        return values


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_lines)
# YAML 1.1 takes `1e-6` for text, because it has no point.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


def read_yaml(path: Path) -> Lines:
    """
    Reads a YAML file whose top level is a mapping.

    Args:
        path (`Path`):
            The file.

    Returns:
        [`Lines`]

    Raises:
        ValueError: when it cannot be read, is no mapping, or has a name twice in one mapping.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"the task file must be a file that can be read, got '{path}' ({error.strerror}). Check the path."
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path.name} must be YAML, got {' '.join(str(error).split())}. Correct that place."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be text in UTF-8, got {error}. Save it in that encoding.") from None
    except ValueError as error:
        raise ValueError(f"{path.name}, {error}") from None
    if not isinstance(values, Lines):
        kind = "an empty file" if values is None else type(values).__name__
        raise ValueError(f"{path.name} must be a mapping with `model` and `tasks`, got {kind}. Begin with `model:`.")
    return values


def load_yaml(text: str) -> Any:
    """
    Parses YAML of plain values; mappings become [`Lines`] and `1e-6` is a number.

    Args:
        text (`str`):
            The text.

    Returns:
        `Any`: plain values.
    """
    return yaml.load(text, _Loader)
