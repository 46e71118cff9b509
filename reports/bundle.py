"""``python -m reports bundle SVC-007``: a finding as one file that somebody else can repeat.

It holds the verdict with everything that was observed, what the cluster was declared to be, which
versions it was built from with the hashes of their modules, the faults that show the same, and the
one command that shows it again on a fresh cluster.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from clusters.images.golang import module_pins
from clusters.images.versions import Versions, pinned
from helpers.faults.expectations import expectations
from helpers.requirements import RequirementError, requirements
from reports.figures import READ_AT_MOST
from reports.model import RequirementResult, Results, ResultsError
from reports.terminal import label

PROFILE: Final = "profile.yaml"
README: Final = "README.txt"
FILE_LIMIT: Final = 4 * READ_AT_MOST  # bytes of one file of evidence


def bundle(results: Results, directory: Path, wanted: str, target: Path) -> Path:
    """Write the bundle of one requirement, e.g. ``SVC-007-ipv6.tar.gz``; its path.

    Args:
        wanted: id of the requirement, or its id and family: ``SVC-007`` or ``SVC-007-ipv6``.
        target: directory to write it to.

    Raises:
        ResultsError: the run has no verdict about it.
    """
    found = matching(results, wanted)
    path = target / f"{wanted}.tar.gz"
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in contents(results, directory, found):
            entry = tarfile.TarInfo(f"{wanted}/{name}")
            entry.size = len(data)
            entry.mtime = int(results.run.started.timestamp())
            archive.addfile(entry, io.BytesIO(data))
    return path


def matching(results: Results, wanted: str) -> list[RequirementResult]:
    """The verdicts that are meant.

    Raises:
        ResultsError: there is none; the message says which there are.
    """
    names = {r.id: None for r in results.requirements}
    found = [r for r in results.requirements if wanted in (r.id, f"{r.id}-{r.family}")]
    if not found:
        raise ResultsError(
            f"run {results.run.id} has no verdict about {wanted}: it has {', '.join(names)}"
        )
    return found


def contents(
    results: Results, directory: Path, found: Sequence[RequirementResult]
) -> Iterator[tuple[str, bytes]]:
    """Names and data of all files of a bundle."""
    cluster = results.cluster
    declared = begun_as(results, found)
    verdicts = [r.model_dump(mode="json", by_alias=True) for r in found]
    told = [
        d.model_dump(mode="json", by_alias=True)
        for d in results.diagnoses
        if any((c.id, c.family) == r.key for c in d.consequences for r in found)
    ]
    yield README, _readme(results, found, declared).encode()
    yield "verdicts.json", _json({"verdicts": verdicts, "diagnoses": told})
    if cluster is not None:
        facts = cluster.model_dump(mode="json", by_alias=True)
        yield "cluster.json", _json(facts)
    if declared:
        yield PROFILE, yaml.safe_dump(declared, sort_keys=False).encode()
        yield "versions.json", _json(versions(declared, pinned()))
    yield "requirement.json", _json(_catalogue(found[0].id))
    yield "faults.json", _json(faults(found))
    for result in found:
        for file in result.evidence:
            path = (directory / file).resolve()
            if path.is_relative_to(directory.resolve()) and path.is_file():
                yield f"evidence/{file}", path.read_bytes()[:FILE_LIMIT]


def begun_as(results: Results, found: Sequence[RequirementResult]) -> dict[str, Any]:
    """The profile that shows it on a fresh cluster; of a gate's upgrade, the one it began with."""
    declared = dict(results.cluster.declared) if results.cluster else {}
    gate = results.gate
    if not declared or gate is None or gate.old is None or not _of_upgrade(found):
        return declared
    old, now = gate.old.removeprefix("v"), str(declared["calico"])
    others = [v for v in declared.get("calico_upgrades", ()) if v != old]
    return {**declared, "calico": old, "calico_upgrades": [now, *others] if now != old else others}


def _of_upgrade(found: Sequence[RequirementResult]) -> bool:
    """Whether it is the upgrade of a gate that decided it."""
    return all(result.group == "resilience" for result in found)


def versions(declared: Mapping[str, Any], known: Versions) -> dict[str, Any]:
    """What the cluster of a profile is built from: modules with versions and hashes."""
    releases = [declared["calico"], *declared.get("calico_upgrades", ())]
    wanted = {f"kubernetes-v{declared['kubernetes']}", *(f"calico-v{r}" for r in releases)}
    made = {}
    for name, component in known.components.items():
        if name in wanted or not name.startswith(("kubernetes-", "calico-")):
            made[name] = {"version": component.version, **module_pins(component)}
    return {"components": made, "debian": known.debian.suite, "missing": sorted(wanted - {*made})}


def faults(found: Sequence[RequirementResult]) -> list[dict[str, str]]:
    """Faults that turn the same verdicts red: how to see it without whatever caused it here."""
    keys = {(r.id, r.family) for r in found}
    return [
        {"id": row.id, "title": row.title, "command": f"pytest suites --prove={row.id}"}
        for row in expectations().values()
        if row.planted and keys & set(row.must)
    ]


def _catalogue(name: str) -> dict[str, Any]:
    known = requirements().get(name)
    if known is None:
        raise RequirementError(f"today's catalogue has no {name}")
    return {
        "id": known.id,
        "title": known.title,
        "group": known.group,
        "level": known.level.value,
        "source": known.source,
        "observe": known.observe,
        "fault": known.fault,
    }


def _readme(
    results: Results, found: Sequence[RequirementResult], declared: Mapping[str, Any]
) -> str:
    lines = [f"Run {results.run.id}, {results.run.started:%Y-%m-%d %H:%M} UTC", ""]
    for result in found:
        lines += [f"{label(result)}: {result.verdict}", f"  {result.title}"]
        lines += [f"  {line}" for line in result.reason.splitlines()]
    again = [result.test.partition("[")[0] for result in found]
    where = f"--profile {PROFILE}" if declared else "--profile YOURS"
    tests = " ".join(dict.fromkeys(again))
    roll = _roll(results, found)
    lines += ["", "On a fresh cluster, in a checkout of the suite:", ""]
    lines += [f"  pytest {tests} -n0 {where} --disruptive=long{roll}", ""]
    lines += ["On the cluster of this run, as long as it is there:", ""]
    lines += [f"  {result.repeat}" for result in found if result.repeat]
    lines += ["", "versions.json has what such a cluster is built from, faults.json what shows the",
              "same on a healthy one."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _roll(results: Results, found: Sequence[RequirementResult]) -> str:
    """What made it roll, where a run says so: an upgrade is part of the finding."""
    given = [word for word in results.run.argv if word.startswith(("--calico-roll", "--bad-up"))]
    if results.gate is not None and results.gate.new and _of_upgrade(found):
        given.append(f"--calico-roll={results.gate.new}")
    return "".join(f" {word}" for word in given)


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2, default=str) + "\n").encode()
