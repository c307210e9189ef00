"""Which checkpoint is resumed: the newest one that is complete and undamaged."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trl_mtgrpo.state.checkpoints import (
    begin_checkpoint,
    checkpoint_problem,
    find_checkpoint,
    last_complete_checkpoint,
)
from trl_mtgrpo.state.run_state import STATE_FILE, StateFileError, start_state, write_state
from trl_mtgrpo.weighting import FixedWeighting


def checkpoint(folder: Path, step: int, num_ranks: int = 1, steps_left: int = 0) -> Path:
    """A checkpoint with the files that the host writes."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.zeros(4, 3)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin"):
        torch.save({"step": step}, path / name)
    for name in ["rng_state.pth"] if num_ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(num_ranks)]:
        torch.save({"cpu": torch.zeros(5)}, path / name)
    write_state(path / STATE_FILE, start_state(("a",), FixedWeighting()), steps_left, num_ranks)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: int(keep * len(content))])

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no trainer state": (lambda path: (path / "trainer_state.json").unlink(), "writing it was interrupted"),
    "cut trainer state": (cut("trainer_state.json", 0.5), "`trainer_state.json` is damaged"),
    "empty trainer state": (cut("trainer_state.json", 0.0), "`trainer_state.json` is damaged"),
    "no state": (lambda path: (path / STATE_FILE).unlink(), "must be in the checkpoint, got none"),
    "cut state": (cut(STATE_FILE, 0.9), "must be a complete state file"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "it has no model weights"),
    "cut weights": (cut("model.safetensors", 0.9), "`model.safetensors` is damaged"),
    "cut header of the weights": (cut("model.safetensors", 0.1), "`model.safetensors` is damaged"),
    "empty weights": (cut("model.safetensors", 0.0), "`model.safetensors` is damaged"),
    "no optimizer": (lambda path: (path / "optimizer.pt").unlink(), "it has no optimizer"),
    "cut optimizer": (cut("optimizer.pt", 0.7), "`optimizer.pt` is damaged"),
    "empty optimizer": (cut("optimizer.pt", 0.0), "`optimizer.pt` is damaged"),
    "no scheduler": (lambda path: (path / "scheduler.pt").unlink(), "it has no scheduler"),
    "no random state": (lambda path: (path / "rng_state.pth").unlink(), "it has no random state"),
    "cut random state": (cut("rng_state.pth", 0.5), "`rng_state.pth` is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_and_the_damage_named(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert last_complete_checkpoint(tmp_path) == newer
    apply, expected = DAMAGES[damage]
    apply(newer)
    with caplog.at_level(logging.WARNING):
        assert last_complete_checkpoint(tmp_path) == older
    assert expected in caplog.text
    assert "checkpoint-10 is skipped" in caplog.text


def test_steps_are_compared_as_numbers(tmp_path: Path) -> None:
    newest = checkpoint(tmp_path, 100)
    checkpoint(tmp_path, 20)
    assert last_complete_checkpoint(tmp_path) == newest


def test_other_folders_are_no_checkpoints(tmp_path: Path) -> None:
    only = checkpoint(tmp_path, 3)
    for name in ("checkpoint-best", "checkpoint-5-backup", "run-1"):
        shutil.copytree(only, tmp_path / name)
    (tmp_path / "checkpoint-7").write_text("a file")
    assert last_complete_checkpoint(tmp_path) == only


def test_a_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "nowhere") is None


def test_without_optimizers_a_checkpoint_may_be_complete(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (path / name).unlink()
    assert checkpoint_problem(path) == "it has no optimizer"
    assert checkpoint_problem(path, needs_optimizer=False) is None


def test_every_rank_must_have_saved_its_random_state(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3, num_ranks=2)
    assert checkpoint_problem(path) is None
    (path / "rng_state_1.pth").unlink()
    assert checkpoint_problem(path) == "it has no random state of rank 1"


def test_a_checkpoint_inside_a_generation_is_skipped(tmp_path: Path) -> None:
    assert "inside a generation batch of which 2" in str(checkpoint_problem(checkpoint(tmp_path, 3, steps_left=2)))


def test_a_missing_shard_of_the_weights_is_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert checkpoint_problem(path) == "`model-00002-of-00002.safetensors` is damaged"


def test_the_folder_of_deepspeed_is_looked_into(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    for name in ("optimizer.pt", "model.safetensors"):
        (path / name).unlink()
    (path / "latest").write_text("global_step3")
    (path / "global_step3").mkdir()
    states = path / "global_step3" / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"a": torch.zeros(9)}, states)
    assert checkpoint_problem(path) is None
    states.write_bytes(states.read_bytes()[:-20])
    assert checkpoint_problem(path) == f"`{states.name}` is damaged"


def test_an_explicit_damaged_checkpoint_is_refused_with_the_one_to_use(tmp_path: Path) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert find_checkpoint(str(newer), str(tmp_path)) == newer
    (newer / "optimizer.pt").unlink()
    with pytest.raises(StateFileError, match=f"got {newer}: it has no optimizer. Use {older} instead."):
        find_checkpoint(str(newer), str(tmp_path))
    shutil.rmtree(older)
    with pytest.raises(StateFileError, match="Start anew; no other one is complete"):
        find_checkpoint(str(newer), str(tmp_path))


def test_no_complete_checkpoint_is_an_error_when_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        StateFileError, match="must be left out when there is no complete checkpoint, got True and none"
    ):
        find_checkpoint(True, str(tmp_path))


def test_a_checkpoint_that_is_written_anew_counts_as_incomplete(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    begin_checkpoint(path)
    assert "writing it was interrupted" in str(checkpoint_problem(path))
    begin_checkpoint(tmp_path / "checkpoint-9")
    assert (tmp_path / "checkpoint-9").is_dir()
