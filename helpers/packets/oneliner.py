"""A forged packet as one line of scapy, and the command that sends it again."""

from __future__ import annotations

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6


def scapy_line(data: bytes) -> str:
    """What to type into scapy to have this packet; bytes where scapy's words would differ.

    ``send(...)`` of it puts it on the wire as it is.
    """
    layer = IP if data[0] >> 4 == 4 else IPv6
    try:
        made = layer(data)
        told = str(made.command())
        made.clear_cache()  # or scapy would give back the bytes that it was given
        same = bytes(made) == data
    except Exception:
        same = False  # a header that scapy cannot read: it is illegal on purpose
    return f"send({told})" if same else f"send({layer.__name__}(bytes.fromhex('{data.hex()}')))"
