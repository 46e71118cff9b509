"""Changes do, undo, and undo again; they come back from the journal as they were."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.faults.bench import Bench, FaultError
from helpers.faults.changes import (
    Change,
    Command,
    Exec,
    File,
    Frozen,
    NftTable,
    PodExec,
    Program,
    Restart,
    Rule,
    Sysctl,
)
from helpers.faults.objects import Patch, Whole, own_part, projected
from helpers.model import Family
from helpers.waiting import eventually


def reverted(bench: Bench, change: Change) -> None:
    """The change shows, its reversal brings back what was there, and a second one is harmless."""
    before = change.observe(bench)
    change.apply(bench, before)
    assert change.observe(bench) != before
    for _ in range(2):
        change.revert(bench, before)
        assert change.observe(bench) == before


def test_a_file_gets_its_text_and_mode_back(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "10-calico.conflist"
    path.write_bytes(b"with \xff bytes\nand no end")
    path.chmod(0o640)
    reverted(bench, File(node="n", path=str(path), text="changed"))
    assert path.read_bytes() == b"with \xff bytes\nand no end"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_that_was_not_there_goes_again(bench: Bench, tmp_path: Path) -> None:
    reverted(bench, File(node="n", path=str(tmp_path / "new"), text="here"))
    assert not list(tmp_path.iterdir())


def test_a_file_can_be_away(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("text")
    reverted(bench, File(node="n", path=str(tmp_path / "there"), text=None))


def test_a_program_is_wrapped_and_unwrapped(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "calico-ipam"
    path.write_text("#!/bin/sh\necho original\n")
    path.chmod(0o755)
    wrapper = f'#!/bin/sh\n[ "$1" = DEL ] && exit 0\nexec {path}.dsfault "$@"\n'
    change = Program(node="n", path=str(path), script=wrapper)
    change.apply(bench, change.observe(bench))
    assert subprocess.run([path, "DEL"], capture_output=True, check=True).stdout == b""
    assert subprocess.run([path, "ADD"], capture_output=True, check=True).stdout == b"original\n"
    change.revert(bench, "")
    reverted(bench, change)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[str]:
    """A process of a name of its own."""
    path = tmp_path / f"dsf{tmp_path.name[-10:]}"
    shutil.copy("/bin/sleep", path)
    with subprocess.Popen([path, "60"]) as child:
        name = path.name[:15]
        eventually(
            lambda: Path(f"/proc/{child.pid}/comm").read_text().strip(),
            lambda comm: comm == name,
            within=5,
            every=0.05,
        )
        yield name
        child.kill()


def test_a_process_stands_still_and_goes_on(bench: Bench, sleeper: str) -> None:
    change = Frozen(node="n", command=sleeper)
    assert change.observe(bench) == "running"
    change.apply(bench, "running")
    eventually(lambda: change.observe(bench), lambda s: s == "stopped", within=5)
    change.revert(bench, "running")
    eventually(lambda: change.observe(bench), lambda s: s == "running", within=5)


def test_a_process_that_is_not_there_is_told(bench: Bench) -> None:
    assert Frozen(node="n", command="nobody-has-this").observe(bench) == "absent"


def test_a_command_is_undone(bench: Bench, tmp_path: Path) -> None:
    path = str(tmp_path / "made")
    reverted(
        bench,
        Command(node="n", do=("mkdir", path), undo=("rmdir", path), look=("ls", str(tmp_path))),
    )


def test_a_second_fault_in_the_private_table_is_refused(bench: Bench) -> None:
    rule = Rule(hook="forward", priority=-10, rule="drop")
    table = NftTable(node="n", family=Family.IPV6, rules=(rule,))
    with pytest.raises(FaultError, match="another fault is planted"):
        table.apply(bench, "table ip6 dsfault {}")


def test_each_fault_has_a_private_table_of_its_own() -> None:
    rule = Rule(hook="forward", priority=-10, rule="drop")
    table = NftTable(node="n", family=Family.IPV6, rules=(rule,))
    one, other = table.of("F12"), table.of("CONN-003/echo")
    assert one.where == "nft table ip6 dsfault_F12 on n"
    assert other.where == "nft table ip6 dsfault_CONN_003_echo on n"
    assert one.of("F12") == one


STEPS = (
    Exec(node="n", argv=("true",)),
    PodExec(namespace="s", selector="a=b", container="c", argv=("x",), node="n"),
    Restart(namespace="s", selector="a=b"),
)
CHANGES: list[Change] = [
    NftTable(node="n", family=Family.IPV4, rules=(Rule(hook="input", priority=-10, rule="drop"),)),
    Sysctl(node="n", name="net/ipv6/conf/all/forwarding", value="0", then=STEPS),
    File(node="n", path="/etc/x", text=None),
    Program(node="n", path="/bin/x", script="#!/bin/sh"),
    Frozen(node="n", command="kube-proxy"),
    Command(node="n", do=("a",), undo=("b",), look=("c",)),
    Patch(api_version="v1", kind="Node", name="n", patch={"spec": {"a": None, "b": [1]}}),
    Whole(api_version="v1", kind="Pod", name="p", namespace="s", manifest=None),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_journal_round_trip(change: Change) -> None:
    assert Change.from_json(change.to_json()) == change


def test_an_unknown_change_is_told() -> None:
    with pytest.raises(FaultError, match="unknown kind of change: Later"):
        Change.from_json({"change": "Later"})


@pytest.mark.parametrize(
    ("patch", "found", "held"),
    [
        ({"spec": {"disabled": True}}, {"spec": {"cidr": "x"}}, {"spec": {"disabled": None}}),
        ({"spec": {"n": False}}, {"spec": {"n": True, "m": 1}}, {"spec": {"n": True}}),
        ({"data": {"a": "b"}}, {}, {"data": None}),
        ({"spec": {"list": [1]}}, {"spec": {"list": [2, 3]}}, {"spec": {"list": [2, 3]}}),
        ({"spec": {"gone": None}}, {"spec": {"gone": {"x": 1}}}, {"spec": {"gone": {"x": 1}}}),
    ],
)
def test_the_reversal_of_a_patch(patch: object, found: object, held: object) -> None:
    assert projected(patch, found) == held  # type: ignore[arg-type]


def test_an_object_can_be_made_again() -> None:
    found = {
        "kind": "IPPool",
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
        "spec": {"cidr": "x"},
        "status": {"ready": True},
    }
    assert own_part(found) == {
        "kind": "IPPool",
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"cidr": "x"},
    }
