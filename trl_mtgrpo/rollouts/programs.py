"""
From the calls of programs to groups, and what is remembered of it.

A bundle is one row and its G rollouts. Its calls with the same role that came equally often before in their rollouts
are one group, with as many members as rollouts got there: what GRPO compares are answers to the same part of the
program, whatever their prompts. (mmGRPO, [2508.04660](https://huggingface.co/papers/2508.04660).)
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..sampling import OUTCOMES, BatchLedger
from .facts import NOWHERE, GroupFacts, IntVector


# The role of a group that stands for a bundle without any call to train on.
NO_ROLE = -1
# How far the estimate of groups per bundle follows what a round brought.
_STEP = 0.5
_SINGLETON, _UNSCORED = OUTCOMES.index("singleton"), OUTCOMES.index("unscored")


class BundleLimits(NamedTuple):
    """
    What bounds the bundles of a step.

    Args:
        most_calls (`numpy.ndarray` of `int`, shape `(K,)`):
            Calls that a rollout of each task may make: 1 where it is no program.
        max_groups (`int`, *optional*):
            Groups that a step may generate.
    """

    most_calls: IntVector
    max_groups: int | None


@dataclass(frozen=True, eq=False)
class ProgramMemory:
    """
    What is remembered of programs between steps.

    Args:
        groups_per_bundle (`numpy.ndarray` of shape `(K,)`):
            Groups that a bundle of each task is expected to bring, filtered ones included: exactly 1 for a task of one
            call per rollout, NaN before one was made. Where modules train equally many groups each, only groups that
            have a counterpart of every other module.
        modules (`tuple[tuple[str, ...], ...]`):
            Names of each task's modules; roles are positions in it.
    """

    groups_per_bundle: NDArray[np.float64] = field(metadata={"new_task": float("nan")})
    modules: tuple[tuple[str, ...], ...] = field(metadata={"new_task": ()})

    @classmethod
    def start(cls, num_tasks: int) -> "ProgramMemory":
        return cls(np.full(num_tasks, np.nan), ((),) * num_tasks)

    def bundles(self, groups: IntVector, ledger: BatchLedger, limits: BundleLimits | None = None) -> IntVector:
        """
        Bundles that are expected to bring a number of groups.

        Of a program whose calls nobody has counted yet as many as it has places in the batch, because each brings a
        group at least, and only so many that `max_groups` would hold if all its calls were made.

        Args:
            groups (`numpy.ndarray` of `int`, shape `(K,)`):
                What is asked for.
            ledger ([`BatchLedger`]):
                The step so far.
            limits ([`BundleLimits`], *optional*):
                Where some task is a program.

        Returns:
            `numpy.ndarray` of `int`, shape `(K,)`: nothing where the next bundle would pass `max_groups`, but never
            nothing in the first round.
        """
        if limits is None:
            return groups
        known = ~np.isnan(self.groups_per_bundle)
        brings = np.where(known, self.groups_per_bundle, 1.0)
        asked = np.ceil(groups / brings - 1e-9)
        wanted = np.minimum(np.maximum(ledger.desired, 1), groups)
        if limits.max_groups is not None:
            left = limits.max_groups - int(ledger.generated.sum())
            if float((asked * brings).sum()) > left:
                least = np.minimum(groups, 1) if ledger.rounds == 0 else 0
                asked = np.maximum(np.floor(np.minimum(groups, left) / brings + 1e-9), least)
            share = limits.max_groups * ledger.desired / max(int(ledger.desired.sum()), 1)
            wanted = np.minimum(wanted, np.maximum(share // limits.most_calls, 1))
        return np.where(known | (limits.most_calls == 1), asked, wanted).astype(np.int64)

    def update(self, facts: GroupFacts, balances: NDArray[np.bool_] | None = None) -> "ProgramMemory":
        """The memory after a round; `balances` are the tasks whose modules train equally many groups each."""
        num_tasks = len(self.groups_per_bundle)
        groups, bundles = facts.counts(num_tasks), facts.select(facts.opens_bundle).counts(num_tasks)
        for task in np.flatnonzero(np.zeros(num_tasks) if balances is None else balances):
            by_role = np.unique(facts.role[facts.task == task], return_counts=True)[1]
            groups[task] = len(by_role) * by_role.min(initial=len(facts))
        seen = np.divide(groups, bundles, out=self.groups_per_bundle.copy(), where=bundles > 0)
        before = np.where(np.isnan(self.groups_per_bundle), seen, self.groups_per_bundle)
        return replace(self, groups_per_bundle=before + _STEP * (seen - before))


class Calls(NamedTuple):
    """
    The calls of all rollouts of N bundles, in any order.

    Args:
        rollout (`numpy.ndarray` of `int`, shape `(M,)`):
            Which rollout made each, `bundle * G + member`.
        role (`numpy.ndarray` of `int`, shape `(M,)`):
            Its module.
        occurrence (`numpy.ndarray` of `int`, shape `(M,)`):
            How often the module came before in the rollout.
        tokens (`numpy.ndarray` of `int`, shape `(M,)`):
            Tokens that the model wrote.
        in_loss (`numpy.ndarray` of `bool`, shape `(M,)`):
            Whether one of them is in the loss.
        trains (`numpy.ndarray` of `bool`, shape `(M,)`):
            Whether its module is trained.
        place (`numpy.ndarray` of `int`, shape `(M, 2)`):
            Where its row lies.
        reward (`numpy.ndarray`, shape `(M,)`):
            What it earned, see [`Scores`].
        parts (`numpy.ndarray`, shape `(M, F)`):
            Of what that is made.
    """

    rollout: IntVector
    role: IntVector
    occurrence: IntVector
    tokens: IntVector
    in_loss: NDArray[np.bool_]
    trains: NDArray[np.bool_]
    place: IntVector
    reward: NDArray[np.float64]
    parts: NDArray[np.float32]


class Bundles(NamedTuple):
    """
    N bundles and what their rollouts earned.

    Args:
        task (`numpy.ndarray` of `int`, shape `(N,)`):
            Task of each.
        prompt (`numpy.ndarray` of `int`, shape `(N,)`):
            Row of the task's dataset.
        bundle (`numpy.ndarray` of `int`, shape `(N,)`):
            Number of each.
        reward (`numpy.ndarray`, shape `(N, G)`):
            Reward of each rollout.
        success (`numpy.ndarray`, shape `(N, G)`):
            Success of each rollout.
        parts (`numpy.ndarray`, shape `(N, G, F)`):
            Values of the task's functions.
    """

    task: IntVector
    prompt: IntVector
    bundle: IntVector
    reward: NDArray[np.float64]
    success: NDArray[np.float64]
    parts: NDArray[np.float32]


class Ragged(NamedTuple):
    """
    Groups before they are judged.

    Args:
        facts ([`GroupFacts`]):
            The groups; all of them accepted.
        in_loss (`numpy.ndarray` of `bool`, shape `(N, G)`):
            Members with a token in the loss.
    """

    facts: GroupFacts
    in_loss: NDArray[np.bool_]


def ragged_groups(calls: Calls, bundles: Bundles, generation: int, all_rollouts: bool = False) -> Ragged:
    """
    One group per bundle, module and occurrence, and one without members for a bundle that brought none.

    Args:
        calls ([`Calls`]):
            The calls.
        bundles ([`Bundles`]):
            The bundles.
        generation (`int`):
            Index of the generation batch.
        all_rollouts (`bool`, *optional*, defaults to `False`):
            Whether rollouts that never made the call have a part in the group's baseline, with the reward of the
            rollout.

    Returns:
        [`Ragged`]: in the order of the bundles; in a bundle by occurrence and module. Success is that of the rollouts
        in every group, also of those that are no members.
    """
    num_bundles, size = bundles.reward.shape
    trained = np.flatnonzero(calls.trains)
    position, member = np.divmod(calls.rollout[trained], size)
    keys = np.stack([position, calls.occurrence[trained], calls.role[trained]], axis=1).reshape(-1, 3)
    found, group_of = np.unique(keys, axis=0, return_inverse=True)
    without = np.setdiff1d(np.arange(num_bundles), found[:, 0])
    nothing = np.stack([without, np.zeros_like(without), np.full_like(without, NO_ROLE)], axis=1)
    groups = np.concatenate([found, nothing]).astype(np.int64)
    num_groups, index = len(groups), group_of.reshape(-1)
    at = groups[:, 0]

    place = np.full((num_groups, size, 2), NOWHERE, dtype=np.int64)
    place[index, member] = calls.place[trained]
    counts_rollouts = all_rollouts & (groups[:, 2] != NO_ROLE)
    reward = np.where(counts_rollouts[:, None], bundles.reward[at], np.nan)
    parts = np.where(counts_rollouts[:, None, None], bundles.parts[at], np.float32(np.nan))
    reward[index, member], parts[index, member] = calls.reward[trained], calls.parts[trained]
    in_loss = np.zeros((num_groups, size), dtype=bool)
    in_loss[index, member] = calls.in_loss[trained]
    tokens = np.bincount(index, weights=calls.tokens[trained], minlength=num_groups).astype(np.int64)

    order = np.lexsort((groups[:, 2], groups[:, 1], at))
    facts = GroupFacts(
        task=bundles.task[at],
        prompt=bundles.prompt[at],
        role=groups[:, 2],
        occurrence=groups[:, 1],
        bundle=bundles.bundle[at],
        members=(place[:, :, 1] != NOWHERE).sum(axis=1),
        generation=np.full(num_groups, generation, dtype=np.int64),
        tokens=tokens,
        outcome=np.zeros(num_groups, dtype=np.int64),
        accepted=np.ones(num_groups, dtype=bool),
        reward=reward,
        success=bundles.success[at],
        parts=parts.astype(np.float32),
        place=place,
    ).select(order)
    # What modules wrote that are not trained was paid for with the bundle.
    frozen = np.bincount(
        calls.rollout[~calls.trains] // size, weights=calls.tokens[~calls.trains], minlength=num_bundles
    )
    paid = facts.tokens.copy()
    paid[facts.opens_bundle] += frozen.astype(np.int64)
    return Ragged(replace(facts, tokens=paid), in_loss[order])


def judged(
    ragged: Ragged, outcome: IntVector, accepted: NDArray[np.bool_], keeps_all: bool, all_rollouts: bool = False
) -> GroupFacts:
    """
    Groups with what was decided about them.

    Args:
        ragged ([`Ragged`]):
            The groups.
        outcome (`numpy.ndarray` of `int`, shape `(N,)`):
            Why each trains or not.
        accepted (`numpy.ndarray` of `bool`, shape `(N,)`):
            Which of them may train.
        keeps_all (`bool`):
            Whether groups without a gradient train too.
        all_rollouts (`bool`, *optional*, defaults to `False`):
            See [`ragged_groups`]; a single member then has others to be compared with.

    Returns:
        [`GroupFacts`]: groups with one member are told apart, and those with none never train.
    """
    facts = ragged.facts
    single = (facts.members == 1) & (facts.reward.shape[1] > 1) & (not all_rollouts)
    outcome = np.where(facts.members == 0, _UNSCORED, np.where(single, _SINGLETON, outcome))
    accepted = accepted & (facts.members > 0) & (keeps_all | ~single)
    return replace(facts, outcome=outcome, accepted=accepted)


def balanced(stock: GroupFacts, chosen: IntVector, tasks: NDArray[np.bool_] | None) -> IntVector:
    """
    As many groups of each task as were chosen, the modules of a task in turn, the earliest groups first.

    Args:
        stock ([`GroupFacts`]):
            The groups that may train, oldest first.
        chosen (`numpy.ndarray` of `int`):
            Positions that were chosen without regard to modules.
        tasks (`numpy.ndarray` of `bool`, shape `(K,)`, *optional*):
            Tasks whose modules are balanced.

    Returns:
        `numpy.ndarray` of `int`: as many positions, ascending.
    """
    if tasks is None:
        return chosen
    keep = [chosen[~tasks[stock.task[chosen]]]]
    for task in np.unique(stock.task[chosen]):
        if tasks[task]:
            mine = np.flatnonzero(stock.task == task)
            order = np.argsort(_turns(stock.role[mine]), kind="stable")
            keep.append(mine[order][: int((stock.task[chosen] == task).sum())])
    return np.sort(np.concatenate(keep)).astype(np.int64)


def matched(stock: GroupFacts, left: NDArray[np.bool_], tasks: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """
    Groups that have a counterpart of every other module of their task: without one they could not train in balance.

    Args:
        stock ([`GroupFacts`]):
            The groups that may train, oldest first.
        left (`numpy.ndarray` of `bool`, shape `(N,)`):
            Those that may be kept.
        tasks (`numpy.ndarray` of `bool`, shape `(K,)`, *optional*):
            Tasks whose modules are balanced.

    Returns:
        `numpy.ndarray` of `bool`, shape `(N,)`: all of the other tasks.
    """
    keep = np.ones(len(stock), dtype=bool)
    for task in np.flatnonzero(np.zeros(0) if tasks is None else tasks):
        roles = np.unique(stock.role[stock.task == task])
        mine = np.flatnonzero(left & (stock.task == task))
        fewest = min([int((stock.role[mine] == role).sum()) for role in roles], default=0)
        keep[mine] = _turns(stock.role[mine]) < fewest
    return keep


def _turns(roles: IntVector) -> IntVector:
    """How many groups of the same role come before each."""
    turns = np.zeros(len(roles), dtype=np.int64)
    for role in np.unique(roles):
        turns[roles == role] = np.arange((roles == role).sum())
    return turns


def rollout_part(
    parts: NDArray[np.float32], weights: NDArray[np.float64], reward: NDArray[np.float64], where: Any
) -> NDArray[np.float32]:
    """
    Values of a task's functions that add up to a given reward: all of it in the first function that has a weight.

    Args:
        parts (`numpy.ndarray` of shape `(N, F)`):
            What the functions gave.
        weights (`numpy.ndarray` of shape `(F,)`):
            Their weights.
        reward (`numpy.ndarray` of shape `(N,)`):
            What they are to add up to.
        where (`numpy.ndarray` of `bool`, shape `(N,)`):
            Rows that are changed.

    Returns:
        `numpy.ndarray` of shape `(N, F)`
    """
    first = int(np.flatnonzero(weights)[0])
    changed = parts.copy()
    keeps = weights == 0  # an outcome is no part of the reward
    changed[np.ix_(where, ~keeps)] = np.nan
    changed[where, first] = (reward[where] / weights[first]).astype(np.float32)
    return changed
