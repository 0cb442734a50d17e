"""A real Prometheus over targets of this machine, with the chart's rules, for as long as a block lasts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from serving.local.ports import free_block
from tests.observability.answers import CHART

START_S = 60.0
"""Seconds until it is ready; a bound, not an expectation."""


def need_prometheus() -> str:
    """Its path; skips the test where there is none."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("needs a Prometheus (Debian: prometheus)")
    return found


@contextmanager
def prometheus(folder: Path, jobs: Mapping[str, str]) -> Iterator[str]:
    """Scrapes every second; job → "host:port" or "host:port/path". Yields its URL."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path.resolve()) for path in sorted((CHART / "rules").glob("*.yaml"))],
        "scrape_configs": [
            {
                "job_name": job,
                "metrics_path": f"/{target.partition('/')[2] or 'metrics'}",
                "static_configs": [{"targets": [target.partition("/")[0]]}],
            }
            for job, target in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_block()[0]}"
    command = [
        need_prometheus(),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(f"http://{address}", process, folder / "log")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"Prometheus did not start: {log.read_text()[-2_000:]}")
