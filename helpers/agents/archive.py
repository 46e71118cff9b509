"""The agent as one file: the package ``helpers.agents.remote`` as an archive that Python runs.

One file fits wherever text did: a ConfigMap, ``docker cp``, ``python3 agent.pyz``. Its bytes are
the agent's version, so they follow from the sources alone: no time stamps, no order of a
directory, and nothing compressed, because zlib's output differs between its builds (which also
lets a Python without zlib start it).
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Final

from helpers.naming import cache_dir

NAME: Final = "agent.pyz"
PACKAGE: Final = "helpers.agents.remote"
_SOURCES: Final = Path(__file__).with_name("remote")
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)  # the first time stamp that a zip file can hold
_UNIX: Final = 3  # made by: what the attributes below mean (APPNOTE.TXT 4.4.2.2)


@functools.cache
def archive() -> bytes:
    """The archive, the same bytes for the same sources; one process ships one version."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        for name, text in sorted(_members().items()):
            member = zipfile.ZipInfo(name, _LONG_AGO)
            member.create_system = _UNIX
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            made.writestr(member, text)
    return buffer.getvalue()


def _members() -> dict[str, bytes]:
    """Path in the archive -> source. Packages around ours are empty there: nothing of theirs."""
    members = {}
    folder = ""
    for part in PACKAGE.split("."):
        folder += f"{part}/"
        members[f"{folder}__init__.py"] = b""
    for source in _SOURCES.glob("*.py"):
        # Python starts what is called __main__ at the top of an archive.
        place = "" if source.name == "__main__.py" else folder
        members[place + source.name] = source.read_bytes()
    return members


def digest() -> str:
    """SHA-256 of the archive in hexadecimal, as ``sha256sum`` prints it."""
    return hashlib.sha256(archive()).hexdigest()


def local_archive() -> Path:
    """The archive as a file of this machine, in the cache, named by its content.

    Raises:
        OSError: the cache cannot be written.
    """
    path = cache_dir() / "agent" / digest()[:12] / NAME
    if not path.is_file() or path.read_bytes() != archive():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{NAME}.{os.getpid()}")
        draft.write_bytes(archive())
        draft.replace(path)  # at once: other processes start from it
    return path
