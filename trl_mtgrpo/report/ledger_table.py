"""How the ledger of a run is shown: one row per task and a total."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ..sampling.accounting import REASONS, RolloutLedger
from .screen import NAME_WIDTH, as_text


def ledger_table(names: Sequence[str], groups: RolloutLedger, tokens: RolloutLedger) -> Table:
    """
    The ledger of a run as a table. A reason for not training that never occurred has no column.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        groups ([`RolloutLedger`]):
            The run's totals in groups.
        tokens ([`RolloutLedger`]):
            The run's totals in tokens.

    Returns:
        [`rich.table.Table`]
    """
    # An informative group is filtered only by a filter of the user's own.
    reasons = ["excluded" if reason == "informative" else reason for reason in REASONS]
    counted = [*groups.filtered.T, groups.expired, groups.carried_out]
    fates = dict(zip([*reasons, "expired", "carried"], counted, strict=True))
    columns = {
        "generated": groups.generated,
        "trained": groups.trained,
        **{fate: counts for fate, counts in fates.items() if counts.any()},
        "tokens\ngenerated": tokens.generated,
        "tokens\ntrained": tokens.trained,
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("task", overflow="fold", max_width=NAME_WIDTH)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for k, name in enumerate(names):
        table.add_row(Text(name), *(f"{int(counts[k]):,}" for counts in columns.values()))
    table.add_section()
    table.add_row("all tasks", *(f"{int(counts.sum()):,}" for counts in columns.values()))
    return table


def format_ledger(names: Sequence[str], groups: RolloutLedger, tokens: RolloutLedger, width: int = 160) -> str:
    """
    The table of [`ledger_table`] as text.

    Args:
        names (`Sequence[str]`):
            Task names in order.
        groups ([`RolloutLedger`]):
            The run's totals in groups.
        tokens ([`RolloutLedger`]):
            The run's totals in tokens.
        width (`int`, *optional*, defaults to `160`):
            Most columns of text.

    Returns:
        `str`: lines without a trailing newline.
    """
    return as_text(ledger_table(names, groups, tokens), width)
