"""Decides which [`MultiTaskGRPOConfig`] and which adapter a task file means."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from trl import TrlParser

from trl_mtgrpo import MultiTaskGRPOConfig

from .kinds import cure, fits, fits_setting, kind_name
from .task_file import TaskFile, TaskFileError
from .yaml_lines import Lines


# What belongs to the machine that trains; `check` runs on any.
_MACHINE = ("bf16", "fp16", "tf32", "deepspeed", "fsdp", "fsdp_config", "torch_compile", "use_cpu", "push_to_hub")


def settings_of(file: TaskFile, overrides: Sequence[str] = (), elsewhere: int | None = None) -> MultiTaskGRPOConfig:
    """
    The settings of a run.

    Args:
        file ([`TaskFile`]):
            The file; its `trainer` holds fields of the config, and its tasks may have fixed weights.
        overrides (`Sequence[str]`, *optional*):
            Further fields as on a command line, such as `--max_steps 2`. They win over the file.
        elsewhere (`int`, *optional*):
            Build the settings on this machine for so many processes of another one. The per-device batch size is then
            that of all of them together, and what only the other machine has is left out.

    Returns:
        [`MultiTaskGRPOConfig`]

    Raises:
        TaskFileError: for a field that does not exist, or weights in two places.
        ValueError: what the config itself refuses.
    """
    known = [f.name for f in fields(MultiTaskGRPOConfig) if f.init and not f.name.startswith("_")]
    for name in file.trainer:
        if name not in known:
            text = f"`{name}` must be a field of the trainer, got none of that name. {_hint(name, known)}"
            raise _error(file, name, text)
    _check_kinds(file, file.trainer, MultiTaskGRPOConfig, "trainer")
    kinds: Any = [MultiTaskGRPOConfig]
    parser = TrlParser(kinds, prog="mtgrpo", usage=argparse.SUPPRESS, allow_abbrev=False, add_help=False)
    parser.set_defaults_with_config(**{**file.trainer, **_weights(file)})
    try:
        parsed, unknown = parser.parse_known_args(list(overrides))
    except SystemExit:  # argparse has said what is wrong on the error stream
        raise ValueError("a setting could not be read, see the message above. Correct its value.") from None
    if unknown:
        text = f"`{unknown[0]}` must be a field of the trainer, got none of that name."
        raise ValueError(f"{text} {_hint(unknown[0].lstrip('-').partition('=')[0], known)}")
    given = vars(parsed)
    if elsewhere is None:
        return _built({name: value for name, value in given.items() if name in known})
    given |= {name: MultiTaskGRPOConfig.__dataclass_fields__[name].default for name in _MACHINE}
    # Weights are looked at with the tasks; one that is wrong must not hide the rest of the settings.
    given |= {"use_cpu": True, "bf16": False, "fixed_task_weights": None}
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        given[name] *= elsewhere
    return _built({name: value for name, value in given.items() if name in known})


def _built(given: dict[str, Any]) -> MultiTaskGRPOConfig:
    try:
        return MultiTaskGRPOConfig(**given)
    except TypeError as error:  # the host computes with what it was given
        raise ValueError(
            f"`trainer` must hold settings that can be computed with, got TypeError: {error}. Look for one that is "
            "empty, or leave it out."
        ) from error


def _check_kinds(file: TaskFile, values: dict[str, Any], kind: type[Any], owner: str, fit: Any = fits_setting) -> None:
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not fit(value, hints[name]):
            text = f"`{name}` of `{owner}` must be {kind_name(hints[name])}, got {value!r:.80}. "
            line = values.line_of(name) if isinstance(values, Lines) else 0
            raise TaskFileError(f"{file.path.name}, line {line}: {text}{cure(value, hints[name])}")


def adapter_of(file: TaskFile) -> Any:
    """
    The LoRA adapter of a run.

    Args:
        file ([`TaskFile`]):
            The file; its `peft` holds fields of `LoraConfig`.

    Returns:
        `peft.LoraConfig` or `None`: `None` without such an entry.

    Raises:
        ValueError: for a field that does not exist.
        ImportError: when peft is not installed.
    """
    if file.peft is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError(
            "`peft` must be installed for a task file with an adapter, got no module of that name. Install it with "
            "`pip install trl_mtgrpo[peft]`."
        ) from error
    known = [f.name for f in fields(LoraConfig) if f.init]
    for name in file.peft:
        if name not in known:
            raise ValueError(
                f"{file.path.name}: `{name}` must be a field of `peft`, got none of that name. {_hint(name, known)}"
            )
    _check_kinds(file, file.peft, LoraConfig, "peft", fits)
    return LoraConfig(**{"task_type": "CAUSAL_LM", **file.peft})


def model_of(file: TaskFile) -> str:
    """Name or folder of the model; a path that starts with a dot is taken from the task file's folder."""
    return file.beside(file.model) if file.model.startswith(("./", "../")) else file.model


def _weights(file: TaskFile) -> dict[str, Any]:
    """Settings that fixed weights of tasks stand for."""
    if not file.weights:
        return {}
    for name, allowed in (("fixed_task_weights", (None,)), ("task_weighting", (None, "fixed"))):
        if file.trainer.get(name) not in allowed:
            raise _error(
                file,
                name,
                f"`{name}` must be left out where tasks have a `weight`, got {file.trainer[name]!r}. Fix the weights "
                "in "
                "one place.",
            )
    return {"task_weighting": "fixed", "fixed_task_weights": file.weights}


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean `{close[0]}`?" if close else "Look for it in the documentation of that class."


def _error(file: TaskFile, name: str, text: str) -> TaskFileError:
    line = file.trainer.line_of(name) if isinstance(file.trainer, Lines) else 0
    return TaskFileError(f"{file.path.name}, line {line}: {text}")
