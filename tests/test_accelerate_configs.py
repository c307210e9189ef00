"""The launch files parse, and start what their names say."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file


ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "accelerate_configs", ROOT / "tests" / "distributed")
KINDS = {
    "single_gpu": ("NO", None),
    "multi_gpu": ("MULTI_GPU", None),
    "deepspeed_zero2": ("DEEPSPEED", 2),
    "deepspeed_zero3": ("DEEPSPEED", 3),
    "cpu_ddp": ("MULTI_GPU", None),
    "cpu_zero2": ("DEEPSPEED", 2),
    "cpu_zero3": ("DEEPSPEED", 3),
}


def path_of(name: str) -> Path:
    return next(folder / f"{name}.yaml" for folder in FOLDERS if (folder / f"{name}.yaml").exists())


def test_every_launch_file_is_checked() -> None:
    assert {path.stem for folder in FOLDERS for path in folder.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_launch_file_parses(name: str) -> None:
    config = load_config_from_file(str(path_of(name)))
    distributed_type, stage = KINDS[name]
    assert config.distributed_type == distributed_type
    assert config.deepspeed_config.get("zero_stage") == stage


@pytest.mark.parametrize("stage", [2, 3])
def test_a_cpu_twin_differs_in_nothing_but_the_device(stage: int) -> None:
    gpu = load_config_from_file(str(path_of(f"deepspeed_zero{stage}"))).to_dict()
    cpu = load_config_from_file(str(path_of(f"cpu_zero{stage}"))).to_dict()
    device = {"mixed_precision", "num_processes", "use_cpu"}
    assert {k: v for k, v in gpu.items() if k not in device} == {k: v for k, v in cpu.items() if k not in device}
