"""What travels between ranks: the rows that a rank needs, and nothing else."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from trl_mtgrpo.host.distributed import Ranks


def places(num_ranks: int, per_rank: int, wanted: int, seed: int) -> np.ndarray:
    """Random rows of random ranks, as many for each."""
    rng = np.random.default_rng(seed)
    ranks = rng.integers(num_ranks, size=wanted * num_ranks)
    return np.stack([ranks, rng.integers(per_rank, size=len(ranks))], axis=1)


def row(rank: int, slot: int) -> dict[str, Any]:
    return {"from": (rank, slot), "tokens": list(range(slot, slot + 500))}


def work(rank: int, num_ranks: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
    received = [0]
    scatter = dist.scatter_object_list

    def counted(output: list[Any], objects: Any = None, src: int = 0) -> None:
        scatter(output, objects, src=src)
        if src != rank:
            received[0] += len(pickle.dumps(output[0]))

    dist.scatter_object_list = counted
    ranks = Ranks(SimpleNamespace(num_processes=num_ranks, process_index=rank))
    own = {slot: row(rank, slot) for slot in range(64)}
    wrong = 0
    for seed in range(5):
        where = places(num_ranks, 64, 16, seed)
        got = ranks.exchange(where, own)
        wrong += got != [row(*place) for place in ranks.local(where.tolist())]
    one = len(pickle.dumps(row(0, 0)))
    Path(folder, f"rank{rank}.txt").write_text(f"{wrong} {received[0]} {5 * 16 * one}")
    dist.destroy_process_group()


@pytest.mark.launch
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_each_rank_receives_its_rows_and_no_more_bytes_than_they_have(num_ranks: int, tmp_path: Path) -> None:
    mp.spawn(work, args=(num_ranks, str(tmp_path)), nprocs=num_ranks)
    for rank in range(num_ranks):
        wrong, received, share = map(int, (tmp_path / f"rank{rank}.txt").read_text().split())
        assert wrong == 0
        assert 0 < received < share  # rows of its own do not travel


def test_one_process_looks_its_rows_up() -> None:
    ranks = Ranks(SimpleNamespace(num_processes=1, process_index=0))
    where = places(1, 8, 5, seed=0)
    assert ranks.exchange(where, {slot: row(0, slot) for slot in range(8)}) == [row(0, slot) for _, slot in where]


def test_places_of_dealt_rows_are_contiguous_shares() -> None:
    ranks = Ranks(SimpleNamespace(num_processes=3, process_index=1))
    assert ranks.places(6, first_slot=10).tolist() == [[0, 10], [0, 11], [1, 10], [1, 11], [2, 10], [2, 11]]
