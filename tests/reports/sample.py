"""A run made of data, with something of everything that the page shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.model import FAMILIES, Level, Verdict
from helpers.requirements import Requirement, requirements
from reports.diagnosis import diagnosed
from reports.exit_codes import Ending
from reports.gate_model import Gate, GatePart, Regression
from reports.ledger import Ledger
from reports.model import RESULTS_FILE, Results

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = ("dsc-t-control-plane", "dsc-t-worker", "dsc-t-worker2")
FACTS = {
    "kubernetes": "v1.36.4",
    "calico": "v3.31.0",
    "podCIDRs": ["10.244.0.0/16", "fd00:10:244::/56"],
    "serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"],
    "nodes": [
        {
            "name": name,
            "proxyMode": "ipvs" if name == NODES[2] else "nftables",
            "kernel": "7.2.1" if name == NODES[2] else "6.18.0",
            "addresses": [f"10.243.0.{number}", f"fd00:10:243::{number}"],
        }
        for number, name in enumerate(NODES, start=2)
    ],
}
MARKUP = '<script>alert("x")</script> & <b>bold</b>'
REASONS = {
    ("CONN-002", "ipv6"): (
        "fail",
        "connectivity differs in 4 of 18 cells\nin common: all ipv6 to pod on dsc-t-worker2\n"
        "the opposite direction: fine (4 of 4)\n"
        "  ipv6 tcp pod on dsc-t-worker -> pod on dsc-t-worker2: timeout, expected reached",
    ),
    ("SVC-007", "ipv6"): ("fail", f"not answered: {MARKUP}"),
    ("PODIP-007", "ipv4"): ("inconclusive", "the pod agent on dsc-t-worker was lost during probe"),
    ("CONN-003", "ipv6"): ("blocked", "blocked by CFG-009 [ipv6]: no two nodes reach each other"),
    ("CONN-004", "ipv6"): ("blocked", "blocked by CFG-009 [ipv6]: no two nodes reach each other"),
    ("CFG-002", "pair"): ("skipped", "Kubernetes 1.36 has no such gate"),
}
WAITS = [
    {"what": "kube-proxy programs the Service", "waited": 0.4, "within": 10.0, "probes": 2},
    {"what": "endpoints follow", "waited": 7.3, "within": 10.0, "probes": 15},
    {"what": "nothing arrives", "waited": 5.02, "within": 5.0, "probes": 11},
]


def run(directory: Path, changed: Mapping[tuple[str, str], tuple[str, str]] = REASONS) -> Results:
    """Write a run into a directory: its results, and the files that they name."""
    ledger = Ledger(
        run_id=directory.name,
        directory=directory,
        root=REPOSITORY,
        started=datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
        argv=("suites", "-n4", "-k", "svc or conn"),
        profile=tuple(Level),
        requirements=requirements(),
    )
    for requirement in requirements().values():
        if requirement.group in ("policy", "resilience"):
            continue
        for family in _families(requirement):
            verdict, reason = changed.get((requirement.id, family), ("pass", ""))
            entry = _record(requirement.id, family, verdict, reason)
            entry["evidence"] = _evidence(directory, requirement.id, family, verdict)
            test = requirement.test_prefix.rstrip("_")
            ledger.add(f"suites/{requirement.group}/test_x.py::{test}_x[{family}]", entry)
    results = diagnosed(ledger.results(Ending(), complete=True))
    results.write(directory / RESULTS_FILE)
    return results


def _families(requirement: Requirement) -> Sequence[str]:
    return ["pair"] if requirement.pair else [family.value for family in requirement.families]


def _record(name: str, family: str, verdict: str, reason: str) -> dict[str, Any]:
    return {
        "id": name,
        "family": family,
        "when": "call",
        "verdict": verdict,
        "reason": reason,
        "seconds": 1.25,
        "waits": WAITS if name.startswith("SVC") else [],
        "losses": [],
        "noCluster": False,
        "cluster": {
            "name": "dsc-t",
            "owned": True,
            "kubeconfig": "/k",
            "context": None,
            "facts": FACTS,
        },
    }


def _evidence(directory: Path, name: str, family: str, verdict: str) -> list[str]:
    files: dict[str, str] = {}
    if name in ("CONN-001", "CONN-002", "SVC-007"):
        bad = verdict == "fail"
        files["matrix.json"] = json.dumps({"figure": "matrices", "matrices": [matrix(family, bad)]})
    if verdict == "fail":
        files["failure.txt"] = "E   AssertionError\n"
    folder = directory / f"{name}-{family}"
    for file, text in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return [f"{folder.name}/{file}" for file in files]


def matrix(family: str, bad: bool) -> dict[str, Any]:
    """All ordered pairs; when bad, nothing but ICMP reaches the last node."""
    return {
        "cells": [
            {
                "source": f"pod on {source}",
                "target": f"pod on {target}",
                "family": family,
                "detail": detail,
                "observed": "timeout"
                if bad and target == NODES[2] and detail != "icmp"
                else "reached",
                "expected": "reached",
                "note": MARKUP if bad and target == NODES[2] else "",
            }
            for source in NODES
            for target in NODES
            if source != target
            for detail in ("tcp", "udp", "icmp")
        ]
    }


def timeline() -> dict[str, Any]:
    """An upgrade of 95 seconds in which IPv6 has a gap that its limit does not allow."""
    paths = (
        "pod to pod, same node",
        "pod to pod, other node",
        "ClusterIP",
        "NodePort from outside",
    )
    return {
        "figure": "timeline",
        "title": "Calico v3.30.1 to v3.31.0",
        "started": "2026-11-24T09:31:07Z",
        "seconds": 95.0,
        "clockError": 0.0021,
        "lanes": list(_lanes(paths)),
        "events": [
            {"at": 12.1, "what": "manifest applied", "where": "kube-system"},
            {"at": 14.0, "what": "calico-node restarts", "where": "dsc-t-worker2"},
            {"at": 14.9, "what": "BGP session to 10.243.0.2 down", "where": "dsc-t-worker2",
             "family": "ipv4"},
            {"at": 15.0, "what": "BGP session to fd00:10:243::2 down", "where": "dsc-t-worker2",
             "family": "ipv6"},
            {"at": 22.4, "what": "BGP sessions up", "where": "dsc-t-worker2"},
            {"at": 41.7, "what": "calico-node restarts", "where": "dsc-t-worker"},
            {"at": 66.2, "what": "calico-node restarts", "where": "dsc-t-control-plane"},
        ],
        "limits": [
            {"flows": "udp one-way", "longest": 2.0, "lost": 0.02, "resets": 0,
             "reason": "Routes stay in the kernel while BIRD restarts."},
        ],
        "windows": [{"start": 12.0, "end": 78.0, "what": "roll of calico-node"}],
    }  # fmt: skip


def _lanes(paths: Iterable[str]) -> Iterable[dict[str, Any]]:
    for path in paths:
        for flow in ("udp one-way", "new tcp"):
            for family in FAMILIES:
                bad = family == "ipv6" and path == "pod to pod, other node"
                gap = {"start": 14.9, "end": 20.3, "lost": 108, "cause": "BGP session down (4)"}
                yield {
                    "path": path,
                    "flow": flow,
                    "family": family.value,
                    "start": 1.0,
                    "end": 95.0,
                    "sent": 1880,
                    "lost": 108 if bad else 0,
                    "longestGap": 5.4 if bad else 0.05,
                    "gapLimit": 2.0,
                    "lostLimit": 0,
                    "verdict": "fail" if bad else "pass",
                    "reason": "a gap of 5.4 s" if bad else "",
                    "gaps": [gap] if bad else [],
                    "marks": [{"at": 20.3, "what": "reset"}] if bad and flow == "new tcp" else [],
                }


CHANGES = {
    "figure": "changes",
    "title": "Dataplane before and after",
    "old": "v3.30.1",
    "new": "v3.31.0",
    "changes": [
        {"where": "FelixConfiguration default", "what": "bpfConnectTimeLoadBalancing",
         "old": None, "new": "TCP", "note": "a changed default"},
        {"where": "dsc-t-worker", "what": "ipv6 routes of bird", "old": "5", "new": "4"},
    ],
}  # fmt: skip


def gate() -> Gate:
    """A gate that says no, with something of everything."""
    parts = [
        GatePart(
            name=name,
            title=title,
            changes=name == "upgrade",
            command="pytest suites -n4",
            folder=None,
            seconds=95.0,
            calico=calico,
            exit_code=code,
            exit_reason=reason,
            complete=True,
        )
        for name, title, calico, code, reason in (
            ("before", "conformance of v3.30.1", "v3.30.1", 0, "all core requirements passed"),
            ("upgrade", "upgrade of v3.30.1 to v3.31.0", "v3.31.0", 1, "failed: RES-001 [ipv6]"),
            ("after", "conformance of v3.31.0", "v3.31.0", 1, "failed: SVC-007 [ipv6]"),
        )
    ]
    worse = Regression(
        id="SVC-007",
        family="ipv6",
        before=Verdict.PASS,
        after=Verdict.FAIL,
        reason=f"not answered: {MARKUP}",
    )
    return Gate(
        ships=False,
        old="v3.30.1",
        new="v3.31.0",
        parts=tuple(parts),
        regressions=(worse,),
        unclear=("upgrade of v3.30.1 to v3.31.0: RES-002 [ipv6] is inconclusive: too little",),
    )
