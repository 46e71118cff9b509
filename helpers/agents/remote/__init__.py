"""The agent: what runs inside of pods, on nodes and on the outside host.

``serve`` answers probes (a pod's main process); ``run`` executes batches that arrive as JSON lines
on stdin and streams results as JSON lines to stdout. ``flows`` sends and counts until it is told
to end, whatever becomes of the session that started it.

Standard library only, Python 3.9, nothing of ours from outside of this package: it is shipped as
one archive (``helpers.agents.archive``) into containers whose image may be anybody's. Whatever
needs no privilege works without: raw sockets, captures and sysctls say so when they are refused.

Every session starts this program anew, and an archive holds no compiled modules: operations are
imported when they are asked for, modules that few operations need by those.

Wire of ``run``, one JSON object per line:
  in   {"id": n, "op": name, "deadline": seconds, "args": {...}}
  out  {"hello": {...}} once, then {"id": n, "i": k, "result": {...}} and at last {"id": n,
       "done": count}, or {"id": n, "error": text, "traceback": text}
Wire of the echo server: the client sends a JSON line {"mode": echo|sink|source, "bytes": n} and
is told {"server", "node", "peer", "peer_port", "local", "local_port"} in a JSON line before
anything else happens. UDP: the same two lines, followed by the payload, in one datagram each.
"""
