"""Streams that carry an agent's lines: a local process, or an exec into a pod.

A transport is used by one thread at a time; ``Session`` sees to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from kubernetes.stream import ws_client

from helpers.agents import archive
from helpers.kube import Kube, KubeError
from helpers.waiting import Deadline

REMOTE_AGENT: Final = f"/agent/{archive.NAME}"
REMOTE_RUN: Final = ("python3", "-u", REMOTE_AGENT, "run")
OUTSIDE_RUN: Final = REMOTE_RUN  # clusters.outside puts it at the same place
STDIN_CHUNK: Final = 32_768  # bytes of one message: well below the limits of every proxy between
STDERR_KEPT: Final = 20  # lines
FRAME_TIMEOUT: Final = 15.0  # seconds for one websocket frame that has begun


class StreamLostError(Exception):
    """The stream to an agent ended, broke, or said nothing until the deadline."""


class Transport(Protocol):
    """A stream of lines in both directions."""

    def send_line(self, line: bytes) -> None:
        """Send one line (newline added).

        Raises:
            StreamLostError: the stream is broken.
        """

    def receive_line(self, deadline: Deadline) -> bytes:
        """Next line without its newline.

        Raises:
            StreamLostError: end of stream, or the deadline passed.
        """

    def ended(self) -> bool:
        """Whether the stream is known to be over, found without sending anything."""

    def close(self) -> None: ...

    @property
    def stderr(self) -> str:
        """The last lines that the agent wrote to its standard error."""


Connect = Callable[[], Transport]


class ProcessTransport:
    """A child process: ``docker exec -i``, ``ip netns exec``, or a plain local agent.

    Args:
        argv: the whole command.
        env: environment that is added to ours, e.g. ``DOCKER_HOST``.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **env} if env else None,
                start_new_session=True,  # Ctrl-C is for the harness, which closes in order
            )
        except OSError as error:
            raise StreamLostError(f"{argv[0]} could not be started: {error}") from error
        self._buffer = bytearray()
        self._lines: deque[bytes] = deque()
        self._errors: deque[str] = deque(maxlen=STDERR_KEPT)
        self._selector = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_line(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise StreamLostError(f"the agent takes no more requests: {error}") from error

    def receive_line(self, deadline: Deadline) -> bytes:
        while not self._lines:
            if not self._selector.get_map():
                raise StreamLostError(f"the agent's stream ended (exit code {self._exit_code()})")
            ready = self._selector.select(deadline.remaining)
            if not ready and deadline.expired:
                raise StreamLostError(f"the agent said nothing for {deadline.seconds:g} s")
            for key, _ in ready:
                self._take(key)
        return self._lines.popleft()

    def _take(self, key: selectors.SelectorKey) -> None:
        data = os.read(key.fd, 1 << 20)
        if not data:
            self._selector.unregister(key.fileobj)
        elif key.fileobj is self._process.stderr:
            self._errors.extend(data.decode("utf-8", "replace").splitlines())
        else:
            self._buffer += data
            *lines, rest = self._buffer.split(b"\n")
            self._lines.extend(bytes(line) for line in lines)
            self._buffer = rest

    def ended(self) -> bool:
        return self._process.poll() is not None

    def _exit_code(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(1)
        return None

    def close(self) -> None:
        """End the child: its stdin closes, and when that is not enough it is killed."""
        self._selector.close()
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def stderr(self) -> str:
        return "\n".join(self._errors)


class ExecTransport:
    """An exec into a pod, through API server and kubelet.

    The way does not lead over the pod network, so that a broken family cannot silence the agent.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        pod: str,
        command: Sequence[str],
        container: str | None = None,
    ) -> None:
        try:
            self._stream: ws_client.WSClient = kube.exec_stream(
                namespace, pod, list(command), container
            )
        except KubeError as error:
            raise StreamLostError(str(error)) from error
        # A frame that stops half-way must not hold the harness for ever.
        self._stream.sock.settimeout(FRAME_TIMEOUT)
        self._buffer = ""
        self._lines: deque[bytes] = deque()
        self._errors: deque[str] = deque(maxlen=STDERR_KEPT)

    def send_line(self, line: bytes) -> None:
        text = line.decode() + "\n"
        try:
            for start in range(0, len(text), STDIN_CHUNK):
                part = text[start : start + STDIN_CHUNK]
                self._stream.write_stdin(part)  # type: ignore[no-untyped-call]
        except Exception as error:  # the websocket library raises a dozen unrelated types
            raise StreamLostError(f"the agent takes no more requests: {error}") from error

    def receive_line(self, deadline: Deadline) -> bytes:
        while not self._lines:
            if not self._stream.is_open():  # type: ignore[no-untyped-call]
                raise StreamLostError(f"the agent's stream ended: {self._why()}")
            if deadline.expired:
                raise StreamLostError(f"the agent said nothing for {deadline.seconds:g} s")
            try:
                self._stream.update(timeout=min(deadline.remaining, 1.0))  # type: ignore[no-untyped-call]
                errors = self._stream.read_channel(ws_client.STDERR_CHANNEL)  # type: ignore[no-untyped-call]
                data = self._stream.read_channel(ws_client.STDOUT_CHANNEL)  # type: ignore[no-untyped-call]
            except Exception as error:
                raise StreamLostError(f"the agent's stream broke: {error}") from error
            self._errors.extend(errors.splitlines())
            if data:
                *lines, self._buffer = (self._buffer + data).split("\n")
                self._lines.extend(line.encode() for line in lines)
        return self._lines.popleft()

    def ended(self) -> bool:
        with contextlib.suppress(Exception):
            self._stream.update(timeout=0)  # type: ignore[no-untyped-call]
            return not self._stream.is_open()  # type: ignore[no-untyped-call]
        return True

    def _why(self) -> str:
        """The kubelet's last word, e.g. that the program does not exist in the image."""
        with contextlib.suppress(Exception):
            status = self._stream.read_channel(ws_client.ERROR_CHANNEL)  # type: ignore[no-untyped-call]
            return str(json.loads(status).get("message", status))
        return "pod gone, or connection cut"

    def close(self) -> None:
        """Say goodbye and do not wait for the answer; a stream that broke leaves a socket too."""
        with contextlib.suppress(Exception):
            self._stream.sock.send_close()
        with contextlib.suppress(Exception):
            self._stream.sock.shutdown()

    @property
    def stderr(self) -> str:
        return "\n".join(self._errors)
