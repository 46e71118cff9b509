"""Reading results back: summary, comparison, conformance report, command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.model import Level, Verdict
from helpers.requirements import requirements
from reports.__main__ import main
from reports.conformance_report import conformance_report
from reports.diff import Change, differences
from reports.exit_codes import Ending
from reports.ledger import Ledger
from reports.model import RESULTS_FILE, Results, ResultsError, read
from reports.terminal import summary_lines

REPOSITORY = Path(__file__).resolve().parents[2]


def record(name: str, family: str, verdict: str, reason: str = "") -> dict[str, Any]:
    return {
        "id": name,
        "family": family,
        "when": "call",
        "verdict": verdict,
        "reason": reason,
        "seconds": 0.5,
        "waits": [],
        "evidence": [],
        "losses": [],
        "noCluster": False,
        "cluster": None,
    }


def made(tmp_path: Path, *records: dict[str, Any], **cluster: Any) -> Results:
    ledger = Ledger(
        run_id="20260101-000000-abcd",
        directory=tmp_path,
        root=REPOSITORY,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        argv=(),
        profile=tuple(Level),
        requirements=requirements(),
    )
    for entry in records:
        if cluster:
            entry["cluster"] = {
                "name": "c",
                "owned": True,
                "kubeconfig": "/k",
                "context": None,
                "facts": cluster,
            }
        ledger.add(f"suites/x.py::test_{entry['id']}[{entry['family']}]", entry)
    return ledger.results(Ending(), complete=True)


def test_round_trip(tmp_path: Path) -> None:
    results = made(tmp_path, record("SVC-007", "ipv4", "pass"), kubernetes="v1.36.4", nodes=[])
    results.write(tmp_path / RESULTS_FILE)
    assert read(tmp_path) == results
    assert read(tmp_path / RESULTS_FILE) == results
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS_FILE]


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "Invalid JSON"), ('{"schema": 2}', "schema"), ("[]", "not results version 1")],
)
def test_unreadable_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / RESULTS_FILE
    file.write_text(text)
    with pytest.raises(ResultsError, match=says):
        read(file)


def test_summary_counts_and_lists(tmp_path: Path) -> None:
    results = made(
        tmp_path,
        record("SVC-007", "ipv4", "pass"),
        record("SVC-007", "ipv6", "fail", "\n lost 3 of 20\nmore"),
        record("CFG-001", "pair", "skipped", "declared"),
        record("PODIP-002", "ipv6", "blocked", "blocked by CFG-009: x"),
    )
    assert results.summary.by_group["services"]["ipv6"][Verdict.FAIL] == 1
    assert results.summary.by_profile[Level.CORE][Verdict.PASS] == 1
    lines = list(summary_lines(results))
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:4]}
    assert rows["services"] == ["1P", "1F", "-"]
    assert rows["pod_addresses"] == ["-", "1B", "-"]
    assert lines[lines.index("  SVC-007 [ipv6]: lost 3 of 20") + 1] == "      more"
    assert "  CFG-001: declared" in lines
    assert lines[-1] == "exit 1: failed: SVC-007 [ipv6]"


def test_late_waits_are_told(tmp_path: Path) -> None:
    entry = record("SVC-007", "ipv6", "pass")

    def wait(what: str, waited: float, *, settled: bool = True) -> dict[str, Any]:
        return {"what": what, "waited": waited, "within": 10, "probes": 3, "settled": settled}

    entry["waits"] = [
        wait("endpoints", 9.1),
        wait("quick", 0.2),
        wait("stays so", 10.01),
        wait("never came", 9.9, settled=False),
    ]
    lines = list(summary_lines(made(tmp_path, entry)))
    assert "LATE BUT IN TIME (1 waits used over 50% of their limit):" in lines
    assert "  SVC-007 [ipv6]: endpoints: 9.1 of 10 s" in lines


def test_lost_agents_are_told(tmp_path: Path) -> None:
    entry = record("SVC-007", "ipv6", "inconclusive", "pod agent on b was lost during probe")
    entry["losses"] = [{"agent": "pod agent on b", "op": "probe", "reason": "cut\n  and more"}]
    results = made(tmp_path, entry, record("SVC-007", "ipv4", "pass"))
    assert [(lost.agent, lost.test) for lost in results.lost_agents] == [
        ("pod agent on b", "suites/x.py::test_SVC-007[ipv6]")
    ]
    lines = list(summary_lines(results))
    assert lines[lines.index("LOST AGENTS (1):") + 1] == "  pod agent on b, during probe: cut"


def test_reason_is_told_in_its_first_lines(tmp_path: Path) -> None:
    entry = record("SVC-007", "ipv6", "fail", "3 cells differ\n  all v6\n\n  node a\n  node b")
    lines = list(summary_lines(made(tmp_path, entry)))
    begin = lines.index("  SVC-007 [ipv6]: 3 cells differ")
    assert lines[begin + 1 : begin + 3] == ["      all v6", "      node a"]
    assert lines[begin + 3].startswith("      > pytest '")


def test_same_reason_is_told_once(tmp_path: Path) -> None:
    names = ("SVC-001", "SVC-004", "SVC-005", "SVC-006")
    records = [record(n, "ipv6", "blocked", "blocked by PODIP-002 [ipv6]: none") for n in names]
    text = "\n".join(summary_lines(made(tmp_path, *records)))
    assert text.count("blocked by PODIP-002") == 1
    assert text.count("pytest '") == 1


def test_difference_names_regressions_first(tmp_path: Path) -> None:
    old = made(
        tmp_path,
        record("CFG-001", "pair", "fail"),
        record("SVC-007", "ipv4", "pass"),
        record("SVC-007", "ipv6", "pass"),
        record("SVC-009", "ipv6", "pass"),
    )
    new = made(
        tmp_path,
        record("CFG-001", "pair", "pass"),
        record("SVC-007", "ipv4", "pass"),
        record("SVC-007", "ipv6", "inconclusive", "agent lost"),
        record("SVC-010", "ipv6", "pass"),
    )
    found = differences(old, new)
    assert [(d.key, d.change) for d in found] == [
        (("SVC-007", "ipv6"), Change.WORSE),
        (("SVC-009", "ipv6"), Change.GONE),
        (("CFG-001", "pair"), Change.BETTER),
        (("SVC-010", "ipv6"), Change.NEW),
    ]


def test_diff_command_exits_with_one_for_regressions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, verdict in (("good", "pass"), ("bad", "fail")):
        (tmp_path / name).mkdir()
        results = made(tmp_path, record("SVC-007", "ipv6", verdict))
        results.write(tmp_path / name / RESULTS_FILE)
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    assert main(["diff", good, bad]) == 1
    assert "SVC-007 [ipv6]" in capsys.readouterr().out
    assert main(["diff", bad, good]) == 0
    assert main(["diff", good, good]) == 0
    assert main(["diff", good, str(tmp_path / "none")]) == 2
    assert main(["show", bad]) == 0
    assert "exit 1: failed: SVC-007 [ipv6]" in capsys.readouterr().out


def test_conformance_report_has_gateway_apis_shape(tmp_path: Path) -> None:
    results = made(
        tmp_path,
        record("SVC-007", "ipv4", "pass"),
        record("SVC-007", "ipv6", "fail"),
        record("SVC-001", "ipv6", "blocked"),
        record("SVC-012", "ipv6", "pass"),
        record("SVC-015", "ipv6", "skipped"),
        record("SVC-018", "pair", "pass"),
        calico="v3.31.0",
        kubernetes="v1.36.4",
    )
    report = yaml.safe_load(yaml.safe_dump(conformance_report(results)))
    assert report["kind"] == "ConformanceReport"
    assert report["implementation"]["version"] == "v3.31.0"
    four, six, pair = report["profiles"]
    assert four["name"] == "IPv4"
    assert four["core"]["result"] == "success"
    assert six["core"] == {
        "result": "failure",
        "statistics": {"Passed": 0, "Skipped": 1, "Failed": 1},
        "failedTests": ["SVC-007"],
        "skippedTests": ["SVC-001"],
    }
    assert six["extended"]["result"] == "partial"
    assert six["extended"]["supportedFeatures"] == ["SVC-012"]
    assert six["extended"]["unsupportedFeatures"] == ["SVC-015"]
    assert "core" not in pair  # informational requirements prove nothing


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        (
            ["nftables", "nftables"],
            "kube-proxy in ipvs mode was not tested: the nodes run nftables",
        ),
        (["nftables", "ipvs"], None),
        ([], None),  # no test looked at the nodes: nothing is known
    ],
)
def test_summary_says_when_ipvs_was_not_tested(
    tmp_path: Path, modes: list[str], said: str | None
) -> None:
    nodes = [
        {"name": str(number), "proxyMode": mode, "kernel": "6.18", "addresses": []}
        for number, mode in enumerate(modes)
    ]
    results = made(tmp_path, record("SVC-007", "ipv4", "pass"), kubernetes="v1.36.4", nodes=nodes)
    told = [line for line in summary_lines(results) if "not tested" in line]
    assert told == ([said] if said else [])
