"""How the outside host gets the agent of this checkout, over an engine that a test plays."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusters import outside
from clusters.api import Outside
from clusters.errors import CommandFailedError
from helpers.agents import archive
from helpers.agents.transport import REMOTE_AGENT
from helpers.model import DualAddresses

ENGINE = """#!/bin/sh
# A container whose files are below "root"; what was done is noted in "log".
cd "$(dirname "$0")" && echo "$1" >> log
case "$*" in
"exec there sha256sum "*) sha256sum "root$4" ;;
*" route show "*) echo "[]" ;;
"cp "*) test -d root && cp -r "$2" root/ ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path) -> Outside:
    engine = tmp_path / "engine"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    (tmp_path / "root").mkdir()
    nowhere = DualAddresses.parse(["192.0.2.1", "2001:db8::1"])
    return Outside("there", (str(engine),), nowhere, nowhere)


def done(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().split()


def test_a_container_without_the_archive_gets_it(host: Outside, tmp_path: Path) -> None:
    """Made by a checkout whose agent had another name."""
    assert outside.refresh_agent(host)
    assert (tmp_path / "root" / REMOTE_AGENT[1:]).read_bytes() == archive.archive()
    assert done(tmp_path)[:3] == ["exec", "cp", "restart"]


def test_a_container_with_this_archive_is_left_alone(host: Outside, tmp_path: Path) -> None:
    outside.refresh_agent(host)
    (tmp_path / "log").unlink()
    assert not outside.refresh_agent(host)
    assert done(tmp_path) == ["exec"]


def test_a_container_with_another_archive_gets_this_one(host: Outside, tmp_path: Path) -> None:
    outside.refresh_agent(host)
    there = tmp_path / "root" / REMOTE_AGENT[1:]
    there.write_bytes(b"older")
    assert outside.refresh_agent(host)
    assert there.read_bytes() == archive.archive()


def test_a_container_that_is_gone_is_an_error(host: Outside, tmp_path: Path) -> None:
    (tmp_path / "root").rmdir()
    with pytest.raises(CommandFailedError):
        outside.refresh_agent(host)
