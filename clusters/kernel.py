"""What the host's kernel can do for kube-proxy, and the mode that follows from it.

A node that is a container shares the host's kernel: only that kernel decides whether IPVS exists.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clusters.spec_types import Dataplane, ProxyMode, Version

# kube-proxy in ipvs mode needs the virtual server, its default scheduler, and the dummy
# interface kube-ipvs0 (pkg/proxy/ipvs); the option is what /proc/config.gz calls the module.
IPVS_MODULES = {"ip_vs": "CONFIG_IP_VS", "ip_vs_rr": "CONFIG_IP_VS_RR", "dummy": "CONFIG_DUMMY"}
CAP_SYS_MODULE = 16
NFTABLES_KERNEL = (5, 13)  # KEP-3866: the proxy refuses older kernels


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What is known of a kernel.

    Attributes:
        release: as ``uname -r`` prints it.
        present: modules that are loaded or built in; dashes are written as underscores.
        loadable: modules that lie in ``/lib/modules`` for this release.
        may_load: whether modules can be loaded (CAP_SYS_MODULE and a kernel with modules).
    """

    release: str
    present: frozenset[str]
    loadable: frozenset[str]
    may_load: bool

    def offers(self, module: str) -> bool:
        return module in self.present or (self.may_load and module in self.loadable)

    @property
    def missing_for_ipvs(self) -> tuple[str, ...]:
        return tuple(name for name in IPVS_MODULES if not self.offers(name))

    @property
    def version(self) -> tuple[int, int]:
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)


def choose_proxy_mode(
    kernel: KernelFacts, kubernetes: Version, dataplane: Dataplane = Dataplane.IPTABLES
) -> ProxyMode:
    """The mode that ``auto`` stands for on nodes that share this kernel.

    ipvs where the kernel has it, as the origin of this suite asks; else nftables (beta and on by
    default since Kubernetes 1.31, KEP-3866); else iptables. Calico's nftables dataplane panics
    beside ipvs (felix/nftables/match_builder.go), so there nftables comes first.
    """
    nftables = kubernetes.at_least(1, 31) and kernel.version >= NFTABLES_KERNEL
    if dataplane is Dataplane.NFTABLES and nftables:
        return ProxyMode.NFTABLES
    if not kernel.missing_for_ipvs:
        return ProxyMode.IPVS
    return ProxyMode.NFTABLES if nftables else ProxyMode.IPTABLES


def observe_kernel(root: Path = Path("/")) -> KernelFacts:
    """Read the facts of the running kernel. Files that do not exist say nothing."""
    release = os.uname().release
    modules = root / "lib/modules" / release
    loaded = {line.split()[0] for line in _lines(root / "proc/modules")}
    builtin = _module_names(_lines(modules / "modules.builtin"))
    options = set(_configuration(root, release))
    compiled = {name for name, option in IPVS_MODULES.items() if f"{option}=y" in options}
    return KernelFacts(
        release=release,
        present=frozenset({name.replace("-", "_") for name in loaded} | builtin | compiled),
        loadable=frozenset(
            _module_names(line.partition(":")[0] for line in _lines(modules / "modules.dep"))
        ),
        may_load=(root / "proc/modules").exists() and _has_capability(root, CAP_SYS_MODULE),
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []


def _module_names(paths: Iterable[str]) -> set[str]:
    """``kernel/net/netfilter/ipvs/ip_vs.ko.xz`` names the module ip_vs."""
    return {path.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_") for path in paths}


def _configuration(root: Path, release: str) -> list[str]:
    try:
        packed = (root / "proc/config.gz").read_bytes()
        return gzip.decompress(packed).decode("utf-8", "replace").splitlines()
    except OSError:
        return _lines(root / "boot" / f"config-{release}")


def _has_capability(root: Path, number: int) -> bool:
    for line in _lines(root / "proc/self/status"):
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
