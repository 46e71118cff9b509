"""Child processes of the image build: logged, ended with the build, failures explained."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from clusters.commands import missing, tail
from clusters.images.errors import CancelledError, StepFailedError

END_SECONDS = 10.0
# The kernel kills the child when its builder dies, even by SIGKILL; exec keeps the setting. One
# that died before the setting was made is not noticed by it (prctl(2), PR_SET_PDEATHSIG): so the
# child looks afterwards whether its parent is still the builder.
DIES_WITH_BUILDER = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c")
UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'

# What the end of a failed command's log says -> what to do about it.
FIXES: Mapping[str, str] = {
    "No space left on device": "Free disk space (`python -m clusters images prune` removes "
    "what the current versions do not use) and run the same command again.",
    "requires go >= ": "Install the Go release that the line names, or let Go fetch it: "
    "GOTOOLCHAIN=auto.",
    "checksum mismatch": "Sources differ from the pinned hashes: do not use this machine's Go "
    "module proxy for this build, or correct GOPROXY.",
    "missing go.sum entry": "Run `go mod tidy` in the component's folder and commit the result.",
    "dial tcp": "A server was not reachable: check the network and `go env GOPROXY`, then run "
    "the same command again; finished steps are kept.",
    "Unable to locate package": "The Debian mirror does not carry that package: check the "
    "mirror that apt uses on this machine.",
    "Couldn't download packages": "The Debian mirror was not reachable: check the network, then "
    "run the same command again.",
    "Operation not permitted": "The build mounts file systems: run it as root with CAP_SYS_ADMIN "
    "(a container needs --privileged).",
}
DEFAULT_FIX = (
    "Read the log, mend the cause and run the same command again; finished steps are kept."
)


def explain(argv: Sequence[str], status: int, log: Path) -> StepFailedError:
    """The error for a failed command: its status, the log's last lines, path and likely fix."""
    shown = tail(log)
    fix = next((fix for sign, fix in FIXES.items() if sign in shown), DEFAULT_FIX)
    ending = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return StepFailedError(
        f"`{shlex.join(argv)}` failed ({ending}). {fix}\n{shown}\n  whole log: {log}"
    )


@dataclass(slots=True)
class Children:
    """The running child processes of one build, so that all of them can be ended at once."""

    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cancelled: bool = False

    @contextmanager
    def started(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Runs `argv` in a process group of its own while the block runs, then ends the group.

        Output goes to the end of `log`, except what `stdout` directs elsewhere.

        Raises:
            CancelledError: the build is being ended.
            StepFailedError: the program does not exist.
        """
        if shutil.which(argv[0]) is None:
            raise StepFailedError(missing(argv[0]))
        with log.open("ab") as output:
            with self._lock:
                if self._cancelled:
                    raise CancelledError
                child = subprocess.Popen(
                    [*DIES_WITH_BUILDER, UNLESS_ORPHANED, str(os.getpid()), *argv],
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=output if stdout is None else stdout,
                    stderr=output,
                    start_new_session=True,
                )
                self._running.add(child)
            try:
                yield child
            finally:
                end(child)
                if child.stdout is not None:
                    child.stdout.close()
                with self._lock:
                    self._running.discard(child)

    def run(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Runs a command to its end, with its output at the end of `log`.

        Raises:
            StepFailedError: it did not exit with status 0.
            CancelledError: the build is being ended.
        """
        with self.started(argv, log, cwd=cwd, env=env) as child:
            status = child.wait()
        if self._cancelled:
            raise CancelledError
        if status:
            raise explain(argv, status, log)

    def output(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Runs a command to its end and returns its standard output, stripped.

        Raises:
            StepFailedError: it did not exit with status 0.
            CancelledError: the build is being ended.
        """
        with self.started(argv, log, cwd=cwd, env=env, stdout=subprocess.PIPE) as child:
            printed, _ = child.communicate()
        if self._cancelled:
            raise CancelledError
        if child.returncode:
            raise explain(argv, child.returncode, log)
        return printed.decode(errors="replace").strip()

    def cancel(self) -> None:
        """Ends every running child and refuses to start another."""
        with self._lock:
            self._cancelled = True
            running = list(self._running)
        for child in running:
            _signal(child, signal.SIGTERM)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child's whole process group: SIGTERM, and SIGKILL when that is not enough."""
    if child.poll() is None:
        _signal(child, signal.SIGTERM)
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
