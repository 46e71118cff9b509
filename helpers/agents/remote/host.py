"""The host an agent is on: commands, files, sysctls, processes, HTTP and BIRD."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.agents.remote.runner import Call, Json


def op_run(call: Call) -> None:
    """Run ``argv`` (a list, no shell) for at most ``timeout`` seconds; ``root`` chroots first."""
    args = call.args
    argv = list(args["argv"])
    if args.get("root"):
        argv = ["chroot", args["root"], *argv]
    try:
        done = subprocess.run(
            argv,
            input=(args.get("input") or "").encode(),
            capture_output=True,
            timeout=min(float(args.get("timeout", 10.0)), call.left),
            check=False,
        )
    except FileNotFoundError:
        call.emit(0, {"rc": 127, "stdout": "", "stderr": f"{argv[0]}: not found"})
        return
    except subprocess.TimeoutExpired as error:
        call.emit(0, {"rc": None, "stdout": "", "stderr": f"not done in {error.timeout:g} s"})
        return
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    call.emit(0, {"rc": done.returncode, "stdout": out, "stderr": err})


def op_read_file(call: Call) -> None:
    """{path} -> {text, error}."""
    try:
        text = Path(call.args["path"]).read_bytes()[: 8 << 20].decode("utf-8", "replace")
    except OSError as error:
        call.emit(0, {"text": None, "error": str(error)})
    else:
        call.emit(0, {"text": text, "error": None})


def op_sysctl(call: Call) -> None:
    """{name} reads, {name, value} writes; {was, value, error}. Dots in interface names: use "/"."""
    name = call.args["name"]
    path = Path("/proc/sys") / (name if "/" in name else name.replace(".", "/"))
    try:
        was = path.read_text().strip()
        if "value" in call.args:
            path.write_text(str(call.args["value"]))
        call.emit(0, {"was": was, "value": path.read_text().strip(), "error": None})
    except OSError as error:
        call.emit(0, {"was": None, "value": None, "error": str(error)})


def op_http_get(call: Call) -> None:
    """{url, timeout, headers} -> {status, body, error}; body is "" when there is no answer."""
    import http.client
    import urllib.parse

    url = urllib.parse.urlsplit(call.args["url"])
    timeout = min(float(call.args.get("timeout", 5.0)), call.left)
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=timeout)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("GET", path, headers=call.args.get("headers") or {})
        response = connection.getresponse()
        body = response.read(4 << 20).decode("utf-8", "replace")
        call.emit(0, {"status": response.status, "body": body, "error": None})
    except (OSError, http.client.HTTPException) as error:
        call.emit(0, {"status": None, "body": "", "error": f"{type(error).__name__}: {error}"})
    finally:
        connection.close()


def op_bird(call: Call) -> None:
    """One BIRD command over its control socket: {socket, command} -> {lines, error}.

    A reply line is "NNNN text" or "NNNN-text" (more to come); " text" continues the one before.
    The first digit says what it is: 0 ok (0001 is the greeting), 1 and 2 data, 8 and 9 errors.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(min(float(call.args.get("timeout", 5.0)), call.left))
        try:
            sock.connect(call.args["socket"])
            reader = sock.makefile("rb")
            bird_reply(reader)
            sock.sendall(call.args["command"].encode() + b"\n")
            lines, error = bird_reply(reader)
        except OSError as failure:
            lines, error = [], f"{call.args['socket']}: {failure}"
    call.emit(0, {"lines": lines, "error": error})


def bird_reply(reader: Any) -> tuple[list[str], str | None]:
    lines: list[str] = []
    for raw in reader:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if line[:4].isdigit() and len(line) >= 4:
            code, last, text = line[:4], line[4:5] != "-", line[5:]
            if code[0] in "89":
                return lines, text
            if text:
                lines.append(text)
            if last and code[0] == "0":
                return lines, None
        else:
            lines.append(line[1:])
    raise ConnectionError("BIRD closed the connection")


def op_processes(call: Call) -> None:
    """Processes whose program is called ``name`` and whose arguments contain ``contains``."""
    for index, (pid, argv) in enumerate(matching(call.args)):
        call.emit(index, {"pid": pid, "argv": argv})


def op_signal_process(call: Call) -> None:
    """Send ``signal`` (e.g. STOP, CONT) to the processes that ``processes`` would list."""
    number = getattr(signal, "SIG" + call.args["signal"])
    for index, (pid, argv) in enumerate(matching(call.args)):
        try:
            os.kill(pid, number)
            call.emit(index, {"pid": pid, "argv": argv, "error": None})
        except OSError as error:
            call.emit(index, {"pid": pid, "argv": argv, "error": str(error)})


def matching(args: Json) -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
        except OSError:
            continue  # it ended meanwhile
        if (
            argv
            and Path(argv[0]).name == args["name"]
            and args.get("contains", "") in " ".join(argv)
        ):
            found.append((int(entry.name), argv))
    return sorted(found)


def op_facts(call: Call) -> None:
    """Who and where this agent is, with its interfaces and routes as ``ip -j`` tells them."""
    facts: Json = {**call.agent.hello(), "error": None}
    tables = {
        "addresses": ["ip", "-j", "addr"],
        "routes4": ["ip", "-j", "-4", "route"],
        "routes6": ["ip", "-j", "-6", "route"],
    }
    for key, argv in tables.items():
        try:
            done = subprocess.run(argv, capture_output=True, timeout=call.left, check=True)
            facts[key] = json.loads(done.stdout or b"[]")
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            facts[key], facts["error"] = [], str(error)
    call.emit(0, facts)


def op_sleep(call: Call) -> None:
    """Do nothing for ``seconds``: how the harness tests that it notices a late agent."""
    time.sleep(float(call.args["seconds"]))
    call.emit(0, {})
