"""Forged packets: built with scapy here, sent and captured as bytes by agents.

Each packet carries a nonce of 16 bytes, and a capture is searched for it. An absent packet proves
something only when the capture lost nothing, a legal packet arrived the same way just before, and
the forged one is known to have left: ``Capture.require`` and ``Shot.require_sent`` say so.

===============  ====================================================================
module           what it has
===============  ====================================================================
``nonce``        ``Nonce``, ``Forged``: an IP packet ready to be sent
``basic``        plain UDP and echo requests
``sending``      ``send`` through an agent, ``Shot``
``pace``         how fast packets of the matrix are sent
``capture``      ``capturing`` by an agent, ``Frame``
===============  ====================================================================
"""

from __future__ import annotations

from helpers.packets.basic import echo_request, udp
from helpers.packets.capture import (
    LONGEST_PROBE,
    Capture,
    Frame,
    IpHeader,
    capturing,
    dissect,
)
from helpers.packets.nonce import NONCE_BYTES, Forged, Nonce
from helpers.packets.sending import Shot, send

__all__ = [
    "LONGEST_PROBE",
    "NONCE_BYTES",
    "Capture",
    "Forged",
    "Frame",
    "IpHeader",
    "Nonce",
    "Shot",
    "capturing",
    "dissect",
    "echo_request",
    "send",
    "udp",
]
