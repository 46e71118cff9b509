"""Ways through Services: called by an address that a node translates."""

from __future__ import annotations

from collections.abc import Sequence

from helpers import probes
from helpers.findings import listed
from helpers.model import Family, IPAddress, Protocol
from helpers.packet_matrix.ways import Way, through_service
from helpers.plan import follows_within
from helpers.probes import Observation, Probe
from helpers.verdicts import Blocked
from helpers.waiting import NotSettled, eventually


def called_by(
    direct: Sequence[Way],
    kind: str,
    address: IPAddress,
    port: int,
    by: str,
    protocols: Sequence[Protocol] = (Protocol.TCP, Protocol.UDP),
) -> list[Way]:
    """The same ways by a Service whose only backend is their target, once every node knows it.

    Args:
        by: the requirement that says that such a Service answers.
        protocols: that have this port.

    Raises:
        Blocked: ``by`` that requirement, when it does not answer in time.
    """
    made = [through_service(way, kind, address, port) for way in direct]

    def observe() -> list[Observation]:
        found = probes.run_all(
            {way.source: [Probe(p, address, port) for p in protocols] for way in made}
        )
        return [observation for each in found.values() for observation in each]

    try:
        eventually(
            observe,
            lambda seen: all(one.reached for one in seen),
            within=follows_within({way.source for way in made}),
            every=0.3,
            in_a_row=2,
            describe=lambda seen: f"{sum(one.reached for one in seen)} of {len(seen)} reached",
            what=f"the Service {address} answers",
        )
    except NotSettled as late:
        silent = listed(sorted({str(one) for one in observe() if not one.reached}))
        raise Blocked(by, f"{late}; {silent}", Family.of(address)) from late
    return made
