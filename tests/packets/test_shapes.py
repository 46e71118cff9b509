"""The variants as bytes: every shape has an expectation, its checksums, and its nonce."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from helpers.model import FAMILIES, Family
from helpers.packet_matrix.expected import PLAIN, expectations, shapes_of
from helpers.packet_matrix.judge import is_as
from helpers.packet_matrix.shapes import SHAPES, Carrier, Ends, variants
from helpers.packets import Nonce
from helpers.packets.extension import SKIP, chained, destination_options, filling, hop_by_hop
from helpers.packets.fragments import fragmented, pieces
from helpers.packets.oneliner import scapy_line
from helpers.packets.pcap import pcap
from helpers.packets.sighting import sighting
from helpers.packets.upper import udp
from helpers.requirements import requirements

ENDS = {
    Family.IPV4: Ends(
        ip_address("10.244.1.5"), ip_address("10.244.2.6"), 8080, ip_address("10.244.2.7")
    ),
    Family.IPV6: Ends(
        ip_address("fd00:10:244:1::5"),
        ip_address("fd00:10:244:2::6"),
        8080,
        ip_address("fd00:10:244:2::7"),
    ),
}
EVERY = [variant for family in FAMILIES for variant in variants(family)]
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OUTCOMES = ("delivered", "silent", "dropped")
WHO = ("target", "first node", "last node")


def parsed(packet: bytes) -> IP | IPv6:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_shape_has_an_expectation_and_no_other_has(family: Family) -> None:
    assert set(expectations()[family]) == set(SHAPES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_expectations_speak_the_words_of_outcomes(family: Family) -> None:
    for one in expectations()[family].values():
        choices = [*one.expect, *(one.known.expect if one.known else ())]
        for choice in choices:
            head, _, who = choice.partition(" from ")
            assert choice in OUTCOMES or head.startswith("error "), one.shape
            assert not who or who in WHO, one.shape
        assert one.known is None or not set(one.known.expect) & set(one.expect), one.shape
        assert one.requirement == PLAIN or family in requirements()[one.requirement].families


def test_an_error_may_be_expected_from_whomever() -> None:
    assert is_as("error 4/3 from target", ["dropped", "error 4/3"])
    assert not is_as("error 4/30 from target", ["error 4/3"])
    assert not is_as("error 4/3 from target", ["error 4/3 from first node"])


def test_a_requirement_without_shapes_is_a_mistake() -> None:
    with pytest.raises(LookupError, match="no shape of SVC-001"):
        shapes_of("SVC-001", Family.IPV6)
    with pytest.raises(KeyError):
        variants(Family.IPV6, ["hbh/pad"])


@pytest.mark.parametrize("variant", EVERY, ids=lambda v: f"{v.family}-{v.label}")
def test_every_packet_is_for_the_target_and_some_carry_the_nonce(variant) -> None:  # type: ignore[no-untyped-def]
    (nonce,) = Nonce.fresh()
    ends = ENDS[variant.family]
    made = variant.build(ends, nonce)
    assert any(bytes(nonce) in packet for packet in made)
    for packet in made:
        seen = sighting(packet)
        assert seen is not None
        assert (seen.source, seen.target) == (ends.source, ends.target)
        assert seen.error is None
        assert not seen.reply
        length = len(packet) - (40 if variant.family is Family.IPV6 else 0)
        at = 4 if variant.family is Family.IPV6 else 2
        assert int.from_bytes(packet[at : at + 2], "big") == length


@pytest.mark.parametrize("family", FAMILIES)
def test_checksums_are_those_of_scapy(family: Family) -> None:
    ends, (nonce,) = ENDS[family], Nonce.fresh()
    for variant in variants(family, ["plain"]):
        packet = parsed(variant.build(ends, nonce)[0])
        again = packet.copy()
        upper = again.lastlayer().underlayer if again.lastlayer().name == "Raw" else again
        for layer in (upper, again.payload):
            for name in ("chksum", "cksum"):
                if hasattr(layer, name):
                    delattr(layer, name)
        assert bytes(again.payload) == bytes(packet.payload)


def test_chains_are_what_scapy_reads() -> None:
    ends, (nonce,) = ENDS[Family.IPV6], Nonce.fresh()
    (variant,) = variants(Family.IPV6, ["all-in-order"], [Carrier.UDP])
    packet = IPv6(variant.build(ends, nonce)[0])
    order = (
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrRouting,
        IPv6ExtHdrFragment,
        IPv6ExtHdrDestOpt,
        UDP,
    )
    layer = packet.payload
    for expected in order:
        assert isinstance(layer, expected)
        layer = layer.payload


@pytest.mark.parametrize("size", [8, 64, 256, 264, 1024, 2048])
def test_headers_have_the_size_that_is_asked_for(size: int) -> None:
    for header in (hop_by_hop(*filling(size)), destination_options(*filling(size))):
        assert len(header.data) == size
        assert (header.data[1] + 1) * 8 == size
    assert {each.otype for each in filling(size)} == {SKIP}


@pytest.mark.parametrize("size", [0, 7, 12, 2056])
def test_headers_of_no_such_size_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a header of options has"):
        filling(size)


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_put_together_are_the_datagram(family: Family) -> None:
    ends, (nonce,) = ENDS[family], Nonce.fresh()
    layer = udp(ends.source, ends.target, nonce, sport=1, dport=2, octets=900)
    made = fragmented(ends.source, ends.target, layer, pieces(len(layer[1]), 256))
    assert len(made) == 4
    assert all(bytes(nonce) in packet for packet in made)
    whole = bytearray()
    for packet in map(parsed, made):
        if family is Family.IPV4:
            start, more, data = packet.frag * 8, "MF" in packet.flags, bytes(packet.payload)
        else:
            header = packet[IPv6ExtHdrFragment]
            start, more, data = header.offset * 8, bool(header.m), bytes(header.payload)
        assert start == len(whole)
        whole += data
        assert more == (len(whole) < len(layer[1]))
    assert bytes(whole) == layer[1]


def test_fragments_have_multiples_of_eight() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        pieces(100, 12)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_an_error_and_a_tunnel_are_read(family: Family) -> None:
    ends, (nonce,) = ENDS[family], Nonce.fresh()
    (variant,) = variants(family, ["plain"], [Carrier.UDP])
    packet = variant.build(ends, nonce)[0]
    if family is Family.IPV4:
        error = IP(src="10.0.0.1", dst="10.0.0.2") / (b"\x03\x04\0\0\0\0\x05\x14" + packet)
        error.proto = 1
        outer = IP(src="172.18.0.2", dst="172.18.0.3", proto=4) / packet
        wanted = "3/4"
    else:
        error = IPv6(src="fd00::1", dst="fd00::2", nh=58) / (b"\x02\0\0\0\0\0\x05\x14" + packet)
        outer = IPv6(src="fd00::1", dst="fd00::2", nh=41) / packet
        wanted = "2/0"
    seen = sighting(bytes(LINK / error))
    assert seen is not None
    assert seen.error is not None
    assert (str(seen.error), seen.error.value) == (wanted, 1300)
    inner = sighting(bytes(LINK / outer))
    assert inner is not None
    assert inner.source == ends.source


def test_traffic_class_and_flow_label_are_read() -> None:
    ends, (nonce,) = ENDS[Family.IPV6], Nonce.fresh()
    layer = udp(ends.source, ends.target, nonce, sport=1, dport=2)
    made = chained(
        ends.source, ends.target, [], layer, traffic_class=0xB9, flow_label=0xABCDE, hop_limit=7
    )
    seen = sighting(made)
    assert seen is not None
    assert (seen.traffic_class, seen.flow_label, seen.hop_limit) == (0xB9, 0xABCDE, 7)


@pytest.mark.parametrize("data", [b"", b"\0" * 60, bytes(LINK), b"\x60" * 20])
def test_what_is_no_packet_is_no_sighting(data: bytes) -> None:
    assert sighting(data) is None


@pytest.mark.parametrize("variant", EVERY, ids=lambda v: f"{v.family}-{v.label}")
def test_the_line_of_scapy_makes_the_same_packet(variant) -> None:  # type: ignore[no-untyped-def]
    import scapy.all as scapy

    (nonce,) = Nonce.fresh()
    for packet in variant.build(ENDS[variant.family], nonce):
        names = {**vars(scapy), "send": bytes}
        assert eval(scapy_line(packet), names) == packet


def test_a_pcap_file_is_read_by_scapy(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ends, (nonce,) = ENDS[Family.IPV6], Nonce.fresh()
    frame = bytes(LINK / IPv6(variants(Family.IPV6, ["plain"])[0].build(ends, nonce)[0]))
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([(1.25, frame), (2.5, frame)]))
    read = rdpcap(str(file))
    assert [bytes(one) for one in read] == [frame, frame]
    assert [float(one.time) for one in read] == [1.25, 2.5]
