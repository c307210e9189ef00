"""How many groups of each task to ask for, so that few further rounds are needed and few groups go to waste."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


IntVector = NDArray[np.int64]
FloatVector = NDArray[np.float64]

# Tasks that cannot fill their deficit with more than this probability get all they may have.
HOPELESS = 1e-6
# What a request sized for the last rounds promises: everything filled, but for one step in a hundred.
SHORTFALL = 0.01
# How often a round of normal size is expected to fail; later rounds are counted on to this extent.
LATER_FAILURE = 0.1


class RequestGoal(NamedTuple):
    """
    What a request is sized for.

    Args:
        round_cost (`float`): Groups that avoiding one further round is worth.
        fill_probability (`float`, *optional*): Probability of filling every deficit at which a request stops growing.
        max_waste (`float`): Expected useless groups, as a share of the need, at which a request stops growing.
        rounds_left (`int`): Rounds that may still be made, this one included.
        reuse_mean (`numpy.ndarray` of shape `(K,)`): Groups of the task that later steps are expected to take from a
            surplus. Zero where surplus is thrown away.
        reuse_variance (`numpy.ndarray` of shape `(K,)`): Variance of the same.
    """

    round_cost: float
    fill_probability: float | None
    max_waste: float
    rounds_left: int
    reuse_mean: FloatVector
    reuse_variance: FloatVector


def size_requests(
    deficits: IntVector, caps: IntVector, alpha: FloatVector, beta: FloatVector, goal: RequestGoal, multiple: int = 1
) -> IntVector:
    """
    Groups to generate per task.

    Acceptance of task k is Beta(alpha_k, beta_k), so the number of groups until its d_k-th acceptance follows a
    beta-negative-binomial law; its exact distribution F_k(n), n = d_k .. cap_k, is tabulated for all tasks at once.
    Starting from the fewest groups, single groups are added in the order of log F_k gained per expected useless group,
    up to the point where useless groups plus further rounds cost least. A group is useless when its task is already
    filled and no later step takes the surplus; M = Σ_k (1 - F_k) open tasks cost `round_cost` log2(1 + M), since a
    round leaves about half of them open. With a `fill_probability` the point is where Π_k F_k reaches it, or that
    share of what the caps allow.

    Args:
        deficits (`numpy.ndarray` of shape `(K,)`): d, groups still missing.
        caps (`numpy.ndarray` of shape `(K,)`): Most groups that may be asked for; at least d where d > 0.
        alpha, beta (`numpy.ndarray` of shape `(K,)`): Parameters of the acceptance estimate, positive.
        goal ([`RequestGoal`]): What to size for.
        multiple (`int`, *optional*, defaults to `1`): The total is rounded up to a multiple of this.

    Returns:
        `numpy.ndarray` of `int`, shape `(K,)`. Memory and time grow with K and the sum of the caps.
    """
    request = np.zeros_like(deficits)
    active = np.flatnonzero(deficits)
    if active.size == 0:
        return request
    a, b = alpha[active], beta[active]
    need = deficits[active]
    cap = np.maximum(np.minimum(caps[active], _enough(need, a, b)), need)
    task, size, filled, first = _fill_table(need, cap, a, b)
    at_cap = np.maximum(filled[first + cap - need], 1e-300)

    # The fewest groups that keep a fill within the rounds left likely.
    failure = SHORTFALL / active.size * LATER_FAILURE ** (1 - goal.rounds_left) if goal.rounds_left < 10 else 1.0
    least = np.minimum(max(1.0 - failure, HOPELESS), at_cap)
    below = np.bincount(task, weights=filled < least[task], minlength=active.size)
    base = need + np.where(at_cap <= HOPELESS, cap - need, below).astype(np.int64)
    base = np.minimum(base, cap)

    # Rows that a request can reach: beyond the base, and not sure to be useless.
    further = np.flatnonzero(size > base[task])
    further = further[filled[further - 1] < 1.0 - HOPELESS]
    previous = np.maximum(filled[further - 1], HOPELESS / 10)
    gain = np.maximum(np.log(np.maximum(filled[further], previous) / previous), 0.0)
    waste = _useless_probability(task[further], size[further], filled[further - 1], need, a, b, goal, active)
    order = np.argsort(-gain / waste, kind="stable")
    reached = np.cumsum(gain[order])
    wasted = np.cumsum(waste[order])

    at_base = np.maximum(filled[first + base - need], 1e-300)
    if goal.fill_probability is not None:
        reachable = float(np.log(at_cap).sum())
        wanted = np.log(goal.fill_probability) - np.log(at_base).sum()
        if reachable <= np.log(goal.fill_probability):
            wanted += reachable
        added = int(np.searchsorted(reached, wanted)) + 1 if wanted > 0 else 0
    else:
        open_tasks = (1.0 - at_base).sum() - np.cumsum((filled[further] - filled[further - 1])[order])
        open_tasks = np.concatenate([[(1.0 - at_base).sum()], open_tasks]).clip(min=0.0)
        # A round of normal size leaves about half of the open tasks open.
        cost = np.concatenate([[0.0], wasted]) + goal.round_cost * np.log2(1.0 + open_tasks)
        added = int(np.argmin(cost))
    allowance = goal.max_waste * float((need * (a + b) / a).clip(max=cap).sum())
    added = min(added, int(np.searchsorted(wasted, allowance, side="right")), order.size)
    missing = -(int(base.sum()) + added) % multiple
    added = min(added + missing, order.size)
    request[active] = base + np.bincount(task[further[order[:added]]], minlength=active.size)
    return request


def apportion(total: int, shares: FloatVector) -> IntVector:
    """
    Whole numbers that add up to `total` and are as near to `total * shares` as can be (largest remainders; ties go to
    the lower index). `shares` are rescaled to sum to 1.
    """
    exact = total * shares / shares.sum()
    counts: IntVector = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def fair_cut(request: IntVector, owed: FloatVector, total: int) -> IntVector:
    """
    The part of `request` that a budget of `total` groups pays for, min(request_k, λ owed_k): every place that is owed
    gets the same number of groups, and a task that asks for fewer leaves them to the others. Where the budget is too
    small, the mix is bent by what each task's places cost and by nothing else.

    Args:
        request (`numpy.ndarray` of `int`, shape `(K,)`): Groups asked for.
        owed (`numpy.ndarray` of shape `(K,)`): Places that each task lacks; positive where it asks for groups.
        total (`int`): Groups to hand out, at most the sum of `request`.

    Returns:
        `numpy.ndarray` of `int`, shape `(K,)`: adds up to `total`; at most `request`.
    """
    asking = np.flatnonzero(request)
    most, places = request[asking].astype(np.float64), owed[asking].astype(np.float64)
    order = np.argsort(most / places, kind="stable")
    served = np.cumsum(most[order]) - most[order]
    # λ if the tasks before this one in the order get all that they ask for; the first that needs more fixes it.
    levels = (total - served) / (places.sum() - np.cumsum(places[order]) + places[order])
    short = np.flatnonzero(levels < (most / places)[order])
    if not short.size:
        return request.copy()
    exact = np.minimum(most, levels[short[0]] * places)
    counts = np.floor(exact + 1e-9).astype(np.int64)
    room = np.argsort(counts - exact, kind="stable")
    room = room[counts[room] < request[asking][room]]
    counts[room[: total - int(counts.sum())]] += 1
    cut = np.zeros_like(request)
    cut[asking] = counts
    return cut


def pooled(
    deficits: IntVector, alpha: FloatVector, beta: FloatVector, weights: FloatVector
) -> tuple[IntVector, FloatVector, FloatVector]:
    """The mixture as a single task: its acceptance is the weighted mean, with the variance that belongs to it."""
    rates = alpha / (alpha + beta)
    mean = float(weights @ rates)
    variance = float(weights**2 @ (rates * (1.0 - rates) / (alpha + beta + 1.0)))
    strength = mean * (1.0 - mean) / variance - 1.0
    return (
        np.array([int(deficits.sum())], dtype=np.int64),
        np.array([mean * strength]),
        np.array([(1.0 - mean) * strength]),
    )


def _enough(need: IntVector, a: FloatVector, b: FloatVector) -> IntVector:
    """Groups that fill `need` for all practical purposes; tabulating more would only cost time."""
    rate = a / (a + b)
    cautious = np.maximum(rate - 5.0 * np.sqrt(rate * (1.0 - rate) / (a + b + 1.0)), 1e-3 * rate)
    return np.ceil((need + 5.0 * np.sqrt(need) + 10.0) / cautious).astype(np.int64)


def _fill_table(
    need: IntVector, cap: IntVector, a: FloatVector, b: FloatVector
) -> tuple[IntVector, IntVector, FloatVector, IntVector]:
    """Rows (task, n, P(n groups hold `need` acceptances)) for n = need .. cap, task after task; and each first row."""
    num_tasks = need.size
    length = cap - need + 1
    first = np.cumsum(length) - length
    task = np.repeat(np.arange(num_tasks), length)
    extra = np.arange(task.size) - np.repeat(first, length)
    size = extra + np.repeat(need, length)

    # P(the first `need` groups are all accepted), a product over i < need.
    i = np.arange(int(need.sum())) - np.repeat(np.cumsum(need) - need, need)
    a_of_i = np.repeat(a, need) + i
    all_accepted = np.add.reduceat(np.log(a_of_i / (a_of_i + np.repeat(b, need))), np.cumsum(need) - need)
    # P(N = n) / P(N = n - 1), with N the number of groups until the last acceptance needed.
    tries = size - 1.0
    log_ratio = tries * (np.repeat(b - 1.0, length) + extra)
    log_ratio /= np.maximum(extra, 1) * (np.repeat(a + b, length) + tries)
    log_ratio[first] = 1.0
    np.log(log_ratio, out=log_ratio)
    # One running sum for all tasks: each starts by taking back what the task before ended with.
    ended = np.add.reduceat(log_ratio, first) + all_accepted
    log_ratio[first] = all_accepted - np.concatenate([[0.0], ended[:-1]])
    probability = np.exp(np.cumsum(log_ratio))
    total = np.cumsum(probability)
    before = np.repeat(total[first] - probability[first], length)
    return task, size, np.clip(total - before, 0.0, 1.0), first


def _useless_probability(
    task: IntVector,
    size: IntVector,
    filled_before: FloatVector,
    need: IntVector,
    a: FloatVector,
    b: FloatVector,
    goal: RequestGoal,
    active: IntVector,
) -> FloatVector:
    """Probability that the n-th group finds its task filled and its surplus unwanted, per table row."""
    if not goal.reuse_mean.any():
        return np.maximum(filled_before, HOPELESS)
    rate = (a / (a + b))[task]
    variance = rate * (1.0 - rate) * (size + size**2 / (a + b + 1.0)[task]) + goal.reuse_variance[active][task]
    excess = size * rate - need[task] - goal.reuse_mean[active][task] + 0.5
    # The logistic curve stands in for the normal distribution function; it is within 0.01 of it.
    unwanted = 1.0 / (1.0 + np.exp(-np.clip(1.702 * excess / np.sqrt(variance + 1e-12), -50.0, 50.0)))
    return np.maximum(np.minimum(filled_before, unwanted), HOPELESS)
