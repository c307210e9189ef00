"""
Writes `docs/api.md` from the docstrings of every public name: `python docs/make_api.py`.

A test compares the page with what this writes, so that the two cannot drift apart.
"""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import trl_mtgrpo


PAGE = Path(__file__).with_name("api.md")

GROUPS = {
    "Training": ["MultiTaskGRPOTrainer", "MultiTaskGRPOConfig", "TaskWeightCallback"],
    "Tasks": ["Task", "ProgramFailure", "FormatFailure", "TaskMixture", "TaskAwareSampler", "reasoning_gym_task"],
    "Task weights": [
        "TaskWeighting",
        "TaskSignal",
        "WeightingState",
        "ImprovementAwareWeighting",
        "RewardOnlyWeighting",
        "SelfEvolvingCurriculum",
        "FixedWeighting",
        "PlateauGuard",
    ],
    "Sampling": ["RatioPreservingSampler", "BatchLedger", "simulate", "has_reward_variance", "has_mixed_correctness"],
}

_SECTION = re.compile(r"^(Args|Parameters|Attributes|Returns|Raises|Example):$")
_ITEM = re.compile(r"^    ([\w, ]+) \((.+)\):(.*)$")
_MORE = re.compile(r"^    (\*\*\w+):(.*)$")


def main() -> None:
    """Writes the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """The page as Markdown."""
    listed = [name for names in GROUPS.values() for name in names]
    missing = sorted(set(trl_mtgrpo.__all__) - {"__version__"} - set(listed))
    if missing:
        raise ValueError(f"`GROUPS` must list every public name, got none of {missing}. Add them to a group.")
    lines = [
        "# API",
        "",
        "Everything that `from trl_mtgrpo import ...` offers. `trl_mtgrpo.__version__` is the version. The page is "
        "written "
        "from the docstrings.",
    ]
    for group, names in GROUPS.items():
        lines += ["", f"## {group}"]
        for name in names:
            lines += ["", f"### {name}", "", *_entry(name, getattr(trl_mtgrpo, name))]
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, value: Any) -> list[str]:
    lines = [*_signature(name, value), *_described(value)]
    if inspect.isclass(value):
        for method, function in _methods(value):
            lines += ["", f"#### {name}.{method}", "", *_described(function)]
    return lines


def _signature(name: str, value: Any) -> list[str]:
    if name == "MultiTaskGRPOConfig":
        return ["`MultiTaskGRPOConfig(output_dir=None, ...)`, on top of every field of `trl.GRPOConfig`.", ""]
    if getattr(value, "_is_protocol", False):
        return ["A protocol: any object with these methods.", ""]
    parameters = [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    arguments = []
    for p in parameters:
        star = {p.VAR_KEYWORD: "**", p.VAR_POSITIONAL: "*"}.get(p.kind, "")
        default = "" if p.default is p.empty else f"={_default(p.default)}"
        arguments.append(f"{star}{p.name}{default}")
    kind = "class" if inspect.isclass(value) else "def"
    return ["```text", f"{kind} {name}({', '.join(arguments)})", "```", ""]


def _default(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 and "<" not in text and " object at" not in text else "..."


def _methods(value: type) -> list[tuple[str, Any]]:
    own = [(key, member) for key, member in vars(value).items() if not key.startswith("_") and inspect.getdoc(member)]
    fields = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    shown = [(key, member) for key, member in own if key not in fields and not isinstance(member, str | int | float)]
    inherited = ("evaluation_loop", "create_model_card", "save_state", "train", "on_step_end", "on_train_end")
    return [(key, getattr(member, "__func__", member)) for key, member in shown if key not in inherited]


def _described(value: Any) -> list[str]:
    text = inspect.cleandoc(value.__doc__ or "")
    lines: list[str] = []
    in_code = False
    section = ""
    for line in text.split("\n"):
        in_code ^= line.strip().startswith("```")
        if not in_code and (match := _SECTION.match(line)):
            section = match.group(1)
            lines += ["" if lines and lines[-1] else None, f"**{section}**", ""]  # type: ignore[list-item]
        elif section in ("Args", "Parameters", "Attributes") and not in_code:
            lines += _argument(line)
        elif section in ("Returns", "Raises") and not in_code:
            lines.append(_linked(line.strip()))
        elif section == "Example":
            lines.append(line.replace("```python", "```pycon" if ">>> " in text else "```python notest"))
        else:
            lines.append(_linked(line))
    lines = [line for line in lines if line is not None]
    return [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]


def _argument(line: str) -> list[str]:
    if match := _ITEM.match(line):
        return [f"- `{match.group(1)}` ({_linked(match.group(2))}):{_linked(match.group(3))}"]
    if match := _MORE.match(line):
        return [f"- `{match.group(1)}`:{match.group(2)}"]
    if line.strip().startswith("> "):
        return ["", f"*{line.strip()[2:]}*", ""]
    return [f"  {_linked(line.strip())}"] if line.strip() else []


def _linked(text: str) -> str:
    return re.sub(r"\[`~?([\w.]+)`\](?!\()", r"`\1`", text)


if __name__ == "__main__":
    main()
