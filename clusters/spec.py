"""ClusterSpec: what a cluster is to be, read from a profile and options.

``load_profile`` is the door: it names everything wrong with a profile in one message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from clusters.images.versions import load_versions
from clusters.kernel import KernelFacts, choose_proxy_mode
from clusters.spec_checks import Problem, check
from clusters.spec_types import (
    EXAMPLES,
    Dataplane,
    Encapsulation,
    Encapsulations,
    Families,
    Flags,
    Frozen,
    Kernel,
    Masks,
    NetworkLists,
    Networks,
    NodeGroup,
    ProxyMode,
    Role,
    Version,
    VersionField,
    Versions,
)
from helpers.model import Family, IPNetwork

__all__ = [
    "DEFAULT_PROFILE",
    "EXISTING_PROFILE",
    "PROFILES",
    "ClusterSpec",
    "Dataplane",
    "Encapsulation",
    "Kernel",
    "NodeGroup",
    "ProxyMode",
    "Role",
    "SpecError",
    "Version",
    "load_profile",
    "profile_names",
]

PROFILES = Path(__file__).parent / "profiles"
DEFAULT_PROFILE = "native"
EXISTING_PROFILE = "native"  # of somebody else's cluster: nothing is known of its groups of nodes


class SpecError(ValueError):
    """A profile cannot be used; the text lists every problem with its field and an example."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{source} cannot be used, {count}:{lines}")


class _ContradictionError(ValueError):
    """Problems between fields, on their way through pydantic."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


class ClusterSpec(Frozen):
    """A cluster as declared. Immutable, valid by construction, JSON by ``model_dump_json``.

    Raises:
        pydantic.ValidationError: when built from values that cannot become a cluster.
    """

    name: str = Field(pattern=r"^[a-z0-9][-a-z0-9.]{0,39}$")
    about: str = ""
    kubernetes: VersionField
    calico: VersionField
    # Releases whose images nodes hold beside: what this cluster can be upgraded to.
    calico_upgrades: Versions = ()
    families: Families
    nodes: tuple[NodeGroup, ...]
    pod_cidrs: Networks
    service_cidrs: Networks
    node_cidrs: Networks
    node_cidr_mask: Masks
    internet: NetworkLists
    encapsulation: Encapsulations
    nat_outgoing: Flags
    bgp: bool
    # 1280 is the least that IPv6 works with (RFC 8200 section 5); None: Calico finds it out.
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    calico_dataplane: Dataplane = Dataplane.IPTABLES

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> ClusterSpec:
        if not (info.context or {}).get("draft"):
            problems = check(self)
            if problems:
                raise _ContradictionError(problems)
        return self

    @property
    def primary(self) -> Family:
        """The family that comes first in every pair."""
        return self.families[0]

    @property
    def node_count(self) -> int:
        return sum(group.count for group in self.nodes)

    @property
    def host_groups(self) -> tuple[NodeGroup, ...]:
        """Groups that kind creates as containers."""
        return tuple(group for group in self.nodes if group.kernel is Kernel.HOST)

    @property
    def host_node_count(self) -> int:
        return sum(group.count for group in self.host_groups)

    @property
    def guest_groups(self) -> tuple[NodeGroup, ...]:
        """Groups whose nodes bring a kernel of their own and join a running cluster."""
        return tuple(group for group in self.nodes if group.kernel is Kernel.GUEST)

    @property
    def guest_node_count(self) -> int:
        return sum(group.count for group in self.guest_groups)

    @property
    def native(self) -> bool:
        """Whether pod packets cross the node network as they are, in both families."""
        return all(self.encapsulation.of(f) is Encapsulation.NONE for f in self.families)

    def pod_cidr(self, family: Family) -> IPNetwork:
        return self.pod_cidrs.of(family)

    def service_cidr(self, family: Family) -> IPNetwork:
        return self.service_cidrs.of(family)

    def node_cidr(self, family: Family) -> IPNetwork:
        """Network that the nodes' own addresses come from."""
        return self.node_cidrs.of(family)

    @property
    def proxy_mode(self) -> ProxyMode:
        """Mode of the nodes on the host's kernel.

        Raises:
            ValueError: it is still ``auto``; call ``resolved`` first.
        """
        mode = self.host_groups[0].proxy_mode
        if mode is ProxyMode.AUTO:
            raise ValueError("proxy_mode is still auto: call ClusterSpec.resolved(kernel) first")
        return mode

    def resolved(self, kernel: KernelFacts) -> ClusterSpec:
        """The same cluster with every ``kernel: auto`` and ``proxy_mode: auto`` decided.

        Guest kernels are built with IPVS, so there ``proxy_mode: auto`` is ipvs.

        Raises:
            SpecError: what follows from the kernel contradicts the rest of the profile.
        """
        host = choose_proxy_mode(kernel, self.kubernetes, self.calico_dataplane)
        nodes = []
        for group in self.nodes:
            whose = group.kernel
            if whose is Kernel.AUTO:
                wants_ipvs = group.proxy_mode in (ProxyMode.AUTO, ProxyMode.IPVS)
                lacks_it = wants_ipvs and kernel.missing_for_ipvs
                whose = Kernel.GUEST if lacks_it else Kernel.HOST
            mode = host if whose is Kernel.HOST else ProxyMode.IPVS
            mode = mode if group.proxy_mode is ProxyMode.AUTO else group.proxy_mode
            nodes.append(group.model_copy(update={"kernel": whose, "proxy_mode": mode}))
        return self.changed(nodes=[group.model_dump(mode="json") for group in nodes])

    def without_guests(self) -> ClusterSpec:
        """The same cluster without the nodes that bring a kernel of their own."""
        kept = [group for group in self.nodes if group.kernel is not Kernel.GUEST]
        return self.changed(nodes=[group.model_dump(mode="json") for group in kept])

    def changed(self, **fields: Any) -> ClusterSpec:
        """A copy with other values, checked like any profile.

        Raises:
            SpecError: the result cannot become a cluster.
        """
        return _build({**self.model_dump(mode="json"), **fields}, f"profile {self.name}")


def profile_names() -> list[str]:
    """Names of the profiles that come with the suite."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name_or_path: str, overrides: Mapping[str, str] | None = None) -> ClusterSpec:
    """Read a profile and change single values of it.

    Args:
        name_or_path: ``conformance``, or the path of a YAML file.
            One that names no ``kubernetes`` or ``calico`` version gets the default of
            ``images/versions.yaml``.
        overrides: values by field, e.g. ``{"kubernetes": "1.35.4", "pod_cidrs.ipv6":
            "fd00:7::/56", "nodes.workers.count": "3", "families": "ipv6,ipv4"}``;
            ``proxy_mode`` sets it for all node groups.

    Raises:
        SpecError: with every problem of file and options at once.
    """
    path = _find(name_or_path)
    data = _read(path)
    problems = list(_override(data, overrides or {}))
    _default_versions(data)
    source = f"profile {path}"
    try:
        spec = _build(data, source)
    except SpecError as error:
        raise SpecError(source, [*problems, *error.problems]) from None
    if problems:
        raise SpecError(source, problems)
    return spec


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        if path.is_file():
            return path
        raise SpecError(f"profile {path}", [Problem(("--profile",), "there is no such file")])
    path = PROFILES / f"{name_or_path}.yaml"
    if path.is_file():
        return path
    hint = _meant(name_or_path, profile_names())
    problem = f"there is no such profile{hint} known are {', '.join(profile_names())}"
    raise SpecError(
        f"profile {name_or_path!r}", [Problem(("--profile",), f"{problem}, or give a .yaml path")]
    )


def _read(path: Path) -> dict[str, Any]:
    source = f"profile {path}"
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise SpecError(source, [Problem(("file",), f"is not YAML: {text}")]) from None
    if not isinstance(data, dict):
        raise SpecError(source, [Problem(("file",), f"holds no fields; start from {PROFILES}")])
    return data


def _default_versions(data: dict[str, Any]) -> None:
    """A profile that names no version means the one that is built: images/versions.yaml."""
    versions = load_versions()
    data.setdefault("kubernetes", versions.kubernetes.default)
    data.setdefault("calico", versions.calico.default)


def _override(data: dict[str, Any], overrides: Mapping[str, str]) -> Iterator[Problem]:
    """Put options into the data of a profile; values stay text, the model reads them."""
    for path, value in overrides.items():
        if path == "proxy_mode":
            for group in _groups(data):
                group["proxy_mode"] = value
            continue
        place: Any = data
        *parents, last = path.split(".")
        for part in parents:
            place = _step(place, part)
        if not isinstance(place, dict):
            known = ", ".join(str(group.get("name")) for group in _groups(data))
            yield Problem(
                (path,),
                "no such field; e.g. kubernetes, pod_cidrs.ipv6, "
                f"nodes.GROUP.count with GROUP one of: {known}",
            )
        else:
            place[last] = value


def _groups(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    nodes = data.get("nodes")
    return [group for group in nodes if isinstance(group, dict)] if isinstance(nodes, list) else []


def _step(place: Any, part: str) -> Any:
    if isinstance(place, dict):
        return place.get(part)
    if isinstance(place, list):  # node groups go by their names
        named = (item for item in place if isinstance(item, dict) and item.get("name") == part)
        return next(named, None)
    return None


def _build(data: Mapping[str, Any], source: str) -> ClusterSpec:
    try:
        return ClusterSpec.model_validate(data)
    except ValidationError as error:
        problems = list(_problems(error, data))
        compared = any(_contradictions(item) for item in error.errors())
    if not compared:
        bad = frozenset[str]().union(*(problem.tops for problem in problems))
        problems += _contradictions_beside(data, bad)
    raise SpecError(source, problems)


def _contradictions(item: ErrorDetails) -> tuple[Problem, ...]:
    cause = item.get("ctx", {}).get("error")
    return cause.problems if isinstance(cause, _ContradictionError) else ()


def _contradictions_beside(data: Mapping[str, Any], bad: frozenset[str]) -> list[Problem]:
    """Rules between the fields that are good by themselves.

    pydantic stops before rules between fields when one field is wrong; a user should not meet
    the second half of the errors only after mending the first.
    """
    good = {key: value for key, value in data.items() if key in EXAMPLES and key not in bad}
    fallback = _read(PROFILES / f"{DEFAULT_PROFILE}.yaml")
    _default_versions(fallback)
    try:
        draft = ClusterSpec.model_validate({**fallback, **good}, context={"draft": True})
    except ValidationError:
        return []
    return [problem for problem in check(draft) if not problem.tops & bad]


def _problems(error: ValidationError, data: Mapping[str, Any]) -> Iterator[Problem]:
    for item in error.errors():
        if contradictions := _contradictions(item):
            yield from contradictions
            continue
        location = _location(item["loc"], data)
        top = location.split(".")[0]
        example = f"; e.g. {EXAMPLES[top]}" if top in EXAMPLES else ""
        if item["type"] == "extra_forbidden":
            yield Problem((location,), f"unknown field{_near(location)}")
        elif item["type"] == "missing":
            yield Problem((location,), f"is missing{example}")
        else:
            said = item.get("ctx", {}).get("error") or item["msg"].replace("Input should", "must")
            yield Problem((location,), f"{said}{example}")


def _location(loc: tuple[int | str, ...], data: Mapping[str, Any]) -> str:
    """``nodes.workers.count``: groups by name where they have one."""
    parts = [str(part) for part in loc]
    if len(loc) > 1 and loc[0] == "nodes" and isinstance(loc[1], int):
        nodes = data.get("nodes")
        group = nodes[loc[1]] if isinstance(nodes, (list, tuple)) else None
        if isinstance(group, dict) and group.get("name"):
            parts[1] = str(group["name"])
    return ".".join(parts)


def _near(location: str) -> str:
    *parents, name = location.split(".")
    if not parents:
        known = sorted(ClusterSpec.model_fields)
    elif parents[0] == "nodes":
        known = sorted(NodeGroup.model_fields)
    else:
        known = ["ipv4", "ipv6"]
    return f"{_meant(name, known)} known are {', '.join(known)}"


def _meant(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]}?" if close else ","
