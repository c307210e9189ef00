"""The package, its dependencies and its extras."""

from pathlib import Path

from setuptools import find_packages, setup


ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "trl_mtgrpo" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

EXTRAS = {
    "deepspeed": ["deepspeed>=0.18.6"],
    "vllm": ["vllm>=0.22,<=0.31"],
    "peft": ["peft>=0.18"],
    "reasoning-gym": ["reasoning-gym>=0.1.25"],
    "math": ["math-verify>=0.8"],
    "report": ["matplotlib>=3.9", "jinja2>=3.1"],
}
EXTRAS["test"] = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "ipykernel>=6.29",
    "tensorboard>=2.18",
    *EXTRAS["peft"],
    *EXTRAS["reasoning-gym"],
    *EXTRAS["report"],
]
# Ruff lays out the signatures of the API page.
EXTRAS["docs"] = ["mkdocs>=1.6", "mkdocs-material>=9.5", "mkdocstrings-python>=2", "ruff>=0.14"]
EXTRAS["dev"] = [
    *EXTRAS["test"],
    *EXTRAS["deepspeed"],
    *EXTRAS["docs"],
    "trackio>=0.5",
    "ruff>=0.14",
    "mypy>=1.15",
    "pre-commit>=4",
]

setup(
    name="trl_mtgrpo",
    version=VERSION,
    description="Multi-Task GRPO for TRL: train one LLM on several tasks without leaving the weakest behind",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["trl_mtgrpo", "trl_mtgrpo.*"]),
    package_data={"trl_mtgrpo": ["py.typed", "report/page.html"]},
    python_requires=">=3.11",
    install_requires=[
        "numpy>=1.26",
        "torch>=2.6",
        # Private hooks of the trainer are overridden: the range is what `make test-trl-versions` shows.
        # 1.15.0 cannot train on a CPU without Triton.
        "trl>=1.14,!=1.15.0,<2",
        "requests>=2.31",  # imported by TRL 1.14 and not declared
        "transformers>=5.8",
        "accelerate>=1.10",
        "datasets>=4.0",
        "rich>=13",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
