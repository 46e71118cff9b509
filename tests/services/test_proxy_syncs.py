"""kube-proxy's metrics about its looks at the Services."""

from __future__ import annotations

from helpers.proxy_syncs import Syncs

METRICS = """\
# HELP kubeproxy_sync_proxy_rules_duration_seconds [ALPHA] SyncProxyRules latency in seconds
# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"} 0
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 825.9820139520002
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 58
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 819.3862906880001
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 55
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.795522693712308e+09
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7955227098156183e+09
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1.7955227096842632e+09
"""


def test_both_families_are_read() -> None:
    seen = Syncs.parse(METRICS)
    assert seen.ended == {"IPv4": 1795522709.8156183, "IPv6": 1795522709.6842632}
    assert round(seen.seconds, 1) == 14.9  # the slower family's


def test_newer_in_every_family() -> None:
    old = Syncs({"IPv4": 10.0, "IPv6": 11.0}, 1.0)
    assert Syncs({"IPv4": 12.0, "IPv6": 12.0}, 1.0).newer_than(old)
    assert not Syncs({"IPv4": 12.0, "IPv6": 11.0}, 1.0).newer_than(old)
    assert not Syncs({}, 0.0).newer_than(old)


def test_releases_without_families() -> None:
    seen = Syncs.parse("kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.5e+09\n")
    assert seen == Syncs({"": 1.5e9}, 0.0)


def test_nobody_answers() -> None:
    assert Syncs.parse("") == Syncs({}, 0.0)
