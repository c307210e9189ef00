"""From what was given to what is run: precedence, changes after the fact, and that the config is never written to."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig

from tests.tiny import contains_lower, rows, tiny_config, tiny_trainer
from trl_mtgrpo import (
    ImprovementAwareWeighting,
    MultiTaskGRPOConfig,
    PlateauGuard,
    RatioPreservingSampler,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    Task,
)
from trl_mtgrpo.host.config import OWN_FIELDS, RULES
from trl_mtgrpo.host.settings import (
    METHODS,
    STRATEGIES,
    STRATEGY_PARAMETERS,
    Settings,
    chosen,
    resolve,
    strategy_defaults,
    without_effect,
)


def config(**settings: Any) -> MultiTaskGRPOConfig:
    return MultiTaskGRPOConfig(output_dir="unused", use_cpu=True, bf16=False, **settings)


def plain(**settings: Any) -> GRPOConfig:
    return GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, **settings)


# What a field becomes


def test_the_defaults_are_the_three_task_run_of_the_paper() -> None:
    found = resolve(config())
    assert (found.method, found.task_weighting, found.group_filter, found.oversampling) == (
        "mt_grpo",
        "improvement_aware",
        "mixed_correctness",
        "adaptive",
    )
    assert (found.task_weight_tradeoff, found.task_weight_lr, found.task_weight_decay) == (0.2, 0.025, 1e-5)
    assert (found.improvement_clip, found.absent_improvement, found.task_reward_ema) == (0.1, "zero", 0.5)
    assert (found.max_resampling_rounds, found.max_acceptance_inflation, found.acceptance_aware) == (10, 5.0, True)
    assert (found.epsilon_high, found.solved_discount, found.max_surplus_age) == (0.28, 1.0, 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sets_its_fields(method: str) -> None:
    found = resolve(config(method=method, epsilon=0.3))
    for name, value in METHODS[method].items():
        assert getattr(found, name) == (0.3 if value is None else value)


OTHER_VALUES: dict[str, Any] = {
    "task_weighting": "reward_only",
    "fixed_task_weights": {"a": 1.0},
    "task_weight_tradeoff": 0.7,
    "task_weight_lr": 0.3,
    "task_weight_decay": 0.2,
    "task_weight_optimizer": "sgd",
    "task_weight_floor": 0.01,
    "task_weight_cap": 0.9,
    "task_weight_update": "minibatch",
    "sec_alpha": 0.9,
    "sec_temperature": 0.9,
    "plateau_guard": False,
    "improvement_source": "reward",
    "improvement_reduction": "mean",
    "improvement_clip": None,
    "improvement_groups": 3,
    "absent_improvement": "neutral",
    "task_reward_ema": 0.9,
    "group_filter": "reward_variance",
    "preserve_task_ratio": False,
    "oversampling": 2.5,
    "solved_discount": 0.5,
    "prompt_memory": "solved",
    "pilot_generations": 4,
    "pilot_tasks": "all",
    "acceptance_aware": False,
    "max_acceptance_inflation": 2.0,
    "max_resampling_rounds": 1,
    "max_surplus_age": 1,
    "max_generated_groups": 99,
    "max_generated_tokens": 99,
    "max_empty_steps": 3,
    "reward_on_error": "drop",
    "reward_timeout": 9.0,
    "group_baseline": "rollouts",
    "module_balance": "equal",
    "max_program_calls": 3,
    "program_timeout": 9.0,
    "allow_task_changes": True,
    "task_table": False,
}


def test_every_field_is_tried() -> None:
    assert {"method", *OTHER_VALUES} == set(OWN_FIELDS)
    assert set(OWN_FIELDS) == {field.name for field in dataclasses.fields(Settings)} - {
        "epsilon_high",
        "own_parts",
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OTHER_VALUES)
def test_what_is_given_goes_before_the_method_and_the_strategy(name: str, method: str) -> None:
    strategy = OTHER_VALUES["task_weighting"] if name == "task_weighting" else METHODS[method]["task_weighting"]
    parameter = STRATEGY_PARAMETERS.get(name)
    known = parameter is None or parameter in strategy_defaults(strategy)
    found = resolve(config(method=method, **{name: OTHER_VALUES[name]}))
    assert getattr(found, name) == (OTHER_VALUES[name] if known else None)


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("improvement_aware", ImprovementAwareWeighting()),
        ("reward_only", RewardOnlyWeighting()),
        ("sec", SelfEvolvingCurriculum()),
    ],
)
def test_parameters_left_alone_are_the_strategys_own(name: str, strategy: Any) -> None:
    assert STRATEGIES[name](**resolve(config(task_weighting=name)).strategy_parameters) == strategy


def test_the_decay_of_reward_only_weights_is_not_the_one_that_collapses() -> None:
    assert resolve(config(task_weighting="reward_only")).task_weight_decay == 1e-2
    assert resolve(config(task_weighting="improvement_aware")).task_weight_decay == 1e-5


def test_a_parameter_without_meaning_for_the_strategy_is_none() -> None:
    found = resolve(config(task_weighting="fixed", task_weight_tradeoff=0.5))
    assert (found.task_weight_tradeoff, found.task_weight_decay, found.task_weight_floor) == (None, None, None)
    assert resolve(config(task_weighting="sec")).improvement_clip is None


def test_reward_only_weights_need_a_tradeoff() -> None:
    with pytest.raises(ValueError, match="`task_weight_tradeoff` must be above 0 with task_weighting='reward_only'"):
        resolve(config(task_weighting="reward_only", task_weight_tradeoff=0.0))
    assert resolve(config(task_weight_tradeoff=0.0)).task_weight_tradeoff == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_fixed_weights_are_not_discounted_unless_asked(method: str) -> None:
    assert resolve(config(method=method, task_weighting="fixed")).solved_discount == 0.0
    assert resolve(config(method=method, task_weighting="fixed", solved_discount=0.5)).solved_discount == 0.5


@pytest.mark.parametrize(("given", "used"), [("3.0", 3.0), ("1", 1.0), (2, 2.0), ("adaptive", "adaptive")])
def test_a_factor_may_come_as_text(given: Any, used: Any) -> None:
    assert resolve(config(oversampling=given)).oversampling == used


# Plain datasets and plain configs


@pytest.mark.parametrize("args", [config(), plain()], ids=["own", "host"])
def test_a_dataset_without_tasks_trains_as_the_host_does(args: GRPOConfig) -> None:
    found = resolve(args, has_tasks=False)
    assert (found.method, found.task_weighting, found.trains_everything) == ("grpo", "fixed", True)
    assert found.epsilon_high == args.epsilon
    assert resolve(config(method="dapo"), has_tasks=False).method == "dapo"
    assert resolve(config(group_filter="reward_variance"), has_tasks=False).filters_groups


@pytest.mark.parametrize("again", [dataclasses.replace, lambda args: MultiTaskGRPOConfig(**args.to_dict())])
def test_a_copied_config_trains_a_plain_dataset_as_the_host_does(again: Any) -> None:
    assert resolve(again(config()), has_tasks=False) == resolve(config(), has_tasks=False)


def test_a_config_of_the_host_gets_the_defaults_and_keeps_its_clip_range() -> None:
    expected = dataclasses.asdict(resolve(config())) | {"epsilon_high": 0.1}
    assert dataclasses.asdict(resolve(plain(epsilon=0.1))) == expected
    assert resolve(plain(epsilon=0.1, epsilon_high=0.4)).epsilon_high == 0.4


# Changes of the source


def field_set(args: MultiTaskGRPOConfig, name: str, value: Any) -> MultiTaskGRPOConfig:
    setattr(args, name, value)
    return args


CHANGES = {
    "set": field_set,
    "replaced": lambda args, name, value: dataclasses.replace(args, **{name: value}),
    "built again": lambda args, name, value: MultiTaskGRPOConfig(**{**args.to_dict(), name: value}),
    "copied": lambda args, name, value: MultiTaskGRPOConfig(
        **{f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init} | {name: value}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(("before", "after"), list(itertools.permutations([None, *METHODS], 2)))
def test_what_was_left_alone_follows_the_method(before: str | None, after: str | None, change: Any) -> None:
    given = {"task_weight_lr": 0.1, "solved_discount": 0.3}
    first = config(method=before, **given)
    resolve(first)
    assert resolve(change(first, "method", after)) == resolve(config(method=after, **given))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(("before", "after"), list(itertools.permutations([None, *STRATEGIES], 2)))
def test_what_was_left_alone_follows_the_strategy(before: str | None, after: str | None, change: Any) -> None:
    first = config(task_weighting=before)
    resolve(first)
    assert resolve(change(first, "task_weighting", after)) == resolve(config(task_weighting=after))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", OTHER_VALUES)
def test_a_change_can_be_taken_back(name: str, change: Any) -> None:
    changed = change(config(), name, OTHER_VALUES[name])
    assert resolve(changed) == resolve(config(**{name: OTHER_VALUES[name]}))
    assert resolve(change(changed, name, OWN_FIELDS[name])) == resolve(config())


@pytest.mark.parametrize("method", [None, *METHODS])
def test_nothing_is_written_back(method: str | None) -> None:
    args = config(method=method, fixed_task_weights={"a": 1.0}, oversampling="3.0")
    before = dict(vars(args))
    found = resolve(args)
    assert vars(args) == before
    assert args.fixed_task_weights is not found.fixed_task_weights


@pytest.mark.parametrize("name", RULES)
def test_a_value_set_afterwards_is_checked(name: str) -> None:
    args = config()
    setattr(args, name, [1.0])
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, got \[1\.0\]\. Change it in"):
        resolve(args)


# What the user has chosen


def test_only_fields_that_differ_are_chosen() -> None:
    assert chosen(config()) == chosen(plain(epsilon_high=0.4)) == ()
    assert chosen(config(task_table=False, learning_rate=1.0, epsilon_high=0.4)) == ()
    assert chosen(config(method="grpo", max_surplus_age=0)) == ("method", "max_surplus_age")


@pytest.mark.parametrize("name", [name for name in OTHER_VALUES if name != "task_table"])
def test_every_field_can_be_chosen(name: str) -> None:
    assert chosen(config(**{name: OTHER_VALUES[name]})) == (name,)


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"method": "sec_dapo", "sec_alpha": 0.1}, ()),
        ({"method": "dapo", "sec_alpha": 0.1}, ("sec_alpha",)),
        ({"method": "grpo", "task_weight_tradeoff": 0.3}, ("task_weight_tradeoff",)),
        ({"task_weighting": "reward_only", "task_weight_tradeoff": 0.3}, ()),
        ({"task_weighting": "reward_only", "improvement_clip": None}, ("improvement_clip",)),
        ({"fixed_task_weights": {"a": 1.0}}, ("fixed_task_weights",)),
        ({"fixed_task_weights": {"a": 1.0}, "task_weighting": "fixed"}, ()),
        ({"method": "grpo", "max_resampling_rounds": 3}, ("max_resampling_rounds",)),
        ({"improvement_source": "none", "improvement_groups": 3}, ("improvement_groups",)),
        ({"method": "grpo", "reward_timeout": 3.0, "allow_task_changes": True, "max_empty_steps": 3}, ()),
    ],
    ids=str,
)
def test_what_is_given_without_effect_is_known(given: dict[str, Any], idle: tuple[str, ...]) -> None:
    args = config(**given)
    assert without_effect(args, resolve(args)) == idle


# What is said of a run


@pytest.mark.parametrize("method", METHODS)
def test_a_description_names_what_ran(method: str) -> None:
    shown = resolve(config(method=method)).described()
    assert shown["method"] == method
    for name in ("task_weighting", "group_filter", "preserve_task_ratio", "oversampling", "solved_discount"):
        assert shown[name] == METHODS[method][name]
    assert ("task_weight_decay" in shown) == (method == "mt_grpo")
    assert ("sec_alpha" in shown) == method.startswith("sec")
    assert ("max_resampling_rounds" in shown) == (METHODS[method]["group_filter"] != "none")


def test_a_description_has_fields_of_the_settings_only() -> None:
    names = {field.name for field in dataclasses.fields(Settings)}
    for method, strategy in itertools.product(METHODS, STRATEGIES):
        assert set(resolve(config(method=method, task_weighting=strategy)).described()) <= names


def keep_all(rewards: Any) -> Any:
    return rewards.sum(axis=1) >= 0


def test_a_description_names_the_users_own_parts_in_place_of_settings() -> None:
    parts = {"weighting": RewardOnlyWeighting(), "sampler": RatioPreservingSampler(4), "guard": None}
    shown = resolve(config(), own={**parts, "group_filter": keep_all}).described()
    assert (shown["weighting"], shown["sampler"]) == ("RewardOnlyWeighting", "RatioPreservingSampler")
    assert shown["group_filter"] == "mixed_correctness and keep_all"
    assert not {"guard", "task_weighting", "task_weight_lr", "plateau_guard", "oversampling", "max_surplus_age"} & set(
        shown
    )


@pytest.mark.parametrize(
    ("part", "given"),
    [
        ({"weighting": RewardOnlyWeighting()}, {"task_weight_lr": 0.1, "plateau_guard": False}),
        ({"weighting": RewardOnlyWeighting()}, {"task_weighting": "sec"}),
        ({"sampler": RatioPreservingSampler(4)}, {"max_surplus_age": 1, "max_generated_tokens": 9}),
        ({"guard": PlateauGuard()}, {"plateau_guard": False}),
    ],
    ids=str,
)
def test_settings_of_a_part_that_the_user_gives_are_without_effect(
    part: dict[str, Any], given: dict[str, Any]
) -> None:
    args = config(**given)
    assert set(without_effect(args, resolve(args, own=part))) == set(given)


# A filter of the user's own, and a sampler


@pytest.mark.parametrize("method", METHODS)
def test_a_filter_of_ones_own_filters_under_every_method(method: str) -> None:
    found = resolve(config(method=method), own={"group_filter": keep_all})
    assert found.filters_groups
    assert not found.trains_everything
    assert resolve(config(method=method)).filters_groups == (METHODS[method]["group_filter"] != "none")


def history(trainer: Any, key: str) -> list[float]:
    return [log[key] for log in trainer.state.log_history if key in log]


def test_what_a_filter_of_ones_own_drops_is_refilled_without_another_filter(tmp_path: Path) -> None:
    tasks = [Task("easy", rows("e"), contains_lower, success_threshold=1.0)]
    half = iter([True, False] * 1000)
    trainer = tiny_trainer(
        tmp_path, tasks, method="grpo", group_filter=lambda rewards: [next(half) for _ in rewards], num_generations=8
    )
    trainer.train()
    assert max(history(trainer, "sampling/rounds")) > 1


def test_a_sampler_that_keeps_no_surplus_carries_nothing(tmp_path: Path) -> None:
    kept = {}
    for age in (0, 2):
        sampler = RatioPreservingSampler(num_groups=4, oversampling=3.0, max_surplus_age=age)
        trainer = tiny_trainer(tmp_path, sampler=sampler, max_steps=4, max_surplus_age=2 - age)
        trainer.train()
        kept[age] = max(history(trainer, "sampling/carried_groups"))
    assert kept[0] == 0.0
    assert kept[2] > 0


def test_the_host_takes_the_upper_clip_range_of_the_method(tmp_path: Path) -> None:
    args = tiny_config(tmp_path)
    trainer = tiny_trainer(tmp_path)
    assert (trainer.epsilon_high, trainer.epsilon_low, trainer.args.epsilon_high) == (0.28, args.epsilon, None)
    assert tiny_trainer(tmp_path, method="grpo").epsilon_high == args.epsilon
