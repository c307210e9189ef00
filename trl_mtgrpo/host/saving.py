"""What a checkpoint of a run of tasks holds beside the host's, and how it comes back on any number of ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..rollouts import Row, RowStore
from ..rollouts.facts import NOWHERE
from ..state.branches import Lineage
from ..state.checkpoints import begin_branch, begin_checkpoint, find_checkpoint
from ..state.resuming import resume_state
from ..state.run_state import MultiTaskState
from ..state.state_file import STATE_FILE, write_state
from .distributed import Ranks


class Checkpoints:
    """
    Writes and reads the run's memory.

    Args:
        args ([`~trl.GRPOConfig`]):
            The host's settings.
        start ([`MultiTaskState`]):
            What the run starts with.
        ranks ([`Ranks`]):
            The processes of the run.
        store ([`RowStore`]):
            This rank's rows.
        num_generations (`int`):
            Rollouts per prompt (G).
        num_parts (`int`):
            Values per rollout (F).
        allow_task_changes (`bool`):
            Whether a checkpoint of other tasks may be resumed.
        trains_host_rows (`bool`):
            Whether the host alone could go on from its checkpoint.
    """

    def __init__(
        self,
        args: Any,
        start: MultiTaskState,
        ranks: Ranks,
        store: RowStore,
        num_generations: int,
        num_parts: int,
        allow_task_changes: bool,
        trains_host_rows: bool,
    ) -> None:
        self.args, self.start, self.ranks, self.store = args, start, ranks, store
        self.num_generations, self.num_parts = num_generations, num_parts
        self.allow_task_changes, self.trains_host_rows = allow_task_changes, trains_host_rows
        self._lineage: Lineage = ()

    def find(self, wanted: str | bool | None) -> str | None:
        """The checkpoint to go on from; `None` for a run that begins, whose branch is noted."""
        found = find_checkpoint(wanted, self.args.output_dir, self.trains_host_rows)
        if found is None:
            self._begin_branch()
        return None if found is None else str(found)

    def begin(self, folder: Path) -> None:
        """Before the host writes a checkpoint."""
        if self.args.should_save:
            begin_checkpoint(folder)

    def write(self, folder: Path, state: MultiTaskState, steps_left: int) -> None:
        """
        Writes the state. Every rank calls it; those that hold rows of carried groups send them to the one that saves.

        Args:
            folder (`Path`):
                Where the state file goes.
            state ([`MultiTaskState`]):
                The run's memory.
            steps_left (`int`):
                Optimizer steps of the last generation batch that are still to come.
        """
        places = state.carried.place
        own = [
            (group, member, self.store[slot].to_json())
            for group, members in enumerate(places.tolist())
            for member, (rank, slot) in enumerate(members)
            if slot != NOWHERE and rank == self.ranks.index
        ]
        rows = {(group, member): row for group, member, row in self.ranks.gather_objects(own)} if len(places) else {}
        if not self.args.should_save:
            return
        payload = [
            {"rows": [rows.get((group, member)) for member in range(places.shape[1])]} for group in range(len(places))
        ]
        # Where rows lie is not part of what a run remembers; that they exist is.
        exists = np.where(places == NOWHERE, NOWHERE, 0)
        state = replace(state, carried=replace(state.carried, place=exists))
        write_state(folder / STATE_FILE, state, payload, steps_left, self.ranks.size, self._lineage)

    def read(self, checkpoint: str, step: int) -> MultiTaskState:
        """
        The memory to go on with. Every rank reads the file and keeps its share of the rows.

        Args:
            checkpoint (`str`):
                Folder of the checkpoint.
            step (`int`):
                The host's optimizer step.

        Returns:
            [`MultiTaskState`]
        """
        path = Path(checkpoint) / STATE_FILE
        if not path.is_file():  # of the host alone
            self._begin_branch(step)
            return self.start
        resumed = resume_state(path, self.start, self.num_generations, self.allow_task_changes)
        self._begin_branch(step, resumed.lineage)
        rows = [row for group in resumed.payload for row in group["rows"]]
        exists = np.array([row is not None for row in rows], dtype=bool)
        rows = [Row.from_json(row) for row in rows if row is not None]
        rows += rows[:1] * (-len(rows) % self.ranks.size)
        first = self.store.add(self.ranks.local(rows))
        place = np.full((len(exists), 2), NOWHERE, dtype=np.int64)
        place[exists] = self.ranks.places(len(rows), first)[: exists.sum()]
        carried = resumed.state.carried
        # Other tasks of the run may have more functions than those of the checkpoint, or fewer.
        own = min(carried.parts.shape[2], self.num_parts)
        parts = np.full((len(carried), self.num_generations, self.num_parts), np.nan, dtype=np.float32)
        if len(carried):
            parts[:, :, :own] = carried.parts[:, :, :own]
            carried = replace(carried, parts=parts, place=place.reshape(len(carried), -1, 2))
        return replace(resumed.state, carried=carried)

    def _begin_branch(self, step: int = 0, parent: Lineage = ()) -> None:
        if self.args.should_save:
            self._lineage = begin_branch(Path(self.args.output_dir), self.args.seed, step, parent)
