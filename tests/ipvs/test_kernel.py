"""Reading what the kernel prints."""

from __future__ import annotations

from ipaddress import ip_address

from helpers.ipvs.kernel import (
    Destination,
    KernelSet,
    RealServer,
    Serving,
    VirtualServer,
    parse_servers,
    parse_sets,
)
from helpers.ipvs.leaving import Weights, drained

PROC = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr persistent 1080000 FFFFFFFF
  -> 0AF30002:192B      Masq    1      2          1
UDP  0A60000A:0035 rr
TCP  [fd00:0010:0096:0000:0000:0000:0000:0001]:0050 sh persistent 60000 80000000
  -> [fd00:0010:0244:0000:0000:0000:0000:0102]:1F90      Local   0      0          0
  -> [fd00:0010:0244:0000:0000:0000:0000:0103]:1F90      Masq    1      0          0
"""


def test_virtual_and_real_servers() -> None:
    v4 = VirtualServer("tcp", ip_address("10.96.0.1"), 443)
    dns = VirtualServer("udp", ip_address("10.96.0.10"), 53)
    v6 = VirtualServer("tcp", ip_address("fd00:10:96::1"), 80)
    assert parse_servers(PROC) == {
        v4: Serving(
            "rr",
            1_080_000,
            "FFFFFFFF",
            {RealServer(ip_address("10.243.0.2"), 6443): Destination("Masq", 1, 3)},
        ),
        dns: Serving("rr"),
        v6: Serving(
            "sh",
            60_000,
            "80000000",
            {
                RealServer(ip_address("fd00:10:244::102"), 8080): Destination("Local", 0, 0),
                RealServer(ip_address("fd00:10:244::103"), 8080): Destination("Masq", 1, 0),
            },
        ),
    }
    assert [str(server) for server in (v4, v6)] == ["10.96.0.1:443/tcp", "[fd00:10:96::1]:80/tcp"]


def test_a_kernel_without_ipvs_has_no_servers() -> None:
    assert parse_servers("") == {}


def test_ipsets() -> None:
    text = """\
create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536 bucketsize 12
add KUBE-6-CLUSTER-IP fd00:10:96::1,tcp:80
add KUBE-6-CLUSTER-IP fd00:10:96::a,udp:53
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30080
create cali40masq-ipam-pools hash:net family inet hashsize 1024 maxelem 1048576
"""
    assert parse_sets(text) == {
        "KUBE-6-CLUSTER-IP": KernelSet(
            "hash:ip,port",
            "inet6",
            frozenset({"fd00:10:96::1,tcp:80", "fd00:10:96::a,udp:53"}),
        ),
        "KUBE-NODE-PORT-TCP": KernelSet("bitmap:port", "", frozenset({"30080"})),
        "cali40masq-ipam-pools": KernelSet("hash:net", "inet", frozenset()),
    }


def test_a_backend_that_leaves() -> None:
    tcp = VirtualServer("tcp", ip_address("fd00:10:96::1"), 80)
    udp = VirtualServer("udp", ip_address("fd00:10:96::1"), 80)
    gone, stays = (RealServer(ip_address(f"fd00:10:244::{n}"), 8080) for n in (1, 2))
    one, none = Destination("Masq", 1, 0), Destination("Masq", 0, 1)

    def seen(leaving_tcp: Destination | None, leaving_udp: Destination | None) -> Weights:
        servers = {
            tcp: Serving("rr", real={stays: one, **({gone: leaving_tcp} if leaving_tcp else {})}),
            udp: Serving("rr", real={stays: one, **({gone: leaving_udp} if leaving_udp else {})}),
        }
        return Weights.of(servers, [tcp, udp], gone, stays)

    assert drained(seen(none, None))
    assert not drained(seen(one, None))
    assert not drained(seen(None, None))  # the open connection has lost its real server
    assert not drained(seen(none, none))
    assert str(seen(none, None)) == (
        "leaving tcp weight 0, udp absent; staying tcp weight 1, udp weight 1"
    )
    assert not drained(Weights.of({}, [tcp, udp], gone, stays))
