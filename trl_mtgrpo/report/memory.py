"""What the memory of prompts found out, in words."""

from collections.abc import Sequence

import numpy as np

from ..sampling import PromptMemory
from ..sampling.accounting import Counts


# Savings below this are not worth a setting.
WORTH_SAYING = 0.05


def memory_sentences(names: Sequence[str], memory: PromptMemory, generated: Counts, skips: bool) -> list[str]:
    """
    What passing over solved prompts saves at the end of a run, and which rows never work.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        memory ([`PromptMemory`]):
            What is known of single prompts.
        generated (`numpy.ndarray` of `int`, shape `(K,)`):
            Groups that the run generated, by which tasks count.
        skips (`bool`):
            Whether prompts were passed over.

    Returns:
        `list[str]`: nothing where there is nothing to say.
    """
    sentences = []
    known = ~np.isnan(memory.savings) & (generated > 0)
    saving = float((generated * memory.savings)[known].sum() / generated[known].sum()) if known.any() else 0.0
    if saving >= WORTH_SAYING:
        verb = "saves" if skips else "would save"
        sentences.append(
            f"Passing over solved prompts {verb} about {saving:.0%} of the groups generated at the end of this run "
            "(`prompt_memory='solved'`)."
        )
    sentences += [
        f"Task {name!r}: {len(rows)} rows failed in every rollout of their last six groups. Check their answers "
        "(`trainer.never_solved_rows()`)."
        for name, rows in zip(names, memory.never_solved(), strict=True)
        if len(rows)
    ]
    return sentences
