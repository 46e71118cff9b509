"""From upstream's ``manifests/calico.yaml`` and a ClusterSpec to the documents to apply.

A pure function, documents in and documents out: the manifest stays upstream's, only the
dual-stack settings of the profile are written into it. What is looked for and not found is an
error that names it, because a manifest that was silently left single-stack would look installed.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from clusters.spec import ClusterSpec, Dataplane
from helpers.model import FAMILIES, Family

Object = dict[str, Any]
PullPolicy = Literal["IfNotPresent", "Never", "Always"]

CONFIG = "calico-config"
NODE = "calico-node"
CONTROLLERS = "calico-kube-controllers"
CNI_KEY = "cni_network_config"
# BIRD does not run with a VXLAN-only backend: probes that ask for it would fail for ever.
BIRD_PROBES = ("-bird-live", "-bird-ready")
# Both probes start a Go program, which takes a guest node a second and more, and ten on a busy
# machine: asked as on other nodes, they would cost it a third of a processor and kill calico-node.
GUEST_PROBES = {
    "livenessProbe": {"periodSeconds": 60, "timeoutSeconds": 30},
    "readinessProbe": {"periodSeconds": 20, "timeoutSeconds": 30},
}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(__[A-Z0-9_]+__)')
# How a bare placeholder is written while the template is JSON: NUL cannot stand in a manifest, so
# the mark cannot meet itself. It is spelt the way that JSON spells it, before and after.
_MARK = r"\u0000placeholder:"


class ManifestError(ValueError):
    """The manifest is not laid out as this renderer knows it; the text names what is missing."""


def calico_manifests(
    documents: Iterable[Mapping[str, Any]],
    spec: ClusterSpec,
    *,
    pull_policy: PullPolicy = "IfNotPresent",
) -> list[Object]:
    """The documents to apply, in upstream's order. Applying the function twice changes nothing.

    Args:
        documents: all documents of upstream's calico.yaml, empty ones allowed; not modified.
        spec: the profile.
        pull_policy: ``Never`` when the images are inside the node image.

    Raises:
        ManifestError: something to be changed is not in the manifest, or it is another release's.
    """
    rendered: list[Object] = [copy.deepcopy(dict(document)) for document in documents if document]
    config = _only(rendered, "ConfigMap", CONFIG)
    node = _only(rendered, "DaemonSet", NODE)
    controllers = _only(rendered, "Deployment", CONTROLLERS)
    _check_release(node, spec)
    _configure(config, spec)
    container = _container(node, NODE)
    _set_environment(container, node_environment(spec))
    if not spec.bgp:
        _drop_bird_probes(container)
    if spec.guest_groups:
        for probe, settings in GUEST_PROBES.items():
            container.setdefault(probe, {}).update(settings)
    for workload in (node, controllers):
        for each in _containers(workload):
            each["imagePullPolicy"] = pull_policy
    return rendered


def node_environment(spec: ClusterSpec) -> dict[str, str]:
    """Environment of the calico-node container that the profile decides.

    The pool variables are read when a pool is first created (node/pkg/lifecycle/startup): they
    do not change a pool that exists.
    """
    environment = {"FELIX_IPV6SUPPORT": "true"}  # false is fail-open: IPv6 works, unpoliced
    for family in spec.families:
        environment |= _family_environment(spec, family)
    environment["CALICO_IPV4POOL_IPIP"] = spec.encapsulation.ipv4.ipip_mode
    if spec.calico.at_least(3, 29):  # older Felix does not know the parameter
        nftables = spec.calico_dataplane is Dataplane.NFTABLES
        environment["FELIX_NFTABLESMODE"] = "Enabled" if nftables else "Disabled"
    return environment


def _family_environment(spec: ClusterSpec, family: Family) -> dict[str, str]:
    """The same settings for each family; only Calico's spelling differs (IP and IP6)."""
    address = "IP" if family is Family.IPV4 else "IP6"
    pool = f"CALICO_IPV{family.version}POOL"
    environment = {
        address: "autodetect",
        # A Docker network may carry a second, generated range: first-found would take any.
        f"{address}_AUTODETECTION_METHOD": f"cidr={spec.node_cidr(family)}",
        f"{pool}_CIDR": str(spec.pod_cidr(family)),
        f"{pool}_NAT_OUTGOING": str(spec.nat_outgoing.of(family)).lower(),
    }
    # IPv6 VXLAN came with 3.23; before, the variable means nothing.
    if family is Family.IPV4 or spec.calico.at_least(3, 23):
        environment[f"{pool}_VXLAN"] = spec.encapsulation.of(family).vxlan_mode
    return environment


def cni_configuration(template: str) -> str:
    """The CNI template with both families asked of Calico's IPAM.

    The template is JSON but for placeholders outside of strings (``"mtu": __CNI_MTU__``): they
    become marked strings while it is edited, and come back as they were.

    Raises:
        ManifestError: it is not JSON, or has no calico plugin with calico-ipam.
    """
    marked = _TOKEN.sub(lambda m: f'"{_MARK}{m[1]}"' if m[1] else m[0], template)
    try:
        configuration = json.loads(marked)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"{CNI_KEY} in ConfigMap {CONFIG} is not JSON with placeholders: {error}"
        ) from None
    plugins = configuration.get("plugins", []) if isinstance(configuration, dict) else []
    calico = [p for p in plugins if p.get("type") == "calico"]
    if len(calico) != 1:
        raise ManifestError(f"{CNI_KEY} in ConfigMap {CONFIG} has no plugin of type calico")
    ipam = calico[0].get("ipam", {})
    if ipam.get("type") != "calico-ipam":
        raise ManifestError(
            f"the calico plugin in {CNI_KEY} uses ipam {ipam.get('type')!r}; "
            "both families are assigned by calico-ipam"
        )
    for family in FAMILIES:
        ipam[f"assign_{family}"] = "true"  # a string: Calico's plugin reads it as one
    text = json.dumps(configuration, indent=2, ensure_ascii=False)
    return re.sub(rf'"{re.escape(_MARK)}(__[A-Z0-9_]+__)"', r"\1", text)


def _configure(config: Object, spec: ClusterSpec) -> None:
    data = config.get("data", {})
    for key in (CNI_KEY, "calico_backend", "veth_mtu"):
        if key not in data:
            raise ManifestError(f"ConfigMap {CONFIG} has no {key}")
    data[CNI_KEY] = cni_configuration(data[CNI_KEY])
    data["calico_backend"] = "bird" if spec.bgp else "vxlan"
    if spec.mtu is not None:
        data["veth_mtu"] = str(spec.mtu)


def _check_release(node: Object, spec: ClusterSpec) -> None:
    image = str(_container(node, NODE).get("image", ""))
    tag = image.rpartition(":")[2]
    if tag != f"v{spec.calico}":
        raise ManifestError(
            f"the manifest is Calico {tag or image}, the profile asks for {spec.calico}; "
            f"use the manifests/calico.yaml of v{spec.calico} or change the field calico"
        )


def _only(documents: list[Object], kind: str, name: str) -> Object:
    found = [
        document
        for document in documents
        if document.get("kind") == kind and document.get("metadata", {}).get("name") == name
    ]
    if len(found) != 1:
        raise ManifestError(
            f"the manifest has {len(found) or 'no'} {kind} {name}; "
            "is it Calico's own manifests/calico.yaml?"
        )
    return found[0]


def _containers(workload: Object) -> Iterator[Object]:
    pod = workload.get("spec", {}).get("template", {}).get("spec", {})
    yield from pod.get("initContainers", [])
    yield from pod.get("containers", [])


def _container(workload: Object, name: str) -> Object:
    for container in _containers(workload):
        if container.get("name") == name:
            return container
    kind, owner = workload["kind"], workload["metadata"]["name"]
    raise ManifestError(f"{kind} {owner} has no container {name}")


def _set_environment(container: Object, values: Mapping[str, str]) -> None:
    """Set variables in place, so that a diff against upstream's manifest stays small."""
    entries = container.get("env")
    if not isinstance(entries, list):
        raise ManifestError(f"container {container['name']} has no env")
    # The dual-stack part replaces what is there; a manifest without it is not the one we know.
    for known in ("IP", "CALICO_IPV4POOL_IPIP", "FELIX_IPV6SUPPORT"):
        if not any(entry.get("name") == known for entry in entries):
            raise ManifestError(f"container {container['name']} has no variable {known}")
    rest = dict(values)
    container["env"] = [
        {"name": entry["name"], "value": rest.pop(entry["name"])}
        if entry["name"] in rest
        else entry
        for entry in entries
    ] + [{"name": name, "value": value} for name, value in rest.items()]


def _drop_bird_probes(container: Object) -> None:
    for probe in ("livenessProbe", "readinessProbe"):
        action = container.get(probe, {}).get("exec")
        if not action:
            raise ManifestError(f"container {container['name']} has no {probe} with a command")
        action["command"] = [word for word in action["command"] if word not in BIRD_PROBES]
