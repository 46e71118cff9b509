"""What the page says, as data for its templates: no markup here, and no wording there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from helpers.model import Level, Verdict
from helpers.requirements import Requirement
from reports.exit_codes import ExitCode
from reports.html.matrices import short_names
from reports.model import FAMILY_NAMES, FamilyName, NotTested, RequirementResult, Results
from reports.terminal import first_line

FAMILY_TITLES: Final[Mapping[FamilyName, str]] = {"ipv4": "IPv4", "ipv6": "IPv6", "pair": "Pair"}
# The order in which counts are told: what is good first, then by how much it alarms.
TOLD: Final = (
    Verdict.PASS,
    Verdict.FAIL,
    Verdict.BLOCKED,
    Verdict.INCONCLUSIVE,
    Verdict.SKIPPED,
)
TROUBLES: Final = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.BLOCKED)
ENDINGS: Final[Mapping[int, tuple[str, Verdict]]] = {
    ExitCode.OK: ("Passed", Verdict.PASS),
    ExitCode.FAILED: ("Failed", Verdict.FAIL),
    ExitCode.USAGE: ("Stopped", Verdict.INCONCLUSIVE),
    ExitCode.UNDECIDED: ("Undecided", Verdict.INCONCLUSIVE),
    ExitCode.NO_CLUSTER: ("No cluster", Verdict.INCONCLUSIVE),
}


@dataclass(frozen=True, slots=True)
class Count:
    """How often one verdict was given, and its share in percent of all."""

    verdict: Verdict
    number: int
    offset: float
    share: float


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one family in one group (or in all), in the order they are told."""

    family: FamilyName
    counts: tuple[Count, ...]

    @property
    def title(self) -> str:
        return FAMILY_TITLES[self.family]

    @property
    def total(self) -> int:
        return sum(count.number for count in self.counts)

    @property
    def text(self) -> str:
        """``12 pass, 1 fail``."""
        return ", ".join(f"{c.number} {c.verdict}" for c in self.counts) or "nothing"

    def number(self, verdict: Verdict) -> int:
        return sum(count.number for count in self.counts if count.verdict == verdict)


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement with its verdicts, family by family; None where it has none."""

    id: str
    title: str
    level: Level
    results: tuple[tuple[FamilyName, RequirementResult | None], ...]
    catalogue: Requirement | None  # None when today's catalogue does not know the id any more

    @property
    def given(self) -> tuple[RequirementResult, ...]:
        return tuple(result for _, result in self.results if result is not None)

    @property
    def worst(self) -> Verdict:
        return Verdict.worst(result.verdict for result in self.given)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of requirements: one row of the matrix of verdicts."""

    name: str
    tallies: tuple[Tally, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def troubled(self) -> bool:
        return any(row.worst in TROUBLES for row in self.rows)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One reason, and all verdicts that it was given for."""

    verdict: Verdict
    results: tuple[RequirementResult, ...]

    @property
    def reason(self) -> str:
        return self.results[0].reason or "no reason given"

    @property
    def ids(self) -> list[tuple[str, list[FamilyName]]]:
        """Each requirement once, with its families."""
        found: dict[str, list[FamilyName]] = {}
        for result in self.results:
            found.setdefault(result.id, []).append(result.family)
        return list(found.items())


def families(results: Results) -> list[FamilyName]:
    """Families that have a verdict, in their order."""
    return [f for f in FAMILY_NAMES if any(r.family == f for r in results.requirements)]


def tally(family: FamilyName, results: Iterable[RequirementResult]) -> Tally:
    counted = Counter(r.verdict for r in results if r.family == family)
    total = sum(counted.values())
    counts, offset = [], 0.0
    for verdict in TOLD:
        if counted[verdict]:
            share = 100 * counted[verdict] / total
            counts.append(Count(verdict, counted[verdict], offset, share))
            offset += share
    return Tally(family, tuple(counts))


def groups(results: Results, catalogue: Mapping[str, Requirement]) -> list[Group]:
    """The matrix of verdicts, with what is behind each row."""
    shown = families(results)
    found = []
    for name in dict.fromkeys(r.group for r in results.requirements):
        members = [r for r in results.requirements if r.group == name]
        rows = [
            _row([r for r in members if r.id == each], catalogue.get(each))
            for each in dict.fromkeys(r.id for r in members)
        ]
        found.append(Group(name, tuple(tally(f, members) for f in shown), tuple(rows)))
    return found


def _row(results: Sequence[RequirementResult], catalogue: Requirement | None) -> Row:
    by_family = {result.family: result for result in results}
    asked: list[FamilyName] = ["pair"] if "pair" in by_family else []
    asked += [f for f in FAMILY_NAMES if f != "pair" and (f in by_family or not asked)]
    first = results[0]
    cells = tuple((family, by_family.get(family)) for family in asked)
    return Row(first.id, first.title, first.profile, cells, catalogue)


def troubles(results: Results) -> list[Trouble]:
    """Failures first; many verdicts with the very same reason are one finding, told once."""
    found = []
    for verdict in TROUBLES:
        by_reason: dict[str, list[RequirementResult]] = {}
        for result in results.requirements:
            if result.verdict is verdict:
                by_reason.setdefault(first_line(result.reason), []).append(result)
        found += [Trouble(verdict, tuple(each)) for each in by_reason.values()]
    return found


def ending(results: Results) -> tuple[str, Verdict]:
    """How the run ended, in one word, and the verdict that its colour stands for."""
    if results.gate is not None and results.gate.ships:
        return "May ship", Verdict.PASS
    if results.gate is not None and results.summary.exit_code == ExitCode.FAILED:
        return "Must not ship", Verdict.FAIL
    known = ENDINGS.get(results.summary.exit_code, ("Undecided", Verdict.INCONCLUSIVE))
    if not results.run.complete and known[1] is Verdict.PASS:
        return "Not complete", Verdict.INCONCLUSIVE
    return known


def because(results: Results) -> str:
    """Why the run ended as it did, without the word that the heading says already."""
    reason = results.summary.exit_reason
    for said in ("failed: ", "it must not ship: ", "it must not ship, ", "it may ship: "):
        reason = reason.removeprefix(said)
    return reason[:1].upper() + reason[1:]


def about(results: Results) -> list[tuple[str, str]]:
    """The cluster in a few words: what differs between nodes is told of each."""
    cluster = results.cluster
    started = f"{results.run.started:%Y-%m-%d %H:%M} UTC"
    if cluster is None:
        return [("run", started)]
    found = [
        ("cluster", cluster.name),
        ("Kubernetes", cluster.kubernetes or "unknown"),
        ("Calico", cluster.calico or "unknown"),
        ("nodes", str(len(cluster.nodes))),
        ("kube-proxy", _by_node([(node.name, node.proxy_mode) for node in cluster.nodes])),
        ("kernel", _by_node([(node.name, node.kernel) for node in cluster.nodes])),
        ("run", started),
    ]
    return [(name, text) for name, text in found if text]


def _by_node(values: Sequence[tuple[str, str]]) -> str:
    """``nftables``, or ``nftables; ipvs on worker2``: the exceptions by name."""
    common = Counter(value for _, value in values).most_common()
    if not common:
        return ""
    short = short_names([name for name, _ in values])
    told = [common[0][0]]
    for value, _ in common[1:]:
        names = [short[name] for name, each in values if each == value]
        told.append(f"{value} on {', '.join(names)}")
    return "; ".join(told)


def untested(results: Results) -> list[tuple[str, list[NotTested]]]:
    """What the catalogue asks for and the run did not decide, by the reason for it."""
    by_reason: dict[str, list[NotTested]] = {}
    for each in results.summary.not_tested:
        by_reason.setdefault(each.reason, []).append(each)
    return sorted(by_reason.items(), key=lambda item: -len(item[1]))
