"""The harness loses no packet at the rate that it uses; a loss on the way is not its own."""

from __future__ import annotations

import pytest

from helpers.model import FAMILIES, Family, Protocol
from helpers.packet_matrix.carry import Parcel, carry
from helpers.packets import upper
from helpers.packets.nonce import Nonce
from helpers.packets.plain import plain
from helpers.packets.selftest import lost_by_harness, require_lossless
from helpers.verdicts import Inconclusive
from tests.lab import faults, nft
from tests.lab.routes import lab_ways
from tests.lab.topology import Lab, host_addresses

PACKETS = 3000


@pytest.mark.parametrize("family", FAMILIES)
def test_no_packet_is_lost_by_the_harness(lab: Lab, family: Family) -> None:
    own = host_addresses("p1").require(family)
    require_lossless(lab.p1, own)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_harness_that_loses_packets_says_so(lab: Lab, family: Family) -> None:
    own = host_addresses("p1").require(family)
    # Only the packets themselves: the kernel also answers that nobody listens.
    rule = [*nft.speaking(family, Protocol.UDP, 9), *nft.every(100), *nft.drop()]
    output = nft.Chain("output", -10)
    with faults.fault(lab.namespace("p1"), family, rule, chain=output):
        assert lost_by_harness(lab.p1, own, count=1000) == 10
        with pytest.raises(Inconclusive, match=r"lost 20 of 2000 .* packets to itself"):
            require_lossless(lab.p1, own)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_packet_is_seen_at_every_place_and_answered(lab: Lab, family: Family) -> None:
    """Thousands of packets over two nodes at full rate: none is missed anywhere."""
    (way,) = lab_ways(lab, family, [("p1", "p2")])
    ends = way.ends
    parcels = [
        Parcel(
            way,
            nonce,
            (
                plain(
                    ends.source,
                    ends.target,
                    upper.udp(ends.source, ends.target, nonce, sport=20_000, dport=ends.port),
                ),
            ),
        )
        for nonce in Nonce.fresh(PACKETS)
    ]
    seen = carry(parcels)
    places = tuple(place.name for place in way.places)
    assert len(places) == 6
    assert sum(one.passed == places for one in seen) == PACKETS
    assert sum(one.replied for one in seen) == PACKETS
