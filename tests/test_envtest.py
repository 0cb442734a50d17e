"""The fixture itself, with stand-ins for etcd and the API server, which check how they are called.

They show that it starts, trusts, authenticates and ends the two as told. What real ones make of the flags,
only real ones show (tests/chart/test_api_server.py).
"""

import ssl
import stat
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from tests import envtest
from tests.envtest import NotStarted, api_server

ETCD = """
import http.server, sys
flags = dict(part.removeprefix("--").split("=", 1) for part in sys.argv[1:])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404); self.end_headers()
port = int(flags["listen-client-urls"].rsplit(":", 1)[1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
APISERVER = """
import csv, http.server, json, pathlib, ssl, sys, urllib.request
flags = dict(part.removeprefix("--").split("=", 1) for part in sys.argv[1:])
urllib.request.urlopen(flags["etcd-servers"] + "/health", timeout=10)
[[token, *_, group]] = csv.reader(open(flags["token-auth-file"]))
assert group == "system:masters"
crds = {}
ANSWERS = {
    "/readyz": {}, "/version": {"gitVersion": "v1.30.4"},
    "/apis/apps/v1": {"resources": [
        {"kind": "Deployment", "name": "deployments/status"}, {"kind": "Deployment", "name": "deployments"},
    ]},
    "/api/v1": {"resources": [{"kind": "Pod", "name": "pods"}]},
}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        if self.headers.get("Authorization") != "Bearer " + token:
            return self.answer(401, {})
        if self.path.startswith(CRDS + "/"):
            crds[self.path.rsplit("/", 1)[1]] += 1
            told = "True" if crds[self.path.rsplit("/", 1)[1]] > 2 else "False"
            return self.answer(200, {"status": {"conditions": [{"type": "Established", "status": told}]}})
        self.answer(200 if self.path in ANSWERS else 404, ANSWERS.get(self.path, {}))
    def do_POST(self):
        crd = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if crd["metadata"]["name"] == "too.new":
            return self.answer(422, {"message": "unknown rule"})
        if crd.get("spec") == {"default": "", "kept": "", "x-kubernetes-list-map-keys": ["a"]}:
            return self.answer(422, {"message": "not null"})
        assert crd.get("spec") in (None, {"kept": ""})
        crds[crd["metadata"]["name"]] = 0
        self.answer(201, {})
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(flags["secure-port"])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(flags["tls-cert-file"], flags["tls-private-key-file"])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    folder = tmp_path / "assets"
    folder.mkdir()
    for name, text in {"etcd": ETCD, "kube-apiserver": APISERVER}.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}{text}")
        path.chmod(0o755)
    return folder


def test_both_are_started_asked_and_ended(assets: Path, tmp_path: Path) -> None:
    with api_server(assets, tmp_path) as server:
        assert server.version() == (1, 30)
        assert server.collection("v1", "Pod", "mine") == "/api/v1/namespaces/mine/pods"
        assert (
            server.collection("apps/v1", "Deployment", "mine") == "/apis/apps/v1/namespaces/mine/deployments"
        )
        assert server.collection("apps/v1", "Newer", "mine") is None
        assert server.collection("newer/v1", "Deployment", "mine") is None
        url = server.url
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/readyz", verify=False)


def test_crds_are_waited_for_and_refusals_are_told(assets: Path, tmp_path: Path) -> None:
    crds = tmp_path / "crds"
    crds.mkdir()
    (crds / "both.yaml").write_text("metadata: {name: a.b}\n---\nmetadata: {name: too.new}\n")
    with api_server(assets, tmp_path) as server:
        assert server.apply_crds(crds) == {"too.new": "unknown rule"}


def test_a_crd_is_taken_without_what_an_old_server_misreads(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crds = tmp_path / "crds"
    crds.mkdir()
    spec = '{default: "", kept: "", x-kubernetes-list-map-keys: [a]}'
    (crds / "one.yaml").write_text(f"metadata: {{name: a.b}}\nspec: {spec}\n")
    with api_server(assets, tmp_path) as server:
        assert server.apply_crds(crds) == {}
    assert (
        "a.b, without its empty defaults, as this server refuses it whole: not null"
        in capsys.readouterr().out
    )


def test_its_administrator_is_who_has_the_kubeconfig(assets: Path, tmp_path: Path) -> None:
    with api_server(assets, tmp_path) as server:
        config = yaml.safe_load(server.kubeconfig.read_text())
        [cluster], [user] = config["clusters"], config["users"]
        assert cluster["cluster"]["server"] == server.url
        trust = ssl.create_default_context(cafile=cluster["cluster"]["certificate-authority"])
        assert httpx.get(f"{server.url}/version", verify=trust).status_code == 401
        headers = {"Authorization": f"Bearer {user['user']['token']}"}
        assert httpx.get(f"{server.url}/version", verify=trust, headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["kubeconfig", "apiserver.key", "tokens.csv"])
def test_what_is_secret_is_readable_by_its_owner_only(assets: Path, tmp_path: Path, name: str) -> None:
    with api_server(assets, tmp_path):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_one_that_ends_is_told_with_its_last_words(assets: Path, tmp_path: Path) -> None:
    (assets / "kube-apiserver").write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    with (
        pytest.raises(NotStarted, match=r"kube-apiserver ended\n(.|\n)*no such flag"),
        api_server(assets, tmp_path),
    ):
        pass


def test_one_that_is_not_there_is_named(assets: Path, tmp_path: Path) -> None:
    (assets / "etcd").unlink()
    with pytest.raises(NotStarted, match="etcd: No such file"), api_server(assets, tmp_path):
        pass


def test_one_that_stays_silent_is_given_up(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envtest, "START_S", 1.0)
    (assets / "etcd").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(NotStarted, match="etcd was not ready in time"), api_server(assets, tmp_path):
        pass
