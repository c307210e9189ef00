"""A real OpenEnv server on this machine: a number from 1 to 4 is to be guessed."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app


class Number(Action):
    n: int


class Answer(Observation):
    message: str = ""


class Guessing(Environment):
    """Its sessions are counted, and those that are open."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    resets = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> Answer:
        type(self).resets += 1
        self.number, self.steps = 1 + (seed or 0) % 4, 0
        return Answer(message="1 to 4", done=False, reward=0.0)

    def step(self, action: Number, timeout_s: float | None = None, **options: Any) -> Answer:
        self.steps += 1
        found = action.n == self.number
        return Answer(message="yes" if found else "no", done=found, reward=float(found and self.steps == 1))

    @property
    def state(self) -> State:
        return State(episode_id="", step_count=self.steps)


@contextmanager
def serving(sessions: int) -> Iterator[str]:
    """Address of a running server for so many sessions at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_fastapi_app(Guessing, Number, Answer, max_concurrent_envs=sessions)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
