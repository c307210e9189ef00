"""The ledger of rollouts: what came equals what went."""

import numpy as np

from trl_mtgrpo.sampling import OUTCOMES
from trl_mtgrpo.sampling.accounting import REASONS, RolloutLedger
from trl_mtgrpo.state.codec import from_json, to_json


def ledger(**changes: list) -> RolloutLedger:
    # task 0: 2 carried in + 10 generated = 6 trained + (1 solved + 2 failed) + 1 expired + 2 carried out
    values = {
        "carried_in": [2, 0],
        "generated": [10, 4],
        "trained": [6, 4],
        "filtered": [[1, 2, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]],
        "expired": [1, 0],
        "carried_out": [2, 0],
    }
    return RolloutLedger(**{name: np.array(value) for name, value in (values | changes).items()})


def test_reasons_are_the_outcomes_with_the_informative_one_last() -> None:
    assert sorted(REASONS) == sorted([*OUTCOMES, "pilot"])
    assert REASONS[-1] == "informative"


def test_a_balanced_ledger_has_no_imbalance() -> None:
    assert ledger().imbalance.tolist() == [0, 0]


def test_a_lost_group_shows_in_its_task() -> None:
    assert ledger(trained=[5, 4]).imbalance.tolist() == [1, 0]
    assert ledger(filtered=[[1, 2, 0, 0, 0, 0, 1], [0] * 7]).imbalance.tolist() == [-1, 0]


def test_waste_is_generated_per_trained() -> None:
    assert ledger().waste == 14 / 10
    assert RolloutLedger.empty(2).waste == 0.0
    assert ledger(trained=[0, 0]).waste == 14.0


def test_totals_add_flows_and_keep_the_last_stock() -> None:
    total = RolloutLedger.empty(2).then(ledger(carried_in=[0, 0], generated=[12, 4])).then(ledger())
    assert total.generated.tolist() == [22, 8]
    assert total.carried_out.tolist() == [2, 0]
    assert total.carried_in.tolist() == [0, 0]
    assert total.imbalance.tolist() == [0, 0]


def test_the_json_form_comes_back_with_its_shapes() -> None:
    again = from_json(RolloutLedger, to_json(RolloutLedger.empty(3)))
    assert again.filtered.shape == (3, len(REASONS))
    assert to_json(from_json(RolloutLedger, to_json(ledger()))) == to_json(ledger())
