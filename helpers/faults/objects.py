"""Changes of objects in the Kubernetes API, as data (see ``helpers.faults.changes``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Change
from helpers.kube import Kube, Object
from helpers.waiting import eventually

GONE_SECONDS: Final = 60.0
# What the API server writes by itself: no part of a state that can be brought back.
SERVERS_OWN: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


class Patch(Change):
    """A JSON merge patch; lists are replaced as a whole, None removes a key.

    Its state is what the object has at the places of the patch, so the reversal is again a patch
    and leaves alone what others change meanwhile. ``subresource``: e.g. ``status``.
    """

    api_version: str
    kind: str
    name: str
    namespace: str | None = None
    patch: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.kind} {_named(self.namespace, self.name)}"

    def observe(self, bench: Bench) -> Any:
        found = bench.kube.get(self.api_version, self.kind, self.name, self.namespace)
        return None if found is None else projected(self.patch, found)

    def apply(self, bench: Bench, before: Any) -> None:
        self._send(bench.kube, self.patch)

    def revert(self, bench: Bench, before: Any) -> None:
        self._send(bench.kube, before)

    def _send(self, kube: Kube, patch: Any) -> None:
        kube.patch(self.api_version, self.kind, self.name, patch, self.namespace)


class Whole(Change):
    """An object as ``manifest`` says, made anew; None: it is not to be there."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None
    manifest: dict[str, Any] | None

    @property
    def where(self) -> str:
        return f"{self.kind} {_named(self.namespace, self.name)}"

    def observe(self, bench: Bench) -> Object | None:
        found = bench.kube.get(self.api_version, self.kind, self.name, self.namespace)
        return None if found is None else own_part(found)

    def apply(self, bench: Bench, before: Object | None) -> None:
        self._put(bench.kube, self.manifest)

    def revert(self, bench: Bench, before: Object | None) -> None:
        if self.observe(bench) != before:
            self._put(bench.kube, before)

    def _put(self, kube: Kube, manifest: Object | None) -> None:
        if kube.delete(self.api_version, self.kind, self.name, self.namespace, grace_seconds=0):
            eventually(
                lambda: kube.get(self.api_version, self.kind, self.name, self.namespace),
                lambda found: found is None,
                within=GONE_SECONDS,
                what=f"{self.where} is deleted",
            )
        if manifest is not None:
            kube.create(manifest)


def projected(patch: Mapping[str, Any], found: Any) -> dict[str, Any]:
    """What an object has at the places that a merge patch writes; None where it has nothing.

    A merge patch of the answer brings the object back to it.
    """
    held = found if isinstance(found, Mapping) else {}
    return {
        # {} replaces or merges nothing away: only mappings with keys are looked into.
        key: projected(value, held.get(key))
        if isinstance(value, Mapping) and value and isinstance(held.get(key), Mapping)
        else held.get(key)
        for key, value in patch.items()
    }


def own_part(found: Object) -> Object:
    """An object without what the API server wrote by itself, so that it can be made again."""
    meta = {k: v for k, v in found["metadata"].items() if k not in SERVERS_OWN}
    rest = {k: v for k, v in found.items() if k not in ("metadata", "status")}
    return {**rest, "metadata": meta}


def _named(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
