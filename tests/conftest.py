"""No test reaches the network, and tiny models get one thread."""

import os
import socket

import pytest
from hypothesis import settings


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# TRL calls environments experimental in a warning, which is an error in tests.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

# `make fuzz`: eight properties, 10,000 cases and more.
settings.register_profile("fuzz", max_examples=1250, deadline=None)

_LOOPBACK = {"127.0.0.1", "::1", "localhost", "0.0.0.0"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine in no test; loopback stays open for launches and local servers."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOOPBACK:
            raise OSError(f"no network in tests, got a connection to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
