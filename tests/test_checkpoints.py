"""Which checkpoint is resumed: the newest one that is complete and undamaged."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trl_mtgrpo.state.branches import BRANCH_FILE, Branch
from trl_mtgrpo.state.checkpoint_files import TRAINER_STATE, inspect
from trl_mtgrpo.state.checkpoints import (
    begin_branch,
    begin_checkpoint,
    find_checkpoint,
    last_complete_checkpoint,
)
from trl_mtgrpo.state.run_state import start_state
from trl_mtgrpo.state.state_file import STATE_FILE, StateFileError, write_state
from trl_mtgrpo.weighting import FixedWeighting


def checkpoint(
    folder: Path, step: int, num_ranks: int = 1, steps_left: int = 0, lineage: Sequence[Branch] = ()
) -> Path:
    """A checkpoint with the files that the host writes."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.zeros(4, 3)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin"):
        torch.save({"step": step}, path / name)
    for name in ["rng_state.pth"] if num_ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(num_ranks)]:
        torch.save({"cpu": torch.zeros(5)}, path / name)
    state = start_state(("a",), FixedWeighting())
    write_state(path / STATE_FILE, state, (), steps_left, num_ranks, lineage)
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
    "no state": (lambda path: (path / STATE_FILE).unlink(), f"it has no `{STATE_FILE}`, so another trainer wrote it"),
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
    assert f"{older} is the newest checkpoint that can be resumed. Skipped: checkpoint-10 (" in caplog.text
    assert ("it may be deleted" in caplog.text) == (damage == "no trainer state")
    assert len(caplog.records) == 1


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


def without_optimizer(path: Path) -> Path:
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (path / name).unlink()
    return path


def test_a_checkpoint_without_optimizer_is_resumed_as_with_the_host(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = without_optimizer(checkpoint(tmp_path, 3))
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(True, tmp_path) == path
        assert find_checkpoint(str(path), tmp_path) == path
    assert caplog.text.count("was saved without optimizer: it starts anew, as with the host") == 2


@pytest.mark.parametrize("kept", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_that_lost_part_of_its_optimizer_is_refused(kept: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    content = (path / kept).read_bytes()
    without_optimizer(path)
    (path / kept).write_bytes(content)
    assert "it has no " in str(inspect(path).problem)


def test_every_rank_must_have_saved_its_random_state(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3, num_ranks=2)
    assert inspect(path).problem is None
    (path / "rng_state_1.pth").unlink()
    assert inspect(path).problem == "it has no random state of rank 1"


def test_a_checkpoint_inside_a_generation_is_skipped(tmp_path: Path) -> None:
    assert "inside a generation batch of which 2" in str(inspect(checkpoint(tmp_path, 3, steps_left=2)).problem)


def test_a_missing_shard_of_the_weights_is_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert inspect(path).problem == "`model-00002-of-00002.safetensors` is damaged"


def test_the_folder_of_deepspeed_is_looked_into(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    for name in ("optimizer.pt", "model.safetensors"):
        (path / name).unlink()
    (path / "latest").write_text("global_step3")
    (path / "global_step3").mkdir()
    states = path / "global_step3" / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"a": torch.zeros(9)}, states)
    assert inspect(path).problem is None
    states.write_bytes(states.read_bytes()[:-20])
    assert inspect(path).problem == f"`{states.name}` is damaged"


def test_an_explicit_damaged_checkpoint_is_refused_with_the_one_to_use(tmp_path: Path) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert find_checkpoint(str(newer), tmp_path) == newer
    (newer / "optimizer.pt").unlink()
    with pytest.raises(StateFileError, match=f"got {newer}: it has no optimizer. Use {older} instead."):
        find_checkpoint(str(newer), tmp_path)
    shutil.rmtree(older)
    with pytest.raises(StateFileError, match="Start anew; no other one is complete"):
        find_checkpoint(str(newer), tmp_path)


def test_an_older_damaged_checkpoint_is_refused_with_the_newer_one_to_use(tmp_path: Path) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    (older / "model.safetensors").unlink()
    with pytest.raises(StateFileError, match=f"got {older}: it has no model weights. Use {newer} instead."):
        find_checkpoint(older, tmp_path)


def test_no_complete_checkpoint_is_an_error_when_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        StateFileError, match="must be left out when there is no complete checkpoint, got True and none"
    ):
        find_checkpoint(True, tmp_path)


def test_when_none_is_complete_each_is_named_with_its_reason(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 3) / "optimizer.pt").unlink()
    (checkpoint(tmp_path, 5) / TRAINER_STATE).unlink()
    expected = (
        r"of this run in .*, got checkpoint-5 \(it has no `trainer_state.json`, .*deleted\); "
        r"checkpoint-3 \(it has no optimizer\)\. Start anew; none of them is complete"
    )
    with pytest.raises(StateFileError, match=expected):
        find_checkpoint(True, tmp_path)


@pytest.mark.parametrize("text", ["True", "true", "TRUE", " True "])
def test_the_text_true_of_a_command_line_is_the_newest_checkpoint(text: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    assert find_checkpoint(text, tmp_path) == path


@pytest.mark.parametrize("value", ["False", "false", "None", "null", "", False, None])
def test_false_and_its_texts_resume_nothing(value: Any, tmp_path: Path) -> None:
    checkpoint(tmp_path, 3)
    assert find_checkpoint(value, tmp_path) is None


def test_a_path_that_does_not_exist_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match=r"got a path that does not exist: .*checkpoint-9. Check the path"):
        find_checkpoint(str(tmp_path / "checkpoint-9"), tmp_path)
    path = checkpoint(tmp_path, 3)
    with pytest.raises(StateFileError, match=f"got a path that does not exist: .*checkpoint-9. Use {path} instead"):
        find_checkpoint(str(tmp_path / "checkpoint-9"), tmp_path)


def test_a_file_in_a_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    with pytest.raises(StateFileError, match=r"must be the folder of a checkpoint, got a file: .*model.safetensors"):
        find_checkpoint(str(path / "model.safetensors"), tmp_path)


def test_a_folder_of_checkpoints_means_its_newest_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(tmp_path / "run", 3)
    newest = checkpoint(tmp_path / "run", 20)
    # What `save_model` and `save_state` leave beside the checkpoints.
    for name in ("model.safetensors", TRAINER_STATE, STATE_FILE):
        shutil.copy(newest / name, tmp_path / "run" / name)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(f"{tmp_path / 'run'}/", tmp_path) == newest
    assert f"is a folder of checkpoints: {newest} is used" in caplog.text


def test_a_finished_model_is_named_as_one_and_not_to_be_deleted(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_file({"weight": torch.zeros(1)}, model / "model.safetensors")
    (model / "config.json").write_text("{}")
    expected = f"it is a model without the trainer's state. Give it as `model`: {model}"
    with pytest.raises(StateFileError, match=expected) as refused:
        find_checkpoint(str(model), tmp_path)
    assert "delete" not in str(refused.value)


def test_an_adapter_alone_is_a_finished_model_too(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    save_file({"weight": torch.zeros(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    assert inspect(tmp_path / "adapter").problem == "it is a model without the trainer's state"


def test_an_empty_folder_has_nothing_to_resume(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateFileError, match="it has neither a model nor the trainer's state"):
        find_checkpoint(tmp_path / "empty", tmp_path)


def test_a_checkpoint_of_another_schema_is_said_to_be_of_another_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = checkpoint(tmp_path, 3), checkpoint(tmp_path, 5)
    (newer / STATE_FILE).write_text((newer / STATE_FILE).read_text().replace('"schema": 5', '"schema": 3'))
    with pytest.raises(StateFileError, match=r"must have schema 5 or 4, got 3. Resume with the version"):
        find_checkpoint(newer, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(True, tmp_path) == older
    assert "must have schema 5 or 4, got 3)" in caplog.text
    assert "deleted" not in caplog.text


def test_a_checkpoint_of_version_0_1_is_complete(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    shutil.copy(Path(__file__).parent / "data" / "state_schema_4.json", path / STATE_FILE)
    assert inspect(path).problem is None


EXTRAS = {
    "pickle": ("notes.bin", b"\x80\x04K\x01."),
    "text that is called a tensor": ("extra.safetensors", b"hello"),
    "empty": ("extra.pt", b""),
    "its own index": ("faiss.index.json", b"not json"),
    "an optimizer's notes": ("optimizer_notes.txt", b""),
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_file_of_a_callback_is_its_own_business(extra: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    name, content = EXTRAS[extra]
    (path / name).write_bytes(content)
    assert inspect(path).problem is None


def test_notes_of_a_callback_are_no_optimizer(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    (path / "optimizer.pt").unlink()
    (path / "optimizer_notes.txt").write_text("adam")
    assert inspect(path).problem == "it has no optimizer"


def test_a_damaged_index_of_the_weights_is_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    (path / "model.safetensors.index.json").write_text('{"weight_map": {')
    assert inspect(path).problem == "`model.safetensors.index.json` is damaged"


def test_files_of_the_older_torch_format_are_accepted(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    torch.save({"step": 3}, path / "optimizer.pt", _use_new_zipfile_serialization=False)
    assert inspect(path).problem is None


def test_several_skipped_checkpoints_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oldest = checkpoint(tmp_path, 3)
    (checkpoint(tmp_path, 5) / "optimizer.pt").unlink()
    (checkpoint(tmp_path, 7) / TRAINER_STATE).unlink()
    with caplog.at_level(logging.WARNING):
        assert last_complete_checkpoint(tmp_path) == oldest
    assert len(caplog.records) == 1
    assert "checkpoint-7 (it has no `trainer_state.json`, so writing it was interrupted, it may be del" in caplog.text
    assert "checkpoint-5 (it has no optimizer)" in caplog.text


def test_a_checkpoint_of_the_host_is_for_a_plain_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = checkpoint(tmp_path, 3)
    (path / STATE_FILE).unlink()
    with pytest.raises(StateFileError, match=r"so another trainer wrote it. Give it as `model` to start a run"):
        find_checkpoint(path, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(path, tmp_path, plain=True) == path
        assert find_checkpoint(True, tmp_path, plain=True) == path
    assert "was written by the host alone: what this library remembers of the tasks starts anew" in caplog.text


def test_a_damaged_state_is_damaged_for_a_plain_run_too(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    (path / STATE_FILE).write_text("{")
    assert "got a damaged one" in str(inspect(path, plain=True).problem)


def test_a_checkpoint_that_is_written_anew_counts_as_incomplete(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    begin_checkpoint(path)
    assert "writing it was interrupted" in str(inspect(path).problem)
    begin_checkpoint(tmp_path / "checkpoint-9")
    assert (tmp_path / "checkpoint-9").is_dir()


FIRST = (Branch("first", 0),)
SECOND = (*FIRST, Branch("second", 4))


def test_a_run_that_left_a_branch_does_not_resume_its_later_checkpoints(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (2, 4, 8):
        checkpoint(tmp_path, step, lineage=FIRST)
    wanted = checkpoint(tmp_path, 6, lineage=SECOND)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(True, tmp_path) == wanted
    assert "checkpoint-8 (it belongs to a run that another one in this folder has left behind)" in caplog.text
    assert find_checkpoint(str(tmp_path / "checkpoint-8"), tmp_path) == tmp_path / "checkpoint-8"


def test_a_run_that_goes_on_from_an_older_checkpoint_is_noted_before_it_saves(tmp_path: Path) -> None:
    for step in (4, 8):
        checkpoint(tmp_path, step, lineage=FIRST)
    lineage = begin_branch(tmp_path, seed=1, step=4, parent=FIRST)
    assert lineage[:1] == FIRST
    assert lineage[1].start == 4
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-4"


def test_a_run_that_goes_on_from_the_newest_checkpoint_stays_on_its_branch(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4, lineage=FIRST)
    assert begin_branch(tmp_path, seed=1, step=4, parent=FIRST) == FIRST
    assert not (tmp_path / BRANCH_FILE).exists()


def test_a_run_that_goes_on_in_another_folder_stays_on_its_branch(tmp_path: Path) -> None:
    assert begin_branch(tmp_path / "new", seed=1, step=4, parent=FIRST) == FIRST


def test_two_runs_from_the_same_checkpoint_are_two_branches(tmp_path: Path) -> None:
    for step in (4, 8):
        checkpoint(tmp_path, step, lineage=FIRST)
    second = begin_branch(tmp_path, seed=1, step=4, parent=FIRST)
    shutil.rmtree(tmp_path / "checkpoint-8")
    checkpoint(tmp_path, 8, lineage=second)
    third = begin_branch(tmp_path, seed=1, step=4, parent=FIRST)
    checkpoint(tmp_path, 6, lineage=third)
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-6"


def test_a_run_that_starts_over_in_a_used_folder_is_not_mixed_with_the_one_before(tmp_path: Path) -> None:
    first = begin_branch(tmp_path, seed=1)
    checkpoint(tmp_path, 8, lineage=first)
    again = begin_branch(tmp_path, seed=1)
    assert again != first
    expected = r"got checkpoint-8 \(it belongs to .*\)\. Name the one to use, such as .*checkpoint-8"
    with pytest.raises(StateFileError, match=expected):
        find_checkpoint(True, tmp_path)
    checkpoint(tmp_path, 2, lineage=again)
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-2"


def test_going_back_to_the_branch_that_was_left_is_possible(tmp_path: Path) -> None:
    for step in (4, 8):
        checkpoint(tmp_path, step, lineage=FIRST)
    checkpoint(tmp_path, 6, lineage=begin_branch(tmp_path, seed=1, step=4, parent=FIRST))
    assert begin_branch(tmp_path, seed=1, step=8, parent=FIRST) == FIRST
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-8"


def test_a_run_from_a_checkpoint_without_branches_leaves_the_later_ones(tmp_path: Path) -> None:
    for step in (4, 8):
        checkpoint(tmp_path, step)
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-8"
    lineage = begin_branch(tmp_path, seed=1, step=4)
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-4"
    checkpoint(tmp_path, 6, lineage=lineage)
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-6"


@pytest.mark.parametrize("content", ["", "{}", '[{"name": 1}]'])
def test_an_unreadable_note_of_the_branch_is_as_none(content: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 4, lineage=FIRST)
    (tmp_path / BRANCH_FILE).write_text(content)
    assert find_checkpoint(True, tmp_path) == path


def test_the_name_of_a_branch_is_the_same_on_every_rank(tmp_path: Path) -> None:
    assert begin_branch(tmp_path, seed=1) == begin_branch(tmp_path, seed=1)
    assert begin_branch(tmp_path, seed=1) != begin_branch(tmp_path, seed=2)
