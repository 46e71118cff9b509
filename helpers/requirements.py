"""What the suite proves, read from ``suites/requirements.yaml``.

The file is the only list of requirements: tests find theirs by name, the report and
``docs/requirements.md`` are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from helpers.model import FAMILIES, Family, Level

REQUIREMENTS_FILE: Final = Path(__file__).resolve().parent.parent / "suites" / "requirements.yaml"

# Folders under suites/, in the order of the report.
GROUPS: Final = {
    "configuration": "CFG",
    "pod_addresses": "PODIP",
    "connectivity": "CONN",
    "egress": "EGR",
    "services": "SVC",
    "service_proxy": "PRX",
    "policy": "NPOL",
    "packets": "PKT",
    "resilience": "RES",
    "routing": "RTE",
}

# Features a requirement may need, with the sentence that says when a cluster has it.
FEATURES: Final = {
    "bgp": "Calico routes with BIRD",
    "calico-ipam": "pods get their addresses from Calico's IPAM",
    "ebpf": "Calico's eBPF dataplane replaces kube-proxy",
    "encapsulation": "an enabled pool uses IPIP or VXLAN",
    "ipvs": "a node runs kube-proxy in ipvs mode",
    "kube-proxy": "kube-proxy implements Services",
    "native": "no enabled pool encapsulates",
    "outside": "there is a host outside of the cluster that runs the agent",
    "proxy-tables": "a node runs kube-proxy in iptables or nftables mode",
    "sctp": "the nodes' kernels have SCTP",
}

_TEST_NAME: Final = re.compile(r"test_(?P<prefix>[a-z]+)_(?P<number>\d{3})_\w+")
_ID: Final = re.compile(r"(?P<prefix>[A-Z]+)-\d{3}")
_OPTIONAL: Final = {"needs": [], "disruptive": False}
_MANDATORY: Final = frozenset(
    ("id", "group", "title", "families", "profile", "applies", "observe", "source", "fault")
)


class RequirementError(ValueError):
    """The requirement data or a test's name is wrong; the message says where and what to write."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One promise that the suite decides.

    ``families`` are the families it is decided for one by one; it is empty when one verdict
    covers the pair. ``fault`` is the change that must turn the verdict red.
    """

    id: str
    group: str
    title: str
    families: tuple[Family, ...]
    level: Level
    disruptive: bool
    needs: tuple[str, ...]
    applies: str
    observe: str
    source: str
    fault: str

    @property
    def pair(self) -> bool:
        """One verdict for both families together: its test takes no ``family`` argument."""
        return not self.families

    @property
    def test_prefix(self) -> str:
        """How names of its tests begin: ``test_svc_007_``."""
        return f"test_{self.id.lower().replace('-', '_')}_"

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Requirement:
        """One entry of the file.

        Raises:
            RequirementError: a key is missing or unknown, or a value is not one of the choices.
        """
        name = entry.get("id", "entry without id")
        missing = _MANDATORY - entry.keys()
        unknown = entry.keys() - _MANDATORY - _OPTIONAL.keys()
        if missing or unknown:
            raise RequirementError(
                f"{name}: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}"
            )
        found = _ID.fullmatch(str(name))
        if not found or GROUPS.get(entry["group"]) != found["prefix"]:
            raise RequirementError(
                f"{name}: an id is PREFIX-NNN with its group's prefix; groups: {GROUPS}"
            )
        needs = tuple(entry.get("needs", _OPTIONAL["needs"]))
        if not FEATURES.keys() >= set(needs):
            raise RequirementError(f"{name}: needs {needs}, known features: {sorted(FEATURES)}")
        return cls(
            id=name,
            group=entry["group"],
            title=entry["title"],
            families=_families(name, entry["families"]),
            level=_level(name, entry["profile"]),
            disruptive=bool(entry.get("disruptive", _OPTIONAL["disruptive"])),
            needs=needs,
            applies=entry["applies"],
            observe=entry["observe"],
            source=entry["source"],
            fault=entry["fault"],
        )


def _families(name: str, value: object) -> tuple[Family, ...]:
    if value == "pair":
        return ()
    if isinstance(value, list) and value:
        chosen = tuple(family for family in FAMILIES if family.value in value)
        if [family.value for family in chosen] == value:
            return chosen
    raise RequirementError(
        f"{name}: families is {value!r}, write `pair`, [ipv4, ipv6], [ipv4] or [ipv6]"
    )


def _level(name: str, value: object) -> Level:
    try:
        return Level(str(value))
    except ValueError:
        choices = ", ".join(Level)
        raise RequirementError(f"{name}: profile is {value!r}, write one of: {choices}") from None


def load(file: Path = REQUIREMENTS_FILE) -> Mapping[str, Requirement]:
    """Requirements by id, in the order of the file.

    Raises:
        RequirementError: an entry is malformed, or an id occurs twice.
    """
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))["requirements"]
    found: dict[str, Requirement] = {}
    for entry in entries:
        requirement = Requirement.parse(entry)
        if requirement.id in found:
            raise RequirementError(f"{requirement.id}: occurs twice in {file}")
        found[requirement.id] = requirement
    return MappingProxyType(found)


@cache
def requirements() -> Mapping[str, Requirement]:
    """The product's requirements by id; read once per process."""
    return load()


def requirement_of(test_name: str) -> Requirement:
    """The requirement that a test decides, from the beginning of its name.

    ``test_svc_007_both_cluster_ips_answer[ipv6]`` decides ``SVC-007``.

    Raises:
        RequirementError: the name has no id, or the id is not in the file.
    """
    found = _TEST_NAME.match(test_name)
    if not found:
        raise RequirementError(
            f"{test_name}: a test's name begins with the id of its requirement, "
            "e.g. test_svc_007_both_cluster_ips_answer"
        )
    name = f"{found['prefix'].upper()}-{found['number']}"
    try:
        return requirements()[name]
    except KeyError:
        raise RequirementError(
            f"{test_name}: there is no requirement {name}; add it to {REQUIREMENTS_FILE.name} first"
        ) from None
