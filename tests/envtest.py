"""A real Kubernetes API server for tests: etcd and kube-apiserver on free ports of the loopback.

`KUBEBUILDER_ASSETS` names the folder with the two, as it does for controller-runtime's envtest:

    with api_server(Path(os.environ["KUBEBUILDER_ASSETS"]), tmp_path) as server:
        server.apply_crds(crds)
        subprocess.run(["helm", "install", ..., "--kubeconfig", server.kubeconfig])

There are no nodes and no controllers: what is created stays as it is, no pod starts, and a deleted namespace
stays "Terminating". Does not belong here: what is tested with it.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

START_S = 120.0
"""Seconds for one of the two to be ready: a few on a quiet machine."""
STOP_S = 20.0
"""Seconds from SIGTERM to SIGKILL."""
CALL_S = 30.0
"""Seconds for one answer of the API."""
POLL_S = 0.2
HOST = "127.0.0.1"
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""KubeRay's CRDs have 5 MB, for which the loader in Python takes half a minute."""
LISTS_BY_KEY = frozenset({"x-kubernetes-list-type", "x-kubernetes-list-map-keys"})
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class NotStarted(Exception):
    """etcd or the API server ended or stayed silent; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """Attributes:
    url: https://127.0.0.1:PORT
    kubeconfig: a file with everything needed to be its administrator.
    http: a client that is, with a deadline for each call.
    """

    url: str
    kubeconfig: Path
    http: httpx.Client

    def version(self) -> tuple[int, int]:
        """Major and minor, as in (1, 30); of the one version that every build of a server states."""
        said = self.http.get("/version").raise_for_status().json()["gitVersion"]
        major, minor, *_ = said.removeprefix("v").split(".")
        return int(major), int(minor)

    def collection(self, api_version: str, kind: str, namespace: str) -> str | None:
        """The path at which objects of a kind are made; None where it has no such kind, as an old server."""
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        answer = self.http.get(base)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        kinds = answer.raise_for_status().json()["resources"]
        plural = [each["name"] for each in kinds if each["kind"] == kind and "/" not in each["name"]]
        return f"{base}/namespaces/{namespace}/{plural[0]}" if plural else None

    def apply_crds(self, folder: Path) -> dict[str, str]:
        """Creates the CRDs of a folder's *.yaml, and waits until they are served.

        Returns: the name of each that the server refuses → why. An old one does not know newer rules.
        """
        refused: dict[str, str] = {}
        for file in sorted(folder.glob("*.yaml")):
            for crd in filter(None, yaml.load_all(file.read_text(), Loader=LOADER)):
                name = crd["metadata"]["name"]
                if why := self._refusal(crd):
                    print(f"{name}, without its empty defaults, as this server refuses it whole: {why[:200]}")
                    why = self._refusal(_without_empty_defaults(crd))
                if why:
                    refused[name] = why
                else:
                    _until(partial(self._established, name), f"CRD {name}")
        return refused

    def _refusal(self, crd: dict[str, Any]) -> str | None:
        """None: it is there."""
        answer = self.http.post(CRDS, json=crd)
        if answer.status_code in {400, 422}:
            return str(answer.json()["message"])
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
        return None

    def _established(self, crd: str) -> bool:
        status = self.http.get(f"{CRDS}/{crd}").raise_for_status().json().get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions") or []}
        return conditions.get("Established") == "True"


def _without_empty_defaults(schema: Any) -> Any:
    """Kubernetes 1.20 reads a default of "" as null, and refuses it; and list keys that have no default."""
    if isinstance(schema, dict):
        kept = {
            name: value
            for name, value in schema.items()
            if (name, value) != ("default", "") and name not in LISTS_BY_KEY
        }
        return {name: _without_empty_defaults(value) for name, value in kept.items()}
    if isinstance(schema, list):
        return [_without_empty_defaults(each) for each in schema]
    return schema


@contextmanager
def api_server(assets: Path, folder: Path) -> Iterator[Server]:
    """Starts both and ends them; everything they write, logs included, is in `folder`.

    Raises:
        NotStarted: one of them is not there, ended, or was not ready in time.
    """
    with ExitStack() as stack:
        ports = [stack.enter_context(_reserved()) for _ in range(3)]
        numbers = [port.getsockname()[1] for port in ports]
        certificate, key = self_signed(folder)
        token = secrets.token_hex(32)
        _private(folder / "tokens.csv", f'{token},admin,admin,"system:masters"\n')
        for port in ports:
            port.close()  # as late as can be: what takes it next is the one it is for
        etcd = f"http://{HOST}:{numbers[0]}"
        stack.enter_context(_etcd(assets, folder, etcd, f"http://{HOST}:{numbers[1]}"))
        stack.enter_context(_apiserver(assets, folder, etcd, numbers[2], certificate, key, token))
        url = f"https://{HOST}:{numbers[2]}"
        kubeconfig = _kubeconfig(folder, url, certificate, token)
        yield Server(url, kubeconfig, stack.enter_context(_client(url, certificate, token)))


@contextmanager
def _etcd(assets: Path, folder: Path, url: str, peer: str) -> Iterator[None]:
    command = [
        assets / "etcd", "--name=default", f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]  # fmt: skip
    with _process(command, folder / "etcd.log", lambda: _healthy(url)):
        yield


@contextmanager
def _apiserver(
    assets: Path, folder: Path, etcd: str, port: int, certificate: Path, key: Path, token: str
) -> Iterator[None]:
    command = [
        assets / "kube-apiserver", f"--etcd-servers={etcd}",
        f"--bind-address={HOST}", f"--advertise-address={HOST}", f"--secure-port={port}",
        f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--cert-dir={folder}",
        f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true",
        # Its controller, which makes the accounts it asks for, does not run here.
        "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip
    with (
        _client(f"https://{HOST}:{port}", certificate, token) as client,
        _process(command, folder / "kube-apiserver.log", lambda: client.get("/readyz").is_success),
    ):
        yield


@contextmanager
def _process(command: list[Any], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    name = Path(command[0]).name
    with log.open("wb") as output:
        try:
            running = subprocess.Popen(
                [str(part) for part in command], stdout=output, stderr=output, cwd=log.parent
            )
        except OSError as error:
            raise NotStarted(f"{name}: {error.strerror}: {error.filename}") from error
        try:
            _until(ready, name, running, log)
            yield
        finally:
            running.terminate()
            try:
                running.wait(STOP_S)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def _until(
    ready: Callable[[], bool],
    what: str,
    running: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if running is not None and running.poll() is not None:
            break
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    said = "" if log is None else "\n" + log.read_text(errors="replace")[-2_000:]
    how = "was not ready in time" if running is None or running.poll() is None else "ended"
    raise NotStarted(f"{what} {how}{said}")


def _healthy(url: str) -> bool:
    return httpx.get(f"{url}/health", timeout=CALL_S, trust_env=False).is_success


def _reserved() -> closing[socket.socket]:
    """A free port of the loopback, held until it is closed."""
    held = socket.socket()
    held.bind((HOST, 0))
    return closing(held)


def _client(url: str, certificate: Path, token: str) -> httpx.Client:
    trust = ssl.create_default_context(cafile=certificate)
    return httpx.Client(
        base_url=url,
        verify=trust,
        timeout=CALL_S,
        trust_env=False,
        headers={"Authorization": f"Bearer {token}"},
    )


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of the loopback, signed by itself, and its key, which also signs accounts' tokens."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_encipherment=True, key_cert_sign=True, crl_sign=True,
                content_commitment=False, data_encipherment=False, key_agreement=False,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
            ),
            critical=False,
        )
    )  # fmt: skip
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    certificate, private = folder / "apiserver.crt", folder / "apiserver.key"
    certificate.write_bytes(pem)
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    _private(private, encoded.decode())
    return certificate, private


def _kubeconfig(folder: Path, url: str, certificate: Path, token: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "envtest",
        "clusters": [
            {"name": "envtest", "cluster": {"server": url, "certificate-authority": str(certificate)}}
        ],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "envtest", "context": {"cluster": "envtest", "user": "admin"}}],
    }
    path = folder / "kubeconfig"
    _private(path, json.dumps(config))  # JSON is YAML
    return path


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
