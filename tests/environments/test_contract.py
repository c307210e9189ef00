"""What environments lean on in TRL is checked: a change is named before it can do harm."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trl import GRPOTrainer

from tests.environments.world import agent_trainer, guess_task
from trl_mtgrpo.host.contract import OF_ENVIRONMENTS, OF_ROWS, HostContractError, check_tool_rows, check_trainer


@pytest.mark.parametrize("name", OF_ENVIRONMENTS)
def test_a_missing_attribute_is_named_when_the_trainer_is_built(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    init = GRPOTrainer.__init__

    def without(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        delattr(self, name)

    monkeypatch.setattr(GRPOTrainer, "__init__", without)
    with pytest.raises(HostContractError, match=f"must have the attributes .'{name}'"):
        agent_trainer(tmp_path, [guess_task()])


def test_a_trainer_without_environments_needs_none_of_them() -> None:
    trainer = SimpleNamespace(environment_factories=None)
    with pytest.raises(HostContractError) as caught:
        check_trainer(trainer)
    assert not any(name in str(caught.value) for name in OF_ENVIRONMENTS)


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("value", [None, [1]])
def test_what_is_kept_per_row_must_have_one_entry_per_row(name: str, value: Any) -> None:
    trainer = SimpleNamespace(**({key: [1, 2] for key in OF_ROWS} | {name: value}))
    with pytest.raises(HostContractError, match=rf"`GRPOTrainer\.{name}` must have one entry per row.*for 2 rows"):
        check_tool_rows(trainer, 2)
    check_tool_rows(SimpleNamespace(**{key: [1, 2] for key in OF_ROWS}), 2)


def test_a_changed_batch_is_named_while_tools_are_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loop = GRPOTrainer._generate_single_turn

    def losing(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._sync_tool_dicts = self._sync_tool_dicts[1:]
        return loop(self, *args, **kwargs)

    trainer = agent_trainer(tmp_path, [guess_task()])
    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", losing)
    with pytest.raises(HostContractError, match=r"`GRPOTrainer\._sync_tool_dicts` must have one entry per row"):
        trainer.train()
