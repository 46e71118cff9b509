"""Keeps what a live ``--prove`` saw, so that the expected sets are checked without a cluster.

``python -m tests.faults.recorder RUN...`` takes the faults that were proved into ``recorded.json``:
of each the verdicts under the fault, without those that belong to others planted at the same time,
the diagnosis that was printed, and the cluster. Runs of some faults each make one record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from helpers.faults.comparison import Seen
from helpers.faults.expectations import Key, expectations, label
from helpers.model import Verdict

RECORDED: Final = Path(__file__).with_name("recorded.json")
BLOCKED: Final = "blocked by "


def recorded() -> dict[str, dict[Key, Seen]]:
    """Verdicts by fault, as they were seen on a live cluster."""
    data = json.loads(RECORDED.read_text(encoding="utf-8"))
    return {
        name: {_key(k): _seen(v) for k, v in found["verdicts"].items()}
        for name, found in data.items()
    }


def _key(text: str) -> Key:
    name, family = text.split()
    return name, family


def _seen(text: str) -> Seen:
    if text.startswith(BLOCKED):
        return Seen(Verdict.BLOCKED, text, text.removeprefix(BLOCKED))
    return Seen(Verdict(text))


def taken(run: Path) -> dict[str, dict[str, Any]]:
    """What one run proved."""
    proof = json.loads((run / "prove.json").read_text(encoding="utf-8"))
    found = {}
    for fault in proof["faults"]:
        if fault["proved"]:
            found[fault["id"]] = {
                "cluster": _cluster(fault["sessions"]["planted"]),
                "diagnosed": _diagnosed(fault),
                "verdicts": _verdicts(fault),
            }
    return found


def _results(session: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(session) / "results.json").read_text(encoding="utf-8"))
    return found


def _diagnosed(fault: Mapping[str, Any]) -> list[str]:
    """The sentences of the expected rule about this fault's own verdicts."""
    own = set(fault["must"])
    return [
        told["cause"]
        for told in _results(fault["sessions"]["planted"])["diagnoses"]
        if told["rule"] is not None
        and told["rule"] == fault["rule"]
        and own & {label((one["id"], one["family"])) for one in told["consequences"]}
    ]


def _cluster(session: str) -> str:
    """What the cluster was, in words."""
    found = _results(session)["cluster"]
    modes = dict.fromkeys(node["proxyMode"] for node in found["nodes"])
    return f"Kubernetes {found['kubernetes']}, Calico {found['calico']}, {' and '.join(modes)}"


def _verdicts(fault: Mapping[str, Any]) -> dict[str, str]:
    """Red and undecided verdicts that are this fault's, and all green ones that were looked at."""
    mine = {*fault["failed"], *fault["allowed"], *fault["consequences"]}
    verdicts: dict[str, str] = {}
    for phase in ("planted", "planted again"):
        if phase not in fault["sessions"]:
            continue
        for entry in _results(fault["sessions"][phase])["requirements"]:
            key = (entry["id"], entry["family"])
            text = entry["verdict"]
            if text == "blocked" and entry.get("blockedBy"):
                text = f"{BLOCKED}{entry['blockedBy']}"
            if label(key) in mine or text == "pass":
                verdicts[" ".join(key)] = text
    chosen = expectations()[fault["id"]].selection
    return {k: v for k, v in sorted(verdicts.items()) if k.split()[0] in chosen or v != "pass"}


def main(runs: list[str]) -> None:
    held = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    for run in runs:
        held |= taken(Path(run))
    ordered = {name: held[name] for name in expectations() if name in held}
    RECORDED.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    print(f"{len(ordered)} faults recorded")


if __name__ == "__main__":
    main(sys.argv[1:])
