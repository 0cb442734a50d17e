"""A Triton Inference Server with the bundle's ranker, from the wheel that brings the server's binary.

Runs in an environment of its own (`requirements-triton.txt`), hence the standard library and numpy alone.

    python triton_server.py --repository DIR --http PORT
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
from pathlib import Path

MODEL = "ranker"

CONFIG = """name: "{model}"
backend: "python"
max_batch_size: 0
input [{{ name: "rows" data_type: TYPE_FP32 dims: [-1, {features}] }}]
output [{{ name: "scores" data_type: TYPE_FP32 dims: [-1] }}]
instance_group [{{ kind: KIND_CPU count: {instances} }}]
"""


def config(features: int, instances: int) -> str:
    """`config.pbtxt`: requests are not batched, as a request already carries all its candidates."""
    return CONFIG.format(model=MODEL, features=features, instances=instances)


def main() -> None:
    parser = argparse.ArgumentParser(description="Triton with the ranker.")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--http", type=int, required=True)
    given = parser.parse_args()
    server = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"
    backends = _backends(server, given.repository.parent / "backends")
    binary = server / "bin" / "tritonserver"
    libraries = Path(sysconfig.get_path("purelib")) / "nvidia_pytriton.libs"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "LD_LIBRARY_PATH": f"{libraries}:{sysconfig.get_config_var('LIBDIR')}",
    }
    os.execve(binary, [str(binary), *_arguments(given.repository, backends, given.http)], environment)


def _arguments(repository: Path, backends: Path, port: int) -> list[str]:
    return [
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-info=false",
    ]


def _backends(server: Path, copy: Path) -> Path:
    """The backends, with the stub for this Python where Triton looks for it."""
    shutil.copytree(server / "backends", copy, dirs_exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(server / "python_backend_stubs" / version / "triton_python_backend_stub", copy / "python")
    return copy


if __name__ == "__main__":
    main()
