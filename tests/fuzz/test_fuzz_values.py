"""Planner, ledgers, streams, averages, groups, files and settings under generated input."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.cases import CASES
from trl_mtgrpo import MultiTaskGRPOConfig, RatioPreservingSampler
from trl_mtgrpo.host.config import check_settings
from trl_mtgrpo.host.contract import GENERATION_FIELDS
from trl_mtgrpo.host.doors import read_generation, write_generation
from trl_mtgrpo.rollouts import Row
from trl_mtgrpo.sampling import AcceptanceEstimate, IndexStream
from trl_mtgrpo.sampling.accounting import REASONS, RolloutLedger
from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.state.run_state import start_state
from trl_mtgrpo.state.state_file import StateFileError, read_state, write_state
from trl_mtgrpo.weighting import ImprovementAwareWeighting
from trl_mtgrpo.weighting.signals import RewardAverage, mix_distance


COUNTS = st.integers(0, 50)


def vectors(elements: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(elements, min_size=size, max_size=size)


@given(data=st.data(), num_tasks=st.integers(1, 6), num_groups=st.integers(1, 40), seed=st.integers(0, 2**32))
@CASES
def test_a_plan_asks_for_what_is_missing_and_ends(data: Any, num_tasks: int, num_groups: int, seed: int) -> None:
    sampler = RatioPreservingSampler(
        num_groups=num_groups,
        oversampling=data.draw(st.sampled_from(["adaptive", 1.0, 3.0])),
        max_rounds=data.draw(st.integers(0, 4)),
        max_inflation=data.draw(st.sampled_from([1.0, 5.0])),
        acceptance_aware=data.draw(st.booleans()),
        preserve_ratio=data.draw(st.booleans()),
        group_multiple=data.draw(st.integers(1, 4)),
        max_surplus_age=data.draw(st.integers(0, 1)),
    )
    raw = np.array(data.draw(vectors(st.floats(0.0, 1.0), num_tasks))) + 1e-9
    acceptance = np.array(data.draw(vectors(st.floats(0.0, 1.0), num_tasks)))
    carried = np.array(data.draw(vectors(st.integers(0, 5), num_tasks)))
    ledger = sampler.open(raw / raw.sum(), np.random.default_rng(seed), carried=carried)
    assert ledger.desired.sum() == num_groups
    estimate = AcceptanceEstimate.init(num_tasks)
    rounds = 0
    while (request := sampler.plan(ledger, estimate, np.random.default_rng([seed, rounds]))) is not None:
        again = sampler.plan(ledger, estimate, np.random.default_rng([seed, rounds]))
        assert again is not None
        assert request.tolist() == again.tolist()
        assert (request >= 0).all()
        assert request.sum() > 0
        assert request.sum() % sampler.group_multiple == 0
        assert ledger.deficits.any()
        if sampler.preserve_ratio and sampler.group_multiple == 1 and rounds:
            assert (request[ledger.deficits == 0] == 0).all()
        accepted = np.random.default_rng([seed, rounds, 1]).binomial(request, acceptance)
        estimate = estimate.update(request, accepted)
        assert ((estimate.rates > 0) & (estimate.rates < 1)).all()
        ledger = ledger.record(generated=request, accepted=accepted)
        rounds += 1
        assert rounds <= sampler.max_rounds + 1
    ids = np.repeat(np.arange(num_tasks), ledger.available)
    keep = sampler.select(ids, ledger, np.random.default_rng(seed))
    kept = np.bincount(ids[keep], minlength=num_tasks)
    assert len(set(keep.tolist())) == len(keep) == min(num_groups, len(ids))
    if sampler.preserve_ratio:
        assert (kept >= np.minimum(ledger.desired, ledger.available)).all()


@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    takes=st.lists(st.integers(0, 60), max_size=8),
    shuffle=st.booleans(),
)
@CASES
def test_a_stream_is_the_same_however_it_is_cut(size: int, seed: int, takes: list[int], shuffle: bool) -> None:
    pieces, cursor = [], 0
    for n in takes:  # a new stream each time: the cursor is all there is
        part, cursor = IndexStream(size, seed, 1, shuffle).take(cursor, n)
        pieces.extend(part.tolist())
    whole, end = IndexStream(size, seed, 1, shuffle).take(0, sum(takes))
    assert (pieces, cursor) == (whole.tolist(), end)
    for start in range(0, len(pieces) - size + 1, size):
        assert sorted(pieces[start : start + size]) == list(range(size))


@given(data=st.data(), num_tasks=st.integers(1, 5), num_steps=st.integers(0, 6))
@CASES
def test_totals_of_balanced_steps_are_balanced(data: Any, num_tasks: int, num_steps: int) -> None:
    totals, carried = RolloutLedger.empty(num_tasks), np.zeros(num_tasks, dtype=np.int64)
    generated = 0
    for _ in range(num_steps):
        new = np.array(data.draw(vectors(COUNTS, num_tasks)))
        rest = carried + new
        parts = []
        for _ in range(len(REASONS) + 2):  # each part takes some of what is left
            part = np.array([data.draw(st.integers(0, int(left))) for left in rest])
            parts.append(part)
            rest = rest - part
        ledger = RolloutLedger(carried, new, parts[0], np.stack(parts[2:], axis=1), parts[1], rest)
        assert (ledger.imbalance == 0).all()
        totals, carried, generated = totals.then(ledger), rest, generated + int(new.sum())
    assert (totals.imbalance == 0).all()
    assert totals.generated.sum() == generated
    again = from_json(RolloutLedger, json.loads(json.dumps(to_json(totals))))
    assert to_json(again) == to_json(totals)
    assert again.filtered.shape == (num_tasks, len(REASONS))


@given(data=st.data(), num_tasks=st.integers(1, 5), factor=st.floats(0.0, 0.99))
@CASES
def test_a_reward_average_stays_among_what_was_seen(data: Any, num_tasks: int, factor: float) -> None:
    average = RewardAverage.start(num_tasks)
    seen: list[list[float]] = [[] for _ in range(num_tasks)]
    for _ in range(data.draw(st.integers(0, 6))):
        accuracy = np.array(data.draw(vectors(st.floats(0.0, 1.0), num_tasks)))
        observed = np.array(data.draw(vectors(st.booleans(), num_tasks)))
        before = average
        average = average.update(np.where(observed, accuracy, np.nan), observed, factor)
        for k in np.flatnonzero(observed):
            seen[k].append(accuracy[k])
        for k in np.flatnonzero(~observed & (average.weight > 0)):
            assert average.values[k] == before.values[k]
            assert average.changes[k] == 0.0
        for k in range(num_tasks):
            if seen[k]:
                assert min(seen[k]) - 1e-9 <= average.values[k] <= max(seen[k]) + 1e-9
        assert np.isfinite(average.changes).all()
    assert to_json(from_json(RewardAverage, json.loads(json.dumps(to_json(average))))) == to_json(average)


TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=4)
TEXT = st.text(max_size=3)


@given(data=st.data(), num_rows=st.integers(1, 5))
@CASES
def test_rollouts_taken_apart_go_together_again_in_any_order(data: Any, num_rows: int) -> None:
    def optional(values: st.SearchStrategy[Any]) -> Any:
        return data.draw(st.one_of(st.none(), vectors(values, num_rows)))

    ids = data.draw(vectors(TOKENS, num_rows))
    columns: dict[str, Any] = {
        "prompt_ids": data.draw(vectors(TOKENS, num_rows)),
        "completion_ids": ids,
        "tool_mask": data.draw(st.sampled_from([None, [[i % 2 for i, _ in enumerate(row)] for row in ids]])),
        "completions": data.draw(vectors(TEXT, num_rows)),
        "logprobs": data.draw(st.sampled_from([None, [[-0.5] * len(row) for row in ids]])),
        "extra_fields": data.draw(st.sampled_from([None, {}, {"x": list(range(num_rows)), "same": "value"}])),
        "images": optional(st.just([b"image"])),
        # As the host gives it: nothing without tools, a list per row with them.
        "tool_images": data.draw(st.sampled_from([[], [[] for _ in ids]])),
    }
    assert tuple(columns) == GENERATION_FIELDS
    prompts = [str(i) for i in range(num_rows)]
    generation = read_generation(prompts, tuple(columns.values()))
    assert generation.prompts == prompts
    masks = columns["tool_mask"] or [[1] * len(row) for row in ids]
    assert generation.num_tokens == [sum(mask) for mask in masks]
    given_extra = columns["extra_fields"] or {}
    expected = [{"x": i, "same": "value"} if given_extra else {} for i in range(num_rows)]
    assert generation.extra == expected
    order = data.draw(st.permutations(range(num_rows)))
    output = dict(zip(GENERATION_FIELDS, write_generation([generation.rows[i] for i in order]), strict=True))
    assert output.pop("extra_fields") is None
    for name, column in output.items():
        assert column == (columns[name] and [columns[name][i] for i in order])


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXT}), max_size=2)


@given(data=st.data(), ids=TOKENS)
@CASES
def test_a_row_of_a_checkpoint_is_the_row_that_was_saved(data: Any, ids: list[int]) -> None:
    logprobs = st.one_of(st.none(), vectors(st.floats(-9, 0), len(ids)))
    row = Row(
        task_id=data.draw(st.integers(0, 9)),
        index=data.draw(st.integers(-1, 9)),
        prompt=data.draw(st.one_of(TEXT, MESSAGES)),
        prompt_ids=data.draw(TOKENS),
        completion_ids=ids,
        completion=data.draw(st.one_of(TEXT, MESSAGES)),
        loss_mask=data.draw(st.one_of(st.none(), vectors(st.integers(0, 1), len(ids)))),
        logprobs=data.draw(logprobs),
        behaviour=data.draw(logprobs),
        logged=data.draw(st.dictionaries(TEXT, PLAIN, max_size=2)),
        host=data.draw(st.dictionaries(TEXT, st.lists(PLAIN, max_size=2), max_size=2)),
    )
    again = Row.from_json(json.loads(json.dumps(row.to_json())))
    assert vars(again) == vars(row)
    assert again.num_tokens == row.num_tokens


@given(data=st.data())
@CASES
def test_a_damaged_state_file_never_loads_as_something_else(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "fuzzed_state.json"
    write_state(path, start_state(("a", "b"), ImprovementAwareWeighting()), steps_left=0, num_ranks=2)
    content, before = bytearray(path.read_bytes()), read_state(path)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
        if kind == "flip":
            content[position] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            content = content[: position + 1]
        elif kind == "insert":
            content[position:position] = data.draw(st.binary(max_size=4))
        elif len(content) > 1:
            del content[position]
    path.write_bytes(bytes(content))
    try:
        after: Any = read_state(path)
    except StateFileError as error:
        after = str(error)
    assert after == before or "Resume" in after


VALID = MultiTaskGRPOConfig(output_dir="unused", use_cpu=True, bf16=False)
NUMBERS = st.one_of(st.floats(-2, 2), st.integers(-3, 3), st.sampled_from([float("nan"), float("inf"), 1e9]))
FUZZED = {
    **dict.fromkeys(
        (
            "task_weight_tradeoff",
            "task_weight_lr",
            "task_weight_decay",
            "task_weight_floor",
            "task_weight_cap",
            "sec_alpha",
            "sec_temperature",
            "task_reward_ema",
            "max_acceptance_inflation",
        ),
        NUMBERS,
    ),
    **dict.fromkeys(("improvement_clip", "reward_timeout"), st.one_of(st.none(), NUMBERS)),
    **dict.fromkeys(("max_resampling_rounds", "max_surplus_age", "max_empty_steps"), st.integers(-3, 3)),
    **dict.fromkeys(("improvement_groups", "max_generated_tokens"), st.one_of(st.none(), st.integers(-3, 3))),
    **dict.fromkeys(
        ("task_weighting", "group_filter", "improvement_source", "reward_on_error", "task_weight_update"),
        st.sampled_from(["fixed", "sec", "none", "surrogate", "raise", "batch", "nonsense", ""]),
    ),
    "oversampling": st.one_of(st.just("adaptive"), NUMBERS),
    "fixed_task_weights": st.one_of(st.none(), st.dictionaries(st.sampled_from("abc"), NUMBERS, max_size=3)),
}


@given(data=st.data(), names=st.lists(st.sampled_from(sorted(FUZZED)), min_size=1, max_size=3))
@CASES
def test_settings_are_valid_or_refused_in_one_form(data: Any, names: list[str]) -> None:
    changes = {name: data.draw(FUZZED[name], label=name) for name in names}
    candidate = SimpleNamespace(**{**vars(VALID), **changes})
    message = ""
    try:
        check_settings(candidate)
    except ValueError as error:
        message = str(error)
    if message:
        named = re.match(r"`(\w+)` must (be|have|name) .+, got .+\. [A-Z].+\.$", message)
        assert named, message
        assert named[1] in changes
    else:
        for name in names:
            value = getattr(candidate, name)
            assert not isinstance(value, float) or np.isfinite(value)
        assert candidate.task_weight_lr is None or candidate.task_weight_lr > 0
        assert candidate.task_weighting in (None, "improvement_aware", "reward_only", "sec", "fixed")
        weights = candidate.fixed_task_weights
        assert weights is None or (0 < sum(weights.values()) < float("inf") and min(weights.values()) >= 0)
        assert candidate.oversampling in (None, "adaptive") or 1 <= candidate.oversampling < float("inf")


@given(data=st.data(), num_tasks=st.integers(1, 6))
@CASES
def test_the_distance_of_a_mix_is_a_distance(data: Any, num_tasks: int) -> None:
    counts = np.array(data.draw(vectors(COUNTS, num_tasks)))
    raw = np.array(data.draw(vectors(st.floats(0.01, 1), num_tasks)))
    weights = raw / raw.sum()
    distance = mix_distance(counts, weights)
    assert -1e-9 <= distance <= 2 + 1e-9
    order = np.array(data.draw(st.permutations(range(num_tasks))))
    assert mix_distance(counts[order], weights[order]) == pytest.approx(distance)
    if counts.sum():
        assert mix_distance(counts, counts / counts.sum()) == pytest.approx(0.0, abs=1e-12)
