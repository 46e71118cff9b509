"""The images that run on the nodes: what each contains and how it is started.

Two layers are shared: `tools` (Debian with the network tools, Python and scapy) lies below every
image that runs a shell or a tool, `kubernetes` (one multi-call program) above it in the four
control images. containerd then keeps one snapshot of each. Programs that need nothing else get
an image with nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clusters.images.errors import ImageBuildError
from clusters.images.oci import Image, Item, Layer, write_layer
from clusters.images.versions import KubernetesVersion

CONTROL = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
CALICO_CNI_PLUGINS = ("host-local", "portmap", "bandwidth", "tuning", "loopback")
CONTROLLERS_UID = 999  # as upstream's image; the manifest asks for a non-root user
PAUSE_USER = "65535:65535"

# Felix without cgo panics in its eBPF calls ("LIBBPF syscall stub") unless it is kept from
# making them; set in the image so that upstream's manifest needs no change.
FELIX_WITHOUT_BPF: Mapping[str, str] = {
    "FELIX_DebugSkipCTLBCleanup": "true",
    "FELIX_XDPENABLED": "false",
}

# kube-proxy and kubelet must use the same iptables variant. kubelet leaves a marker chain in
# the one it uses; the first call looks for it, then replaces itself by links to that variant.
IPTABLES_CHOOSER = """\
#!/bin/sh
marks() { "iptables-$1-save" -t mangle; "ip6tables-$1-save" -t mangle; }
variant=nft
if ! marks nft 2>/dev/null | grep -q -E '^:KUBE-(IPTABLES-HINT|KUBELET-CANARY) '; then
    if marks legacy 2>/dev/null | grep -q -E '^:KUBE-(IPTABLES-HINT|KUBELET-CANARY) '; then
        variant=legacy
    fi
fi
for family in iptables ip6tables; do
    for suffix in '' -save -restore; do
        ln -sf "/usr/sbin/$family-$variant$suffix" "/usr/sbin/$family$suffix"
    done
done
exec "$0" "$@"
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """What images are made of: directories of built Go components, Debian files, the layers."""

    components: Mapping[str, Path]
    extracted: Path
    tools: Layer
    work: Path

    def program(self, component: str, name: str) -> Path:
        """A program that a component built."""
        return self.components[component] / "bin" / name

    def layer(self, name: str, items: Iterable[Item]) -> Layer:
        """Writes a layer into the working directory."""
        return write_layer(items, self.work / f"{name}.tar")


def agent_image(parts: Parts) -> Image:
    """The image of probe agents: Python with scapy and pyroute2, and the network tools."""
    digest = parts.tools.digest.removeprefix("sha256:")[:12]
    return Image(f"dsc.local/agent:{digest}", (parts.tools,), cmd=("python3",))


def kubernetes_images(parts: Parts, version: KubernetesVersion) -> list[Image]:
    """The images of a control plane, under the names that kubeadm expects."""
    folder = "usr/local/bin"
    program = Item(f"{folder}/kubernetes", parts.program(version.component, "kubernetes"))
    links = [Item(f"{folder}/{name}", hardlink=program.name) for name in CONTROL]
    shared = (parts.tools, parts.layer("kubernetes", [program, *links]))
    proxy = parts.layer("kube-proxy", _iptables_chooser())
    etcd = [Item(f"{folder}/{name}", parts.program("etcd", name)) for name in ("etcd", "etcdctl")]
    coredns = Item("coredns", parts.program("coredns", "coredns"))
    pause = Item("pause", parts.program("pause", "pause"))
    names = version.images
    return [
        *(
            Image(
                names[each],
                (*shared, proxy) if each == "kube-proxy" else shared,
                entrypoint=(f"/{folder}/{each}",),
            )
            for each in CONTROL
        ),
        Image(names["etcd"], (parts.layer("etcd", etcd),), entrypoint=(f"/{folder}/etcd",)),
        Image(names["coredns"], (parts.layer("coredns", [coredns]),), entrypoint=("/coredns",)),
        Image(
            names["pause"], (parts.layer("pause", [pause]),),
            entrypoint=("/pause",), user=PAUSE_USER,
        ),
    ]  # fmt: skip


def _iptables_chooser() -> Iterator[Item]:
    names = [
        f"{family}{suffix}"
        for family in ("iptables", "ip6tables")
        for suffix in ("", "-save", "-restore")
    ]
    for name in names:
        yield Item(f"usr/sbin/{name}", text=IPTABLES_CHOOSER)


def calico_images(parts: Parts, component: str, version: str, prefix: str) -> list[Image]:
    """The three images that a Calico release's manifest names."""
    stem = f"calico-{version}"
    plugins = [
        *(Item(f"opt/cni/bin/{name}", parts.program(component, name)) for name in
          ("install", "calico")),
        Item("opt/cni/bin/calico-ipam", hardlink="opt/cni/bin/calico"),
        *(Item(f"opt/cni/bin/{name}", parts.program("cni", name)) for name in CALICO_CNI_PLUGINS),
    ]  # fmt: skip
    node = parts.layer(f"{stem}-node", _calico_node(parts, component))
    cni = parts.layer(f"{stem}-cni", plugins)
    controllers = parts.layer(f"{stem}-controllers", _calico_controllers(parts, component))
    return [
        Image(
            f"{prefix}node:{version}", (parts.tools, node), cmd=("start_runit",),
            env={"SVDIR": "/etc/service/enabled", **FELIX_WITHOUT_BPF},
        ),
        Image(
            f"{prefix}cni:{version}", (cni,), cmd=("/opt/cni/bin/install",),
            working_dir="/opt/cni/bin",
        ),
        Image(
            f"{prefix}kube-controllers:{version}", (controllers,), user=str(CONTROLLERS_UID),
            entrypoint=("/usr/bin/wrapper", "/usr/bin/kube-controllers"),
        ),
    ]  # fmt: skip


def _calico_node(parts: Parts, component: str) -> Iterator[Item]:
    files = parts.components[component] / "files"
    for name in ("calico-node", "mountns"):
        yield Item(f"usr/bin/{name}", parts.program(component, name))
    for name in ("bird", "bird6"):
        yield Item(f"usr/bin/{name}", parts.extracted / name)
    # Calico's liveness probe calls birdcl and birdcl6; Debian ships the same client as birdc.
    for name, client in (("birdcl", "birdc"), ("birdcl6", "birdc6")):
        yield Item(f"usr/bin/{name}", parts.extracted / client)
    for name in ("runsv", "runsvdir", "sv", "svlogd"):
        yield Item(f"usr/bin/{name}", parts.extracted / name)
    yield from _tree(files / "node/filesystem/sbin", "usr/sbin")
    yield from _tree(files / "node/filesystem/etc", "etc")
    yield from _tree(files / "confd/etc", "etc")


def _tree(source: Path, target: str) -> Iterator[Item]:
    """Files below `source`; scripts (they begin with #!, or are sourced by runit) executable."""
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        name = f"{target}/{path.relative_to(source)}"
        text = path.read_text()
        if path.suffix == ".template":
            text = without_krt_tunnel(text)
        script = text.startswith("#!") or path.name == "rc.local"
        yield Item(name, text=text, mode=0o755 if script else 0o644)


def without_krt_tunnel(template: str) -> str:
    """A BIRD configuration template without `krt_tunnel`, which only Calico's own BIRD knows.

    The attribute selects the IPIP device of a route; without IPIP its value is empty.
    """
    return re.sub(r"^[ \t]*krt_tunnel = [^\n]*\n", "", template, flags=re.MULTILINE)


def _calico_controllers(parts: Parts, component: str) -> Iterator[Item]:
    for name in ("kube-controllers", "check-status", "wrapper"):
        yield Item(f"usr/bin/{name}", parts.program(component, name))
    for name in ("status", "profiles", "tmp"):
        yield Item(name, uid=CONTROLLERS_UID)


def check_manifest_images(manifest: Path, images: Iterable[Image]) -> None:
    """Checks that every image that a manifest names is among `images`.

    Raises:
        ImageBuildError: one is not; kubelet would try to pull it.
    """
    named = set(re.findall(r"^[ \-]*image: (\S+)$", manifest.read_text(), flags=re.MULTILINE))
    missing = named - {each.name for each in images}
    if missing or not named:
        raise ImageBuildError(
            f"{manifest} names images that are not built: {', '.join(sorted(missing)) or 'none'}. "
            "Correct image_prefix of this release in versions.yaml."
        )
