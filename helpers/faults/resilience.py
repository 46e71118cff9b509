"""Faults that show only while the cluster is disturbed.

Each is asleep until what a test disturbs happens: a watcher on the node, or a setting that a
restart takes up. So flows run well before, and what cuts them is the disturbance.
"""

from __future__ import annotations

from typing import Any, Final

from helpers.faults.bench import Bench
from helpers.faults.changes import Command, Program
from helpers.faults.common import kube_proxy_config
from helpers.faults.plans import Plan, plants

WATCHER: Final = "/run/dsfault-watcher"  # its pid; its script lies beside it
# Starts the script of $2 detached, in place of one that may still run.
BEGIN: Final = """printf %s "$2" > "$1.sh"
setsid sh "$1.sh" </dev/null >/dev/null 2>&1 &
echo $! > "$1"
"""
# Ends the watcher and whatever it started, and takes back what it did.
END: Final = """test ! -e "$1" || kill -9 "-$(cat "$1")"
rm -f "$1" "$1.sh"
eval "$2"
true
"""

# What BIRD wrote is flushed for 20 s, each time that Felix was started anew.
FLUSH_ROUTES: Final = """
felix() { pgrep -f '^calico-node -felix'; }
was=$(felix)
while sleep 0.3; do
  now=$(felix)
  [ -n "$now" ] || continue
  [ "$now" = "$was" ] && continue
  was=$now
  for _ in $(seq 100); do ip -6 route flush proto bird; sleep 0.2; done
done
"""

# Forwarding of IPv6 to pods of this node stops while an IPv6 pool is disabled.
CUT_WITH_POOL: Final = """
disabled() { kubectl --kubeconfig /etc/kubernetes/admin.conf get ippools.crd.projectcalico.org \
  -o 'jsonpath={range .items[*]}{.spec.cidr}={.spec.disabled} {end}' | grep -q ':[^ ]*=true'; }
while sleep 0.3; do
  if disabled; then
    nft list table ip6 dsfault >/dev/null 2>&1 || nft -f - <<X
table ip6 dsfault {
  chain c {
    type filter hook forward priority -10
    policy accept
    oifname "cali*" drop
  }
}
X
  else
    nft delete table ip6 dsfault 2>/dev/null
  fi
done
"""

# kube-proxy stands still and its IPv6 rules are gone while the API server stands still.
FLUSH_SERVICES: Final = """
frozen() { grep -q 'State:.T' /proc/$(pgrep -x kube-apiserver)/status; }
while sleep 0.5; do
  frozen || continue
  kill -STOP $(pgrep -x kube-proxy)
  nft delete table ip6 kube-proxy
  while frozen; do sleep 0.5; done
  kill -CONT $(pgrep -x kube-proxy)
done
"""

# One family is enough for a pod: without IPv6 it is created with IPv4 alone.
ONE_FAMILY: Final = """#!/bin/bash
in=$(cat)
plugin() { (exec -a calico-ipam /opt/cni/bin/calico-ipam.dsfault); }
if out=$(printf %s "$in" | plugin); then printf %s "$out"; exit 0; fi
printf %s "$in" | sed 's/"assign_ipv6" *: *"true"/"assign_ipv6":"false"/' | plugin
"""


def watcher(node: str, script: str, undo: str = "true") -> Command:
    """A script that runs on a node until it is healed."""
    return Command(
        node=node,
        do=("sh", "-c", BEGIN, "sh", WATCHER, script),
        undo=("sh", "-c", END, "sh", WATCHER, undo),
        look=("sh", "-c", 'test -e "$1" && echo watches', "sh", WATCHER),
    )


@plants("RES-001/flush")
def routes_are_flushed_when_felix_starts(bench: Bench) -> Plan:
    return Plan([watcher(bench.worker, FLUSH_ROUTES)])


@plants("RES-004/node-ports")
def a_restart_takes_up_ipv4_node_ports(bench: Bench) -> Plan:
    def change(config: dict[str, Any]) -> None:
        config["nodePortAddresses"] = ["0.0.0.0/0"]

    return Plan([kube_proxy_config(bench, change, restart=None)])


@plants("RES-007/one-family")
def one_family_is_enough(bench: Bench) -> Plan:
    scripts = [
        Program(node=node, path="/opt/cni/bin/calico-ipam", script=ONE_FAMILY)
        for node in bench.names
    ]
    return Plan(scripts)


@plants("RES-008/cut")
def disabled_pool_cuts_pods(bench: Bench) -> Plan:
    undo = "nft delete table ip6 dsfault 2>/dev/null"
    return Plan([watcher(bench.control_plane, CUT_WITH_POOL, undo)])


@plants("RES-009/flush")
def services_go_with_the_api(bench: Bench) -> Plan:
    return Plan([watcher(bench.control_plane, FLUSH_SERVICES)])
