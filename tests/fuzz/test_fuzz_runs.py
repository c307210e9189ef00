"""Whole runs of made-up steps: whatever happens, every group is accounted for, trained once and drawn in order."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.fake_runs import FakePolicy, loop, step
from tests.fuzz.cases import CASES
from trl_mtgrpo import ImprovementAwareWeighting, RatioPreservingSampler, TaskSignal
from trl_mtgrpo.rollouts import GroupFacts
from trl_mtgrpo.state.codec import from_json, to_json
from trl_mtgrpo.state.run_state import MultiTaskState, start_state
from trl_mtgrpo.state.task_changes import change_tasks, expire, fitting


rates = st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 1.0])


def identities(groups: GroupFacts) -> list[tuple[int, ...]]:
    """What tells each generated group from every other one."""
    columns = groups.task, groups.prompt, groups.generation, groups.bundle, groups.tokens
    return list(zip(*(column.tolist() for column in columns), strict=True))


class Runs(RuleBasedStateMachine):
    """A run that is trained, resumed and judged at every step."""

    @initialize(
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
        num_groups=st.integers(1, 6),
        age=st.integers(0, 3),
        options=st.fixed_dictionaries(
            {
                "oversampling": st.sampled_from(["adaptive", 1.0, 2.5]),
                "max_rounds": st.integers(0, 3),
                "preserve_ratio": st.booleans(),
                "acceptance_aware": st.booleans(),
                "group_multiple": st.sampled_from([1, 2, 3]),
                "max_tokens": st.sampled_from([None, 5, 60]),
            }
        ),
        seed=st.integers(0, 3),
        doctor=st.booleans(),
    )
    def start(
        self, sizes: list[int], num_groups: int, age: int, options: dict[str, Any], seed: int, doctor: bool
    ) -> None:
        self.sizes, self.names = sizes, tuple(f"task{k}" for k in range(len(sizes)))
        self.sampler = RatioPreservingSampler(num_groups=num_groups, max_surplus_age=age, **options)
        self.collect = loop(sizes, self.sampler, seed, doctor)
        self.weighting = ImprovementAwareWeighting(lr=0.5)
        self.state = start_state(self.names, self.weighting)
        self.trained: set[tuple[Any, ...]] = set()
        self.drawn: list[list[int]] = [[] for _ in sizes]
        self.acceptance = [0.5] * len(sizes)

    @rule(data=st.data())
    def change_acceptance(self, data: st.DataObject) -> None:
        size = len(self.acceptance)
        self.acceptance = data.draw(st.lists(rates, min_size=size, max_size=size))

    @rule()
    def train_one_step(self) -> None:
        before, frozen = self.state, json.dumps(to_json(self.state))
        weights = self.weighting.weights(before.weighting)
        policy = FakePolicy(self.acceptance)
        batch, after = step(self.collect, before, weights, policy)
        ledger, tokens = batch.group_ledger, batch.token_ledger
        assert json.dumps(to_json(before)) == frozen

        # Conservation, in groups and tokens, of the step.
        assert (ledger.imbalance == 0).all()
        assert (tokens.imbalance == 0).all()
        for name in ("carried_in", "generated", "trained", "expired", "carried_out"):
            assert (getattr(ledger, name) >= 0).all()

        # The batch has its shape, and fillers are what is missing.
        trained = batch.groups.select(~batch.is_filler)
        assert len(batch.groups) == self.sampler.num_groups
        assert batch.is_filler.tolist() == sorted(batch.is_filler.tolist())
        assert ledger.trained.sum() == len(trained)

        # Each group trains once, whole, and young enough.
        for group in identities(trained):
            assert group not in self.trained
            self.trained.add(group)
        assert (trained.members == 2).all()
        assert (before.generation - trained.generation <= self.sampler.max_surplus_age).all()
        assert not self.trained.intersection(identities(after.carried))
        assert (after.generation - after.carried.generation <= self.sampler.max_surplus_age).all()

        # The mix: min(n_k, c_k) of each task at least, and exactly n_k when there was enough of all.
        if self.sampler.preserve_ratio:
            available, desired = batch.plan.available, batch.plan.desired
            assert (ledger.trained >= np.minimum(desired, available)).all()
            if (available >= desired).all():
                assert (ledger.trained == desired).all()
        assert len(trained) == min(self.sampler.num_groups, int(batch.plan.available.sum()))
        assert batch.plan.rounds <= self.sampler.max_rounds + 1

        # Every rank gets equal rows, and requests are what the ledger says.
        asked = [group for call in policy.requests for group in call]
        assert len(asked) % self.sampler.group_multiple == 0
        assert np.bincount([k for k, _ in asked], minlength=len(self.drawn)).tolist() == ledger.generated.tolist()
        for task_id, prompt in asked:
            self.drawn[task_id].append(prompt)

        # The same state gives the same step.
        again, _ = step(self.collect, before, weights, FakePolicy(self.acceptance))
        assert identities(again.groups) == identities(batch.groups)
        self.state = after

    @rule(data=st.data())
    def move_the_weights(self, data: st.DataObject) -> None:
        size = len(self.acceptance)
        rewards = data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
        signal = TaskSignal(rewards=np.array(rewards))
        self.state = self.replaced(weighting=self.weighting.update(signal, self.state.weighting))

    @rule()
    def resume(self) -> None:
        text = json.dumps(to_json(self.state))
        self.state = from_json(MultiTaskState, json.loads(text))
        assert json.dumps(to_json(self.state)) == text

    @rule(data=st.data())
    def look_at_a_change_of_tasks(self, data: st.DataObject) -> None:
        names = data.draw(st.permutations([*self.names, "new"]))[: data.draw(st.integers(1, 4))]
        start = start_state(tuple(names), self.weighting)
        state, _ = expire(self.state, *fitting(self.state, start, num_generations=2))
        changed, _ = change_tasks(state, start)
        assert changed.task_names == tuple(names)
        assert (changed.groups.imbalance == 0).all()
        assert (changed.tokens.imbalance == 0).all()
        old, new = self.state.weighting.values, changed.weighting.values
        kept = [(names.index(name), k) for k, name in enumerate(self.state.task_names) if name in names]
        for now, then in kept:
            assert new[now] == old[then]
            assert changed.draws.cursors[now] == self.state.draws.cursors[then]

    @invariant()
    def the_run_is_balanced(self) -> None:
        if hasattr(self, "state"):
            assert (self.state.groups.imbalance == 0).all()
            assert (self.state.tokens.imbalance == 0).all()
            assert self.state.groups.carried_out.sum() == len(self.state.carried)

    @invariant()
    def prompts_follow_the_streams(self) -> None:
        if not hasattr(self, "state"):
            return
        for size, cursor, prompts in zip(self.sizes, self.state.draws.cursors, self.drawn, strict=True):
            assert cursor == len(prompts)
            for start in range(0, len(prompts), size):  # a pass never repeats a prompt
                one_pass = prompts[start : start + size]
                assert len(set(one_pass)) == len(one_pass)

    def replaced(self, **changes: Any) -> MultiTaskState:
        return replace(self.state, **changes)


TestRuns = Runs.TestCase
TestRuns.settings = settings(CASES, stateful_step_count=12)
