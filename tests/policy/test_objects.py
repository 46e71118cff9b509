"""Policies as objects: what is not written in them must not be in force."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from helpers.policy.objects import (
    agents_of_role,
    block,
    from_peers,
    global_policy,
    in_namespace,
    network_policy,
    port,
    to_peers,
)


def test_a_direction_without_rules_is_not_policed() -> None:
    spec = network_policy("ns", "p", {"a": "b"}, ingress=[])["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["ingress"] == []
    assert "egress" not in spec


def test_both_directions_of_nothing_deny_everything() -> None:
    spec = network_policy("ns", "p", {}, ingress=[], egress=[])["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["podSelector"] == {"matchLabels": {}}


def test_rules_name_peers_and_ports() -> None:
    rule = from_peers(block(ip_network("fd00::/64"), ip_address("fd00::1")), ports=[port(1, "TCP")])
    assert rule == {
        "from": [{"ipBlock": {"cidr": "fd00::/64", "except": ["fd00::1/128"]}}],
        "ports": [{"port": 1, "protocol": "TCP"}],
    }
    assert to_peers() == {}  # everybody


def test_a_range_has_an_end() -> None:
    assert port(8083, "UDP", 8085) == {"port": 8083, "protocol": "UDP", "endPort": 8085}


def test_the_agents_namespace_with_and_without_roles() -> None:
    assert "podSelector" not in agents_of_role()
    (expression,) = agents_of_role("peer")["podSelector"]["matchExpressions"]
    assert expression["values"] == ["peer"]


def test_a_global_policy_says_everything_itself() -> None:
    made = global_policy("x", in_namespace("ns", "a", "b"), order=5, egress=[{"action": "Allow"}])
    assert made["metadata"]["name"] == "default.x"
    assert made["spec"] == {
        "tier": "default",
        "order": 5,
        "selector": "projectcalico.org/namespace == 'ns' && a == 'b'",
        "types": ["Egress"],
        "egress": [{"action": "Allow"}],
    }
