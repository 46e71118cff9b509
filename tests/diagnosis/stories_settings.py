"""Runs with a wrong setting."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from helpers import (
    address_ranges,
    bird,
    calico_config,
    node_config,
    off_cluster,
    service_proxy_config,
)
from helpers.model import Family
from helpers.platforms import CalicoNode
from tests.diagnosis.conftest import NODES, cell, cluster, pod_cells, result
from tests.diagnosis.stories import POOL, V6, Story, failing, node, passing, pool


def f01() -> Story:
    conflist = {"plugins": [{"type": "calico", "ipam": {"type": "calico-ipam"}}]}
    findings = [line for n in NODES for line in calico_config.cni_findings(n, V6, conflist)]
    return Story(
        "F01",
        [failing("CFG-011", findings), result("PODIP-002", "ipv6", "fail", "new pod got 10.0.0.1")],
        "cni-does-not-ask",
        "Calico CNI config on node n1, n2, n3 does not request IPv6 (ipam.assign_ipv6 is not "
        '"true"): new pods get IPv4 only',
    )


def f02() -> Story:
    nodes = [node("n2", "10.243.0.3", "fd00:10:243::3")]
    findings = calico_config.pool_findings([pool(disabled=True)], V6, nodes, {})
    return Story(
        "F02",
        [
            failing("CFG-014", findings),
            result("PODIP-002", "ipv6", "fail", "new pod on n2 got none"),
            result("CFG-015", "ipv6", "blocked", blocked_by="CFG-014"),
        ],
        "pool-disabled",
        "No enabled Calico IPv6 IPPool selects node n2 (default-ipv6-ippool is disabled): CNI ADD "
        "fails, new pods stay ContainerCreating; running pods keep their IPv6",
        cluster(pools=[{**POOL, "disabled": True}]),
    )


def f03() -> Story:
    whole = ip_network("fd00:10:244::/56")
    made_up = pool(cidr="fd12:3456:789a::/48")
    return Story(
        "F03",
        [
            failing("CFG-015", address_ranges.pool_cover_findings([made_up], V6, whole)),
            result("PODIP-004", "ipv6", "fail", "pod a/b has fd12::1, outside"),
            result("PRX-005", "ipv6", "fail", "the backend saw fd00:10:243::2"),
        ],
        "pool-outside-cluster-cidr",
        "IPv6 IPPool default-ipv6-ippool fd12:3456:789a::/48 is not the cluster IPv6 CIDR "
        "fd00:10:244::/56 (a random ULA /48 means CALICO_IPV6POOL_CIDR was unset and no "
        "kubeadm-config was found); kube-proxy treats these pods as off-cluster and SNATs them",
    )


def f04() -> Story:
    addresses = {"n1": ip_address("fd00:10:243::2"), "n2": None}
    findings = bird.session_findings(V6, {"n1": [], "n2": []}, addresses, mesh=True)
    lost = pod_cells([("n1", "n2"), ("n2", "n1"), ("n2", "n3"), ("n3", "n2")])
    return Story(
        "F04",
        [
            result("CFG-012", "ipv6", "fail", findings[0]),
            failing("RTE-001", findings),
            result("RTE-002", "ipv6", "fail", "n1 has no route to the IPv6 block x of n2: pods"),
            result("CONN-002", "ipv6", "fail", cells=lost),
        ],
        "calico-has-no-node-address",
        "Calico has no IPv6 address for node n2 (IP6 is not autodetect): BIRD6 has no session to "
        "n2 and its IPv6 blocks are not routed",
    )


def calico_node(name: str, **env: str) -> CalicoNode:
    return CalicoNode(name, f"calico-node-{name}", "kube-system", env, ready=True)


def f05() -> Story:
    off = {"FELIX_IPV6SUPPORT": "false"}
    findings = [
        line
        for name in NODES
        for line in calico_config.felix_ipv6_findings(calico_node(name, **off), {}, None)  # type: ignore[arg-type]
    ]
    return Story(
        "F05",
        [
            failing("CFG-013", findings),
            result("NPOL-001", "ipv6", "fail", "default-deny let tcp/8080 through"),
            result("PKT-018", "ipv6", "fail", "a forged source was delivered"),
        ],
        "felix-ipv6-off",
        "Felix IPv6 support is off on 3 nodes (n1, n2, n3; FELIX_IPV6SUPPORT of calico-node is "
        "false): IPv6 works but NetworkPolicy and anti-spoofing are NOT enforced for IPv6",
    )


def f06() -> Story:
    detection = service_proxy_config.LocalDetection("ClusterCIDR", (ip_network("10.244.0.0/16"),))
    findings = service_proxy_config.cluster_cidr_findings("n1", V6, detection, [])
    source = off_cluster.masquerade_findings(
        "n1",
        {"tcp": ["2001:db8::2"]},
        node_addresses=[ip_address("fd00:10:243::2")],
        client=ip_address("2001:db8::2"),
        cluster_cidr="10.244.0.0/16",
    )
    return Story(
        "F06",
        [failing("CFG-008", findings), failing("PRX-005", source)],
        "proxy-does-not-know-cluster-cidr",
        "kube-proxy knows no IPv6 cluster CIDR (clusterCIDR=10.244.0.0/16): IPv6 ClusterIP traffic "
        "from outside is not masqueraded. The flag is --cluster-cidr; --cluster-cidrs does not "
        "exist",
    )


def f07() -> Story:
    findings = service_proxy_config.mode_findings({"n2": "ipvs"}, {"n2": "iptables"})
    return Story(
        "F07",
        [failing("CFG-007", findings, "pair"), result("PRX-001", "ipv6", "fail", "no kube-ipvs0")],
        "proxy-in-another-mode",
        "kube-proxy on n2 runs iptables, profile requires ipvs: no kube-ipvs0, no IPVS virtual "
        "servers",
    )


def f08() -> Story:
    ranges = address_ranges.ServiceRanges((ip_network("10.96.0.0/16"),), None, None)
    findings = address_ranges.service_range_findings(V6, ranges, refusal=None)
    return Story(
        "F08",
        [failing("CFG-004", findings), result("SVC-002", "pair", "fail", "the API refused")],
        "service-range-missing",
        "apiserver has one service range (10.96.0.0/16): IPv6 Services cannot be created "
        "(partially dual-stack cluster)",
    )


def f09() -> Story:
    cidrs = [ip_network("10.244.0.0/16")]
    findings = address_ranges.cluster_cidr_findings(cidrs, V6, mask=64, nodes=3)
    return Story(
        "F09",
        [failing("CFG-003", findings), result("CFG-006", "ipv6", "fail", "n1 has 0")],
        "controller-cidr-missing",
        "kube-controller-manager allocates no IPv6 podCIDRs (--cluster-cidr=10.244.0.0/16); Calico "
        "IPAM still assigns both families, so traffic tests pass",
    )


def f10() -> Story:
    order = (Family.IPV4, Family.IPV6)
    findings = node_config.internal_ip_findings([node("n2", "10.243.0.3")], V6, order)
    return Story(
        "F10",
        [failing("CFG-005", findings), result("PODIP-009", "pair", "fail", "podIPs")],
        "node-has-no-internal-ip",
        "Node n2 registers no IPv6 InternalIP: hostNetwork pods on n2 are single-stack",
    )


def f14() -> Story:
    findings = calico_config.encapsulation_findings([pool(vxlanMode="Always")], V6)
    return Story(
        "F14",
        [failing("CFG-016", findings), result("CONN-006", "ipv6", "fail", "a vxlan frame")],
        "pool-encapsulates",
        "IPv6 pod traffic is encapsulated (VXLAN, UDP 4789), profile requires native IPv6: IPPool "
        "default-ipv6-ippool has ipipMode=Never and vxlanMode=Always",
    )


def r3() -> Story:
    sentence = (
        "Calico's nftables dataplane cannot run beside kube-proxy in ipvs mode: on n2 "
        "nftablesMode Enabled (FelixConfiguration default) meets kube-proxy in ipvs mode, and ..."
    )
    return Story(
        "R3",
        [result("CFG-018", "pair", "fail", sentence)],
        "nftables-dataplane-with-ipvs",
        "Calico nftables dataplane cannot run with kube-proxy ipvs on n2: calico-node crash-loops "
        'with "IPVS not supported in nftables mode"',
    )


def r4() -> Story:
    order = (Family.IPV4, Family.IPV6)
    view = node("n2", "fd00:10:243::3", "10.243.0.3")
    findings = node_config.internal_ip_findings([view], Family.IPV4, order)
    return Story(
        "R4",
        [failing("CFG-005", findings, "ipv4"), result("PODIP-003", "pair", "fail", "lists podIPs")],
        "node-order-differs",
        "Pods on n2 report IPv6 first while the cluster is IPv4-primary: its kubelet registers "
        "fd00:10:243::3, 10.243.0.3",
    )


def r5() -> Story:
    cells = [cell("outside", f"node {n}", "tcp", n != "n2") for n in NODES]
    return Story(
        "R5",
        [*passing("SVC-007"), result("SVC-010", "ipv6", "fail", cells=cells)],
        "node-port-addresses",
        "NodePorts do not answer on IPv6 of node n2: nodePortAddresses of kube-proxy is "
        "10.243.0.0/16, fd00:99::/64",
        cluster(kubeProxy={"nodePortAddresses": ["10.243.0.0/16", "fd00:99::/64"]}),
    )
