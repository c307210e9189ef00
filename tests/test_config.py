"""Settings: presets of the paper's comparison, overrides, and refusals in one form."""

import dataclasses
import re
from typing import Any

import pytest

from trl_mtgrpo import MultiTaskGRPOConfig
from trl_mtgrpo.host.config import METHODS


def config(**settings: Any) -> MultiTaskGRPOConfig:
    return MultiTaskGRPOConfig(output_dir="unused", use_cpu=True, bf16=False, **settings)


def test_the_defaults_are_the_three_task_run_of_the_paper() -> None:
    settings = config()
    assert (settings.task_weighting, settings.group_filter, settings.oversampling) == (
        "improvement_aware",
        "mixed_correctness",
        "adaptive",
    )
    assert (settings.task_weight_tradeoff, settings.task_weight_lr, settings.task_weight_decay) == (0.2, 0.025, 1e-5)
    assert (settings.improvement_clip, settings.max_resampling_rounds, settings.max_acceptance_inflation) == (
        0.1,
        10,
        5.0,
    )
    assert settings.epsilon_high == 0.28


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sets_its_fields_and_any_of_them_can_be_overridden(method: str) -> None:
    settings = config(method=method)
    for name, value in METHODS[method].items():
        assert getattr(settings, name) == value
    assert config(method=method, group_filter="reward_variance").group_filter == "reward_variance"
    assert config(method=method, preserve_task_ratio=False).preserve_task_ratio is False


def test_without_a_choice_a_plain_dataset_trains_like_the_host() -> None:
    plain = config(group_filter="reward_variance").for_plain_dataset()
    assert (plain.method, plain.task_weighting, plain.oversampling) == ("grpo", "fixed", 1.0)
    assert plain.group_filter == "reward_variance"
    chosen = config(method="dapo")
    assert chosen.for_plain_dataset() is chosen


def test_a_factor_may_come_as_text() -> None:
    assert config(oversampling="3.0").oversampling == 3.0
    with pytest.raises(ValueError, match="`oversampling` must be 'adaptive' or a number of at least 1, got 'much'"):
        config(oversampling="much")


def test_every_field_has_a_help_text_and_is_documented() -> None:
    for field in dataclasses.fields(MultiTaskGRPOConfig):
        if field.name in MultiTaskGRPOConfig.__annotations__ and field.init:
            assert field.metadata["help"].endswith(".")
            assert re.search(rf"^        {field.name} \(`", MultiTaskGRPOConfig.__doc__ or "", re.MULTILINE), (
                field.name
            )


@pytest.mark.parametrize(
    ("name", "value", "constraint"),
    [
        ("method", "ppo", "one of ['mt_grpo'"),
        ("task_weighting", "random", "one of ['improvement_aware'"),
        ("task_weight_optimizer", "lion", "one of ['adam'"),
        ("task_weight_update", "epoch", "one of ['batch'"),
        ("improvement_source", "loss", "one of ['surrogate'"),
        ("improvement_reduction", "max", "one of ['sum'"),
        ("absent_improvement", "mean", "one of ["),
        ("group_filter", "all", "one of ['mixed_correctness'"),
        ("reward_on_error", "ignore", "one of ['raise'"),
        ("task_weight_tradeoff", -0.1, "at least 0"),
        ("task_weight_tradeoff", float("nan"), "a finite number"),
        ("task_weight_lr", 0.0, "above 0"),
        ("task_weight_lr", float("inf"), "a finite number"),
        ("task_weight_decay", -1.0, "at least 0"),
        ("task_weight_floor", 1.0, "in [0, 1)"),
        ("task_weight_cap", 0.0, "in (0, 1]"),
        ("sec_alpha", 0.0, "in (0, 1]"),
        ("sec_temperature", 0.0, "above 0"),
        ("improvement_clip", 0.0, "above 0 or None"),
        ("improvement_groups", 0, "at least 1 or None"),
        ("task_reward_ema", 1.0, "in [0, 1)"),
        ("oversampling", 0.5, "'adaptive' or at least 1"),
        ("max_acceptance_inflation", 0.9, "at least 1"),
        ("max_resampling_rounds", -1, "at least 0"),
        ("max_surplus_age", -1, "at least 0"),
        ("max_generated_tokens", 0, "at least 1 or None"),
        ("max_empty_steps", 0, "at least 1"),
        ("reward_timeout", 0.0, "above 0 or None"),
        ("fixed_task_weights", {"a": -1.0}, "a dict of non-negative weights with a positive sum"),
        ("fixed_task_weights", {"a": float("nan")}, "a dict of non-negative weights with a positive sum"),
        ("fixed_task_weights", {}, "a dict of non-negative weights with a positive sum"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: Any, constraint: str) -> None:
    expected = rf"`{name}` must be {re.escape(constraint)}.*, got {re.escape(repr(value))}\. [A-Z]"
    with pytest.raises(ValueError, match=expected):
        config(**{name: value})
