"""Network state as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from helpers import netstate
from helpers.model import FAMILIES
from helpers.netstate import Hop, NetState
from helpers.verdicts import Inconclusive

Recorded = Callable[[str], Any]
IPV4, IPV6 = FAMILIES


def test_routes_are_read_in_all_their_forms() -> None:
    routes4 = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
        {"dst": "10.2.0.0/24", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0"},
        {"type": "blackhole", "dst": "10.3.0.0/26", "protocol": "bird"},
        {
            "dst": "10.4.0.0/24",
            "nexthops": [
                {"gateway": "10.0.0.2", "dev": "eth0"},
                {"gateway": "10.0.0.3", "dev": "eth1"},
            ],
        },
        {"dst": "10.5.0.1", "dev": "cali1", "metric": 7},
    ]
    state = NetState.from_facts({"addresses": [], "routes4": routes4, "routes6": []})
    default, foreign, blackhole, multi, host = state.routes[IPV4]
    assert default.destination == ip_network("0.0.0.0/0")
    assert foreign.hops == (Hop(ip_address("fe80::1"), "eth0"),)
    assert (blackhole.kind, str(blackhole)) == ("blackhole", "blackhole 10.3.0.0/26 proto bird")
    assert len(multi.hops) == 2
    assert host.host
    assert host.metric == 7
    assert str(host) == "10.5.0.1/32 dev cali1"


def test_lookup_takes_the_longest_prefix_then_the_lowest_metric() -> None:
    routes6 = [
        {"dst": "default", "gateway": "fe80::1", "dev": "eth0", "metric": 1},
        {"dst": "fd00::/64", "dev": "eth1", "metric": 256},
        {"dst": "fd00::/64", "dev": "eth2", "metric": 100},
    ]
    state = NetState.from_facts({"addresses": [], "routes4": [], "routes6": routes6})
    found = state.lookup(ip_address("fd00::9"))
    assert found is not None
    assert found.hops[0].device == "eth2"
    assert state.lookup(ip_address("2001:db8::1")) == state.default_routes(IPV6)[0]
    assert state.lookup(ip_address("192.0.2.1")) is None


def test_addresses_that_are_held_back_are_not_usable() -> None:
    link = {
        "ifname": "eth0",
        "flags": ["UP"],
        "addr_info": [
            {"local": "fd00::1", "prefixlen": 64, "tentative": True},
            {"local": "fd00::2", "prefixlen": 64, "dadfailed": True},
            {"local": "fd00::3", "prefixlen": 64},
        ],
    }
    state = NetState.from_facts({"addresses": [link, {}], "routes4": [], "routes6": []})
    assert state.interface_of(ip_address("fd00::1")) is None
    found = state.interface_of(ip_address("fd00::3"))
    assert found is not None
    assert (found.name, found.up, found.fabric) == ("eth0", True, True)


@pytest.mark.parametrize(
    ("name", "fabric"),
    [
        ("eth0", True),
        ("vec0", True),
        ("br-ex", True),
        ("lo", False),
        ("cali0123", False),
        ("vxlan-v6.calico", False),
        ("kube-ipvs0", False),
        ("docker0", False),
    ],
)
def test_fabric_interfaces(name: str, fabric: bool) -> None:
    assert netstate.Interface(name, True, ()).fabric is fabric


def test_an_agent_that_could_not_read_is_inconclusive() -> None:
    with pytest.raises(Inconclusive, match="ip: not found"):
        NetState.from_facts({"error": "ip: not found"})


def test_tables_and_chains_of_the_recording(recorded: Recorded) -> None:
    tables = netstate.parse_tables(json.dumps(recorded("nft-tables.json")))
    assert "kube-proxy" in tables[IPV6]
    assert tables[IPV4] >= {"filter", "kube-proxy"}
    chains = netstate.parse_chains([recorded("ip6tables-nft-save.txt")])
    assert {"cali-FORWARD", "KUBE-IPTABLES-HINT"} <= chains
    assert netstate.parse_tables("") == {IPV4: frozenset(), IPV6: frozenset()}


@dataclass
class FakeAgent:
    """Answers ``run`` from a table; what is not in it is not installed."""

    programs: dict[str, str]
    node: str = "worker"

    def call_one(self, op: str, **args: Any) -> dict[str, Any]:
        assert op == "run"
        program = args["argv"][0]
        if program not in self.programs:
            return {"rc": 127, "stdout": "", "stderr": f"{program}: not found"}
        return {"rc": 0, "stdout": self.programs[program], "stderr": ""}


def test_both_variants_of_ip6tables_are_asked() -> None:
    agent: Any = FakeAgent(
        {
            "iptables-nft-save": ":FORWARD ACCEPT [0:0]\n",
            "ip6tables-nft-save": ":KUBE-KUBELET-CANARY - [0:0]\n",
            "ip6tables-legacy-save": "*filter\n:cali-FORWARD - [0:0]\nCOMMIT\n",
        }
    )
    seen = netstate.netfilter(agent)
    assert seen.chains[IPV6] == {"KUBE-KUBELET-CANARY", "cali-FORWARD"}
    assert any("nft: not found" in error for error in seen.errors)


def test_a_family_that_nobody_can_read_is_inconclusive() -> None:
    agent: Any = FakeAgent({"iptables-legacy-save": ""})
    with pytest.raises(Inconclusive, match="cannot be read for ipv6"):
        netstate.netfilter(agent)
