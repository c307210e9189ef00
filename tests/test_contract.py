"""What the library leans on in TRL is checked when a trainer is built, and a changed hook says which releases work."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import trl
from trl import GRPOTrainer

from tests.tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.host.contract import HOOKS, LEADING, TESTED_VERSIONS, HostContractError, check_host


def build(folder: Path, **changes: Any) -> MultiTaskGRPOTrainer:
    return MultiTaskGRPOTrainer(
        model=tiny_model(), tasks=three_tasks(), args=tiny_config(folder, **changes), processing_class=tiny_tokenizer()
    )


def test_the_installed_host_keeps_the_contract() -> None:
    check_host()


def test_the_installed_version_is_a_tested_one() -> None:
    assert trl.__version__ in TESTED_VERSIONS


@pytest.mark.parametrize("name", [*HOOKS, *LEADING])
def test_a_removed_hook_is_named(name: str) -> None:
    host = type("Host", (), {hook: getattr(GRPOTrainer, hook) for hook in {**HOOKS, **LEADING} if hook != name})
    with pytest.raises(HostContractError, match=rf"`Host\.{name}` must take .* got no such method"):
        check_host(host)


@pytest.mark.parametrize("name", HOOKS)
def test_a_further_parameter_of_a_wrapped_hook_is_named(name: str) -> None:
    def resigned(self: Any, *args: Any, further: int = 0) -> None: ...

    host = type("Host", (GRPOTrainer,), {name: resigned})
    with pytest.raises(HostContractError, match=rf"`Host\.{name}` must take .* got \('args', 'further'\)"):
        check_host(host)


@pytest.mark.parametrize("name", LEADING)
def test_trailing_parameters_may_grow(name: str) -> None:
    def grown() -> None: ...

    names = ("self", *LEADING[name], "further")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    grown.__signature__ = inspect.Signature([inspect.Parameter(parameter, kind) for parameter in names])
    check_host(type("Host", (GRPOTrainer,), {name: grown}))


def test_a_hook_may_pass_its_arguments_on() -> None:
    def passing(self: Any, model: Any, *args: Any, **kwargs: Any) -> None: ...

    check_host(type("Host", (GRPOTrainer,), {"_get_per_token_logps_and_entropies": passing}))


@pytest.mark.parametrize("name", LEADING)
def test_a_renamed_leading_parameter_is_named(name: str) -> None:
    def renamed(self: Any, other: Any, *args: Any) -> None: ...

    with pytest.raises(HostContractError, match=rf"`Host\.{name}` must take .* got \('other', 'args'\)"):
        check_host(type("Host", (GRPOTrainer,), {name: renamed}))


def test_a_renamed_hook_stops_construction_with_the_versions_that_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(GRPOTrainer, "_score", GRPOTrainer._calculate_rewards, raising=False)
    monkeypatch.delattr(GRPOTrainer, "_calculate_rewards")
    versions = ", ".join(TESTED_VERSIONS).replace(".", r"\.")
    with pytest.raises(HostContractError, match=rf"_calculate_rewards.*{trl.__version__}.*pip install.*{versions}"):
        build(tmp_path)


def test_a_resigned_hook_stops_construction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def generate(self: Any, prompts: list[Any], images: Any) -> None: ...

    monkeypatch.setattr(GRPOTrainer, "_generate", generate)
    with pytest.raises(HostContractError, match=r"got \('prompts', 'images'\)"):
        build(tmp_path)


def test_the_attributes_that_are_read_exist_after_a_step(tmp_path: Path) -> None:
    trainer = build(tmp_path, max_steps=1)
    trainer.train()
    for name in (
        *(
            "_step",
            "_metrics",
            "_buffered_inputs",
            "_pending_extra_logs",
            "_tokenizer",
            "accelerator",
            "model",
            "num_generations",
        ),
        *("num_iterations", "epsilon_low", "epsilon_high", "importance_sampling_level", "shuffle_dataset"),
        *("use_vllm", "vllm_importance_sampling_correction", "current_gradient_accumulation_steps"),
    ):
        assert hasattr(trainer, name), name
