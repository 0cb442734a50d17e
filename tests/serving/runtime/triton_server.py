"""A real Triton Inference Server over an exported model repository, from the wheel that brings its binary.

The wheel has the Python backend only: the repository is served as it is but for the backend's name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.bench.peers.environments import environment
from serving.local.ports import free_block
from serving.runtime.triton import TritonClient

START_S = 60
"""Seconds that the server has to load its models."""

BACKEND = Path(__file__).with_name("triton_backend.py")


def as_python(exported: Path, repository: Path) -> None:
    """The exported repository with its platform replaced by our backend in Python."""
    shutil.copytree(exported, repository)
    for config in repository.glob("*/config.pbtxt"):
        text = config.read_text()
        assert text.count('platform: "onnxruntime_onnx"') == 1
        config.write_text(text.replace('platform: "onnxruntime_onnx"', 'backend: "python"'))
        for model in config.parent.glob("*/model.onnx"):
            shutil.copy(BACKEND, model.with_name("model.py"))


@contextmanager
def served(exported: Path, scratch: Path) -> Iterator[str]:
    """The address of a server that has loaded every model.

    Raises:
        NoEnvironment: that of Triton cannot be made (`loadtests.bench.peers.environments`).
    """
    python = environment("triton", make=True)
    repository = scratch / "repository"
    as_python(exported, repository)
    site = next((python.parents[1] / "lib").glob("python*")) / "site-packages"
    server, version = site / "pytriton" / "tritonserver", site.parent.name.removeprefix("python")
    backends = scratch / "backends"
    shutil.copytree(server / "backends", backends)
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, backends / "python")
    port = free_block()[0]
    command = [
        server / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--log-info=false",
    ]
    environ = {
        **os.environ,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{_library_of(python)}",
    }
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        _wait(process, f"127.0.0.1:{port}", repository, scratch / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _library_of(python: Path) -> str:
    code = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _wait(process: subprocess.Popen[bytes], address: str, repository: Path, log: Path) -> None:
    versions = [path.parent for path in repository.glob("*/*/model.onnx")]
    client = TritonClient(address)
    try:
        until = time.monotonic() + START_S
        while not all(client.ready(path.parent.name, path.name, 1.0) for path in versions):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < until, log.read_text(errors="replace")
            time.sleep(0.2)
    finally:
        client.close()
