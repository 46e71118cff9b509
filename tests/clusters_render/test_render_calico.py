"""Upstream's manifests with a profile's settings, against the released files."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from clusters.kernel import KernelFacts
from clusters.render_calico import ManifestError, calico_manifests, cni_configuration
from clusters.spec import ClusterSpec, load_profile

from .conftest import RELEASES

Documents = list[dict[str, Any]]
Released = dict[str, Documents]


def spec_of(release: str, **overrides: str) -> ClusterSpec:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_profile("native", {"calico": release, **dotted})


def find(documents: Documents, kind: str, name: str) -> dict[str, Any]:
    return next(d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name))


def node_container(documents: Documents) -> dict[str, Any]:
    pod = find(documents, "DaemonSet", "calico-node")["spec"]["template"]["spec"]
    return next(c for c in pod["containers"] if c["name"] == "calico-node")


def environment(documents: Documents) -> dict[str, Any]:
    entries = node_container(documents)["env"]
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names)), "a variable is set twice"
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def cni_template(documents: Documents) -> str:
    return str(find(documents, "ConfigMap", "calico-config")["data"]["cni_network_config"])


def installed_conflist(template: str) -> dict[str, Any]:
    """What Calico's install-cni makes of the template (cni-plugin/pkg/install)."""
    for name, value in {
        "__KUBERNETES_NODE_NAME__": "node-1",
        "__CNI_MTU__": "1450",
        "__KUBECONFIG_FILEPATH__": "/etc/cni/net.d/calico-kubeconfig",
    }.items():
        assert name in template
        template = template.replace(name, value)
    assert not re.search(r"__[A-Z_]+__", template)
    conflist: dict[str, Any] = json.loads(template)
    return conflist


@pytest.mark.parametrize("release", RELEASES)
def test_cni_asks_for_both_families_and_stays_a_template(
    release: str, released_documents: Released
) -> None:
    documents = released_documents[release]
    before = installed_conflist(cni_template(documents))
    after = installed_conflist(cni_template(calico_manifests(documents, spec_of(release))))
    assert after["plugins"][0]["ipam"] == {
        "type": "calico-ipam",
        "assign_ipv4": "true",
        "assign_ipv6": "true",
    }
    assert after["plugins"][0]["mtu"] == 1450  # a number, not "1450"
    before["plugins"][0]["ipam"] = after["plugins"][0]["ipam"]
    assert after == before


@pytest.mark.parametrize("release", RELEASES)
def test_node_gets_the_origins_dual_stack_settings(
    release: str, released_documents: Released
) -> None:
    got = environment(calico_manifests(released_documents[release], spec_of(release)))
    expected = {
        "IP": "autodetect",
        "IP6": "autodetect",
        "IP_AUTODETECTION_METHOD": "cidr=10.243.0.0/24",
        "IP6_AUTODETECTION_METHOD": "cidr=fd00:10:243::/64",
        "CALICO_IPV4POOL_CIDR": "10.244.0.0/16",
        "CALICO_IPV6POOL_CIDR": "fd00:10:244::/56",
        "CALICO_IPV4POOL_IPIP": "Never",
        "CALICO_IPV4POOL_VXLAN": "Never",
        "CALICO_IPV6POOL_VXLAN": "Never",
        "CALICO_IPV4POOL_NAT_OUTGOING": "true",
        "CALICO_IPV6POOL_NAT_OUTGOING": "false",
        "FELIX_IPV6SUPPORT": "true",
        "FELIX_NFTABLESMODE": "Disabled",
    }
    assert {name: got.get(name) for name in expected} == expected


@pytest.mark.parametrize("release", RELEASES)
def test_everything_else_stays_upstreams(release: str, released_documents: Released) -> None:
    documents = released_documents[release]
    untouched = copy.deepcopy(documents)
    rendered = calico_manifests(documents, spec_of(release))
    assert documents == untouched, "the input was modified"
    assert [(d["kind"], d["metadata"]["name"]) for d in rendered] == [
        (d["kind"], d["metadata"]["name"]) for d in documents
    ]
    changed = {
        (a["kind"], a["metadata"]["name"])
        for a, b in zip(documents, rendered, strict=True)
        if a != b
    }
    assert changed == {("ConfigMap", "calico-config"), ("DaemonSet", "calico-node")}
    before, after = environment(documents), environment(rendered)
    assert set(before) <= set(after)
    for name in ("NODENAME", "CALICO_NETWORKING_BACKEND", "FELIX_IPINIPMTU", "CLUSTER_TYPE"):
        assert after[name] == before[name]
    container_before, container_after = node_container(documents), node_container(rendered)
    assert {**container_before, "env": 0} == {**container_after, "env": 0}


@pytest.mark.parametrize("release", RELEASES)
def test_rendering_twice_changes_nothing(release: str, released_documents: Released) -> None:
    once = calico_manifests(released_documents[release], spec_of(release))
    assert calico_manifests(once, spec_of(release)) == once


@pytest.mark.parametrize("release", RELEASES)
def test_images_baked_into_nodes_are_never_pulled(
    release: str, released_documents: Released
) -> None:
    rendered = calico_manifests(released_documents[release], spec_of(release), pull_policy="Never")
    policies = [
        container["imagePullPolicy"]
        for workload in ("DaemonSet", "Deployment")
        for document in rendered
        if document["kind"] == workload
        for key in ("initContainers", "containers")
        for container in document["spec"]["template"]["spec"].get(key, [])
    ]
    assert len(policies) == 5
    assert set(policies) == {"Never"}


def test_vxlan_without_bgp_has_no_bird_and_no_probe_that_asks_it(
    released_documents: Released,
) -> None:
    spec = spec_of(
        "3.31.0", bgp="false", encapsulation__ipv4="vxlan", encapsulation__ipv6="vxlan-crosssubnet"
    )
    rendered = calico_manifests(released_documents["3.31.0"], spec)
    got = environment(rendered)
    assert got["CALICO_IPV4POOL_VXLAN"] == "Always"
    assert got["CALICO_IPV6POOL_VXLAN"] == "CrossSubnet"
    assert got["CALICO_IPV4POOL_IPIP"] == "Never"
    assert find(rendered, "ConfigMap", "calico-config")["data"]["calico_backend"] == "vxlan"
    container = node_container(rendered)
    assert container["livenessProbe"]["exec"]["command"] == ["/bin/calico-node", "-felix-live"]
    assert container["readinessProbe"]["exec"]["command"] == ["/bin/calico-node", "-felix-ready"]


def test_bgp_keeps_bird_and_its_probes(released_documents: Released) -> None:
    rendered = calico_manifests(released_documents["3.31.0"], spec_of("3.31.0"))
    assert find(rendered, "ConfigMap", "calico-config")["data"]["calico_backend"] == "bird"
    assert "-bird-ready" in node_container(rendered)["readinessProbe"]["exec"]["command"]


def test_ipip_is_of_ipv4_only(released_documents: Released) -> None:
    spec = spec_of("3.31.0", encapsulation__ipv4="ipip-crosssubnet")
    got = environment(calico_manifests(released_documents["3.31.0"], spec))
    assert got["CALICO_IPV4POOL_IPIP"] == "CrossSubnet"
    assert got["CALICO_IPV4POOL_VXLAN"] == "Never"
    assert "CALICO_IPV6POOL_IPIP" not in got


def test_flags_of_the_profile_arrive(released_documents: Released) -> None:
    spec = spec_of(
        "3.31.0",
        nat_outgoing__ipv4="false",
        nat_outgoing__ipv6="true",
        mtu="1400",
        calico_dataplane="nftables",
        node_cidrs__ipv4="172.18.0.0/16",
    )
    rendered = calico_manifests(released_documents["3.31.0"], spec)
    got = environment(rendered)
    assert got["CALICO_IPV4POOL_NAT_OUTGOING"] == "false"
    assert got["CALICO_IPV6POOL_NAT_OUTGOING"] == "true"
    assert got["FELIX_NFTABLESMODE"] == "Enabled"
    assert got["IP_AUTODETECTION_METHOD"] == "cidr=172.18.0.0/16"
    assert find(rendered, "ConfigMap", "calico-config")["data"]["veth_mtu"] == "1400"


def test_another_release_than_the_profiles_is_refused(released_documents: Released) -> None:
    with pytest.raises(ManifestError, match=r"manifest is Calico v3\.30\.1.*asks for 3\.31\.0"):
        calico_manifests(released_documents["3.30.1"], spec_of("3.31.0"))


def _without(documents: Documents, kind: str) -> Documents:
    return [d for d in documents if d["kind"] != kind]


def _rename_container(documents: Documents) -> Documents:
    node_container(documents)["name"] = "node"
    return documents


def _drop_variable(documents: Documents) -> Documents:
    container = node_container(documents)
    container["env"] = [e for e in container["env"] if e["name"] != "FELIX_IPV6SUPPORT"]
    return documents


def _drop_key(documents: Documents) -> Documents:
    del find(documents, "ConfigMap", "calico-config")["data"]["calico_backend"]
    return documents


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda d: _without(d, "ConfigMap"), "no ConfigMap calico-config"),
        (lambda d: _without(d, "DaemonSet"), "no DaemonSet calico-node"),
        (lambda d: _without(d, "Deployment"), "no Deployment calico-kube-controllers"),
        (_rename_container, "DaemonSet calico-node has no container calico-node"),
        (_drop_variable, "no variable FELIX_IPV6SUPPORT"),
        (_drop_key, "ConfigMap calico-config has no calico_backend"),
        (lambda d: d * 2, "2 ConfigMap calico-config"),
        pytest.param(lambda d: [], "the manifest has no ConfigMap", id="empty manifest"),
    ],
)
def test_unknown_layout_is_named(damage: Any, named: str, released_documents: Released) -> None:
    documents = damage(copy.deepcopy(released_documents["3.31.0"]))
    with pytest.raises(ManifestError, match=named):
        calico_manifests(documents, spec_of("3.31.0"))


def test_empty_documents_are_dropped(released_documents: Released) -> None:
    documents = released_documents["3.31.0"]
    with_empty: Any = [None, *documents, {}]
    assert len(calico_manifests(with_empty, spec_of("3.31.0"))) == len(documents)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{", "is not JSON with placeholders"),
        ('{"plugins": [{"type": "bridge"}]}', "no plugin of type calico"),
        ('{"type": "calico"}', "no plugin of type calico"),
        ('{"plugins": [{"type": "calico", "ipam": {"type": "host-local"}}]}', "'host-local'"),
    ],
)
def test_unknown_cni_template_is_named(template: str, named: str) -> None:
    with pytest.raises(ManifestError, match=named):
        cni_configuration(template)


def test_placeholders_inside_and_outside_of_strings_survive() -> None:
    template = (
        '{"plugins": [{"type": "calico", "mtu": __CNI_MTU__, "url": "https://__A_HOST__:__A_PORT__",'
        ' "quoted": "say \\"__X__\\"", "list": [__ONE__, __TWO__],'
        ' "ipam": {"type": "calico-ipam"}}]}'
    )
    edited = cni_configuration(template)
    for part in (
        '"mtu": __CNI_MTU__,',
        '"https://__A_HOST__:__A_PORT__"',
        '"say \\"__X__\\""',
        " __ONE__,",
        " __TWO__\n",
        '"assign_ipv6": "true"',
    ):
        assert part in edited
    assert cni_configuration(edited) == edited


def test_probes_leave_guests_time_to_start_a_program(
    released_documents: Released, kernel_without_ipvs: KernelFacts
) -> None:
    documents = released_documents["3.31.0"]
    resolved = load_profile("conformance", {"calico": "3.31.0"}).resolved(kernel_without_ipvs)
    asked = node_container(documents)
    with_guest = node_container(calico_manifests(documents, resolved))
    without = node_container(calico_manifests(documents, resolved.without_guests()))
    for probe in ("livenessProbe", "readinessProbe"):
        assert without[probe] == asked[probe]
        assert with_guest[probe]["exec"] == asked[probe]["exec"]
        assert with_guest[probe]["timeoutSeconds"] == 30
    assert with_guest["livenessProbe"]["failureThreshold"] == 6
