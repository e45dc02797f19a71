"""A stand-in for the Hub on localhost: the few requests with which huggingface_hub makes and fills a repository.

It asks for every file in the commit itself, as the Hub does for small ones, so that uploaded bytes can be compared.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """What was asked of it, by whom, and what was uploaded."""

    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    repositories: list[dict[str, object]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> tuple[int, object]:
        if path == "/api/repos/create":
            wanted = json.loads(body)
            self.repositories.append(wanted)
            name = f"{wanted.get('organization', 'me')}/{wanted['name']}"
            return 200, {"url": f"{self.endpoint}/{name}", "name": name, "id": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            paths = [one["path"] for one in json.loads(body)["files"]]
            return 200, {"files": [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in paths]}
        if path.endswith("/commit/main"):
            for line in body.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    value = operation["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            return 200, {"commitUrl": f"{self.endpoint}/me/repo/commit/{'0' * 40}", "commitOid": "0" * 40}
        return 404, {"error": f"no {path} here"}


@contextlib.contextmanager
def fake_hub(token: str) -> Iterator[Hub]:
    """Serve a hub that knows one token."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            hub.requests.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("Authorization"))
            allowed = self.headers.get("Authorization") == f"Bearer {token}"
            status, answer = hub.answer(path, body) if allowed else (401, {"error": "Invalid credentials"})
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
