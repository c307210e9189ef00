"""Every option of TRL trains: bit-equal to the host without tasks, with a balanced ledger with three tasks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from tests.host_options import OPTIONS
from tests.host_parts import saved_model
from tests.host_plain_data import DATASETS, EVALUATIONS, REWARDS
from tests.host_plain_runs import LIVES, RESUMED, ROLLOUTS
from tests.host_runs import Option, differences, matches, parameters_of, train_plain, train_tasks
from trl_mtgrpo import MultiTaskGRPOTrainer


# Options are tried on one set of rewards, whose sums leave 0..1 for some.
pytestmark = [
    pytest.mark.filterwarnings("ignore:rewards of task"),
    pytest.mark.filterwarnings("ignore:You are using 'environment_factory'"),
]

TABLES = (OPTIONS, REWARDS, DATASETS, EVALUATIONS, ROLLOUTS, LIVES, RESUMED)
PLAIN = REWARDS | DATASETS | EVALUATIONS | ROLLOUTS | LIVES | RESUMED
ALL = OPTIONS | PLAIN


def _marked(options: dict[str, Option], fast: bool = True) -> list[Any]:
    return [
        pytest.param(name, marks=() if fast and option.fast else pytest.mark.slow, id=name)
        for name, option in options.items()
    ]


def test_the_matrix_has_at_least_120_options_and_each_a_name_of_its_own() -> None:
    assert len(ALL) == sum(map(len, TABLES))
    assert len(OPTIONS) >= 40
    assert len(ALL) >= 120


# The others are also run with tasks.
@pytest.mark.parametrize("name", _marked(OPTIONS, fast=False) + _marked(PLAIN))
def test_an_option_trains_as_with_the_host(name: str, tmp_path: Path) -> None:
    host = train_plain(GRPOTrainer, GRPOConfig, ALL[name], tmp_path)
    assert matches(ALL[name], host), host.error
    own = train_plain(MultiTaskGRPOTrainer, ALL[name].config, ALL[name], tmp_path)
    assert differences(host, own) == []
    assert matches(ALL[name], own), own.error


@pytest.mark.parametrize("name", _marked(RESUMED, fast=False))
def test_the_host_continues_a_checkpoint_of_a_plain_run(name: str, tmp_path: Path) -> None:
    host = train_plain(GRPOTrainer, GRPOConfig, RESUMED[name], tmp_path)
    after_own = train_plain(GRPOTrainer, RESUMED[name].config, RESUMED[name], tmp_path, saved_by=MultiTaskGRPOTrainer)
    assert differences(host, after_own) == []


@pytest.mark.parametrize("trainer_class", [GRPOTrainer, MultiTaskGRPOTrainer])
def test_rollouts_are_checked_also_by_a_trainer_that_was_not_built(trainer_class: type[GRPOTrainer]) -> None:
    trainer = object.__new__(trainer_class)
    trainer.accelerator = type("Accelerator", (), {"device": torch.device("cpu")})()
    trainer.model = torch.nn.Linear(1, 1)
    trainer.use_vllm = False
    trainer.rollout_func = lambda prompts, trainer: {"prompt_ids": [[1]], "completion_ids": [[2]]}
    with pytest.raises(ValueError, match=r"must return keys \['logprobs'\]"):
        trainer._generate(["p"])


@pytest.mark.parametrize("name", _marked(OPTIONS))
def test_an_option_trains_three_tasks_with_filter_refill_and_surplus(name: str, tmp_path: Path) -> None:
    # Four groups or more per generation batch, so that every task has a place.
    rows = 32 if "num_generations" in OPTIONS[name].settings else 16
    changes = {"generation_batch_size": 32} if "generation_batch_size" in OPTIONS[name].settings else {}
    trainer = train_tasks(OPTIONS[name], tmp_path, per_device_train_batch_size=rows, oversampling=2.0, **changes)
    ledger = trainer.multi_task_state.groups
    assert ledger.imbalance.tolist() == [0, 0, 0]
    assert trainer.multi_task_state.tokens.imbalance.tolist() == [0, 0, 0]
    assert ledger.generated.sum() > ledger.trained.sum() > 0
    after = parameters_of(trainer)
    assert torch.isfinite(after).all()
    assert sum(abs(line.get("grad_norm", 0.0)) for line in trainer.state.log_history) > 0
    if "peft_config" not in OPTIONS[name].trainer():
        before = torch.cat([p.detach().flatten() for p in saved_model(tmp_path).parameters()])
        assert not torch.equal(before, after)
