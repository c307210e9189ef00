"""What is run, decided before the host is built."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from trl import GRPOConfig

from tests.tiny import contains_a, contains_digit, rows, three_tasks, tiny_config
from trl_mtgrpo import MultiTaskGRPOConfig
from trl_mtgrpo.host.run_plan import Parts, RunPlan, plan_run


def plan(
    tmp_path: Path,
    reward_funcs: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    tasks: Any = None,
    args: GRPOConfig | None = None,
    **options: Any,
) -> RunPlan:
    host = {name: options.pop(name) for name in ("tools", "environment_factory") if name in options}
    args = args or tiny_config(tmp_path, **options)
    return plan_run("some/model", reward_funcs, args, train_dataset, eval_dataset, tasks, Parts(), host)


def mixed_rows() -> Dataset:
    return Dataset.from_dict({"prompt": ["a", "b", "c"], "task": ["one", "two", "one"]})


def test_tasks_run_as_a_mixture_behind_a_clock(tmp_path: Path) -> None:
    found = plan(tmp_path, tasks=three_tasks(with_eval=True))
    assert found.mixture is not None
    assert found.mixture.names == ("easy", "medium", "hard")
    assert not found.trains_host_rows
    assert len(found.host_arguments["train_dataset"]) == 90
    assert len(found.host_arguments["eval_dataset"]) == 18
    assert found.host_arguments["args"].reward_weights is None


def test_a_dict_of_functions_makes_the_tasks_of_a_dataset(tmp_path: Path) -> None:
    found = plan(tmp_path, {"one": contains_a, "two": contains_digit}, mixed_rows())
    assert found.mixture is not None
    assert found.mixture.num_rows().tolist() == [2, 1]


def test_a_plain_dataset_is_left_to_the_host(tmp_path: Path) -> None:
    dataset = rows("p")
    found = plan(tmp_path, contains_a, dataset)
    assert found.mixture is None
    assert found.settings.method == "grpo"
    assert found.host_arguments["train_dataset"] is dataset
    assert found.host_arguments["reward_funcs"] is contains_a


def test_a_plain_dataset_can_be_filtered_and_refilled(tmp_path: Path) -> None:
    found = plan(tmp_path, contains_a, rows("p"), method="dapo")
    assert found.mixture is not None
    assert not found.trains_host_rows


@pytest.mark.parametrize("changes", [{"reward_timeout": 5.0}, {"reward_on_error": "drop"}], ids=str)
def test_limits_of_rewards_hold_for_a_plain_dataset_too(changes: dict[str, Any], tmp_path: Path) -> None:
    found = plan(tmp_path, contains_a, rows("p"), **changes)
    assert found.mixture is not None
    assert found.trains_host_rows


def test_the_host_trains_alone_where_it_prepares_rows(tmp_path: Path) -> None:
    found = plan(tmp_path, contains_a, rows("p"), tools=[len])
    assert found.mixture is None
    with pytest.raises(
        ValueError, match="`method='dapo'` must be left out for tools, environments or streamed rows of a"
    ):
        plan(tmp_path, contains_a, rows("p"), tools=[len], method="dapo")


def test_streamed_rows_are_left_to_the_host_or_refused(tmp_path: Path) -> None:
    stream = rows("p").to_iterable_dataset()
    assert plan(tmp_path, contains_a, stream).mixture is None
    with pytest.raises(ValueError, match="`method='mt_grpo'` must be left out for tools, environments"):
        plan(tmp_path, contains_a, stream, method="mt_grpo")


def test_settings_of_the_host_get_the_method_and_keep_their_clip_range(tmp_path: Path) -> None:
    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, epsilon=0.1)
    found = plan(tmp_path, tasks=three_tasks(), args=args)
    assert type(found.host_arguments["args"]) is GRPOConfig
    assert found.settings.task_weighting == "improvement_aware"
    assert found.settings.epsilon_high == 0.1
    assert found.host_arguments["args"].generation_batch_size == args.generation_batch_size


def test_without_settings_the_folder_is_named_after_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = functools.partial(MultiTaskGRPOConfig, use_cpu=True, bf16=False)
    monkeypatch.setattr("trl_mtgrpo.host.run_plan.MultiTaskGRPOConfig", on_cpu)
    found = plan_run("org/some-model", None, None, None, None, three_tasks(), Parts(), {})
    assert found.host_arguments["args"].output_dir == "some-model-MT-GRPO"
    model = SimpleNamespace(config=SimpleNamespace(_name_or_path="org/other"))
    assert (
        plan_run(model, None, None, None, None, three_tasks(), Parts(), {}).host_arguments["args"].output_dir
        == "other-MT-GRPO"
    )


@pytest.mark.parametrize("name", ["reward_funcs", "train_dataset", "eval_dataset"])
def test_what_belongs_to_tasks_is_refused_beside_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be left out when `tasks` is given, got function"):
        plan(tmp_path, tasks=three_tasks(), **{name: contains_a})


def test_weights_of_rewards_belong_to_tasks(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`reward_weights` must be left out when tasks are given, got \[1.0, 1.0, 1.0\]"
    ):
        plan(tmp_path, tasks=three_tasks(), reward_weights=[1.0, 1.0, 1.0])


@pytest.mark.parametrize("name", ["tools", "environment_factory"])
def test_tools_and_environments_of_no_task_are_refused_with_tasks(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must say which task it belongs to, got"):
        plan(tmp_path, tasks=three_tasks(), **{name: [len]})


FOUR = {"per_device_train_batch_size": 4, "steps_per_generation": 4, "save_strategy": "steps"}


@pytest.mark.parametrize(("steps", "higher"), [(1, 4), (6, 8), (0.3, 4)])
def test_checkpoints_inside_a_generation_are_refused_with_the_number_to_use(
    steps: float, higher: int, tmp_path: Path
) -> None:
    expected = (
        rf"`save_steps` must be an interval at whose steps generation batches end, got {steps}: .* Use {higher}\."
    )
    with pytest.raises(ValueError, match=expected):
        plan(tmp_path, tasks=three_tasks(), **FOUR, save_steps=steps, max_steps=10)


@pytest.mark.parametrize(
    "settings",
    [
        {"save_steps": 8},
        {"save_steps": 0.4, "max_steps": 20},
        {"save_steps": 3, "save_strategy": "epoch"},
        {"save_steps": 3, "save_strategy": "no"},
        {"save_steps": 3, "gradient_accumulation_steps": 4},
        {"save_steps": 3, "gradient_accumulation_steps": 8},
        {"save_steps": 4, "num_iterations": 1},
        {"save_steps": 501, "max_steps": 10},
    ],
    ids=str,
)
def test_checkpoints_between_generations_are_accepted(settings: dict[str, Any], tmp_path: Path) -> None:
    assert plan(tmp_path, tasks=three_tasks(), **{**FOUR, **settings}).mixture is not None


def test_generations_and_updates_that_seldom_end_together_are_accounted_for(tmp_path: Path) -> None:
    # 3 micro-steps per generation, 2 per update: they end together after 6 micro-steps, which are 3 updates
    odd = {
        "per_device_train_batch_size": 4,
        "steps_per_generation": 3,
        "gradient_accumulation_steps": 2,
        "max_steps": 20,
    }
    with pytest.raises(ValueError, match=r"got 4: step 4 lies inside one, .* Use 6\."):
        plan(tmp_path, tasks=three_tasks(), **odd, save_strategy="steps", save_steps=4)
    assert plan(tmp_path, tasks=three_tasks(), **odd, save_strategy="steps", save_steps=3).mixture is not None


def test_several_passes_count(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got 4: step 4 lies inside one, .* Use 8\."):
        plan(tmp_path, tasks=three_tasks(), **FOUR, save_steps=4, num_iterations=2, max_steps=20)


def test_evaluations_choose_checkpoints_with_the_strategy_best(tmp_path: Path) -> None:
    best = {
        **FOUR,
        "save_strategy": "best",
        "eval_strategy": "steps",
        "metric_for_best_model": "eval_worst_task_accuracy",
        "eval_steps": 6,
        "max_steps": 20,
    }
    with pytest.raises(ValueError, match=r"`eval_steps` must be an interval .* got 6: .* Use 8\."):
        plan(tmp_path, tasks=three_tasks(with_eval=True), **best)


def test_weights_move_each_minibatch_only_where_a_batch_has_whole_ones(tmp_path: Path) -> None:
    settings = {"per_device_train_batch_size": 4, "steps_per_generation": 3, "gradient_accumulation_steps": 2}
    with pytest.raises(ValueError, match="`task_weight_update` must be 'batch' unless `steps_per_generation`"):
        plan(tmp_path, tasks=three_tasks(), task_weight_update="minibatch", **settings)
