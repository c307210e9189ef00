"""The planner: what it opens, proposes, counts and selects."""

import re
import time

import numpy as np
import pytest
from _worlds import thorough
from hypothesis import given
from hypothesis import strategies as st

from tests.machine import slowness
from trl_mtgrpo.sampling import AcceptanceEstimate, RatioPreservingSampler


def play(sampler, weights, acceptance, seed=0, carried=None, **context):
    """One step of the loop that the trainer runs; returns the ledger and all requests."""
    rng = np.random.default_rng(seed)
    estimate = AcceptanceEstimate.init(len(weights))
    ledger = sampler.open(np.array(weights), rng, carried=carried).with_context(**context)
    requests = []
    while (request := sampler.plan(ledger, estimate, rng)) is not None:
        accepted = rng.binomial(request, acceptance)
        ledger = ledger.record(generated=request, accepted=accepted)
        estimate = estimate.update(request, accepted)
        requests.append(request)
    return ledger, requests


worlds = st.tuples(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
samplers = st.sampled_from(
    [
        {},
        {"oversampling": 3.0},
        {"oversampling": 1.0},
        {"acceptance_aware": False},
        {"preserve_ratio": False},
        {"preserve_ratio": False, "oversampling": 3.0},
        {"max_surplus_age": 1},
        {"group_multiple": 4},
        {"group_multiple": 4, "oversampling": 1.5},
        {"max_rounds": 2},
    ]
)


@thorough
@given(worlds, samplers)
def test_every_step_ends_within_its_budget_and_trains_what_it_can(world, settings):
    num_groups, tasks, seed = world
    weights = np.array([task[0] for task in tasks])
    weights = weights / weights.sum()
    sampler = RatioPreservingSampler(num_groups, **settings)
    ledger, requests = play(sampler, weights, [task[1] for task in tasks], seed)
    assert ledger.desired.sum() == num_groups
    assert 1 <= ledger.rounds <= 1 + sampler.max_rounds
    assert all(request.sum() % sampler.group_multiple == 0 for request in requests)
    assert all(request.sum() > 0 for request in requests)

    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.repeat(np.arange(len(tasks)), ledger.available))
    keep = sampler.select(ids, ledger, rng)
    trained = np.bincount(ids[keep], minlength=len(tasks))
    assert np.unique(keep).size == keep.size
    assert trained.sum() == min(num_groups, ledger.available.sum())
    if sampler.preserve_ratio:
        assert (trained >= np.minimum(ledger.desired, ledger.available)).all()


@thorough
@given(worlds, samplers)
def test_the_same_seed_gives_the_same_plan(world, settings):
    num_groups, tasks, seed = world
    weights = np.array([task[0] for task in tasks])
    arguments = RatioPreservingSampler(num_groups, **settings), weights / weights.sum(), [task[1] for task in tasks]
    first, second = play(*arguments, seed)[1], play(*arguments, seed)[1]
    assert [request.tolist() for request in first] == [request.tolist() for request in second]


@thorough
@given(worlds)
def test_a_task_that_has_its_groups_is_asked_for_no_more(world):
    num_groups, tasks, seed = world
    weights = np.array([task[0] for task in tasks])
    rng = np.random.default_rng(seed)
    sampler = RatioPreservingSampler(num_groups)
    ledger = sampler.open(weights / weights.sum(), rng)
    while (request := sampler.plan(ledger, np.full(len(tasks), 0.5), rng)) is not None:
        assert (request[ledger.deficits == 0] == 0).all()
        assert (request >= ledger.deficits).all()
        ledger = ledger.record(generated=request, accepted=rng.binomial(request, 0.5))


@pytest.mark.parametrize("settings", [{}, {"oversampling": 3.0}, {"preserve_ratio": False}])
def test_rounds_in_which_nothing_is_accepted_count(settings):
    ledger, _ = play(RatioPreservingSampler(8, max_rounds=4, **settings), [0.5, 0.5], [0.0, 0.0])
    assert ledger.rounds <= 5
    assert ledger.accepted.sum() == 0


def test_a_task_that_yields_nothing_does_not_use_up_the_rounds():
    ledger, _ = play(RatioPreservingSampler(32), [0.5, 0.5], [0.0, 0.9])
    assert ledger.rounds < 6
    assert ledger.deficits[1] == 0


def test_the_paper_rule_generates_its_factor_every_round():
    _, requests = play(RatioPreservingSampler(8, oversampling=3.0), [0.5, 0.5], [0.1, 0.9])
    assert len(requests) > 1
    assert {int(request.sum()) for request in requests} == {24}


def test_the_paper_rule_inflates_by_acceptance_up_to_its_limit():
    # Acceptances .5 and .1 give m = (2, 5), so zhat = (2, 5) / 7 at equal weights.
    sampler = RatioPreservingSampler(1000, oversampling=3.0)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([0.5, 0.5]), rng)
    request = sampler.plan(ledger, np.array([0.5, 0.1]), rng)
    assert abs(request[0] / request.sum() - 2 / 7) < 0.03


def test_the_paper_rule_resamples_by_deficits_alone():
    sampler = RatioPreservingSampler(10, oversampling=3.0)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([0.5, 0.5]), rng)
    ledger = ledger.record(generated=[30, 30], accepted=[30, 0])
    assert sampler.plan(ledger, np.array([0.5, 0.5]), rng).tolist() == [0, 30]


@pytest.mark.parametrize("aware", [True, False])
def test_factor_one_without_rounds_generates_the_desired_counts(aware):
    sampler = RatioPreservingSampler(32, oversampling=1.0, max_rounds=0, acceptance_aware=aware)
    ledger, requests = play(sampler, [0.2, 0.3, 0.5], [1.0, 1.0, 1.0])
    assert len(requests) == 1
    assert requests[0].tolist() == ledger.desired.tolist()


def test_without_acceptance_awareness_a_request_is_the_deficit():
    sampler = RatioPreservingSampler(16, acceptance_aware=False)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([0.5, 0.5]), rng)
    assert sampler.plan(ledger, np.array([0.1, 0.1]), rng).tolist() == ledger.desired.tolist()


def test_without_ratios_any_group_fills_any_place():
    ledger, _ = play(RatioPreservingSampler(32, preserve_ratio=False), [0.5, 0.5], [0.0, 0.9])
    assert ledger.deficits.sum() == 0
    assert ledger.available.sum() >= 32


def test_carried_groups_count_toward_the_deficits():
    sampler = RatioPreservingSampler(8)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([0.5, 0.5]), rng, carried=[8, 0])
    assert ledger.deficits.tolist() == [0, ledger.desired[1]]
    full = sampler.open(np.array([0.5, 0.5]), rng, carried=[8, 8])
    assert sampler.plan(full, np.array([0.5, 0.5]), rng) is None


def test_carried_groups_train_first():
    sampler = RatioPreservingSampler(4)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([1.0, 0.0]), rng, carried=[3, 0]).record(generated=[5, 0], accepted=[5, 0])
    assert sampler.select(np.zeros(8, dtype=int), ledger, rng).tolist() == [0, 1, 2, 3]


def test_without_ratios_carried_groups_train_first_and_the_rest_is_random():
    sampler = RatioPreservingSampler(4, preserve_ratio=False)
    ledger = sampler.open(np.array([0.5, 0.5]), np.random.default_rng(0), carried=[1, 1])
    ledger = ledger.record(generated=[9, 9], accepted=[9, 9])
    ids = np.array([0, 1] + [0] * 9 + [1] * 9)
    chosen = [sampler.select(ids, ledger, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert all(keep[:2] == [0, 1] for keep in chosen)
    assert len({tuple(keep) for keep in chosen}) > 1


def test_places_of_a_short_task_go_to_others_at_random():
    sampler = RatioPreservingSampler(4)
    ledger = sampler.open(np.array([0.0, 1.0]), np.random.default_rng(0))
    ledger = ledger.record(generated=[9, 9], accepted=[9, 1])
    ids = np.array([0] * 9 + [1])
    chosen = [sampler.select(ids, ledger, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert all(9 in keep and len(keep) == 4 for keep in chosen)
    assert len({tuple(keep) for keep in chosen}) > 1


def test_probes_join_the_first_round_and_no_other():
    sampler = RatioPreservingSampler(16)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([1.0, 0.0]), rng).with_context(probes=[0, 2])
    first = sampler.plan(ledger, np.array([0.5, 0.5]), rng)
    assert first[1] == 2
    second = sampler.plan(ledger.record(generated=first, accepted=[1, 0]), np.array([0.5, 0.5]), rng)
    assert second[1] == 0


def test_tokens_end_the_rounds():
    sampler = RatioPreservingSampler(16, max_tokens=1000)
    rng = np.random.default_rng(0)
    ledger = sampler.open(np.array([0.5, 0.5]), rng)
    first = sampler.plan(ledger, np.array([0.5, 0.5]), rng)
    assert sampler.plan(ledger.record(first, [0, 0], tokens=[600, 400]), np.array([0.5, 0.5]), rng) is None


@thorough
@given(st.floats(200, 5000), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_expected_tokens_stay_within_the_budget(max_tokens, multiple, seed):
    sampler = RatioPreservingSampler(16, max_tokens=max_tokens, group_multiple=multiple)
    rng = np.random.default_rng(seed)
    cost = np.array([10.0, 50.0])
    ledger = sampler.open(np.array([0.5, 0.5]), rng).with_context(tokens_per_group=cost)
    while (request := sampler.plan(ledger, np.array([0.2, 0.2]), rng)) is not None:
        assert request.sum() % multiple == 0
        ledger = ledger.record(request, rng.binomial(request, 0.2), tokens=request * cost)
    assert ledger.tokens.sum() <= max(max_tokens, multiple * cost.max())


def test_a_ledger_keeps_what_was_recorded():
    ledger = RatioPreservingSampler(4).open(np.array([0.5, 0.5]), np.random.default_rng(0), carried=[1, 0])
    later = ledger.record([3, 2], [1, 2], tokens=[30, 20]).record([1, 0], [1, 0])
    assert later.generated.tolist() == [4, 2]
    assert later.accepted.tolist() == [2, 2]
    assert later.available.tolist() == [3, 2]
    assert later.tokens.tolist() == [30.0, 20.0]
    assert later.rounds == 2
    assert ledger.rounds == 0


def test_what_the_caller_knows_besides_the_weights_does_not_move_the_draw():
    sampler = RatioPreservingSampler(32)
    bare = sampler.open(np.array([0.3, 0.7]), np.random.default_rng(0))
    ledger = bare.with_context(probes=[2, 0], tokens_per_group=[5.0, np.nan])
    assert ledger.desired is bare.desired
    assert ledger.with_context().probes.tolist() == [2, 0]
    assert bare.probes.tolist() == [0, 0]


def test_long_run_batches_follow_the_weights():
    weights, acceptance = np.array([0.2, 0.3, 0.5]), np.array([0.8, 0.5, 0.1])
    sampler = RatioPreservingSampler(32)
    trained = np.zeros(3)
    for seed in range(300):
        ledger, _ = play(sampler, weights, acceptance, seed)
        ids = np.repeat(np.arange(3), ledger.available)
        keep = sampler.select(ids, ledger, np.random.default_rng(seed))
        trained += np.bincount(ids[keep], minlength=3)
    # Three standard deviations of 9600 draws are 0.015.
    np.testing.assert_allclose(trained / trained.sum(), weights, atol=0.015)


@pytest.mark.slow
@pytest.mark.parametrize(("num_tasks", "limit"), [(9, 2e-3), (1000, 20e-3)])
@pytest.mark.parametrize("num_groups", [32, 1024])
def test_a_plan_is_cheap(num_tasks, limit, num_groups):
    sampler = RatioPreservingSampler(num_groups, max_surplus_age=1)
    rng = np.random.default_rng(0)
    estimate = AcceptanceEstimate.init(num_tasks).update(np.full(num_tasks, 60), np.full(num_tasks, 24))
    ledger = sampler.open(np.full(num_tasks, 1 / num_tasks), rng)
    times = []
    for _ in range(15):
        start = time.process_time()
        sampler.plan(ledger, estimate, rng)
        times.append(time.process_time() - start)
    assert np.min(times) < limit * slowness()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_groups": 0}, "`num_groups` must be at least 1, got 0"),
        ({"oversampling": 0.5}, "`oversampling` must be 'adaptive' or a factor of at least 1, got 0.5"),
        ({"oversampling": "often"}, "`oversampling` must be 'adaptive' or a factor of at least 1, got 'often'"),
        ({"max_rounds": -1}, "`max_rounds` must be non-negative, got -1"),
        ({"max_inflation": 0.5}, "`max_inflation` must be at least 1, got 0.5"),
        ({"group_multiple": 0}, "`group_multiple` must be at least 1, got 0"),
        ({"max_surplus_age": -1}, "`max_surplus_age` must be non-negative, got -1"),
        ({"fill_probability": 1.0}, "`fill_probability` must be in (0, 1), got 1.0"),
        ({"round_cost": -1.0}, "`round_cost` must be non-negative, got -1.0"),
        ({"max_waste": -0.1}, "`max_waste` must be non-negative, got -0.1"),
        ({"max_groups": 0}, "`max_groups` must be at least 1, got 0"),
        ({"max_tokens": 0}, "`max_tokens` must be positive, got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RatioPreservingSampler(**({"num_groups": 8} | arguments))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda s, r: s.open([0.5, 0.6], r), "`task_weights` must be non-negative and add up to 1, got [0.5, 0.6]"),
        (
            lambda s, r: s.open([0.5, 0.5], r, carried=[1]),
            "`carried` must be non-negative counts of shape (2,), got [1]",
        ),
        (
            lambda s, r: s.open([0.5, 0.5], r).with_context(probes=[1]),
            "`probes` must be non-negative counts of shape (2,), got [1]",
        ),
        (
            lambda s, r: s.open([0.5, 0.5], r).with_context(tokens_per_group=[1.0, -1.0]),
            "`tokens_per_group` must be non-negative numbers of shape (2,), got [1.0, -1.0]",
        ),
        (lambda s, r: s.open([0.5, 0.5], r).record([1, 1], [2, 0]), "`accepted` must be at most `generated` = [1, 1]"),
        (lambda s, r: s.open([0.5, 0.5], r).record([-1, 1], [0, 0]), "`generated` must be non-negative counts"),
        (lambda s, r: s.plan(s.open([0.5, 0.5], r), [0.5], r), "`acceptance` must be of shape (2,), got (1,)"),
        (lambda s, r: s.plan(s.open([0.5, 0.5], r), [0.5, 1.5], r), "`acceptance` must be between 0 and 1"),
        (lambda s, r: s.select([0, 2], s.open([0.5, 0.5], r), r), "`task_ids` must be in 0..1, got 0..2"),
    ],
)
def test_wrong_calls_are_refused(use, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        use(RatioPreservingSampler(8), np.random.default_rng(0))
