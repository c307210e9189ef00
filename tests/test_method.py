"""From settings to parts: weighting, sampler, and the rule that says which groups train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import contains_a, contains_digit, rows, three_tasks, tiny_config
from trl_mtgrpo import (
    FixedWeighting,
    ImprovementAwareWeighting,
    RatioPreservingSampler,
    RewardOnlyWeighting,
    SelfEvolvingCurriculum,
    Task,
    TaskMixture,
)
from trl_mtgrpo.host.build import build_judge
from trl_mtgrpo.host.method import build_guard, build_sampler, build_weighting, surplus_age
from trl_mtgrpo.host.run_plan import Parts
from trl_mtgrpo.host.settings import Settings, resolve
from trl_mtgrpo.sampling import OUTCOMES


NAMES = ("easy", "medium", "hard")
NAN = float("nan")


def resolved(tmp_path: Path, **changes: Any) -> Settings:
    own = {"group_filter": changes.pop("group_filter_function", None)}
    return resolve(tiny_config(tmp_path, **changes), own=own)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("improvement_aware", ImprovementAwareWeighting),
        ("reward_only", RewardOnlyWeighting),
        ("sec", SelfEvolvingCurriculum),
        ("fixed", FixedWeighting),
    ],
)
def test_each_weighting_has_its_name(name: str, kind: type, tmp_path: Path) -> None:
    assert isinstance(build_weighting(resolved(tmp_path, task_weighting=name), NAMES), kind)


def test_settings_reach_the_weighting(tmp_path: Path) -> None:
    weighting = build_weighting(
        resolved(tmp_path, task_weight_tradeoff=0.7, task_weight_lr=0.1, improvement_clip=0.2, task_weight_floor=0.1),
        NAMES,
    )
    assert isinstance(weighting, ImprovementAwareWeighting)
    assert (weighting.tradeoff, weighting.lr, weighting.improvement_clip, weighting.floor) == (0.7, 0.1, 0.2, 0.1)


def test_fixed_weights_are_scaled_and_ordered(tmp_path: Path) -> None:
    given = {"hard": 2.0, "easy": 1.0, "medium": 1.0}
    weighting = build_weighting(resolved(tmp_path, task_weighting="fixed", fixed_task_weights=given), NAMES)
    assert weighting.weights(weighting.init(3)).tolist() == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("given", [{"easy": 1.0}, {"easy": 1.0, "medium": 1.0, "hard": 1.0, "other": 1.0}])
def test_fixed_weights_must_name_all_tasks(given: dict[str, float], tmp_path: Path) -> None:
    settings = resolved(tmp_path, task_weighting="fixed", fixed_task_weights=given)
    with pytest.raises(ValueError, match="`fixed_task_weights` must name exactly the tasks"):
        build_weighting(settings, NAMES)


def test_settings_reach_the_sampler(tmp_path: Path) -> None:
    sampler = build_sampler(resolved(tmp_path, max_resampling_rounds=3, max_surplus_age=2), 8, 2)
    assert (sampler.num_groups, sampler.group_multiple, sampler.max_rounds, sampler.max_surplus_age) == (8, 2, 3, 2)
    assert build_sampler(resolved(tmp_path, method="grpo"), 8, 1).max_rounds == 0
    own = resolved(tmp_path, method="grpo", group_filter_function=lambda rewards: rewards > 0)
    assert build_sampler(own, 8, 1).max_rounds == 10


def test_a_sampler_says_itself_how_long_surplus_is_kept(tmp_path: Path) -> None:
    assert surplus_age(build_sampler(resolved(tmp_path, max_surplus_age=3), 8, 1)) == 3
    assert surplus_age(RatioPreservingSampler(num_groups=4)) == 0
    assert surplus_age(object()) == 0


def test_every_setting_of_the_reward_only_weighting_reaches_it(tmp_path: Path) -> None:
    settings = resolved(tmp_path, task_weighting="reward_only", task_weight_tradeoff=0.7, task_weight_cap=0.8)
    assert build_weighting(settings, NAMES) == RewardOnlyWeighting(tradeoff=0.7, cap=0.8)
    assert build_weighting(resolved(tmp_path, task_weighting="reward_only"), NAMES) == RewardOnlyWeighting()


def judged(tmp_path: Path, rewards: Any, task_ids: list[int], tasks: Any = None, **options: Any) -> tuple[list, list]:
    group_filter = options.pop("group_filter_function", None)
    settings = resolved(tmp_path, group_filter_function=group_filter, **options)
    mixture = TaskMixture(tasks or three_tasks())
    judge = build_judge(settings, mixture, tiny_config(tmp_path), Parts(group_filter=group_filter))
    values = np.array(rewards, dtype=np.float32)  # (N, G, C)
    shape, task = values.shape[:2], np.array(task_ids)
    scores = mixture.scoring.score(values.reshape(-1, values.shape[2]), task.repeat(shape[1]))
    reward, success = scores.reward.reshape(shape), scores.success.reshape(shape)
    verdict = judge(task, reward, success, scores.parts.reshape(*shape, -1), np.ones(shape, dtype=bool))
    return verdict.accepted.tolist(), [OUTCOMES[code] for code in verdict.outcome]


def column(values: list[float], task: int) -> list[list[float]]:
    return [[value if k == task else NAN for k in range(3)] for value in values]


def test_the_strict_filter_keeps_groups_with_right_and_wrong_answers(tmp_path: Path) -> None:
    groups = [column([1.0, 0.0], 0), column([1.0, 1.0], 1), column([0.0, 0.0], 2), column([NAN, NAN], 2)]
    assert judged(tmp_path, groups, [0, 1, 2, 2]) == (
        [True, False, False, False],
        ["informative", "solved", "failed", "unscored"],
    )


def test_partial_rewards_alone_do_not_pass_the_strict_filter_but_the_lenient_one(tmp_path: Path) -> None:
    groups = [column([0.0, 0.1], 0)]
    assert judged(tmp_path, groups, [0])[0] == [False]
    assert judged(tmp_path, groups, [0], group_filter="reward_variance")[0] == [True]


def test_a_task_without_threshold_falls_back_to_the_lenient_filter(tmp_path: Path) -> None:
    tasks = [Task("a", rows("a"), contains_a), Task("b", rows("b"), contains_digit, success_threshold=1.0)]
    groups = np.full((2, 2, 2), NAN)
    groups[0, :, 0] = groups[1, :, 1] = [0.2, 0.4]
    assert judged(tmp_path, groups, [0, 1], tasks)[0] == [True, False]


def test_without_a_filter_every_group_trains(tmp_path: Path) -> None:
    groups = [column([1.0, 1.0], 0)]
    assert judged(tmp_path, groups, [0], method="grpo") == ([True], ["solved"])


def test_a_filter_of_ones_own_can_only_drop(tmp_path: Path) -> None:
    groups = [column([1.0, 0.0], 0), column([1.0, 0.5], 0), column([1.0, 1.0], 0)]
    keep, _ = judged(tmp_path, groups, [0, 0, 0], group_filter_function=lambda rewards: rewards.min(axis=1) > 0)
    assert keep == [False, True, False]


@pytest.mark.parametrize("answer", [[True], [1, 0, 1], np.zeros((3, 1), bool)], ids=str)
def test_a_filter_of_ones_own_must_answer_per_group(answer: Any, tmp_path: Path) -> None:
    groups = [column([1.0, 0.0], 0)] * 3
    with pytest.raises(ValueError, match=r"`group_filter` must return booleans of shape \(3,\), got"):
        judged(tmp_path, groups, [0, 0, 0], group_filter_function=lambda rewards: answer)


def test_the_guard_watches_weights_that_follow_rewards(tmp_path: Path) -> None:
    guard = build_guard(resolved(tmp_path), num_tasks=3)
    assert guard is not None
    assert guard.large_share == 0.5
    assert build_guard(resolved(tmp_path), num_tasks=2).large_share == 0.75
    assert build_guard(resolved(tmp_path), num_tasks=1) is None
    assert build_guard(resolved(tmp_path, plateau_guard=False), num_tasks=3) is None
    for method in ("grpo", "dapo", "sec_grpo", "sec_dapo"):
        assert build_guard(resolved(tmp_path, method=method), num_tasks=3) is None
