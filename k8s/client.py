"""A thin, typed access to the Kubernetes API: plain JSON objects in and out, a deadline on every call, errors
that say what to do. Configuration, authentication and TLS are the `kubernetes` client's.

Does not belong here: what an object means.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from k8s.errors import Conflict, ControlError, Forbidden, NotFound, Rejected, Unavailable

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.client.rest import RESTResponse

Object = dict[str, Any]
Objects = list[Object]

CONNECT_S = 5.0
"""s to connect; a control plane is near."""

CALL_S = 15.0
"""s for one call; the API server itself gives up on most after 60 s, which is too long to hold a rollout."""

RETRY_S = 1.0
"""s between two attempts to open a watch that was dropped."""

PAGE = 500
"""Objects a page; what kubectl asks for."""

MANAGER = "marquee"
"""Whose fields our writes are (`managedFields`). By default the API server takes it from the user agent, and
every program that uses the same client library would be one writer."""

_OURS = {"fieldManager": MANAGER}


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API has a kind: `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        parts = ["apis" if self.group else "api", self.api_version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [self.plural, *(quote(part, safe="") for part in (name, subresource) if part is not None)]
        return "/" + "/".join(parts)


CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node")
JOBS = Resource("batch", "v1", "jobs", "Job")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
RAY_SERVICES = Resource("ray.io", "v1", "rayservices", "RayService")
RAY_CLUSTERS = Resource("ray.io", "v1", "rayclusters", "RayCluster")
RAY_JOBS = Resource("ray.io", "v1", "rayjobs", "RayJob")


class Cluster:
    """One API server. Thread-safe as far as urllib3's pools are."""

    def __init__(self, api: ApiClient, namespace: str = "default", *, in_pod: bool = False) -> None:
        """
        Args:
            namespace: the one that the configuration names.
            in_pod: this process runs in the cluster and reaches pods by their addresses.
        """
        self._api = api
        self.namespace = namespace
        self.in_pod = in_pod

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Cluster:
        """By the kubeconfig (named, KUBECONFIG, ~/.kube/config), or in a pod by its service account.

        Raises:
            Unavailable: neither is there, or it cannot be read. The server itself is not asked yet.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and not (
            kubeconfig or context or "KUBECONFIG" in os.environ
        )
        try:
            if in_pod:
                config.load_incluster_config(client_configuration=configuration)
                namespace = _pod_namespace()
            else:
                config.load_kube_config(kubeconfig, context, client_configuration=configuration)
                namespace = _context_namespace(kubeconfig, context)
        except (config.ConfigException, OSError, ValueError) as error:
            raise Unavailable(
                f"no Kubernetes cluster is configured ({error}); set KUBECONFIG or give --kubeconfig, "
                "or --url for a server without a cluster"
            ) from None
        configuration.retries = False  # a deadline must be one deadline; the callers try again
        return cls(client.ApiClient(configuration), namespace, in_pod=in_pod)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        return self._json("GET", resource.path(namespace, name))

    def list(self, resource: Resource, namespace: str | None, selector: str = "") -> Objects:
        """All pages. `selector` is a label selector."""
        return self._listed(resource, namespace, selector)[0]

    def create(self, resource: Resource, namespace: str | None, body: Mapping[str, Any]) -> Object:
        """Raises Conflict where the name is taken."""
        path = resource.path(namespace)
        return self._json("POST", path, query=_OURS, body=body, content_type="application/json")

    def patch(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """A JSON merge patch (RFC 7396). Raises Conflict where its `resourceVersion` is old."""
        path = resource.path(namespace, name)
        return self._json("PATCH", path, query=_OURS, body=body, content_type="application/merge-patch+json")

    def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """What it owns is deleted after it, in the background."""
        self._json("DELETE", resource.path(namespace, name), query={"propagationPolicy": "Background"})

    def watch(
        self, resource: Resource, namespace: str, seconds: float, selector: str = ""
    ) -> Iterator[tuple[str, Object]]:
        """(event type, object) of what happens within so many seconds, from now on. A dropped connection is
        opened again where it was; where the server has forgotten that place (410), everything there is comes
        as MODIFIED, so that nothing is missed."""
        until = time.monotonic() + seconds
        version: str | None = self._listed(resource, namespace, selector)[1]
        while (left := until - time.monotonic()) > 0:
            try:
                if version is None:
                    items, version = self._listed(resource, namespace, selector)
                    yield from (("MODIFIED", item) for item in items)
                for kind, item in self._watched(resource, namespace, selector, version, left):
                    if kind == "ERROR":
                        version = None
                        break
                    version = item["metadata"].get("resourceVersion", version)
                    if kind != "BOOKMARK":
                        yield kind, item
                    if time.monotonic() >= until:
                        return
            except _Gone:
                version = None
            except Unavailable:
                pass
            time.sleep(max(0.0, min(RETRY_S, until - time.monotonic())))

    def log(
        self, namespace: str, pod: str, *, follow: bool, tail: int | None, seconds: float
    ) -> Iterator[str]:
        """Lines of a pod's log; with `follow`, until the pod ends or `seconds` have passed without a line."""
        query = {"follow": "true"} if follow else {}
        if tail is not None:
            query["tailLines"] = str(tail)
        yield from self._lines(PODS.path(namespace, pod, "log"), query, seconds if follow else CALL_S)

    def of_pod(self, namespace: str, pod: str, port: int, path: str) -> str:
        """What a pod answers to a GET, through the API server."""
        proxied = f"{PODS.path(namespace, f'{pod}:{port}', 'proxy')}/{path}"
        response = self._send("GET", proxied, {}, None, None, CALL_S)
        with self._translated(proxied):
            return str(response.read().decode(errors="replace"))

    def _listed(self, resource: Resource, namespace: str | None, selector: str) -> tuple[Objects, str]:
        items: Objects = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = self._json("GET", resource.path(namespace), query=query)
            items += page["items"]
            metadata = page.get("metadata", {})
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    def _watched(
        self, resource: Resource, namespace: str, selector: str, version: str, seconds: float
    ) -> Iterator[tuple[str, Object]]:
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query["timeoutSeconds"] = str(max(1, int(seconds)))
        if selector:
            query["labelSelector"] = selector
        for line in self._lines(resource.path(namespace), query, seconds):
            if line:
                event = json.loads(line)
                yield event["type"], event["object"]

    def _lines(self, path: str, query: Mapping[str, str], read_s: float) -> Iterator[str]:
        """The body's lines as they come; ends with the body, or in silence after `read_s`."""
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        response = self._send("GET", path, query, None, None, read_s)
        try:
            rest = b""
            for chunk in response.response.stream(amt=None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")
        except ReadTimeoutError:
            return
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{self._host} broke off {path}: {error}") from None
        finally:
            response.response.close()

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str | None = None,
    ) -> Object:
        response = self._send(method, path, query or {}, body, content_type, CALL_S)
        with self._translated(path):
            return json.loads(response.read())  # type: ignore[no-any-return]  # JSON: any

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str | None,
        read_s: float,
    ) -> RESTResponse:
        headers = {"Accept": "application/json, */*;q=0.5"} | (
            {"Content-Type": content_type} if content_type else {}
        )
        method, url, headers, sent, *_ = self._api.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        if query:
            url = f"{url}?{urlencode(query)}"
        with self._translated(path):
            response = self._api.call_api(
                method, url, header_params=headers, body=sent, _request_timeout=(CONNECT_S, read_s)
            )
        if not 200 <= response.status < 300:
            with self._translated(path):
                raise _refusal(response.status, path, response.read())
        return response

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """urllib3's and the client's errors as ours."""
        from kubernetes.client.exceptions import OpenApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, OSError, OpenApiException) as error:
            raise Unavailable(f"the Kubernetes API at {self._host} does not answer {path}: {error}") from None
        except ValueError:
            raise Unavailable(f"{self._host} answered {path} with no JSON: is it a Kubernetes API?") from None

    @property
    def _host(self) -> str:
        return str(self._api.configuration.host)


class _Gone(ControlError):
    """410: the server has forgotten this resourceVersion."""


def _refusal(status: int, path: str, body: bytes | None) -> ControlError:
    try:
        message = json.loads(body or b"")["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}"
    match status:
        case 401:
            return Forbidden(
                f"the cluster does not know who asks: {message}; renew the kubeconfig's credentials"
            )
        case 403:
            return Forbidden(f"{message}; ask for a Role that allows it (docs/control-plane.md)")
        case 404:
            return NotFound(f"{path} is not there: {message}")
        case 409:
            return Conflict(message)
        case 410:
            return _Gone(message)
        case 429 | 500 | 502 | 503 | 504:
            return Unavailable(f"the Kubernetes API is busy or ill ({status}): {message}")
        case _:
            return Rejected(f"the Kubernetes API refused {path} ({status}): {message}")


def _pod_namespace() -> str:
    path = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _context_namespace(kubeconfig: str | None, context: str | None) -> str:
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(kubeconfig)
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return str((chosen or {}).get("context", {}).get("namespace") or "default")
