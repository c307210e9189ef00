"""Reads a task file: names, kinds of values and what must be there are checked, with the line of each mistake.

Every later message can then speak of a file that was understood.
"""

import difflib
import typing
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from .kinds import cure, fits, kind_name
from .task_file import (
    HubDataset,
    LocalFiles,
    PartEntry,
    Prompt,
    ReasoningGym,
    RewardEntry,
    Seeds,
    TaskEntry,
    TaskFile,
    TaskFileError,
    VerlFiles,
)
from .yaml_lines import Lines, read_yaml


Entry = TypeVar("Entry")


def read_task_file(path: Path, model: str | None = None) -> TaskFile:
    """
    Reads a task file.

    Args:
        path (`Path`):
            A YAML file.
        model (`str`, *optional*):
            Name or folder of another model than the file's.

    Returns:
        [`TaskFile`]

    Raises:
        TaskFileError: naming the line, when a name is unknown, something is missing, or a value is of the wrong kind.
    """
    try:
        values = read_yaml(path)
    except ValueError as error:
        raise TaskFileError(str(error)) from None
    if model is not None:
        values["model"] = str(Path(model).resolve()) if Path(model).exists() else model
    reader = _Reader(path.name)
    tasks = values.get("tasks")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, Lines) for task in tasks):
        raise reader.error(
            values.line_of("tasks"),
            f"`tasks` must be a list of at least one task, got {tasks!r:.80}. Begin each with `- name:`.",
        )
    entries = tuple(reader.task(task) for task in tasks)
    file = reader.entity(TaskFile, values, "the file", tasks=entries, path=path)
    for name in ("processes", "max_prompt_tokens"):
        number = getattr(file, name)
        if number is not None and number < 1:
            raise reader.error(
                values.line_of(name),
                f"`{name}` must be at least 1, got {number}. Change it, or leave it out.",
            )
    return file


@dataclass(frozen=True)
class _Reader:
    file: str

    def error(self, line: int, text: str) -> TaskFileError:
        return TaskFileError(f"{self.file}, line {line}: {text}")

    def task(self, values: Lines) -> TaskEntry:
        owner = f"task '{values.get('name')}'"
        sources = {
            "dataset": (HubDataset, "path"),
            "files": (LocalFiles, "train"),
            "reasoning_gym": (ReasoningGym, "family"),
            "verl": (VerlFiles, None),
            "seeds": (Seeds, "train"),
        }
        parts = self.parts(values, sources, owner)
        if len(parts) != 1:
            raise self.error(
                values.line,
                f"{owner} must have exactly one of {list(sources)}, got {list(parts) or 'none'}. It says where the "
                "rows "
                "come from.",
            )
        parts |= self.parts(values, {"environment": (PartEntry, "use"), "program": (PartEntry, "use")}, owner)
        if "seeds" in parts and "environment" not in parts:
            raise self.error(
                values.line_of("seeds"),
                f"`seeds` of {owner} must stand beside `environment`, got none. Name the class that makes a problem "
                "of each, as `package.module:Class`.",
            )
        if "reward" in values:
            given, line = values["reward"], values.line_of("reward")
            parts["reward"] = tuple(
                self.reward(one, line, owner) for one in (given if isinstance(given, list) else [given])
            )
        if "prompt" in values:
            parts["prompt"] = self.prompt(values["prompt"], values.line_of("prompt"), owner)
        entry = self.entity(TaskEntry, values, owner, line=values.line, **parts)
        own_reward = entry.environment is not None or isinstance(entry.source, ReasoningGym | VerlFiles)
        if not entry.reward and not own_reward:
            raise self.error(
                values.line,
                f"{owner} must have a `reward`, got none. Name one, such as `exact_match`, or "
                "`package.module:function`.",
            )
        return entry

    def parts(self, values: Lines, kinds: dict[str, tuple[type[Any], str | None]], owner: str) -> dict[str, Any]:
        """Entries that are mappings, or short for one of their fields."""
        found: dict[str, Any] = {}
        for name, (kind, short) in kinds.items():
            if name in values:
                given, line = values[name], values.line_of(name)
                if short is not None and isinstance(given, str | list | int):
                    given = _lines({short: given}, line)
                if not isinstance(given, Lines):
                    raise self.error(line, f"`{name}` of {owner} must be a mapping, got {given!r:.80}.")
                found[name] = self.entity(kind, given, f"`{name}` of {owner}")
        return found

    def reward(self, given: Any, line: int, owner: str) -> RewardEntry:
        values = _lines({"use": given}, line) if isinstance(given, str) else given
        if not isinstance(values, Lines):
            raise self.error(
                line,
                f"`reward` of {owner} must be a name or a mapping with `use`, got {given!r:.80}. Write `reward: "
                "exact_match`.",
            )
        return self.entity(RewardEntry, values, f"`reward` of {owner}")

    def prompt(self, given: Any, line: int, owner: str) -> Prompt:
        if isinstance(given, str) and given.strip():
            return given
        messages = given if isinstance(given, list) else []
        for message in messages:
            if (
                not isinstance(message, dict)
                or set(message) != {"role", "content"}
                or not all(isinstance(value, str) for value in message.values())
            ):
                messages = []
        if not messages:
            raise self.error(
                line,
                f"`prompt` of {owner} must be text or a list of `{{role: ..., content: ...}}`, got {given!r:.80}. Put "
                "columns in braces, as in '{question}'.",
            )
        return [dict(message) for message in messages]

    def entity(self, kind: type[Entry], values: Lines, owner: str, **known: Any) -> Entry:
        """One frozen value out of a mapping; `known` are fields that were read already."""
        allowed = {f.name: f for f in fields(kind) if f.metadata.get("in_file", True)}  # type: ignore[arg-type]
        for name in values:
            if name not in allowed:
                close = difflib.get_close_matches(name, allowed, n=1)
                hint = f" Did you mean `{close[0]}`?" if close else ""
                raise self.error(
                    values.line_of(name),
                    f"`{name}` must be a field of {owner}, got none of that name.{hint} Fields: {', '.join(allowed)}.",
                )
        hints = typing.get_type_hints(kind)
        arguments = {name: value for name, value in values.items() if name not in known}
        for name, value in arguments.items():
            # An int where a number is meant stays one; YAML writes 1 for 1.0.
            if not fits(value, hints[name]):
                raise self.error(
                    values.line_of(name),
                    f"`{name}` of {owner} must be {kind_name(hints[name])}, got {value!r:.80}. "
                    f"{cure(value, hints[name])}",
                )
        for name, f in allowed.items():
            if name not in values and name not in known and f.default is MISSING and f.default_factory is MISSING:
                raise self.error(values.line, f"{owner} must have `{name}`, got no such entry. Add it.")
        return kind(**arguments, **known)


def _lines(values: dict[str, Any], line: int) -> Lines:
    placed = Lines(values)
    placed.line, placed.lines = line, {}
    return placed
