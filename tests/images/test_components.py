"""What is in the images, and how they are started."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from clusters.images import components
from clusters.images.errors import ImageBuildError
from clusters.images.oci import Image, Item, write_layer
from clusters.images.versions import pinned

CALICO = "calico-v3.31.0"
KUBERNETES = pinned().kubernetes_version("v1.36.4")
TEMPLATE = """\
    if (net = 10.0.0.0/8) then {
      krt_tunnel = "";                     {{- /* no IPIP here */}}
      accept;
    }
    krt_tunnel = "{{$data.ipip}}";
    accept;
"""


@pytest.fixture
def parts(tmp_path: Path) -> components.Parts:
    """Programs with no content, and a few of the files that Calico's module has."""
    built: dict[str, Path] = {}
    for name, component in pinned().components.items():
        built[name] = tmp_path / name
        (built[name] / "bin").mkdir(parents=True)
        for program in component.programs:
            (built[name] / "bin" / program).write_text(program)
    files = built[CALICO] / "files"
    for name, text in (
        ("node/filesystem/sbin/start_runit", "#!/bin/sh\n"),
        ("node/filesystem/etc/rc.local", "# sourced\n"),
        ("node/filesystem/etc/calico/felix.cfg", "[global]\n"),
        ("confd/etc/calico/confd/templates/bird_ipam.cfg.template", TEMPLATE),
    ):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(text)
    extracted = tmp_path / "extracted"
    extracted.mkdir()
    for package in pinned().debian.extracted:
        for file in package.files:
            (extracted / Path(file).name).write_text(file)
    tools = write_layer([Item("usr/bin/python3", text="")], tmp_path / "tools.tar")
    work = tmp_path / "work"
    work.mkdir()
    return components.Parts(built, extracted, tools, work)


def by_name(images: list[Image]) -> dict[str, Image]:
    return {image.name.rpartition("/")[2].partition(":")[0]: image for image in images}


def members(image: Image) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for layer in image.layers:
        with tarfile.open(layer.path) as archive:
            found |= {member.name: member for member in archive}
    return found


def text(image: Image, name: str) -> str:
    with tarfile.open(image.layers[-1].path) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read().decode()


def test_kubernetes_images_have_the_names_that_kubeadm_expects(parts: components.Parts) -> None:
    images = components.kubernetes_images(parts, KUBERNETES)
    assert {image.name for image in images} == set(KUBERNETES.images.values())


def test_control_images_share_their_layers(parts: components.Parts) -> None:
    images = by_name(components.kubernetes_images(parts, KUBERNETES))
    shared = images["kube-apiserver"].layers
    assert shared[0] == parts.tools
    for name in components.CONTROL:
        assert images[name].layers[:2] == shared
        assert images[name].entrypoint == (f"/usr/local/bin/{name}",)
        assert f"usr/local/bin/{name}" in members(images[name])


def test_programs_that_need_no_tools_come_without(parts: components.Parts) -> None:
    images = by_name(components.kubernetes_images(parts, KUBERNETES))
    for name in ("etcd", "coredns", "pause"):
        assert parts.tools not in images[name].layers
        assert images[name].entrypoint[0].removeprefix("/") in members(images[name])


def test_kube_proxy_chooses_its_iptables_when_first_called(parts: components.Parts) -> None:
    proxy = by_name(components.kubernetes_images(parts, KUBERNETES))["kube-proxy"]
    for name in ("iptables", "ip6tables-save", "iptables-restore"):
        assert text(proxy, f"usr/sbin/{name}") == components.IPTABLES_CHOOSER
        assert members(proxy)[f"usr/sbin/{name}"].mode == 0o755


@pytest.mark.parametrize(
    ("marked", "expected"), [("nft", "nft"), ("legacy", "legacy"), ("none", "nft")]
)
def test_iptables_variant_is_the_one_that_kubelet_marked(
    marked: str, expected: str, tmp_path: Path
) -> None:
    for variant in ("nft", "legacy"):
        chains = ":KUBE-IPTABLES-HINT - [0:0]" if variant == marked else ":INPUT ACCEPT [0:0]"
        for family in ("iptables", "ip6tables"):
            _script(tmp_path / f"{family}-{variant}-save", f"echo '{chains}'")
            _script(tmp_path / f"{family}-{variant}", f'echo {variant} "$@"')
    chooser = components.IPTABLES_CHOOSER.replace("/usr/sbin", str(tmp_path))
    _script(tmp_path / "iptables", chooser.removeprefix("#!/bin/sh\n"))
    for _ in range(2):  # the second call goes straight to the variant
        done = subprocess.run(
            [tmp_path / "iptables", "-w", "-L"],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == f"{expected} -w -L\n"


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_calico_node_runs_felix_without_bpf_and_finds_its_tools(parts: components.Parts) -> None:
    node = by_name(components.calico_images(parts, CALICO, "v3.31.0", "quay.io/calico/"))["node"]
    assert node.name == "quay.io/calico/node:v3.31.0"
    assert node.cmd == ("start_runit",)
    assert node.env["FELIX_DebugSkipCTLBCleanup"] == "true"
    assert node.env["FELIX_XDPENABLED"] == "false"
    found = members(node)
    for name in ("bird", "bird6", "birdcl", "birdcl6", "runsvdir", "sv", "calico-node"):
        assert found[f"usr/bin/{name}"].mode == 0o755
    assert text(node, "usr/bin/birdcl6") == "usr/sbin/birdc6"


def test_calico_scripts_are_executable_and_data_is_not(parts: components.Parts) -> None:
    node = by_name(components.calico_images(parts, CALICO, "v3.31.0", ""))["node"]
    found = members(node)
    assert found["usr/sbin/start_runit"].mode == 0o755
    assert found["etc/rc.local"].mode == 0o755
    assert found["etc/calico/felix.cfg"].mode == 0o644


def test_bird_templates_lose_only_what_debian_bird_cannot_read(parts: components.Parts) -> None:
    node = by_name(components.calico_images(parts, CALICO, "v3.31.0", ""))["node"]
    template = text(node, "etc/calico/confd/templates/bird_ipam.cfg.template")
    assert template == "    if (net = 10.0.0.0/8) then {\n      accept;\n    }\n    accept;\n"


def test_calico_cni_has_all_plugins(parts: components.Parts) -> None:
    cni = by_name(components.calico_images(parts, CALICO, "v3.31.0", ""))["cni"]
    found = members(cni)
    assert found["opt/cni/bin/calico-ipam"].linkname == "opt/cni/bin/calico"
    for name in ("install", "calico", "host-local", "portmap", "bandwidth", "tuning", "loopback"):
        assert found[f"opt/cni/bin/{name}"].isfile()


def test_kube_controllers_can_write_their_status(parts: components.Parts) -> None:
    built = components.calico_images(parts, CALICO, "v3.31.0", "")
    controllers = by_name(built)["kube-controllers"]
    assert controllers.user == "999"
    found = members(controllers)
    assert {found[name].uid for name in ("status", "profiles")} == {999}


def test_agent_image_is_named_by_its_content(parts: components.Parts) -> None:
    image = components.agent_image(parts)
    assert image.name == f"dsc.local/agent:{parts.tools.digest[7:19]}"


def test_manifest_that_names_another_image_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "calico.yaml"
    manifest.write_text("containers:\n  - image: quay.io/calico/node:v3.31.0\n")
    components.check_manifest_images(manifest, [Image("quay.io/calico/node:v3.31.0", ())])
    with pytest.raises(ImageBuildError, match=r"quay\.io/calico/node:v3\.31\.0"):
        components.check_manifest_images(manifest, [Image("docker.io/calico/node:v3.31.0", ())])


def test_configuration_is_json(parts: components.Parts) -> None:
    json.dumps(components.agent_image(parts).config("amd64"))
