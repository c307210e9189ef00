"""What a run was: method, model, settings, versions and date, written once beside its checkpoints for the report."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


RUN_FILE = "multi_task_run.json"

METHOD_NAMES = {
    "mt_grpo": "MT-GRPO",
    "grpo": "GRPO",
    "dapo": "DAPO",
    "sec_grpo": "SEC-GRPO",
    "sec_dapo": "SEC-DAPO",
}

PACKAGES = ("trl_mtgrpo", "trl", "transformers", "torch", "accelerate", "datasets", "vllm", "peft")

# The host's settings that decide about a result. Folders, names on the Hub and tokens are no part of it.
HOST_SETTINGS = (
    "num_generations",
    "generation_batch_size",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "num_iterations",
    "max_steps",
    "num_train_epochs",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "beta",
    "epsilon",
    "epsilon_high",
    "loss_type",
    "scale_rewards",
    "importance_sampling_level",
    "temperature",
    "top_p",
    "max_completion_length",
    "mask_truncated_completions",
    "bf16",
    "use_vllm",
    "seed",
)

_HOST = {entry.name for entry in fields(TrainingArguments)}


@dataclass(frozen=True)
class RunCard:
    """
    A run in a few words.

    Args:
        method (`str`):
            The setting `method`.
        model (`str`):
            The model's name.
        tasks (`tuple[str, ...]`):
            Task names in order.
        started (`str`):
            Date and time of the first start, ISO 8601 in UTC.
        settings (`dict[str, Any]`):
            Settings that decide about the result, by name: the method's, then the host's.
        versions (`dict[str, str]`):
            Versions of Python and of the packages that are installed, by name.
        run_name (`str`, *optional*):
            The name that the user gave to the run.
    """

    method: str
    model: str
    tasks: tuple[str, ...]
    started: str
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    run_name: str | None = None

    @property
    def title(self) -> str:
        """What readers know the run by."""
        return self.run_name or METHOD_NAMES.get(self.method, self.method)


def describe_run(
    names: Sequence[str],
    settings: Mapping[str, Any],
    args: TrainingArguments,
    model: Any = None,
    now: datetime | None = None,
) -> RunCard:
    """
    Describes a run that is about to start.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        settings (`dict[str, Any]`):
            The method's resolved settings by name.
        args ([`~transformers.TrainingArguments`]):
            The host's settings, of which `HOST_SETTINGS` are kept.
        model (`torch.nn.Module`, *optional*):
            The model.
        now (`datetime`, *optional*):
            When it starts; by default now.

    Returns:
        [`RunCard`]
    """
    given = getattr(args, "run_name", None)
    own = {name: value for name, value in settings.items() if name not in _HOST and name not in HOST_SETTINGS}
    host = {name: getattr(args, name, None) for name in HOST_SETTINGS}
    return RunCard(
        method=settings.get("method") or "mt_grpo",
        model=_model_name(model),
        tasks=tuple(names),
        started=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        settings={name: _plain(value) for name, value in (own | host).items() if value is not None},
        versions=_versions(),
        # The host fills in the output folder where no name was given.
        run_name=str(given) if given and str(given) != str(args.output_dir) else None,
    )


def write_run_card(folder: Path, card: RunCard) -> None:
    """
    Writes the card of a run.

    Args:
        folder (`Path`):
            Its output folder; it is made when it does not exist.
        card ([`RunCard`]):
            The card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_run_card(folder: Path) -> RunCard | None:
    """
    Reads the card of a run.

    Args:
        folder (`Path`):
            Where it was written.

    Returns:
        [`RunCard`], or `None` where there is none that can be read: a report shows the rest without it.
    """
    try:
        data = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        return RunCard(**(data | {"tasks": tuple(data["tasks"])}))
    except (OSError, ValueError, TypeError, KeyError):
        return None


class RunCardCallback(TrainerCallback):
    """
    Writes the card of a run when training begins; a resumed run keeps the date of its first start.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        settings (`dict[str, Any]`):
            The method's resolved settings by name.
    """

    def __init__(self, names: Sequence[str], settings: Mapping[str, Any]) -> None:
        self.names, self.settings = tuple(names), settings

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Writes the card to the output folder."""
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        before = read_run_card(folder) if state.global_step else None
        now = None if before is None else datetime.fromisoformat(before.started)
        write_run_card(folder, describe_run(self.names, self.settings, args, model, now))


def _model_name(model: Any) -> str:
    """The model's name; of a model on a disk the last part of its path, of one without a name its architecture."""
    config = getattr(model, "config", None)
    name = str(getattr(config, "_name_or_path", "") or "")
    if not name:
        return type(model).__name__ if model is not None else "not recorded"
    is_folder = Path(name).is_absolute() or name.startswith(".") or Path(name).is_dir()
    return (Path(name).resolve().name if is_folder else name) or name


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    """A setting as JSON can hold it; enumerations by their value."""
    value = getattr(value, "value", value)
    return value if isinstance(value, bool | int | float | str | dict | list) else str(value)
