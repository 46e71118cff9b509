"""Which kube-proxy mode ``auto`` means, from facts alone and from files."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.kernel import KernelFacts, choose_proxy_mode, observe_kernel
from clusters.render_kind import node_names
from clusters.spec import Kernel, ProxyMode, SpecError, Version, load_profile
from clusters.spec_types import Dataplane

IPVS = frozenset({"ip_vs", "ip_vs_rr", "dummy"})
NONE: frozenset[str] = frozenset()
NEW, OLD = Version(1, 36, 4), Version(1, 30, 2)


@pytest.mark.parametrize(
    ("facts", "kubernetes", "expected"),
    [
        (KernelFacts("6.1.0", IPVS, NONE, False), NEW, ProxyMode.IPVS),
        (KernelFacts("6.1.0", NONE, IPVS, True), NEW, ProxyMode.IPVS),
        (KernelFacts("6.1.0", NONE, IPVS, False), NEW, ProxyMode.NFTABLES),
        (KernelFacts("6.1.0", IPVS - {"dummy"}, NONE, True), NEW, ProxyMode.NFTABLES),
        (KernelFacts("6.1.0", frozenset({"ip_vs"}), IPVS, True), NEW, ProxyMode.IPVS),
        (KernelFacts("6.18.44-x", NONE, NONE, False), NEW, ProxyMode.NFTABLES),
        (KernelFacts("5.10.0", NONE, NONE, False), NEW, ProxyMode.IPTABLES),
        (KernelFacts("6.1.0", NONE, NONE, False), OLD, ProxyMode.IPTABLES),
        (KernelFacts("odd", NONE, NONE, False), NEW, ProxyMode.IPTABLES),
    ],
)
def test_mode_follows_kernel_and_release(
    facts: KernelFacts, kubernetes: Version, expected: ProxyMode
) -> None:
    assert choose_proxy_mode(facts, kubernetes) is expected


def test_calico_nftables_wants_nftables_even_where_ipvs_exists(
    kernel_with_ipvs: KernelFacts,
) -> None:
    assert choose_proxy_mode(kernel_with_ipvs, NEW, Dataplane.NFTABLES) is ProxyMode.NFTABLES
    spec = load_profile("native", {"calico_dataplane": "nftables"}).resolved(kernel_with_ipvs)
    assert spec.proxy_mode is ProxyMode.NFTABLES


def test_resolving_decides_every_auto_and_nothing_else(
    kernel_with_ipvs: KernelFacts, kernel_without_ipvs: KernelFacts
) -> None:
    auto, fixed = load_profile("native"), load_profile("blog-3.11")
    with pytest.raises(ValueError, match="still auto"):
        _ = auto.proxy_mode
    assert auto.resolved(kernel_with_ipvs).proxy_mode is ProxyMode.IPVS
    assert auto.resolved(kernel_without_ipvs).proxy_mode is ProxyMode.NFTABLES
    assert fixed.resolved(kernel_without_ipvs) == fixed
    assert auto.resolved(kernel_with_ipvs).changed(nodes=auto.nodes) == auto


def test_guest_kernels_have_ipvs_whatever_the_host_has(kernel_without_ipvs: KernelFacts) -> None:
    guest = {"name": "guests", "role": "worker", "count": 1, "kernel": "guest"}
    spec = load_profile("native")
    spec = spec.changed(nodes=[*spec.model_dump(mode="json")["nodes"], guest])
    modes = {g.name: g.proxy_mode for g in spec.resolved(kernel_without_ipvs).nodes}
    assert modes == {"control-plane": "nftables", "workers": "nftables", "guests": "ipvs"}


def test_impossible_resolution_is_refused(kernel_without_ipvs: KernelFacts) -> None:
    """Kubernetes 1.17 is dual stack in ipvs mode only, and this kernel has none."""
    with pytest.raises(SpecError, match=r"since Kubernetes 1\.18"):
        load_profile("native", {"kubernetes": "1.17.4"}).resolved(kernel_without_ipvs)


def _root(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


MODULES = f"lib/modules/{os.uname().release}"


def test_modules_on_disk_count_when_they_can_be_loaded(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        {
            "proc/modules": "nf-tables 1 0 - Live\n",
            "proc/self/status": "CapBnd:\t000001ffffffffff\n",
            f"{MODULES}/modules.dep": "kernel/net/netfilter/ipvs/ip_vs.ko.xz: a\n"
            "kernel/net/netfilter/ipvs/ip_vs_rr.ko: b\n",
            f"{MODULES}/modules.builtin": "kernel/drivers/net/dummy.ko\n",
        },
    )
    facts = observe_kernel(root)
    assert facts.may_load
    assert facts.present == {"nf_tables", "dummy"}
    assert facts.missing_for_ipvs == ()


def test_modules_on_disk_do_not_count_without_the_capability(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        {
            "proc/modules": "",
            "proc/self/status": "CapBnd:\t0000000000000000\n",
            f"{MODULES}/modules.dep": "a/ip_vs.ko:\na/ip_vs_rr.ko:\na/dummy.ko:\n",
        },
    )
    assert observe_kernel(root).missing_for_ipvs == ("ip_vs", "ip_vs_rr", "dummy")


def test_monolithic_kernel_tells_by_its_configuration(tmp_path: Path) -> None:
    root = _root(tmp_path, {"proc/x": ""})
    (root / "proc/config.gz").write_bytes(
        gzip.compress(b"CONFIG_IP_VS=y\nCONFIG_IP_VS_RR=y\nCONFIG_DUMMY=m\n")
    )
    facts = observe_kernel(root)
    assert facts.present == {"ip_vs", "ip_vs_rr"}
    assert facts.missing_for_ipvs == ("dummy",)


def test_empty_machine_has_nothing(tmp_path: Path) -> None:
    assert observe_kernel(tmp_path).missing_for_ipvs == ("ip_vs", "ip_vs_rr", "dummy")


def test_own_kernel_only_where_the_hosts_has_no_ipvs(
    kernel_with_ipvs: KernelFacts, kernel_without_ipvs: KernelFacts
) -> None:
    profile = load_profile("conformance")
    shared = profile.resolved(kernel_with_ipvs)  # its modules are loadable, none is loaded
    assert {group.kernel for group in shared.nodes} == {Kernel.HOST}
    assert {group.proxy_mode for group in shared.nodes} == {ProxyMode.IPVS}
    assert list(node_names(shared, "x")) == ["x-control-plane", "x-worker", "x-worker2"]
    own = profile.resolved(kernel_without_ipvs)
    assert [(g.name, g.kernel) for g in own.guest_groups] == [("ipvs", Kernel.GUEST)]
    assert {group.proxy_mode for group in own.host_groups} == {ProxyMode.NFTABLES}
    assert list(node_names(own, "x")) == ["x-control-plane", "x-worker"]


def test_modules_that_may_not_be_loaded_are_not_there(kernel_with_ipvs: KernelFacts) -> None:
    locked = replace(kernel_with_ipvs, may_load=False)
    assert load_profile("conformance").resolved(locked).guest_node_count == 1


def test_no_own_kernel_for_a_mode_that_the_hosts_has(kernel_without_ipvs: KernelFacts) -> None:
    profile = load_profile("conformance", {"proxy_mode": "nftables"})
    assert profile.resolved(kernel_without_ipvs).guest_node_count == 0


def test_guests_can_be_left_out(kernel_without_ipvs: KernelFacts) -> None:
    left = load_profile("conformance").resolved(kernel_without_ipvs).without_guests()
    assert [group.name for group in left.nodes] == ["control-plane", "workers"]
    assert not left.guest_groups


def test_guests_need_a_kubeadm_that_knows_how_they_join(kernel_without_ipvs: KernelFacts) -> None:
    old = load_profile("conformance", {"kubernetes": "1.30.4"})
    with pytest.raises(SpecError, match=r"guest nodes join by kubeadm's v1beta4"):
        old.resolved(kernel_without_ipvs)
