"""Settings as they are given: what may be said, in which words the rest is refused, and that nothing is filled in."""

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from trl import TrlParser

from trl_mtgrpo import MultiTaskGRPOConfig
from trl_mtgrpo.host.config import OWN_FIELDS, RULES, check_settings
from trl_mtgrpo.host.rules import MethodName, StrategyName
from trl_mtgrpo.host.settings import METHODS, STRATEGIES


def config(**settings: Any) -> MultiTaskGRPOConfig:
    return MultiTaskGRPOConfig(output_dir="unused", use_cpu=True, bf16=False, **settings)


def own(settings: MultiTaskGRPOConfig) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in OWN_FIELDS}


@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_field_left_alone_stays_as_it_is(method: str | None) -> None:
    built = config(method=method)
    assert own(built) == OWN_FIELDS | {"method": method}
    assert built.epsilon_high is None


def test_everything_that_depends_on_the_method_or_the_strategy_is_none_by_default() -> None:
    for name in {name for preset in METHODS.values() for name in preset} - {"epsilon_high"}:
        assert OWN_FIELDS[name] is None, name


@pytest.mark.parametrize("names", [(MethodName, METHODS), (StrategyName, STRATEGIES)], ids=["methods", "strategies"])
def test_the_names_that_editors_show_are_those_that_exist(names: tuple[Any, Any]) -> None:
    assert list(get_args(names[0])) == list(names[1])


def test_every_field_has_a_rule_a_help_text_and_a_description() -> None:
    assert list(RULES) == list(OWN_FIELDS)
    text = MultiTaskGRPOConfig.__doc__ or ""
    for field in dataclasses.fields(MultiTaskGRPOConfig):
        if field.name in OWN_FIELDS:
            assert field.metadata["help"].endswith(".")
            entry = re.search(rf"^        {field.name} \((.*)\):$", text, re.MULTILINE)
            assert entry, field.name
            stated = re.search(r"defaults to `(.*)`", entry[1])
            assert (stated[1].strip('"') if stated else "None") == str(field.default), field.name


# A config built from its own fields


def rebuilt(settings: MultiTaskGRPOConfig, **changes: Any) -> MultiTaskGRPOConfig:
    return MultiTaskGRPOConfig(**{**settings.to_dict(), **changes})


def reloaded(settings: MultiTaskGRPOConfig, **changes: Any) -> MultiTaskGRPOConfig:
    return MultiTaskGRPOConfig(**{**json.loads(settings.to_json_string()), **changes})


WAYS = [dataclasses.replace, rebuilt, reloaded]


@pytest.mark.parametrize("again", WAYS)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"steps_per_generation": 4},
        {"generation_batch_size": 32, "num_generations": 4},
        {"method": "dapo", "task_weight_lr": 0.1, "fixed_task_weights": {"a": 1.0, "b": 3.0}},
        {"eval_strategy": "steps", "eval_steps": 5, "scale_rewards": False, "oversampling": "3.0"},
    ],
    ids=str,
)
def test_a_config_can_be_built_from_its_own_fields(again: Any, given: dict[str, Any]) -> None:
    first = config(**given)
    second = again(first)
    assert second.to_dict() == first.to_dict()
    assert again(second).to_dict() == first.to_dict()


@pytest.mark.parametrize("again", WAYS)
@pytest.mark.parametrize(
    "change",
    [{"method": "grpo"}, {"task_weighting": "fixed"}, {"learning_rate": 0.5}, {"group_filter": "none"}],
    ids=str,
)
def test_a_change_changes_one_field(again: Any, change: dict[str, Any]) -> None:
    changed = again(config(method="mt_grpo"), **change)
    assert changed.to_dict() == config(method="mt_grpo").to_dict() | change


@pytest.mark.parametrize("again", WAYS)
@pytest.mark.parametrize(
    "change",
    [{"per_device_train_batch_size": 16}, {"steps_per_generation": 2}, {"generation_batch_size": 64}],
    ids=str,
)
def test_a_size_of_the_generation_batch_that_no_longer_fits_is_refused(again: Any, change: dict[str, int]) -> None:
    with pytest.raises(
        ValueError, match=r"`generation_batch_size` must be .* = \d+, got \d+\. Set the one of the two"
    ):
        again(config(), **change)
    free = {"generation_batch_size": None, "steps_per_generation": None}
    assert again(config(), **(free | change)).generation_batch_size == config(**change).generation_batch_size


def test_a_copy_is_a_config_of_its_own() -> None:
    first = config()
    second = copy.deepcopy(first)
    second.method = "grpo"
    assert first.method is None


# What is refused


REFUSED = [
    ("method", "ppo", "one of ['mt_grpo'"),
    ("task_weighting", "random", "one of ['improvement_aware'"),
    ("task_weight_optimizer", "lion", "one of ['adam'"),
    ("task_weight_update", "epoch", "one of ['batch'"),
    ("improvement_source", "loss", "one of ['surrogate'"),
    ("improvement_reduction", "max", "one of ['sum'"),
    ("absent_improvement", "mean", "one of ["),
    ("group_filter", "all", "one of ['mixed_correctness'"),
    ("reward_on_error", "ignore", "one of ['raise'"),
    ("task_weight_tradeoff", -0.1, "a finite number of at least 0 or None"),
    ("task_weight_tradeoff", float("nan"), "a finite number of at least 0 or None"),
    ("task_weight_lr", 0.0, "a finite number above 0 or None"),
    ("task_weight_lr", float("inf"), "a finite number above 0 or None"),
    ("task_weight_decay", -1.0, "a finite number of at least 0 or None"),
    ("task_weight_floor", 1.0, "a finite number in [0, 1) or None"),
    ("task_weight_cap", 0.0, "a finite number in (0, 1] or None"),
    ("sec_alpha", 0.0, "a finite number in (0, 1] or None"),
    ("sec_temperature", 0.0, "a finite number above 0 or None"),
    ("improvement_clip", 0.0, "a finite number above 0 or None"),
    ("improvement_groups", 0, "a whole number of at least 1 or None"),
    ("task_reward_ema", 1.0, "a finite number in [0, 1)"),
    ("solved_discount", -1, "a finite number of at least 0 or None"),
    ("oversampling", 0.5, "'adaptive' or a finite number of at least 1 or None"),
    ("oversampling", "much", "'adaptive' or a finite number of at least 1 or None"),
    ("oversampling", "nan", "'adaptive' or a finite number of at least 1 or None"),
    ("oversampling", "0.5", "'adaptive' or a finite number of at least 1 or None"),
    ("max_acceptance_inflation", 0.9, "a finite number of at least 1"),
    ("max_resampling_rounds", -1, "a whole number of at least 0"),
    ("max_surplus_age", -1, "a whole number of at least 0"),
    ("max_generated_tokens", 0, "a whole number of at least 1 or None"),
    ("max_empty_steps", 0, "a whole number of at least 1"),
    ("reward_timeout", 0.0, "a finite number above 0 or None"),
    ("fixed_task_weights", {"a": -1.0}, "a dict of non-negative weights with a positive sum or None"),
    ("fixed_task_weights", {"a": float("nan")}, "a dict of non-negative weights with a positive sum or None"),
    ("fixed_task_weights", {"a": "1"}, "a dict of non-negative weights with a positive sum or None"),
    ("fixed_task_weights", {1: 1.0}, "a dict of non-negative weights with a positive sum or None"),
    ("fixed_task_weights", {}, "a dict of non-negative weights with a positive sum or None"),
    ("fixed_task_weights", [0.5, 0.5], "a dict of non-negative weights with a positive sum or None"),
    ("fixed_task_weights", "equal", "a dict of non-negative weights with a positive sum or None"),
]


def refusal(name: str, value: Any, constraint: str = "") -> Any:
    expected = rf"^`{name}` must be {re.escape(constraint)}.*, got {re.escape(repr(value))}\. [A-Z].*\.$"
    return pytest.raises(ValueError, match=expected)


@pytest.mark.parametrize(("name", "value", "constraint"), REFUSED)
def test_a_value_out_of_range_is_refused(name: str, value: Any, constraint: str) -> None:
    with refusal(name, value, constraint):
        config(**{name: value})
    with refusal(name, value, constraint):
        dataclasses.replace(config(), **{name: value})


WRONG = ["1.0", [1.0], [1.0, None], (2,), {"x": 1}, b"1", 1j, object(), np.ones(2), torch.ones(1), float]


ALLOWED = {("oversampling", str), ("fixed_task_weights", dict)}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in RULES for value in WRONG if (name, type(value)) not in ALLOWED]
)
def test_a_value_of_a_wrong_type_is_refused_in_the_same_words(name: str, value: Any) -> None:
    settings = config()
    setattr(settings, name, value)
    with refusal(name, value):
        check_settings(settings)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if "number" in rule.constraint])
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(name: str, value: bool) -> None:
    with refusal(name, value):
        config(**{name: value})


@pytest.mark.parametrize("name", [name for name, default in OWN_FIELDS.items() if isinstance(default, bool)])
@pytest.mark.parametrize("value", [None, 0, 1, "True", np.False_])
def test_a_switch_is_true_or_false(name: str, value: Any) -> None:
    with refusal(name, value, "True or False"):
        config(**{name: value})


@pytest.mark.parametrize("name", [name for name, default in OWN_FIELDS.items() if default is not None])
def test_none_is_refused_where_it_says_nothing(name: str) -> None:
    if name == "improvement_clip":
        assert config(improvement_clip=None).improvement_clip is None
        return
    with refusal(name, None):
        config(**{name: None})


def test_numbers_of_other_libraries_are_numbers() -> None:
    config(task_weight_lr=np.float32(0.1), max_surplus_age=np.int64(1), task_weight_tradeoff=1)


# Files and command lines


def parsed(*words: str, **lines: Any) -> MultiTaskGRPOConfig:
    parser = TrlParser((MultiTaskGRPOConfig,))
    parser.set_defaults_with_config(use_cpu=True, bf16=False, **lines)
    return parser.parse_args_and_config(["--output_dir", "unused", *words])[0]


def test_a_command_line_sets_each_kind_of_field() -> None:
    found = parsed(
        *("--method", "dapo", "--task_weighting", "fixed", "--fixed_task_weights", '{"a": 1.0, "b": 2}'),
        *("--task_weight_lr", "1e-3", "--task_weight_optimizer", "sgd", "--oversampling", "3.0"),
        *(
            "--preserve_task_ratio",
            "true",
            "--max_surplus_age",
            "0",
            "--no_plateau_guard",
            "--improvement_groups",
            "2",
        ),
    )
    expected = {
        "method": "dapo",
        "task_weighting": "fixed",
        "fixed_task_weights": {"a": 1.0, "b": 2},
        "task_weight_lr": 1e-3,
        "task_weight_optimizer": "sgd",
        "oversampling": "3.0",
        "preserve_task_ratio": True,
        "max_surplus_age": 0,
        "plateau_guard": False,
        "improvement_groups": 2,
    }
    assert own(found) == OWN_FIELDS | expected


def test_an_empty_command_line_sets_nothing() -> None:
    assert own(parsed()) == OWN_FIELDS


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.constraint.startswith("one of")])
def test_a_command_line_refuses_other_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--{name}", "nonsense")
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


def test_a_file_sets_each_kind_of_field(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "output_dir: unused\nuse_cpu: true\nbf16: false\nmethod: sec_dapo\ntask_weight_decay: 1e-3\n"
        "oversampling: 2.5\npreserve_task_ratio: true\nimprovement_clip: null\nmax_empty_steps: 4\ntask_table: false\n"
        "fixed_task_weights:\n  a: 1\n"
    )
    found = TrlParser((MultiTaskGRPOConfig,)).parse_args_and_config(["--config", str(file)])[0]
    expected = {
        "method": "sec_dapo",
        "task_weight_decay": 1e-3,
        "oversampling": 2.5,
        "preserve_task_ratio": True,
        "improvement_clip": None,
        "max_empty_steps": 4,
        "task_table": False,
        "fixed_task_weights": {"a": 1},
    }
    assert own(found) == OWN_FIELDS | expected


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("output_dir: unused\nuse_cpu: true\nbf16: false\ntask_weighting: uniform\n")
    with refusal("task_weighting", "uniform", "one of ['improvement_aware'"):
        TrlParser((MultiTaskGRPOConfig,)).parse_args_and_config(["--config", str(file)])
