"""A Kubernetes API over real HTTP on loopback: kmock, and in front of it what kmock 0.8 leaves out and
a controller rests on: a resourceVersion that moves and is checked (409), generation, uid, and watches that
begin at a resourceVersion and end at their timeout.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import kmock
import yaml
from kmock._internal import enums

from k8s.client import RAY_SERVICES, Cluster, Object, Resource

RAY = "ray.io/v1/rayservices"
START_S = 20.0


@attrs.define(kw_only=True)
class Api(kmock.KubernetesEmulator):
    """Attributes:
    drops: ends the next so many watches at once, as a load balancer in between may.
    gone: answers the next so many watches with 410.
    stall: (method, plural, "before" | "after"): the next such request gets no answer, with or without effect.
    stalled: it has come.
    """

    version: int = 1
    drops: int = 0
    gone: int = 0
    watches: int = 0
    stall: tuple[str, str, str] | None = None
    stalled: bool = False
    asked: list[tuple[str, str]] = attrs.field(factory=list)

    async def _handle(self, request: kmock.Request) -> Any:
        self.asked.append((request.method.value if request.method else "", str(request.url.path)))
        if self.stall is None or not self._is(request, *self.stall[:2]):
            return await self._answer(request)
        (_, _, when), self.stall = self.stall, None
        if when == "after":
            await self._answer(request)
        self.stalled = True
        while self.stalled:  # noqa: ASYNC110 - cleared by another thread
            await asyncio.sleep(0.02)
        raise ConnectionResetError

    def _is(self, request: kmock.Request, method: str, plural: str) -> bool:
        given = request.method.value if request.method else ""
        return (given, request.resource.plural if request.resource is not None else None) == (method, plural)

    async def _answer(self, request: kmock.Request) -> Any:
        try:
            self._check(request)
        except kmock.KubernetesError as error:
            return await self._render_error(error)
        return await super()._handle(request)

    def _check(self, request: kmock.Request) -> None:
        action, resource = request.action, request.resource
        if resource is None or action not in (enums.action.CREATE, enums.action.UPDATE):
            return
        metadata = request.data.setdefault("metadata", {})
        self.version += 1
        if action is enums.action.CREATE:
            metadata["namespace"] = metadata.get("namespace") or request.namespace
            key = (resource, metadata["namespace"], metadata["name"])
            if key in self.objects and not self.objects[key].deleted:
                raise kmock.KubernetesError(status=409, reason="AlreadyExists", message="it exists")
            metadata |= {"resourceVersion": str(self.version), "uid": f"uid-{self.version}", "generation": 1}
            return
        key = (resource, request.namespace, request.name)
        if key not in self.objects or self.objects[key].deleted:
            return
        known = self.objects[key].raw["metadata"]
        if metadata.get("resourceVersion", known["resourceVersion"]) != known["resourceVersion"]:
            text = "the object has been modified; apply your changes to the latest version"
            raise kmock.KubernetesError(status=409, reason="Conflict", message=text)
        metadata |= {"resourceVersion": str(self.version)}
        if "spec" in request.data:
            metadata["generation"] = known.get("generation", 1) + 1

    async def _serve_list(self, request: kmock.Request) -> Any:
        answer = await super()._serve_list(request)
        return answer | {"metadata": {"resourceVersion": str(self.version)}}

    async def _serve_watch(self, request: kmock.Request) -> AsyncIterator[Any]:
        self.watches += 1
        yield b""
        if self.gone:
            self.gone -= 1
            status = {"kind": "Status", "code": 410, "reason": "Expired", "metadata": {}}
            yield {"type": "ERROR", "object": status}
            return
        if self.drops:
            self.drops -= 1
            return
        since = int(request.params.get("resourceVersion") or 0)
        until = time.monotonic() + float(request.params.get("timeoutSeconds") or 60)
        while (now := time.monotonic()) < until:
            for (resource, namespace, _), item in list(self.objects.items()):
                if resource == request.resource and namespace == request.namespace and not item.deleted:
                    version = int(item.raw["metadata"]["resourceVersion"])
                    if version > since:
                        since = version
                        yield {"type": "MODIFIED", "object": item.raw}
            await asyncio.sleep(min(0.02, until - now))


@attrs.frozen
class Served:
    """A running server."""

    api: Api
    url: str
    kubeconfig: Path

    def cluster(self) -> Cluster:
        return Cluster.connect(str(self.kubeconfig))

    def put(self, resource: Resource, name: str, body: Object, namespace: str = "prod") -> None:
        """Creates it, as somebody else would."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind} | body
        whole["metadata"] = {"name": name, **body.get("metadata", {})}
        self.cluster().create(resource, namespace, whole)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """One on a free port, in a thread of its own, until the block ends."""
    started, ending = threading.Event(), threading.Event()
    found: list[Served] = []

    async def run() -> None:
        api = Api()
        for resource in ("ray.io/v1/rayservices", "ray.io/v1/rayclusters", "ray.io/v1/rayjobs"):
            api.resources[resource] = kmock.ResourceInfo()
        for resource in ("v1/configmaps", "v1/pods", "v1/nodes", "events.k8s.io/v1/events"):
            api.resources[resource] = kmock.ResourceInfo()
        async with api, kmock.Server(api) as server:
            url = str(server.url).rstrip("/")
            found.append(Served(api, url, kubeconfig(folder / "kubeconfig", url)))
            started.set()
            while not ending.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(START_S), "kmock does not start"
    try:
        yield found[0]
    finally:
        ending.set()
        thread.join(START_S)


def kubeconfig(path: Path, url: str, namespace: str = "prod") -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}
        ],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def ray_service(*traffic: dict[str, Any], name: str = "marquee") -> Object:
    """A RayService whose two deployments have this traffic, as Helm would write it."""
    user_config = {"traffic": list(traffic)}
    deployments = [{"name": one, "user_config": user_config} for one in ("Ingress", "Ranker")]
    application = {"name": "marquee", "import_path": "serving.app:build", "deployments": deployments}
    text = "# the application\n" + yaml.dump({"applications": [application]}, Dumper=_Plain)
    return {
        "apiVersion": RAY_SERVICES.api_version,
        "kind": RAY_SERVICES.kind,
        "metadata": {"name": name},
        "spec": {"serveConfigV2": text},
    }


class _Plain(yaml.SafeDumper):
    """Without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
