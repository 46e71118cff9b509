"""Proving one fault after another on one cluster: plant, run, compare, heal, run to green.

Requirements are decided in a pytest session of its own each time, as a user would start it
(``--reuse-cluster``): what a session observes once and shares, it observes after the fault was
planted, and what breaks in it cannot break the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final

from clusters import calico, faults, records
from clusters.api import Cluster
from clusters.interrupts import uninterrupted
from clusters.processes import Identity
from helpers import prove_session
from helpers.faults import planting
from helpers.faults.bench import Bench, FaultError
from helpers.faults.comparison import Comparison, Seen, compare
from helpers.faults.expectations import Expectation, Key, expectations, label
from helpers.faults.grouping import merged
from helpers.faults.plans import Plan, planters
from helpers.faults.planting import HealError, Journal
from helpers.features import why_not
from helpers.kube import Kube, KubeError
from helpers.model import Verdict
from helpers.prove_session import UNKNOWN, Session
from helpers.waiting import NotSettled

HEALTHY_SECONDS: Final = 300.0
GREEN: Final = (Verdict.PASS, Verdict.SKIPPED)
Tell = Callable[[str], None]


class CannotPlantError(Exception):
    """The cluster lacks what a fault needs; the message says what."""


@dataclass(slots=True)
class Finding:
    """What came of one fault.

    Attributes:
        comparison: None when the fault could not be planted or no verdicts came.
        error: why not, or what did not heal or did not turn green again.
        healed: every state is what it was before.
        still_red: verdicts that were red and are not green after healing, twice.
        unsteady: verdicts that were not as expected once, and were when they were decided again.
        together: others that were planted at the same time; seconds are of all of them.
        seconds: of each phase.
        sessions: folders of the reports, by phase.
    """

    row: Expectation
    comparison: Comparison | None = None
    error: str = ""
    healed: bool = True
    still_red: tuple[Key, ...] = ()
    unsteady: tuple[Key, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    diagnoses: tuple[str, ...] = ()
    seen: Mapping[Key, Seen] = field(default_factory=dict)
    together: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)

    @property
    def proved(self) -> bool:
        """Planted, exactly the expected verdicts red, healed, green again."""
        good = self.comparison is not None and self.comparison.exact
        return good and self.healed and not self.still_red and not self.error

    def to_json(self) -> dict[str, Any]:
        """Plain data for the report."""
        found = self.comparison
        sets = {} if found is None else {k: _labels(v) for k, v in asdict(found).items()}
        return {
            "id": self.row.id,
            "title": self.row.title,
            "kind": self.row.kind,
            "must": _labels(self.row.must),
            "may": {label(key): reason for key, reason in self.row.may.items()},
            **sets,
            "compared": found is not None,
            "proved": self.proved,
            "healed": self.healed,
            "stillRed": _labels(self.still_red),
            "unsteady": _labels(self.unsteady),
            "error": self.error,
            "reasons": dict(self.reasons),
            "diagnoses": list(self.diagnoses),
            "rule": self.row.rule,
            "rulesBeside": [expectations()[name].rule or UNKNOWN for name in self.together],
            "together": list(self.together),
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "sessions": self.sessions,
        }


def _labels(found: Iterable[Key]) -> list[str]:
    return sorted(label(key) for key in found)


class Prover:
    """Plants faults in one cluster.

    Args:
        place: folder of the cluster's record, where the journal lies.
        root: of the repository.
        folder: for the reports of all sessions.
        workers: of each session (``-n``).
    """

    def __init__(
        self, bench: Bench, place: Path, root: Path, folder: Path, workers: int, tell: Tell
    ) -> None:
        self.bench = bench
        self.cluster = bench.cluster
        self.place = place
        self.root = root
        self.folder = folder
        self.workers = workers
        self.tell = tell
        self.not_green: frozenset[Key] = frozenset()

    @classmethod
    def of(cls, cluster: Cluster, root: Path, folder: Path, workers: int, tell: Tell) -> Prover:
        """For a cluster of the registry.

        Raises:
            FaultError: the cluster is not ours.
        """
        bench = Bench(cluster, Kube(cluster.kubeconfig, cluster.context))
        place = records.clusters_dir() / cluster.name
        return cls(bench, place, root, folder, workers, tell)

    # -- before ------------------------------------------------------------------------------------

    def why_not(self, row: Expectation) -> str | None:
        """Why a fault cannot be planted in this cluster, None when it can."""
        spec = self.cluster.spec
        if not row.planted:
            return f"shown on recorded input only: {', '.join(row.recorded)}"
        if row.profile is not None and row.profile != spec.name:
            return f"needs a cluster of profile {row.profile}, this one is {spec.name}"
        if len(self.bench.workers) < row.workers:
            return f"needs {row.workers} workers, the cluster has {len(self.bench.workers)}"
        if row.id not in planters() and row.kind == "fault":
            return "no function plants it yet"
        return why_not(row.needs, self.cluster)

    def baseline(self, requirements: Iterable[str]) -> Session:
        """Verdicts of the healthy cluster; what is not green there proves nothing later.

        Raises:
            FaultError: the session brought no verdicts.
        """
        found = self.decide("baseline", requirements)
        red = _not_green(found.seen)
        if red:
            again = self.decide("baseline-again", {name for name, _ in red})
            found = replace(found, seen={**found.seen, **again.seen})
        self.not_green = _not_green(found.seen)
        return found

    def prepare(self, sample: Iterable[str]) -> None:
        """See that agents run: they would be made under the first fault.

        Raises:
            FaultError: the session that deploys them brought no verdicts.
        """
        if not self.bench.has_agents:
            self.decide("prepared", sample)

    # -- one fault ---------------------------------------------------------------------------------

    def prove(self, rows: Sequence[Expectation], sample: Sequence[str]) -> Finding:
        """Plant one fault, or several at once; compare, and heal.

        ``green_again`` must follow.

        Returns:
            one finding about all of them, whose row is the union of theirs.

        Raises:
            CannotPlantError: the cluster lacks what one of them needs.
            KeyboardInterrupt: the run is ended; what was planted is healed before.
        """
        for row in rows:
            reason = self.why_not(row)
            if reason:
                raise CannotPlantError(reason)
        whole = Finding(merged(rows))
        try:
            plans = self.plans(rows)
            journal = Journal.begin(self.place, whole.row.id, Identity.own().to_json())
        except (FaultError, KubeError, LookupError) as error:
            whole.error = f"could not be planted: {error}"
            return whole
        try:
            self._inject(rows, plans, journal, whole)
            self._compare(rows, whole, sample)
        except (FaultError, NotSettled, KubeError) as error:
            whole.error = f"could not be proved: {error}"
        finally:
            with uninterrupted(self.tell):
                self._heal(plans, journal, whole)
        return whole

    def plans(self, rows: Iterable[Expectation]) -> dict[str, Plan]:
        """What each fault does in this cluster.

        Raises:
            FaultError, KubeError, LookupError: the cluster is not as one of them needs it.
        """
        known = planters()
        return {row.id: known[row.id](self.bench) if row.id in known else Plan() for row in rows}

    def outlook(self, rows: Iterable[Expectation]) -> dict[str, Plan | None]:
        """What each fault would touch; None for those that the cluster is not ready for."""
        found: dict[str, Plan | None] = {}
        for row in rows:
            try:
                found |= self.plans([row])
            except (FaultError, KubeError, LookupError):
                found[row.id] = None  # why comes to light when it is planted
        return found

    def _inject(
        self,
        rows: Sequence[Expectation],
        plans: Mapping[str, Plan],
        journal: Journal,
        found: Finding,
    ) -> None:
        began = monotonic()
        for row in rows:
            planting.inject(self.bench, journal, plans[row.id], within=row.settle, fault=row.id)
        found.seconds["inject"] = monotonic() - began

    def _compare(self, rows: Sequence[Expectation], found: Finding, sample: Sequence[str]) -> None:
        began = monotonic()
        row = found.row
        chosen = set(sample).union(*(row.selection for row in rows))
        session = self.decide(f"{row.id}/planted", chosen, row.id)
        found.sessions["planted"] = str(session.folder)
        found.diagnoses = session.diagnoses
        seen = dict(session.seen)
        first = compare(row, seen, self.not_green)
        if not first.exact:
            # Once more, while it is planted: what does not repeat is told as unsteady.
            doubted = first.missed | first.surplus
            again = self.decide(f"{row.id}/planted-again", {name for name, _ in doubted}, row.id)
            found.sessions["planted again"] = str(again.folder)
            seen |= {key: it for key, it in again.seen.items() if key in doubted}
        found.comparison = compare(row, seen, self.not_green)
        found.seen = seen
        found.unsteady += _unsteady(first, found.comparison)
        found.seconds["run"] = monotonic() - began
        found.reasons = {label(key): seen[key].reason for key in _not_green(seen)}

    def _heal(self, plans: Mapping[str, Plan], journal: Journal, found: Finding) -> None:
        began, within = monotonic(), found.row.heal
        try:
            planting.heal(self.bench, journal, within=within, tell=self.tell)
            for plan in plans.values():
                planting.await_healed(plan, within=within)
            self.await_healthy()
        except (HealError, FaultError, NotSettled, KubeError) as error:
            found.healed = False
            found.error = f"{found.error}; {error}".removeprefix("; ")
        found.seconds["heal"] = monotonic() - began

    def await_healthy(self) -> None:
        nodes = len(self.bench.nodes)
        calico.wait_ready(
            self.bench.kube, self.cluster.spec, lambda _: None, nodes=nodes, within=HEALTHY_SECONDS
        )

    def green_again(self, found: Sequence[Finding]) -> None:
        """Decide once more, for one or several that were healed, what had been red."""
        red = {id(one): _red(one) for one in found if one.healed and one.comparison is not None}
        asked = frozenset(key for keys in red.values() for key in keys)
        if not asked:
            return
        began, name = monotonic(), "+".join(one.row.id for one in found)
        try:
            session = self.decide(f"{name}/healed", {key for key, _ in asked})
            still, unsteady = _not_green(session.seen) - self.not_green, frozenset[Key]()
            if still:
                again = self.decide(f"{name}/healed-again", {key for key, _ in still})
                unsteady = still - _not_green(again.seen)
                session, still = again, still - unsteady
        except FaultError as error:
            for one in found:
                one.error = f"{one.error}; after healing: {error}".removeprefix("; ")
            return
        for one in found:
            mine = red.get(id(one), frozenset())
            one.seconds["green"] = (monotonic() - began) * len(mine) / len(asked)
            one.sessions["healed"] = str(session.folder)
            one.unsteady += tuple(sorted(unsteady & mine))
            one.still_red = tuple(sorted(still & mine))
            told = {f"{label(k)} after healing": session.seen[k].reason for k in one.still_red}
            one.reasons = {**one.reasons, **told}

    def decide(self, name: str, chosen: Iterable[str], planted: str | None = None) -> Session:
        """Decide some requirements in a session of its own.

        Raises:
            FaultError: it brought no verdicts.
        """
        # A fault's own id may hold a slash: CFG-009/drop.
        owner, _, phase = name.rpartition("/")
        return prove_session.decide(
            self.cluster.name,
            chosen,
            self.place_of(owner) / phase,
            root=self.root,
            workers=self.workers,
            environment={faults.FAULT_VARIABLE: planted} if planted else {},
        )

    def place_of(self, name: str) -> Path:
        """The folder for the reports of one fault, or of several that are planted at once."""
        # A file's name has at most 255 characters.
        return self.folder / name.replace("/", "-")[:200]


def _not_green(seen: Mapping[Key, Seen]) -> frozenset[Key]:
    return frozenset(k for k, it in seen.items() if it.verdict not in GREEN)


def _red(found: Finding) -> frozenset[Key]:
    """What was red or undecided while it was planted."""
    it = found.comparison
    if it is None:
        return frozenset()
    return it.failed | it.allowed | it.consequences | it.surplus


def _unsteady(first: Comparison, then: Comparison) -> tuple[Key, ...]:
    """What was doubted at the first look and was as expected at the second."""
    return tuple(sorted((first.missed | first.surplus) - (then.missed | then.surplus)))
