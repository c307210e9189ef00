"""A local stand-in for `vllm serve`: random tokens under the endpoints that TRL's client calls."""

import json
import math
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/server_info": {"vllm_config": {"model_config": {"logprobs_mode": "processed_logprobs"}}},
        }
        self._answer(answers.get(self.path.split("?")[0], {}))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        self.server.requests.append((self.path, body))
        self._answer(self._completions(body) if self.path == "/v1/completions" else {"success": True})

    def _completions(self, body: dict[str, Any]) -> dict[str, Any]:
        """Choices prompt after prompt, each token equally likely, as the client asks for them."""
        logprob = -math.log(95)
        choices = []
        for prompt in body["prompt"]:
            for _ in range(body["n"]):
                tokens = [self.server.rng.randrange(3, 98) for _ in range(body["max_tokens"])]
                names = [f"token_id:{token}" for token in tokens]
                logprobs = {
                    "tokens": names,
                    "token_logprobs": [logprob] * len(tokens),
                    "top_logprobs": [{name: logprob} for name in names],
                }
                choices.append({"prompt_token_ids": prompt, "token_ids": tokens, "logprobs": logprobs})
        return {"choices": choices}

    def _answer(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def fake_server() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """The address of a running server, and the requests that it has answered: path and body."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.requests, server.rng = [], random.Random(0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        server.server_close()
