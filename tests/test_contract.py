"""What the library leans on in TRL is checked when a trainer is built, and a changed hook says which releases work."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl
from trl import GRPOTrainer

from tests.tiny import three_tasks, tiny_config, tiny_model, tiny_tokenizer
from trl_mtgrpo import MultiTaskGRPOTrainer
from trl_mtgrpo.host.contract import (
    ATTRIBUTES,
    GENERATION_FIELDS,
    HOOKS,
    LEADING,
    LOGS,
    LOSS_KEYS,
    OF_ENVIRONMENTS,
    OF_IMAGES,
    OF_ROWS,
    PER_PROMPT,
    TESTED_VERSIONS,
    HostContractError,
    check_generation,
    check_host,
    check_image_host,
    check_loss_inputs,
    check_tool_rows,
    check_trainer,
)


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


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_method_that_prepares_images_is_checked_where_there_are_some(name: str) -> None:
    def renamed(self: Any, other: Any) -> None: ...

    host = type("Host", (GRPOTrainer,), {name: renamed})
    check_host(host)
    with pytest.raises(HostContractError, match=rf"`Host\.{name}` must take .* got \('other',\)"):
        check_image_host(host)


# What a built trainer has, and what its methods return


def stand_in(without: str = "") -> SimpleNamespace:
    """A trainer with everything that is read, or all but one attribute."""
    attributes: dict[str, Any] = dict.fromkeys(ATTRIBUTES) | {"_logs": {name: [] for name in LOGS}}
    return SimpleNamespace(**{name: value for name, value in attributes.items() if name != without})


def test_a_trainer_with_every_attribute_is_accepted() -> None:
    check_trainer(stand_in())


def test_the_attributes_exist_before_and_after_a_step(tmp_path: Path) -> None:
    trainer = build(tmp_path, max_steps=1)
    check_trainer(trainer)
    trainer.train()
    check_trainer(trainer)
    for name in ("accelerator", "model", "vllm_importance_sampling_correction", "current_gradient_accumulation_steps"):
        assert hasattr(trainer, name), name


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_missing_attribute_is_named_with_the_versions_that_work(name: str) -> None:
    with pytest.raises(HostContractError, match=rf"must have the attributes \['{name}'.*got none of them .*tested: 1"):
        check_trainer(stand_in(without=name))


@pytest.mark.parametrize("name", OF_ENVIRONMENTS)
def test_a_missing_attribute_of_environments_is_named_where_there_are_some(name: str) -> None:
    check_trainer(stand_in())
    trainer = stand_in()
    vars(trainer).update(dict.fromkeys(OF_ENVIRONMENTS) | {"environment_factories": {}})
    check_trainer(trainer)
    delattr(trainer, name)
    with pytest.raises(HostContractError, match=rf"must have the attributes \['{name}'\]"):
        check_trainer(trainer)


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("value", [None, [1], (1, 2)], ids=["none", "too few", "tuple"])
def test_what_tools_keep_for_rows_has_one_entry_per_row(name: str, value: Any) -> None:
    trainer = SimpleNamespace(**{of_rows: [1, 2] for of_rows in OF_ROWS})
    check_tool_rows(trainer, 2)
    setattr(trainer, name, value)
    with pytest.raises(HostContractError, match=rf"`GRPOTrainer.{name}` must have one entry per row while tools .* 2"):
        check_tool_rows(trainer, 2)


@pytest.mark.parametrize("name", LOGS)
def test_a_missing_table_of_completions_is_named(name: str) -> None:
    trainer = stand_in()
    del trainer._logs[name]
    with pytest.raises(HostContractError, match=rf"must have the attributes \[\"_logs\['{name}'\]\"\]"):
        check_trainer(trainer)


def test_a_missing_attribute_stops_construction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    initialise = GRPOTrainer.__init__

    def without_step(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        del self._step

    monkeypatch.setattr(GRPOTrainer, "__init__", without_step)
    with pytest.raises(HostContractError, match=r"must have the attributes \['_step'\]"):
        build(tmp_path)


def generation(**changes: Any) -> tuple[Any, ...]:
    """What `_generate` returns for two prompts."""
    values: dict[str, Any] = dict.fromkeys(GENERATION_FIELDS)
    values |= {"prompt_ids": [[3], [4]], "completion_ids": [[5], [6]], "completions": ["a", "b"], "extra_fields": {}}
    return tuple((values | changes).values())


def test_a_generation_of_the_known_form_is_accepted() -> None:
    check_generation(generation(), 2)


@pytest.mark.parametrize("name", PER_PROMPT)
@pytest.mark.parametrize("value", [None, [[3]], torch.ones(2, 3)], ids=["none", "too few", "tensor"])
def test_a_generation_without_a_list_per_prompt_is_refused(name: str, value: Any) -> None:
    with pytest.raises(HostContractError, match=r"`GRPOTrainer._generate` must return .* one entry per prompt, got"):
        check_generation(generation(**{name: value}), 2)


@pytest.mark.parametrize("position", range(len(GENERATION_FIELDS)), ids=GENERATION_FIELDS)
def test_a_generation_with_an_element_less_is_refused(position: int) -> None:
    output = generation()
    with pytest.raises(HostContractError, match=r"`GRPOTrainer\._generate` must return .* for 2 prompts"):
        check_generation(output[:position] + output[position + 1 :], 2)


@pytest.mark.parametrize("output", [[*generation()], {"prompt_ids": []}, generation(extra_fields=[])])
def test_a_generation_of_another_kind_is_refused(output: Any) -> None:
    with pytest.raises(HostContractError, match=r"`GRPOTrainer\._generate` must return .* got .*tested: 1"):
        check_generation(output, 2)


def loss_inputs() -> dict[str, torch.Tensor]:
    return {name: torch.ones(4, 2) for name in LOSS_KEYS} | {"num_items_in_batch": torch.tensor(8)}


def test_loss_inputs_of_the_known_form_are_accepted() -> None:
    check_loss_inputs(loss_inputs(), 4)


@pytest.mark.parametrize("name", LOSS_KEYS)
def test_a_missing_loss_input_is_named(name: str) -> None:
    inputs = loss_inputs()
    del inputs[name]
    with pytest.raises(HostContractError, match=rf"must return the keys \['{name}'\], got none of them .*tested: 1"):
        check_loss_inputs(inputs, 4)


@pytest.mark.parametrize("name", [name for name in LOSS_KEYS if name != "num_items_in_batch"])
def test_a_loss_input_of_another_number_of_rows_is_refused(name: str) -> None:
    inputs = loss_inputs() | {name: torch.ones(3, 2)}
    with pytest.raises(HostContractError, match=rf"must return 4 rows, got .*'{name}': 3.*tested: 1"):
        check_loss_inputs(inputs, 4)


def test_another_generation_stops_before_the_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generate = GRPOTrainer._generate
    monkeypatch.setattr(GRPOTrainer, "_generate", lambda self, prompts: generate(self, prompts)[:-1])
    trainer = build(tmp_path)
    with pytest.raises(HostContractError, match=r"`GRPOTrainer\._generate` must return"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_other_loss_inputs_stop_before_the_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepare = GRPOTrainer._generate_and_score_completions

    def without_advantages(self: Any, inputs: Any) -> dict[str, Any]:
        return {name: value for name, value in prepare(self, inputs).items() if name != "advantages"}

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", without_advantages)
    trainer = build(tmp_path)
    with pytest.raises(HostContractError, match=r"must return the keys \['advantages'\]"):
        trainer.train()
    assert trainer.state.global_step == 0
