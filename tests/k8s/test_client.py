"""The API client over real HTTP: objects in and out, errors that say what to do, watches that survive."""

import socket
import threading
import time
from pathlib import Path

import pytest

from k8s import client
from k8s.client import CONFIG_MAPS, PODS, RAY_SERVICES, Cluster, Resource
from k8s.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from tests.k8s.apiserver import Served, kubeconfig


def config_map(name: str = "a", **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_an_object_goes_in_and_comes_out(kubernetes: Served) -> None:
    cluster = kubernetes.cluster()
    assert cluster.namespace == "prod"
    cluster.create(CONFIG_MAPS, "prod", config_map(key="1"))
    assert cluster.get(CONFIG_MAPS, "prod", "a")["data"] == {"key": "1"}
    cluster.patch(CONFIG_MAPS, "prod", "a", {"data": {"key": "2"}})
    assert [item["data"] for item in cluster.list(CONFIG_MAPS, "prod")] == [{"key": "2"}]
    cluster.delete(CONFIG_MAPS, "prod", "a")
    with pytest.raises(NotFound, match="configmaps/a"):
        cluster.get(CONFIG_MAPS, "prod", "a")


def test_an_old_resource_version_is_a_conflict(kubernetes: Served) -> None:
    cluster = kubernetes.cluster()
    cluster.create(CONFIG_MAPS, "prod", config_map(key="1"))
    read = cluster.get(CONFIG_MAPS, "prod", "a")["metadata"]["resourceVersion"]
    cluster.patch(CONFIG_MAPS, "prod", "a", {"data": {"key": "2"}})
    with pytest.raises(Conflict, match="modified"):
        cluster.patch(CONFIG_MAPS, "prod", "a", {"metadata": {"resourceVersion": read}, "data": {"key": "3"}})
    assert cluster.get(CONFIG_MAPS, "prod", "a")["data"] == {"key": "2"}
    with pytest.raises(Conflict):
        cluster.create(CONFIG_MAPS, "prod", config_map())


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (401, Forbidden, "credentials"),
        (403, Forbidden, "Role"),
        (422, Rejected, "refused"),
        (500, Unavailable, "busy or ill"),
    ],
)
def test_refusals_say_what_to_do(kubernetes: Served, status: int, error: type[Exception], word: str) -> None:
    body = {"kind": "Status", "message": "pods is forbidden"}
    kubernetes.api["get /api/v1/namespaces/prod/pods"] << status << body
    with pytest.raises(error, match=word) as caught:
        kubernetes.cluster().list(PODS, "prod")
    assert "pods is forbidden" in str(caught.value)


def test_no_kubeconfig_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unavailable, match="KUBECONFIG"):
        Cluster.connect(str(tmp_path / "missing"))


def test_no_server_says_where(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        Cluster.connect(str(kubeconfig(tmp_path / "k", "http://127.0.0.1:1"))).get(PODS, "prod", "a")


def test_a_silent_server_meets_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CALL_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match="does not answer"):
            Cluster.connect(str(kubeconfig(tmp_path / "k", url))).get(PODS, "prod", "a")


def test_pages_are_put_together(kubernetes: Served) -> None:
    path = "/api/v1/namespaces/prod/pods"

    def page(request: object) -> dict[str, object]:
        more = getattr(request, "params", {}).get("continue")
        if more:
            return {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]}
        return {"metadata": {"resourceVersion": "9", "continue": "x"}, "items": [{"metadata": {"name": "a"}}]}

    kubernetes.api[f"get {path}"] << page
    assert [pod["metadata"]["name"] for pod in kubernetes.cluster().list(PODS, "prod")] == ["a", "b"]


def test_paths_keep_to_their_place() -> None:
    assert RAY_SERVICES.path("prod", "a") == "/apis/ray.io/v1/namespaces/prod/rayservices/a"
    assert PODS.path("x/../y", "a", "log") == "/api/v1/namespaces/x%2F..%2Fy/pods/a/log"
    assert Resource("", "v1", "nodes", "Node").path(None) == "/api/v1/nodes"


class TestWatch:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.05)

    def changes(self, kubernetes: Served) -> threading.Thread:
        """Somebody creates a ConfigMap once a watch is open."""

        def change() -> None:
            until = time.monotonic() + 10
            while not kubernetes.api.watches and time.monotonic() < until:
                time.sleep(0.01)
            kubernetes.cluster().create(CONFIG_MAPS, "prod", config_map("new"))

        thread = threading.Thread(target=change)
        thread.start()
        return thread

    @pytest.mark.parametrize("trouble", ["none", "dropped", "gone"])
    def test_sees_what_happens(self, kubernetes: Served, trouble: str) -> None:
        kubernetes.api.drops = 1 if trouble == "dropped" else 0
        kubernetes.api.gone = 1 if trouble == "gone" else 0
        kubernetes.cluster().create(CONFIG_MAPS, "prod", config_map("old"))
        thread = self.changes(kubernetes)
        names = []
        for _, item in kubernetes.cluster().watch(CONFIG_MAPS, "prod", 10.0):
            names.append(item["metadata"]["name"])
            if names[-1] == "new":
                break
        thread.join()
        assert names[-1:] == ["new"]
        assert kubernetes.api.drops == kubernetes.api.gone == 0

    def test_ends_in_time_when_nothing_happens(self, kubernetes: Served) -> None:
        assert list(kubernetes.cluster().watch(CONFIG_MAPS, "prod", 0.3)) == []


def test_a_log_comes_line_by_line(kubernetes: Served) -> None:
    kubernetes.api["get /api/v1/namespaces/prod/pods/a/log"] << b"one\ntwo\nthree"
    lines = kubernetes.cluster().log("prod", "a", follow=False, tail=10, seconds=5)
    assert list(lines) == ["one", "two", "three"]
