"""The command line: ``serve``, ``run`` or ``flows``.

In the archive this module lies at the top, where Python looks for it.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
from pathlib import Path

from helpers.agents import remote
from helpers.agents.remote.sockets import IPPROTO_SCTP


def serve(options: argparse.Namespace) -> None:
    from helpers.agents.remote.echo import EchoServer

    server = EchoServer(options.name, options.node)
    add = {"tcp": server.add_tcp, "udp": server.add_udp}
    for protocol in ("tcp", "udp"):
        for port in getattr(options, protocol):
            for version in options.family:
                add[protocol](version, port)
    for port in options.sctp:
        for version in options.family:
            server.add_tcp(version, port, proto=IPPROTO_SCTP)
    print("serving", options.tcp, options.udp, "as", options.name, flush=True)
    if options.ready_file:
        Path(options.ready_file).write_text(str(os.getpid()))
    server.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=(remote.__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["serve", "run", "flows"])
    parser.add_argument("--name", default=os.environ.get("AGENT_NAME") or socket.gethostname())
    parser.add_argument("--node", default=os.environ.get("NODE_NAME", ""))
    parser.add_argument("--tcp", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--udp", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--sctp", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--family", type=int, choices=[4, 6], action="append", default=[])
    parser.add_argument("--ready-file", help="written when all sockets are bound")
    options = parser.parse_args()
    options.family = options.family or [4, 6]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    if options.command == "run":
        from helpers.agents.remote.runner import Runner

        Runner(options.name, options.node).run()
        return
    if options.command == "flows":
        from helpers.agents.remote import streams

        streams.main()
        return
    # As PID 1 of a container there is no default action for signals, and nobody else reaps.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    serve(options)


if __name__ == "__main__":
    main()
