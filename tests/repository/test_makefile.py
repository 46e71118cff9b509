"""``make venv`` and ``make deps`` on machines that lack something, with stand-ins for the tools."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands in for python3: answers what the Makefile asks of it, and writes down what it was told.
PYTHON = """#!/bin/bash
echo "python $*" >> "{log}"
case "$*" in
  *"-m clusters preflight --packages"*) cat "{packages}"; exit 0;;
  *"import ensurepip"*) test ! -e "{no_venv}"; exit;;
  *"-m venv"*) test ! -e "{no_venv}" || exit 1; mkdir -p "${{@: -1}}/bin"
     cp "$0" "${{@: -1}}/bin/python"; exit 0;;
  *"-m pip install"*) test ! -e "{no_network}"; exit;;
  *) exit 0;;
esac
"""
APT = """#!/bin/bash
echo "apt-get $*" >> "{log}"
case "$*" in
  install*) test ! -e "{no_lists}" || {{ rm "{no_lists}"; exit 100; }};;
esac
"""
ID = """#!/bin/bash
echo "{user}"
"""


@dataclass(frozen=True)
class Machine:
    directory: Path

    def file(self, name: str) -> Path:
        return self.directory / name

    @property
    def log(self) -> list[str]:
        return self.file("log").read_text().splitlines()

    def tool(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def hide(self, *names: str) -> None:
        """Let `make` see tools of this machine, but not these."""
        tools = self.directory / "tools"
        tools.mkdir()
        for folder in map(Path, os.environ["PATH"].split(":")):
            for tool in folder.iterdir() if folder.is_dir() else ():
                link = tools / tool.name
                if tool.name not in names and not link.is_symlink():
                    link.symlink_to(tool)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.directory / 'bin'}:{self.path}",
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "HOME": str(self.directory),
        }
        return subprocess.run(
            ["make", "--no-print-directory", target],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def path(self) -> str:
        tools = self.directory / "tools"
        return str(tools) if tools.exists() else os.environ["PATH"]

    @property
    def environments(self) -> list[Path]:
        return list((self.directory / "cache" / "dualstack-conformance").glob("venv-*"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    names = ("log", "packages", "no_venv", "no_network", "no_lists")
    files = {name: str(tmp_path / name) for name in names}
    made.file("log").touch()
    made.file("packages").touch()
    made.tool("python3", PYTHON.format(**files))
    made.tool("apt-get", APT.format(**files))
    made.tool("id", ID.format(user=0))
    return made


def pip_calls(machine: Machine) -> int:
    return sum("-m pip install" in line for line in machine.log)


def apt_calls(machine: Machine) -> list[str]:
    return [line for line in machine.log if line.startswith("apt-get")]


def test_environment_is_made_once_from_the_lock_file(machine: Machine) -> None:
    assert machine.make("venv").returncode == 0
    assert machine.make("venv").stdout == ""
    assert pip_calls(machine) == 1
    (line,) = [line for line in machine.log if "-m pip install" in line]
    assert line.endswith("--require-hashes -r requirements.lock")


def test_interrupted_environment_is_made_again(machine: Machine) -> None:
    machine.file("no_network").touch()
    assert machine.make("venv").returncode != 0
    (left,) = machine.environments
    (left / "half").touch()
    machine.file("no_network").unlink()
    assert machine.make("venv").returncode == 0
    assert machine.environments == [left]
    assert not (left / "half").exists()


def test_missing_venv_module_is_named_with_its_fix(machine: Machine) -> None:
    machine.file("no_venv").touch()
    done = machine.make("venv")
    assert done.returncode != 0
    assert "apt-get install -y python3-venv" in done.stderr
    assert not machine.environments


def test_root_gets_what_is_missing(machine: Machine) -> None:
    machine.file("packages").write_text("docker.io\niptables\n")
    machine.file("no_venv").touch()
    assert machine.make("deps").returncode == 0
    (line,) = apt_calls(machine)
    assert line.endswith("docker.io iptables python3-venv")


def test_stale_package_lists_are_refreshed(machine: Machine) -> None:
    machine.file("packages").write_text("docker.io\n")
    machine.file("no_lists").touch()
    assert machine.make("deps").returncode == 0
    assert [line.split()[1] for line in apt_calls(machine)] == ["install", "update", "install"]


def test_others_are_told_the_command_and_go_on(machine: Machine) -> None:
    machine.tool("id", ID.format(user=1000))
    machine.file("packages").write_text("docker.io\n")
    done = machine.make("deps")
    assert done.returncode == 0
    assert "as root: apt-get install -y docker.io" in done.stderr
    assert apt_calls(machine) == []


def test_nothing_missing_needs_no_root(machine: Machine) -> None:
    machine.tool("id", ID.format(user=1000))
    done = machine.make("deps")
    assert (done.returncode, done.stdout) == (0, "")


def test_browser_is_installed_when_there_is_none(machine: Machine) -> None:
    machine.hide("chromium", "chromium-browser", "google-chrome")
    assert machine.make("browser").returncode == 0
    (line,) = apt_calls(machine)
    assert line.endswith("install -qq -y --no-install-recommends chromium")
    machine.tool("chromium", "#!/bin/bash\n")
    assert machine.make("browser").returncode == 0
    assert apt_calls(machine) == [line]


def test_others_are_told_about_the_browser_and_go_on(machine: Machine) -> None:
    machine.hide("chromium", "chromium-browser", "google-chrome")
    machine.tool("id", ID.format(user=1000))
    done = machine.make("browser")
    assert done.returncode == 0
    assert "apt-get install -y chromium" in done.stderr
    assert apt_calls(machine) == []


def test_conformance_needs_no_browser() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "conformance"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "chromium" not in done.stdout
    assert "apt-get" in done.stdout, "the dry run shows what would be installed"


def test_preflight_needs_no_installed_library() -> None:
    """``make deps`` asks before there is an environment; -S leaves out everything installed."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "clusters", "preflight", "--packages"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "ModuleNotFoundError" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
