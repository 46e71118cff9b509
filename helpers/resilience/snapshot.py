"""The state of the data path as data, before and after: what an operator must know of a change.

What differs without meaning anything is left out where it is read: uids, counters, times, and the
hashes in the names of chains, sets and interfaces, which are counted by their kind instead.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from helpers import bird
from helpers.facts import proxy_mode_now
from helpers.kube_errors import KubeError
from helpers.model import FAMILIES, Family
from helpers.netstate import SAVE_COMMANDS, parse_chains
from helpers.parallel import on_each
from helpers.resilience.happenings import SYSTEM, system_namespaces
from helpers.verdicts import Inconclusive

if TYPE_CHECKING:
    from helpers.agents.client import Agent
    from helpers.agents.pool import AgentPool
    from helpers.kube import Kube

State = dict[str, dict[str, str]]  # where -> what -> its value in words
Object = Mapping[str, Any]

EVERY_NODE: Final = "every node"
# Kinds of Calico's own objects that say how it is to work, with what the page calls them.
SETTINGS: Final = (
    "IPPool",
    "FelixConfiguration",
    "BGPConfiguration",
    "KubeControllersConfiguration",
    "IPAMConfig",
    "ClusterInformation",
)
# Never the same twice, or the same for every release: nobody must know of them.
NOISE: Final = ("clusterGUID", "datastoreReady", "uid", "resourceVersion", "generation")
# ``cali-fw-cali1f3...``, ``KUBE-SVC-ABC...``, ``service-ABC-ns/name``: what comes after is a name.
KIND: Final = re.compile(
    r"(cali-[a-z]+-(?=.)|cali-[A-Za-z-]+$|KUBE-[A-Z]+(?=-)|cali[46]0[a-z]+:|[a-z]+-[a-z]*)"
)
IPTABLES_TABLES: Final = ("raw", "mangle", "nat", "filter")  # told as iptables
INTERFACE: Final = re.compile(r"(cali|veth)[0-9a-f]+.*")


def take(kube: Kube, agents: AgentPool) -> State:
    """The state now. What cannot be read says so in its place: it is no reason to stop."""
    state: State = {}
    parts: dict[str, Callable[[], State]] = {
        "Calico's settings": lambda: settings({kind: kube.calico(kind) for kind in SETTINGS}),
        "IPAM": lambda: blocks(kube.calico("IPAMBlock")),
        "definitions": lambda: definitions(
            kube.objects("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        ),
        "workloads": lambda: workloads(
            found
            for space in system_namespaces(kube)
            for kind in ("DaemonSet", "Deployment")
            for found in kube.objects("apps/v1", kind, space)
        ),
        "configuration": lambda: configuration(
            kube.get("v1", "ConfigMap", "calico-config", SYSTEM)
        ),
    }
    for name, read in parts.items():
        try:
            state.update(read())
        except (KubeError, KeyError, TypeError) as error:
            state[name] = {"state": f"could not be read: {error}"}
    state.update(on_each(agents.nodes, lambda node: _node(agents.nodes[node])))
    return state


# -- the API --------------------------------------------------------------------------------------


def flat(value: Any, path: str = "") -> dict[str, str]:
    """``{"a": {"b": 1}}`` as ``{"a.b": "1"}``; lists as JSON."""
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, each in value.items():
            if key not in NOISE:
                found |= flat(each, f"{path}.{key}" if path else str(key))
        return found
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return {path: text}


def settings(objects: Mapping[str, Iterable[Object]]) -> State:
    """Every field of Calico's settings that is set."""
    return {
        f"{kind} {found['metadata']['name']}": flat(found.get("spec", {}))
        for kind, several in objects.items()
        for found in several
    }


def blocks(found: Iterable[Object]) -> State:
    """How many blocks of each family a node holds."""
    counted: dict[str, Counter[str]] = {}
    for block in found:
        spec = block["spec"]
        owner = str(spec.get("affinity") or "nobody").removeprefix("host:")
        family = Family.IPV6 if ":" in spec["cidr"] else Family.IPV4
        counted.setdefault(f"IPAM blocks of {owner}", Counter())[family.value] += 1
    return {where: {k: str(v) for k, v in sorted(n.items())} for where, n in counted.items()}


def definitions(found: Iterable[Object]) -> State:
    """Calico's resource definitions: versions, and each setting that they know."""
    state: State = {}
    for crd in found:
        if "projectcalico" not in crd["spec"]["group"]:
            continue
        fields: dict[str, str] = {}
        for version in crd["spec"]["versions"]:
            properties = (
                version.get("schema", {})
                .get("openAPIV3Schema", {})
                .get("properties", {})
                .get("spec", {})
                .get("properties", {})
            )
            fields[f"version {version['name']}"] = "served" if version["served"] else "not served"
            for name, schema in properties.items():
                fields[f"field {name}"] = _schema(schema)
        state[f"definition {crd['metadata']['name'].partition('.')[0]}"] = fields
    return state


def _schema(schema: Object) -> str:
    words = [str(schema.get("type", "any"))]
    if "default" in schema:
        words.append(f"default {json.dumps(schema['default'])}")
    if "enum" in schema:
        words.append(f"one of {', '.join(map(str, schema['enum']))}")
    return ", ".join(words)


def workloads(found: Iterable[Object]) -> State:
    """Images and environment of what Calico and kube-proxy run."""
    state: State = {}
    for each in found:
        name = each["metadata"]["name"]
        if not name.startswith(("calico", "kube-proxy")):
            continue
        values: dict[str, str] = {}
        pod = each["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            values[f"image of {container['name']}"] = str(container.get("image", ""))
            for entry in container.get("env", []):
                value = entry.get("value")
                if value is None and "valueFrom" in entry:
                    value = json.dumps(entry["valueFrom"], sort_keys=True)
                values[f"{container['name']}: {entry['name']}"] = str(value or "")
        state[f"{each['kind']} {name}"] = values
    return state


def configuration(found: Object | None) -> State:
    """What Calico's ConfigMap holds, with the CNI configuration field by field."""
    if found is None:
        return {}
    data: dict[str, str] = {}
    for key, text in found.get("data", {}).items():
        try:
            data |= flat(json.loads(text), key)
        except ValueError:
            data |= {key: str(text)}
    return {"ConfigMap calico-config": data}


# -- nodes ----------------------------------------------------------------------------------------


def _node(agent: Agent) -> dict[str, str]:
    state: dict[str, str] = {}
    try:
        facts = agent.call_one("facts")
        state |= interfaces(facts["addresses"])
        for family in FAMILIES:
            state |= routes(facts[f"routes{family.version}"], family)
            state |= _sessions(agent, family)
            saved = parse_chains(_said(agent, [each]) for each in SAVE_COMMANDS[family])
            state |= chains(f"{family} chains of iptables", saved)
        for what, argv in (("chains", "list chains"), ("sets", "list sets"), ("maps", "list maps")):
            state |= nft(what, _said(agent, ["nft", "-j", *argv.split()]))
        state |= chains("ipsets", _said(agent, ["ipset", "list", "-n"]).split())
        servers = _said(agent, ["ipvsadm", "-Ln"]).splitlines()
        state["virtual servers of IPVS"] = str(sum(s.startswith(("TCP", "UDP")) for s in servers))
        state["kube-proxy mode"] = proxy_mode_now(agent)
    except (Inconclusive, KeyError, TypeError, ValueError) as error:
        state["state"] = f"could not be read: {error}"
    return state


def _said(agent: Agent, argv: Sequence[str]) -> str:
    """What a program prints; nothing where it is not there or fails."""
    result = agent.call_one("run", argv=list(argv))
    return str(result["stdout"]) if result["rc"] == 0 else ""


def interfaces(found: Iterable[Object]) -> dict[str, str]:
    """MTUs, those of pods' interfaces together."""
    mtus: dict[str, set[str]] = {}
    for link in filter(None, found):
        kind = INTERFACE.sub(r"\1*", link["ifname"])
        mtus.setdefault(kind, set()).add(str(link.get("mtu", "?")))
    return {f"MTU of {kind}": ", ".join(sorted(each)) for kind, each in sorted(mtus.items())}


def routes(found: Iterable[Object], family: Family) -> dict[str, str]:
    """How many routes there are of a family by who made them, kind and metric."""
    counted: Counter[str] = Counter()
    for route in found:
        kind, metric = route.get("type", "unicast"), route.get("metric")
        words = f"{family} {kind} routes of {route.get('protocol', 'nobody')}"
        counted[words + (f" with metric {metric}" if metric else "")] += 1
    return {what: str(number) for what, number in sorted(counted.items())}


def _sessions(agent: Agent, family: Family) -> dict[str, str]:
    sessions = bird.read_sessions(agent, family)
    if sessions is None:
        return {f"{family} BGP sessions": "BIRD does not answer"}
    counted = Counter("Established" if s.established else s.info for s in sessions)
    told = ", ".join(f"{number} {info}" for info, number in sorted(counted.items()))
    return {f"{family} BGP sessions": told or "none"}


def chains(what: str, names: Iterable[str]) -> dict[str, str]:
    """Names of chains or sets by their kind and number."""
    counted: Counter[str] = Counter()
    for name in names:
        match = KIND.match(name)
        counted[f"{match[1]}*" if match and match[1] != name else name] += 1
    return {f"{what}: {kind}": str(number) for kind, number in sorted(counted.items())}


def nft(what: str, text: str) -> dict[str, str]:
    """Objects of nftables by family, table and kind. ``what``: chains, sets or maps."""
    found: dict[str, list[str]] = {}
    for entry in json.loads(text)["nftables"] if text.strip() else []:
        each = entry.get(what.removesuffix("s"))
        if each is not None and each["table"] not in IPTABLES_TABLES:
            where = f"{each['family']} {each['table']}"
            found.setdefault(where, []).append(each["name"].lstrip("@"))
    state: dict[str, str] = {}
    for where, names in sorted(found.items()):
        state |= chains(f"{what} of nftables in {where}", names)
    return state


# -- the difference -------------------------------------------------------------------------------


def changes(old: State, new: State) -> list[dict[str, str | None]]:
    """What is not as it was; what is the same on every node is told once."""
    nodes = [where for where in {**old, **new} if "kube-proxy mode" in {**old.get(where, {}),
             **new.get(where, {})}]  # fmt: skip
    found: list[dict[str, str | None]] = []
    seen: Counter[tuple[str, str | None, str | None]] = Counter()
    for where in {**old, **new}:
        before, after = old.get(where, {}), new.get(where, {})
        for what in {**before, **after}:
            was, now = before.get(what), after.get(what)
            if was != now:
                found.append({"where": where, "what": what, "old": was, "new": now})
                seen[what, was, now] += where in nodes
    told: list[dict[str, str | None]] = []
    for change in found:
        key = (str(change["what"]), change["old"], change["new"])
        everywhere = len(nodes) > 1 and change["where"] in nodes and seen[key] == len(nodes)
        one = {**change, "where": EVERY_NODE} if everywhere else change
        if one not in told:
            told.append(one)
    return told


def figure(old: State, new: State, names: tuple[str, str]) -> dict[str, Any]:
    """The difference as the report draws it (``reports.figures``)."""
    return {
        "figure": "changes",
        "title": "Data path and settings before and after",
        "old": names[0],
        "new": names[1],
        "changes": changes(old, new),
    }
