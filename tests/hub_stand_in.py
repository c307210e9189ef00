"""A server that answers the Hub's calls for creating a repository and committing to it, and remembers what arrived."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class HubStandIn:
    """What the clients of a stand-in have done."""

    url: str = ""
    repositories: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    """Runs a stand-in on a free port of this machine."""
    hub = HubStandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/api/whoami-v2":
                self._answer({"name": "someone", "type": "user", "orgs": []})
            elif path.startswith("/api/models/"):
                name = "/".join(path.split("/")[3:5])
                if name in hub.repositories:
                    self._answer(
                        {"id": name, "modelId": name, "sha": "0" * 40, "siblings": [], "tags": [], "private": False}
                    )
                else:
                    self._answer({"error": "Repository not found"}, 404)
            else:
                self._answer({"error": "not found"}, 404)

        def do_HEAD(self) -> None:
            self._answer({}, 404)

        def do_POST(self) -> None:
            body = self._body()
            path = self.path.partition("?")[0]
            if path == "/api/repos/create":
                given = json.loads(body)
                name = f"{given.get('organization') or 'someone'}/{given['name'].split('/')[-1]}"
                hub.repositories.append(name)
                self._answer({"url": f"{hub.url}/{name}", "id": name, "name": name})
            elif path == "/api/validate-yaml":
                self._answer({"errors": [], "warnings": []})
            elif "/preupload/" in path:
                asked = [file["path"] for file in json.loads(body)["files"]]
                self._answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]})
            elif "/commit/" in path:
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "header":
                        hub.commits.append(entry["value"]["summary"])
                    elif entry["key"] == "file":
                        hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                name = "/".join(path.split("/")[3:5])
                self._answer({"commitUrl": f"{hub.url}/{name}/commit/{'1' * 40}", "commitOid": "1" * 40})
            else:
                hub.unknown.append(path)
                self._answer({"error": "not found"}, 404)

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
