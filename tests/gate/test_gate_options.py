"""The gate on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.test_options import run


def listed(said: str) -> list[str]:
    return [line.rpartition("::")[2] for line in said.splitlines() if "::" in line]


def test_parts_are_collected_instead_of_tests(tmp_path: Path) -> None:
    options = ("--upgrade-from=3.30.1", "--upgrade-to=v3.31.0", "--upgrade-back", "-n2")
    code, said = run(tmp_path, *options, "--collect-only", "-q")
    assert code == 0, said
    assert listed(said) == ["before", "upgrade", "after", "back", "after-back"]


def test_watching_has_parts_of_its_own(tmp_path: Path) -> None:
    code, said = run(tmp_path, "--cluster=existing", "--watch=60", "--collect-only", "-q")
    assert code == 0, said
    assert listed(said) == ["before", "watch", "after"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--upgrade-to=v3.31.0",), "--upgrade-to needs --upgrade-from"),
        (("--upgrade-from=x", "--upgrade-to=v3.31.0"), "--upgrade-from: 'x' is not a full version"),
        (("--upgrade-from=v3.30.1", "--upgrade-to=v3.31.0", "--watch"), "leave out it or"),
        (("--upgrade-from=v3.30.1", "--upgrade-to=v3.31.0", "--prove"), "leave out one of them"),
        (
            ("--upgrade-from=v3.30.1", "--upgrade-to=v3.31.0", "--cluster=existing"),
            "add --allow-disruptive, or use --watch",
        ),
        (("--watch", "--upgrade-back"), "--upgrade-back needs"),
        (("--calico-roll=new",), "is not a full version"),
        (("--bad-upgrade=worse",), "invalid choice"),
    ],
)
def test_mistakes_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    code, said = run(tmp_path, *arguments)
    assert says in said
    assert code in (2, 4)  # 4: refused by pytest itself, before any plugin is asked
    assert not (tmp_path / "state").exists(), "nothing is made for a mistake"
