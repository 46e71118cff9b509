"""The agents as Kubernetes objects: pure functions, manifests out.

Three DaemonSets in a namespace of their own, on every node whatever its taints: ``agent`` and
``peer`` in the pod network and ``node-agent`` in the node's own. The second pod of each node is
there for what happens between two pods of one node. Any pod that a test makes runs the same
container.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from helpers.agents import archive
from helpers.agents.transport import REMOTE_AGENT
from helpers.naming import AGENT_NAMESPACE, MANAGED_BY, PREFIX

Object = dict[str, Any]

POD_PORT: Final = 8080  # TCP and UDP echo of every pod in the pod network
NODE_PORT: Final = 18080  # the same of the node agents, on the node's own addresses
HOST_POD_PORT: Final = 18081  # the same of a test's own hostNetwork pods, beside the node agent
CONFIG_MAP: Final = f"{PREFIX}-agent"
POD_AGENTS: Final = "agent"
PEER_AGENTS: Final = "peer"
NODE_AGENTS: Final = "node-agent"
ROLES: Final = (POD_AGENTS, PEER_AGENTS, NODE_AGENTS)
ROLE: Final = f"{PREFIX}/agent"  # label: which of them an agent is
VERSION: Final = f"{PREFIX}/agent-version"  # annotation: content hash of the archive
READY_FILE: Final = "/tmp/agent-ready"  # noqa: S108  # in the container's own file system
HOST_ROOT: Final = "/host"
# Without a request a pod is BestEffort: on a busy node it gets no turn for seconds, and an answer
# that is late looks like a broken path. Little for a test's own pods: there may be a hundred.
TEST_CPU: Final = "10m"
POOL_CPU: Final = "100m"


def agent_version() -> str:
    """Short content hash of the shipped program."""
    return archive.digest()[:12]


def agent_namespace(name: str = AGENT_NAMESPACE) -> Object:
    """Namespace whose pods may be privileged (raw sockets, host network)."""
    labels = {**MANAGED_BY, "pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def agent_config_map(namespace: str) -> Object:
    """The program itself; every namespace with agent pods needs it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "binaryData": {archive.NAME: base64.b64encode(archive.archive()).decode()},
    }


def agent_container(
    image: str, pull_policy: str, *, port: int = POD_PORT, privileged: bool = False
) -> Object:
    """The one container of every agent pod.

    Its readiness is a file, asked by the runtime: a probe over the network would make Ready
    depend on the very family that is under test.
    """
    command = ["python3", "-u", REMOTE_AGENT, "serve", "--tcp", str(port), "--udp", str(port)]
    security: Object = (
        {"privileged": True}
        if privileged
        # Raw sockets and captures; neighbour flushes in the pod's own network namespace.
        else {"capabilities": {"add": ["NET_RAW", "NET_ADMIN"]}}
    )
    return {
        "name": "agent",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": [*command, "--ready-file", READY_FILE],
        "env": [
            {"name": "AGENT_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        ],
        "ports": [
            {"name": "echo-tcp", "containerPort": port, "protocol": "TCP"},
            {"name": "echo-udp", "containerPort": port, "protocol": "UDP"},
        ],
        "securityContext": security,
        "resources": {"requests": {"cpu": TEST_CPU}},
        # Asked until it succeeds once, then never again: no exec every few seconds for ever.
        "startupProbe": {
            "exec": {"command": ["cat", READY_FILE]},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 60,
        },
        "volumeMounts": [{"name": "agent", "mountPath": "/agent", "readOnly": True}],
    }


def agent_pod_spec(
    image: str,
    pull_policy: str,
    *,
    node: str | None = None,
    host_network: bool = False,
    port: int | None = None,
) -> Object:
    """Pod spec of an agent in the pod network, or of an unprivileged one on the host's.

    Args:
        node: bind the pod to a node without the scheduler (also to a cordoned one).
    """
    port = port or (HOST_POD_PORT if host_network else POD_PORT)
    spec: Object = {
        "containers": [agent_container(image, pull_policy, port=port)],
        "volumes": [{"name": "agent", "configMap": {"name": CONFIG_MAP}}],
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
    }
    if host_network:
        spec["hostNetwork"] = True
        spec["dnsPolicy"] = "ClusterFirstWithHostNet"
    if node:
        spec["nodeName"] = node
    return spec


def agent_pod(
    namespace: str,
    name: str,
    *,
    image: str,
    pull_policy: str,
    node: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    host_network: bool = False,
) -> Object:
    """A test's own pod; its namespace must hold ``agent_config_map``."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**MANAGED_BY, **(labels or {})},
            "annotations": dict(annotations or {}),
        },
        "spec": agent_pod_spec(image, pull_policy, node=node, host_network=host_network),
    }


def _daemon_set(name: str, spec: Object) -> Object:
    labels = {**MANAGED_BY, ROLE: name}
    for container in spec["containers"]:
        container["resources"] = {"requests": {"cpu": POOL_CPU}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": AGENT_NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {ROLE: name}},
            # A new program replaces all agents at once: nothing depends on their availability.
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "100%"},
            },
            "template": {
                "metadata": {"labels": labels, "annotations": {VERSION: agent_version()}},
                "spec": spec,
            },
        },
    }


def node_agent_spec(image: str, pull_policy: str) -> Object:
    """Pod spec of a node agent: the node's network and processes, its files under ``/host``."""
    spec = agent_pod_spec(image, pull_policy, host_network=True, port=NODE_PORT)
    spec["hostPID"] = True
    spec["containers"] = [agent_container(image, pull_policy, port=NODE_PORT, privileged=True)]
    spec["containers"][0]["volumeMounts"].append(
        {"name": "host", "mountPath": HOST_ROOT, "mountPropagation": "HostToContainer"}
    )
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    return spec


def manifests(image: str, pull_policy: str) -> list[Object]:
    """Everything that the pool of agents needs in the cluster."""
    return [
        agent_namespace(),
        agent_config_map(AGENT_NAMESPACE),
        _daemon_set(POD_AGENTS, agent_pod_spec(image, pull_policy)),
        _daemon_set(PEER_AGENTS, agent_pod_spec(image, pull_policy)),
        _daemon_set(NODE_AGENTS, node_agent_spec(image, pull_policy)),
    ]
