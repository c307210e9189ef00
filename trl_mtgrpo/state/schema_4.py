"""State files of version 0.1, read as those of now."""

from collections import Counter
from typing import Any

from ..rollouts import GroupFacts
from ..rollouts.programs import ProgramMemory
from ..sampling import ForgettingAlarm, PromptMemory
from ..sampling.accounting import RolloutLedger
from ..sampling.pilots import PilotEstimate
from ..sampling.stalls import USUAL_AT_FIRST
from .codec import to_json


def from_schema_4(old: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """
    The state that a file of schema 4 holds.

    Its carried groups expire: they were stored as the host's rows, with rewards in columns of all tasks.

    Args:
        old (`dict`):
            The state as schema 4 wrote it.

    Returns:
        `tuple`: the JSON form of the state now, and a sentence on the groups that expired, empty for none.
    """
    names, carried = old["task_names"], old["carried"]
    expired = Counter(group["task_id"] for group in carried)
    tokens: Counter[int] = Counter()
    for group in carried:
        tokens[group["task_id"]] += group["num_tokens"]
    state = {
        "task_names": names,
        "generation": old["generation"],
        "owner": {"strategy": _owner(old["weighting"]), "optimizer": ""},
        "weighting": old["weighting"],
        "guard": _known(old["guard"]),
        "reward_average": _known(old["reward_average"]),
        "acceptance": old["acceptance"],
        "unsolved": old["unsolved"],
        "stalls": {
            **old["stalls"],
            "outcomes": [[*row, 0, 0] for row in old["stalls"]["outcomes"]],
            "usual": [USUAL_AT_FIRST] * len(names),
        },
        "forgetting": to_json(ForgettingAlarm().init(len(names))),
        "draws": {
            "cursors": old["cursors"],
            "memory": to_json(PromptMemory.start(len(names))),
            "num_rows": old["num_rows"],
            "fingerprints": [],
        },
        "groups": _expire(old["groups"], expired),
        "tokens": _expire(old["tokens"], tokens),
        "rollouts": to_json(RolloutLedger.empty(len(names))),
        "pilots": to_json(PilotEstimate.start(len(names))),
        "carried": to_json(GroupFacts.empty()),
        "programs": to_json(ProgramMemory.start(len(names))),
        "functions": [],
        "empty_steps": old["empty_steps"],
    }
    if not carried:
        return state, ""
    by_task = ", ".join(f"{expired[k]} of '{name}'" for k, name in enumerate(names) if expired[k])
    return state, f"{len(carried)} carried groups expire ({by_task}): version 0.1 stored them in another form."


def _owner(weighting: dict[str, Any]) -> str:
    """
    The strategy that a state without owner is of, as far as its numbers tell: moments stand for an optimizer and so
    for logits, weights add up to 1, values of a bandit are not negative.
    """
    values = weighting["values"]
    if any(weighting["second_moment"]) or min(values) < 0:
        return ""
    if abs(sum(values) - 1.0) <= 1e-6:
        return "FixedWeighting"
    return "SelfEvolvingCurriculum" if weighting["step"] and any(values) else ""


def _known(part: dict[str, Any]) -> dict[str, Any]:
    """Schema 4 wrote NaN as null."""
    return {name: ["nan" if value is None else value for value in values] for name, values in part.items()}


def _expire(ledger: dict[str, Any], counts: Counter[int]) -> dict[str, Any]:
    return {
        **ledger,
        # Reasons that version 0.1 did not know stand before the last one.
        "filtered": [[*row[:-1], 0, 0, 0, row[-1]] for row in ledger["filtered"]],
        "expired": [value + counts[k] for k, value in enumerate(ledger["expired"])],
        "carried_out": [value - counts[k] for k, value in enumerate(ledger["carried_out"])],
    }
