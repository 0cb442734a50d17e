"""A Kubernetes API over real HTTP on loopback: kmock, and in front of it what kmock 0.8 leaves out and
a controller rests on: a resourceVersion that moves and is checked (409), generation, uid, and watches that
begin at a resourceVersion and end at their timeout.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import kmock
import yaml
from aiohttp import web
from kmock._internal import enums

from k8s.client import CONFIG_MAPS, PODS, RAY_SERVICES, Cluster, Object, Resource
from k8s.rollout import version_of
from serving.traffic.desired import Desired, InvalidTraffic

RAY = "ray.io/v1/rayservices"
START_S = 20.0


@attrs.define(kw_only=True)
class Api(kmock.KubernetesEmulator):
    """Attributes:
    drops: ends the next so many watches at once, as a load balancer in between may.
    gone: answers the next so many watches with 410.
    stall: (method, plural, "before" | "after"): the next such request gets no answer, with or without effect.
    stalled: it has come.
    pages: pod → what its exporter says instead of that its replica has what is wanted.
    """

    version: int = 1
    drops: int = 0
    gone: int = 0
    watches: int = 0
    stall: tuple[str, str, str] | None = None
    stalled: bool = False
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    pages: dict[str, str] = attrs.field(factory=dict)

    async def _handle(self, request: kmock.Request) -> Any:
        path = str(request.url.path)
        if asked := re.fullmatch(r"/api/v1/namespaces/(.+)/pods/(.+):9464/proxy/metrics", path):
            return self._report(*asked.groups())
        self.asked.append((request.method.value if request.method else "", path))
        if self.stall is None or not self._is(request, *self.stall[:2]):
            return await self._answer(request)
        (_, _, when), self.stall = self.stall, None
        if when == "after":
            await self._answer(request)
        self.stalled = True
        while self.stalled:  # noqa: ASYNC110 - cleared by another thread
            await asyncio.sleep(0.02)
        raise ConnectionResetError

    def _report(self, namespace: str, pod: str) -> Any:
        """What the replicas of a pod say: as a rule that they have taken what is wanted."""
        if pod in self.pages:
            text = self.pages[pod]
            return web.Response(text=text, status=200 if text else 503)
        name = f"{pod.partition('-worker')[0]}-traffic"
        try:
            kept = self.objects["v1/configmaps", namespace, name]
        except KeyError:
            return web.Response(text=page("1", [], {}, "no bundle yet"))
        try:
            traffic = Desired.parse(kept.raw["data"]["traffic.json"]).traffic.wire()
        except InvalidTraffic as error:
            return web.Response(text=page("1", [], {"": str(error).replace('"', "'")}))
        return web.Response(text=page("1", traffic, {}))

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
        selector = _selector(str(request.params.get("labelSelector") or ""))
        items = [one for one in answer["items"] if selector(one["metadata"].get("labels", {}))]
        return answer | {"items": items, "metadata": {"resourceVersion": str(self.version)}}

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


def _selector(text: str) -> Callable[[dict[str, str]], bool]:
    """`a=b`, `a in (b,c)` and `a`, joined by commas, which kmock leaves out."""
    wanted = re.findall(r"([^\s,=()]+)(?:=([^,]*)| in \(([^)]*)\))?", text)

    def chosen(labels: dict[str, str]) -> bool:
        return all(
            key in labels and (not (one or many) or labels[key] in (many.split(",") if many else [one]))
            for key, one, many in wanted
        )

    return chosen


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
        for resource in ("v1/configmaps", "v1/pods", "v1/nodes", "batch/v1/jobs", "events.k8s.io/v1/events"):
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


def ray_service(*, name: str = "marquee", cluster: str = "marquee-abc", pending: str = "") -> Object:
    """A RayService as KubeRay leaves it: one cluster serves, another may be on its way."""
    status = {"activeServiceStatus": {"rayClusterName": cluster}}
    if pending:
        status["pendingServiceStatus"] = {"rayClusterName": pending}
    return {
        "apiVersion": RAY_SERVICES.api_version,
        "kind": RAY_SERVICES.kind,
        "metadata": {"name": name},
        "spec": {"serveConfigV2": "applications: []"},
        "status": status,
    }


def worker(cluster: str = "marquee-abc", *, group: str = "cpu", ready: bool = True) -> Object:
    """A running pod in which replicas may be."""
    labels = {"ray.io/cluster": cluster, "ray.io/node-type": "worker", "ray.io/group": group}
    return {
        "metadata": {"labels": labels},
        "spec": {"nodeName": "n", "containers": [{}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def wanted(*traffic: dict[str, Any], revision: int = 1) -> Object:
    """The data of a traffic object."""
    return {"data": {"traffic.json": json.dumps({"revision": revision, "traffic": list(traffic)})}}


def serving(kubernetes: Served, *traffic: dict[str, Any], name: str = "marquee", pods: int = 1) -> None:
    """A service with this traffic, in an object of its own, and workers whose replicas have taken it."""
    kubernetes.put(RAY_SERVICES, name, ray_service(name=name))
    kubernetes.put(CONFIG_MAPS, f"{name}-traffic", wanted(*traffic))
    for number in range(pods):
        kubernetes.put(PODS, f"{name}-worker-{number}", worker())


def page(replica: str, traffic: list[dict[str, Any]], refused: dict[str, str], waiting: str = "") -> str:
    """What a pod's exporter says of one replica (`serving.traffic.standing`)."""
    lines = []
    for at, entry in enumerate(traffic):
        role = "shadow" if entry.get("shadow") else "canary" if at else "production"
        labels = f'url="{entry["bundle"]}",bundle="{version_of(entry["bundle"])}",role="{role}"'
        share = entry.get("weight", 0) / 100
        lines.append(f'marquee_traffic_ratio{{{labels},replica="{replica}"}} {share}')
    lines += [
        f'marquee_traffic_refused{{url="{url}",reason="{reason}",replica="{replica}"}} 1'
        for url, reason in refused.items()
    ]
    if waiting:
        lines.append(f'marquee_traffic_waiting{{reason="{waiting}",replica="{replica}"}} 1')
    return "\n".join([*lines, ""])
