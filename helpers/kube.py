"""The one edge to the Kubernetes API: plain dicts in and out, every call with a deadline.

The official client brings kubeconfig, TLS, authentication and the exec protocol. Its generated
models are not imported: they cost 2 s of start for each worker, and what the suite asserts are
fields of the wire format, which a model may fill in or drop.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import tenacity
import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.config import new_client_from_config
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream import ws_client

from helpers.kube_bounded import opened, whole_body
from helpers.kube_errors import ApiError, KubeError
from helpers.kube_resource import Resource
from helpers.naming import FIELD_MANAGER
from helpers.views import NodeView, PodView
from helpers.waiting import Deadline

__all__ = ["ApiError", "Kube", "KubeError", "Object", "Resource"]

Object = dict[str, Any]
REQUEST_TIMEOUT = 15.0  # seconds; the client itself has none
PASSING = frozenset({429, 500, 502, 503, 504})  # statuses that the API server may recover from
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def _passing(error: BaseException) -> bool:
    if isinstance(error, ApiError):
        return error.status in PASSING
    return isinstance(error, KubeError)


def _retrying(attempts: int) -> tenacity.Retrying:
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_passing),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=0.2, max=2),
        reraise=True,
    )


class Kube:
    """Access to one cluster.

    Args:
        kubeconfig: path of the kubeconfig file.
        context: its context; None for the current one.

    Raises:
        KubeError: the kubeconfig cannot be read or has no such context.
    """

    def __init__(self, kubeconfig: Path, context: str | None = None) -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        try:
            self._client: ApiClient = new_client_from_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), context=context, persist_config=False
            )
        except ConfigException as error:
            raise KubeError(f"kubeconfig {kubeconfig} cannot be used: {error}") from error
        configuration = cast(Configuration, self._client.configuration)
        configuration.retries = urllib3.Retry(0)  # retries are decided here, where they are named
        self._host: str = configuration.host
        self._resources: dict[tuple[str, str], Resource] = {}
        self._lock = threading.Lock()

    # -- requests ---------------------------------------------------------------------------

    def _once(
        self, method: str, path: str, body: Any, content_type: str, timeout: float
    ) -> tuple[int, bytes]:
        """Status and body, all within ``timeout``."""
        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        if body is not None:
            headers["Content-Type"] = content_type
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        pool = self._client.rest_client.pool_manager
        deadline = Deadline(timeout)
        try:
            response = pool.request(
                method,
                self._host + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(total=timeout),
                retries=False,
                preload_content=False,
            )
            return response.status, whole_body(response, deadline)
        except urllib3.exceptions.HTTPError as error:
            raise KubeError(f"{self._host} does not answer: {error}") from error

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
        attempts: int = 3,
    ) -> Object:
        """One call; passing failures (429, 5xx, broken connections) are tried again.

        Raises:
            ApiError: the API server refused.
            KubeError: it could not be reached.
        """
        url = path + ("?" + urlencode(query) if query else "")
        for attempt in _retrying(attempts):
            with attempt:
                return self._checked(self._once(method, url, body, content_type, timeout))
        raise AssertionError("unreachable: tenacity raises or returns")

    @staticmethod
    def _checked(answer: tuple[int, bytes]) -> Object:
        code, data = answer
        text = data.decode("utf-8", "replace")
        try:
            parsed = json.loads(text) if text else {}
        except json.JSONDecodeError:
            parsed = {"message": text}
        if code >= 400:
            status = parsed if isinstance(parsed, dict) else {}
            raise ApiError(code, status.get("reason", "Error"), status.get("message", text))
        return parsed if isinstance(parsed, dict) else {"value": parsed}

    # -- objects ----------------------------------------------------------------------------

    def resource(self, api_version: str, kind: str) -> Resource:
        """Find where a kind lives, by discovery (cached).

        Raises:
            LookupError: the API server does not serve this kind.
        """
        key = (api_version, kind)
        with self._lock:
            if key in self._resources:
                return self._resources[key]
        prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        try:
            listed = self.request("GET", prefix)["resources"]
        except ApiError as error:
            if error.status != 404:  # a server in trouble says nothing of what it serves
                raise
            raise LookupError(f"the API server does not serve {api_version}") from error
        with self._lock:
            for item in listed:
                if "/" not in item["name"]:
                    self._resources[(api_version, item["kind"])] = Resource(
                        prefix, item["name"], item["namespaced"]
                    )
        if key not in self._resources:
            raise LookupError(f"the API server does not serve {kind} in {api_version}")
        return self._resources[key]

    def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> Object | None:
        """One object, or None when it does not exist."""
        try:
            return self.request("GET", self.resource(api_version, kind).path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def objects(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[Object]:
        """All objects of a kind (in one namespace), as plain dicts."""
        query = {"resourceVersion": ""}
        if selector:
            query["labelSelector"] = selector
        if field_selector:
            query["fieldSelector"] = field_selector
        path = self.resource(api_version, kind).path(namespace)
        items: list[Object] = self.request("GET", path, query=query)["items"]
        return items

    def create(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """POST one object.

        Raises:
            ApiError: among others 422 when the API refuses the object.
        """
        resource = self.resource(manifest["apiVersion"], manifest["kind"])
        namespace = manifest["metadata"].get("namespace")
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path, tried = resource.path(namespace), False
        for attempt in _retrying(3):
            with attempt:
                try:
                    return self.request("POST", path, query=query, body=manifest, attempts=1)
                except ApiError as error:
                    # An attempt whose answer was lost may have made the object all the same.
                    if not (tried and error.status == 409):
                        raise
                    return self.request("GET", f"{path}/{quote(manifest['metadata']['name'])}")
                finally:
                    tried = True
        raise AssertionError("unreachable: tenacity raises or returns")

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        body: Any,
        namespace: str | None = None,
        *,
        content_type: str = MERGE,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        path = self.resource(api_version, kind).path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        return self.request(
            "PATCH",
            path + (f"/{subresource}" if subresource else ""),
            query=query,
            body=body,
            content_type=content_type,
        )

    def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
    ) -> bool:
        """Delete one object in the background; False when it was not there."""
        options: Object = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self.request(
                "DELETE", self.resource(api_version, kind).path(namespace, name), body=options
            )
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def apply(self, manifests: Iterable[Object], *, parallel: int = 8) -> None:
        """Server-side apply, with this product as field manager.

        Namespaces and CustomResourceDefinitions go first, the rest in parallel.

        Raises:
            ApiError: the first refusal, with the object named in a note.
        """
        first: list[Object] = []
        rest: list[Object] = []
        for manifest in manifests:
            early = manifest["kind"] in ("Namespace", "CustomResourceDefinition")
            (first if early else rest).append(manifest)
        with ThreadPoolExecutor(parallel) as pool:
            for group in (first, rest):
                for _ in pool.map(self._apply_one, group):
                    pass  # consuming the results raises the first refusal

    def _apply_one(self, manifest: Object) -> Object:
        name = manifest["metadata"]["name"]
        manifest = copy.deepcopy(manifest)
        resource = self.resource(manifest["apiVersion"], manifest["kind"])
        namespace = manifest["metadata"].get("namespace")
        if resource.namespaced and not namespace:
            namespace = manifest["metadata"]["namespace"] = "default"
        try:
            return self.request(
                "PATCH",
                resource.path(namespace, name),
                query={"fieldManager": FIELD_MANAGER, "force": "true"},
                body=manifest,
                content_type=APPLY,
            )
        except ApiError as error:
            error.add_note(f"while applying {manifest['kind']} {namespace or ''}/{name}")
            raise

    # -- what the suite asks most -----------------------------------------------------------

    def version(self) -> Object:
        return self.request("GET", "/version")

    def nodes(self) -> list[NodeView]:
        return [NodeView.from_api(item) for item in self.objects("v1", "Node")]

    def pods(self, namespace: str | None = None, selector: str | None = None) -> list[PodView]:
        return [PodView.from_api(p) for p in self.objects("v1", "Pod", namespace, selector)]

    def calico(self, kind: str) -> list[Object]:
        """Calico's own resources, e.g. ``IPPool``, ``BlockAffinity``, ``FelixConfiguration``."""
        try:
            return self.objects("crd.projectcalico.org/v1", kind)
        except LookupError:
            return []

    def exec_stream(
        self, namespace: str, pod: str, command: list[str], container: str | None = None
    ) -> ws_client.WSClient:
        """Open an interactive exec (stdin, stdout, stderr) through API server and kubelet.

        The stream is a connection of its own: it never touches the shared client, so any number
        of threads may hold one (kubernetes-client/python#928).

        Raises:
            KubeError: the stream could not be opened.
        """
        query = [("command", part) for part in command]
        query += [(flag, "true") for flag in ("stdin", "stdout", "stderr")] + [("tty", "false")]
        if container:
            query.append(("container", container))
        headers: dict[str, str] = {}
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec"
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        headers = {key.lower(): value for key, value in headers.items()}
        try:
            return opened(
                REQUEST_TIMEOUT,
                lambda: cast(
                    ws_client.WSClient,
                    ws_client.websocket_call(  # type: ignore[no-untyped-call]
                        self._client.configuration,
                        "GET",
                        self._host + path,
                        query_params=query,
                        headers=headers,
                        capture_all=False,
                        _preload_content=False,
                    ),
                ),
                lambda stream: stream.sock.shutdown(),
            )
        except Exception as error:
            raise KubeError(f"exec into {namespace}/{pod} could not be opened: {error}") from error

    def exec(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        container: str | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> str:
        """Run a command in a container to its end and return its standard output.

        For the few things an agent cannot do (another container's file system); probes go
        through agents.

        Raises:
            KubeError: it could not run, did not end in time, or ended with an error.
        """
        stream = self.exec_stream(namespace, pod, command, container)
        try:
            stream.run_forever(timeout=timeout)  # type: ignore[no-untyped-call]
            out = stream.read_stdout(timeout=0)  # type: ignore[no-untyped-call]
            err = stream.read_stderr(timeout=0)  # type: ignore[no-untyped-call]
            code = stream.returncode
        finally:
            stream.close()  # type: ignore[no-untyped-call]
            stream.sock.shutdown()  # left open when the other side was first to close
        if code is None:
            raise KubeError(f"{command} in {namespace}/{pod} did not end within {timeout:.0f} s")
        if code != 0:
            raise KubeError(f"{command} in {namespace}/{pod} ended with {code}: {err or out}")
        return str(out)
