"""Tools run to their end: argv lists, a time limit always, failures with the end of the output.

Standard library only: preflight and reaping must work before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from clusters.errors import CommandFailedError

Progress = Callable[[str], None]  # takes one line; `print` will do

# Tools and the Debian packages that bring them; preflight's list is made of these.
PACKAGES: Final[Mapping[str, str]] = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "debootstrap": "debootstrap",
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
    "stdlib.h": "libc6-dev",
    "mkfs.ext4": "e2fsprogs",
}
TAIL_LINES: Final = 25
SECONDS: Final = 60.0


def silent(_line: str) -> None:
    """A Progress that shows nothing."""


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = SECONDS,
    env: Mapping[str, str] | None = None,
    text_in: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end and return its output.

    Args:
        check: whether an exit status other than 0 is an error.
        env: variables to add to this process's environment.
        text_in: standard input; default: nothing.

    Raises:
        CommandFailedError: it is not installed, did not end in time, or (``check``) failed.
    """
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **(env or {})},
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandFailedError(missing(argv[0])) from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(
            f"`{shlex.join(argv)}` did not end within {timeout:.0f} s."
        ) from error
    if check and done.returncode:
        raise CommandFailedError(_explain(argv, done.returncode, done.stderr or done.stdout))
    return done


def output(argv: Sequence[str], *, timeout: float = SECONDS) -> str:
    """Standard output of a tool that must succeed, stripped."""
    return run(argv, timeout=timeout).stdout.strip()


def run_logged(
    argv: Sequence[str],
    log: Path,
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    on_line: Progress = silent,
) -> None:
    """Run a long tool in a process group of its own, its output at the end of a log.

    Args:
        on_line: gets each line of output as it comes.

    Raises:
        CommandFailedError: it is not installed, did not end in time, or failed.
    """
    with log.open("a") as sink:
        try:
            child = subprocess.Popen(
                argv,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise CommandFailedError(missing(argv[0])) from error
        late = threading.Event()

        def end_late() -> None:
            late.set()
            end_group(child)

        timer = threading.Timer(timeout, end_late)
        timer.daemon = True
        timer.start()
        try:
            for line in child.stdout or ():
                sink.write(line)
                sink.flush()
                on_line(line.rstrip())
            status = child.wait()
        finally:
            timer.cancel()
            end_group(child)
            if child.stdout:
                child.stdout.close()
    if late.is_set():
        raise CommandFailedError(
            f"`{shlex.join(argv)}` did not end within {timeout:.0f} s.\n{tail(log)}"
        )
    if status:
        raise CommandFailedError(_explain(argv, status, tail(log)))


def end_group(child: subprocess.Popen[str]) -> None:
    """End what is left of a process group that ``run_logged`` started, at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented for an error message."""
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  | {line}" for line in text[-lines:]) or "  | (no output)"


def missing(tool: str) -> str:
    """What to say when a tool is not installed."""
    package = PACKAGES.get(Path(tool).name)
    how = f"apt-get install -y --no-install-recommends {package}" if package else "install it"
    return f"{Path(tool).name} was not found: {how}"


def _explain(argv: Sequence[str], status: int, text: str) -> str:
    ending = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    shown = "\n".join(text.strip().splitlines()[-TAIL_LINES:]) or "(no output)"
    return f"`{shlex.join(argv)}` failed ({ending}):\n{shown}"
