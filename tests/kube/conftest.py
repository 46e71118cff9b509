"""A small API server for the harness's own tests of its Kubernetes edge."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.kube import Kube

Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeApi:
    """Answers from ``routes`` (by method and path without query); keeps what it was asked."""

    port: int = 0
    routes: dict[tuple[str, str], Callable[[dict[str, Any]], Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer with each of ``answers`` in turn, the last one from then on."""
        left = list(answers)

        def reply(_: dict[str, Any]) -> Answer:
            return left.pop(0) if len(left) > 1 else left[0]

        self.routes[(method, path)] = reply


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            fake.asked.append((self.command, self.path, body))
            route = fake.routes.get((self.command, self.path.partition("?")[0]))
            missing = (404, {"reason": "NotFound", "message": "no such route"})
            status, value = route(body) if route else missing
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815  # the base class's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def kube(api: FakeApi, tmp_path: Path) -> Kube:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{api.port}"}}],
        "users": [{"name": "fake", "user": {"token": "letmein"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    core = [
        {"name": "pods", "kind": "Pod", "namespaced": True},
        {"name": "pods/exec", "kind": "PodExecOptions", "namespaced": True},
        {"name": "namespaces", "kind": "Namespace", "namespaced": False},
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
    ]
    api.on("GET", "/api/v1", (200, {"resources": core}))
    return Kube(path)
