"""What guest nodes need of the machine is named with its fix, and nothing is asked without them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest

from clusters import preflight
from clusters.guest import host

GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root on a machine that can."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    mounted(monkeypatch, free=8 * GIB)


def mounted(monkeypatch: pytest.MonkeyPatch, *, free: int, flags: int = 0) -> None:
    blocks = free // 4096
    status = SimpleNamespace(
        f_flag=flags, f_blocks=blocks, f_bfree=blocks, f_bavail=blocks, f_frsize=4096
    )
    monkeypatch.setattr(os, "statvfs", lambda _: status)


def told(guests: int = 1) -> list[str]:
    return [f"{what}: {fix}" for what, fix in host.needs(guests)]


def test_nothing_is_asked_of_a_machine_that_can() -> None:
    assert told() == []


def test_nothing_is_asked_without_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    mounted(monkeypatch, free=0, flags=os.ST_NOEXEC)
    assert told(0) == []


def test_other_processors_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "run on x86_64, this is aarch64" in told()[0]


def test_root_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (need,) = told()
    assert "not root" in need
    assert "--without-guest" in need


def test_memory_of_each_guest_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, free=4 * GIB)
    assert told(1) == []
    (need,) = told(2)
    assert need.startswith("4.0 GiB are free in /dev/shm, guest nodes need 6 GiB: mount -o remount")


def test_memory_that_cannot_hold_code_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, free=8 * GIB, flags=os.ST_NOEXEC)
    (need,) = told()
    assert "mount -o remount,exec /dev/shm" in need


def test_missing_place_for_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    found = list(host.needs(1, tmp_path / "none"))
    assert [fix.split(",")[0] for _, fix in found] == [f"mount -t tmpfs tmpfs {tmp_path}/none"]


def test_compiler_is_needed_only_to_build_a_guests_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def asked(guests: int) -> str:
        return "\n".join(map(str, preflight.needs(preflight.Plan(False, True, 3, guests))))

    assert "gcc" not in asked(0)
    assert "apt-get install -y --no-install-recommends gcc" in asked(1)
    assert "flex" in asked(1)


def test_memory_of_guests_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda: 5 * GIB)

    def asked(guests: int) -> str:
        return "\n".join(map(str, preflight.needs(preflight.Plan(False, False, 3, guests))))

    assert "of memory are available" not in asked(0)
    assert "5.0 GiB of memory are available, 6 GiB are needed" in asked(1)


def test_packages_of_the_kernel_build_are_installed_beforehand() -> None:
    assert {"gcc", "libc6-dev", "make", "flex", "bison", "bc", "xz-utils", "e2fsprogs"} <= set(
        preflight.debian_packages()
    )
