"""Options that pytest and ``python -m clusters up`` share: from text to a resolved profile."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Protocol

from clusters.kernel import observe_kernel
from clusters.sources import ImageSource
from clusters.spec import (
    DEFAULT_PROFILE,
    EXISTING_PROFILE,
    ClusterSpec,
    load_profile,
    profile_names,
)


class _Adder(Protocol):
    def __call__(self, *names: str, **settings: Any) -> object: ...


def add_profile_options(add: _Adder) -> None:
    """Add the options that say what the cluster is to be; ``add`` is argparse's or pytest's."""
    add(
        "--profile",
        metavar="NAME|PATH",
        help=f"what the cluster is to be: {', '.join(profile_names())}, or a YAML file "
        f"(default: {DEFAULT_PROFILE}; {EXISTING_PROFILE} for an existing cluster)",
    )
    add(
        "--set",
        metavar="FIELD=VALUE",
        dest="profile_set",
        action="append",
        type=field_value,
        default=[],
        help="change one field of the profile, e.g. --set families=ipv6,ipv4 "
        "--set nodes.workers.count=3; may be repeated",
    )
    add(
        "--without-guest",
        action="store_true",
        help="leave out nodes that bring a kernel of their own where the host's has no IPVS: "
        "quicker, and kube-proxy in ipvs mode is not tested",
    )
    add("--kubernetes-version", metavar="VERSION", help="short for --set kubernetes=VERSION")
    add("--calico-version", metavar="VERSION", help="short for --set calico=VERSION")
    add(
        "--images",
        type=ImageSource,
        choices=list(ImageSource),
        default=ImageSource.AUTO,
        help="where images come from: built here from sources, or registries "
        "(default: auto: registries when your own Docker engine reaches them)",
    )


def field_value(text: str) -> tuple[str, str]:
    """``families=ipv6,ipv4`` -> ("families", "ipv6,ipv4").

    Raises:
        argparse.ArgumentTypeError: it has no ``=``.
    """
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE, e.g. families=ipv6,ipv4")
    return field.strip(), value.strip()


def profile(
    name: str | None,
    changes: Sequence[tuple[str, str]],
    kubernetes: str | None,
    calico: str | None,
    *,
    resolve: bool = True,
    guests: bool = True,
) -> ClusterSpec:
    """The profile that the options mean.

    Args:
        name: None for the default profile.
        resolve: whether nodes will run on this machine's kernel, which decides ``auto``.
        guests: whether nodes may bring a kernel of their own.

    Raises:
        SpecError: with every problem of file and options at once.
    """
    overrides = dict(changes)
    if kubernetes:
        overrides["kubernetes"] = kubernetes.removeprefix("v")
    if calico:
        overrides["calico"] = calico.removeprefix("v")
    spec = load_profile(name or (DEFAULT_PROFILE if resolve else EXISTING_PROFILE), overrides)
    if not resolve:
        return spec
    resolved = spec.resolved(observe_kernel())
    return resolved if guests else resolved.without_guests()
