"""An API server in trouble: what it does not say is never taken for an answer, nor waited for."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from helpers import kube as kube_module
from helpers.kube import ApiError, Kube, KubeError
from tests.kube.conftest import FakeApi, api, kube  # noqa: F401  # fixtures

TROUBLE = (429, {"reason": "TooManyRequests", "message": "slow down"})
BROKEN = (500, {"reason": "InternalError", "message": "etcdserver: request timed out"})
POOLS = "/apis/crd.projectcalico.org/v1"
LISTED = (200, {"resources": [{"name": "ippools", "kind": "IPPool", "namespaced": False}]})


@pytest.mark.parametrize("trouble", [TROUBLE, BROKEN], ids=["429", "500"])
def test_a_passing_trouble_is_waited_out(api: FakeApi, kube: Kube, trouble: object) -> None:  # noqa: F811
    api.on("GET", POOLS, trouble, LISTED)  # type: ignore[arg-type]
    api.on("GET", f"{POOLS}/ippools", trouble, (200, {"items": [{"spec": {}}]}))  # type: ignore[arg-type]
    assert kube.calico("IPPool") == [{"spec": {}}]


@pytest.mark.parametrize("trouble", [TROUBLE, BROKEN], ids=["429", "500"])
def test_trouble_in_discovery_is_not_the_absence_of_a_kind(
    api: FakeApi,  # noqa: F811
    kube: Kube,  # noqa: F811
    trouble: object,
) -> None:
    """Else a cluster whose API server answers 503 would have no pools, and fail CFG-014."""
    api.on("GET", POOLS, trouble)  # type: ignore[arg-type]
    with pytest.raises(ApiError):
        kube.calico("IPPool")
    api.on("GET", POOLS, (404, {"reason": "NotFound", "message": "no"}))
    assert kube.calico("IPPool") == []


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that takes connections and then does what ``talk`` does with each."""
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                threads.append(threading.Thread(target=answer, args=connections[-1:]))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=serve, args=(listener,))
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def client(port: int, folder: Path) -> Kube:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return Kube(path)


def silent(connection: socket.socket) -> None:
    """Takes the request and never answers."""
    connection.recv(65_536)
    connection.recv(65_536)


def dribbling(connection: socket.socket) -> None:
    """Answers, one byte now and then, for ever."""
    connection.recv(65_536)
    body = json.dumps({"items": ["x" * 10_000]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection.sendall(head)
    for byte in body:
        connection.sendall(bytes([byte]))
        connection.settimeout(0.05)
        with suppress(TimeoutError):  # waits that long, or less when the client leaves
            if not connection.recv(1):
                return


@pytest.mark.parametrize("talk", [silent, dribbling])
def test_a_slow_answer_has_an_end(tmp_path: Path, talk: Callable[[socket.socket], None]) -> None:
    with server(talk) as port:
        began = time.monotonic()
        with pytest.raises(KubeError):
            client(port, tmp_path).request("GET", "/version", timeout=0.5, attempts=1)
    assert time.monotonic() - began < 5


def test_an_exec_that_nobody_opens_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "REQUEST_TIMEOUT", 0.5)
    with server(silent) as port:
        began = time.monotonic()
        with pytest.raises(KubeError, match=r"could not be opened: nobody answered for 0.5 s"):
            client(port, tmp_path).exec_stream("ns", "pod", ["true"])
    assert time.monotonic() - began < 5
