"""What becomes of packets that IP allows, or forbids, and applications rarely send.

A run sends every *variant* (a shape of packet in a carrier) along every *way* (from one agent to
another, with the places where it is seen), and gives one outcome for each. What it must be is data
with its source: ``suites/packets/expected.yaml``.

===============  ====================================================================
module           what it has
===============  ====================================================================
``shapes``       the variants, generated as a table
``expected``     outcomes as the RFCs want them, and where Linux or Calico is known to differ
``ways``         from where to where, and the interfaces on the way
``carry``        sending, capturing, and what was seen of each packet, of whatever kind
``flight``       variants on ways, each carried
``judge``        from sightings to an outcome, and whether it is as expected
``repeat``       how to send a failing packet again: scapy, pcap, command
===============  ====================================================================
"""
