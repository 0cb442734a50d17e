import json
import shutil
from pathlib import Path

import httpx
import pytest

from loadtests.bench import load
from loadtests.bench.load import GeneratorMissing, LoadError, from_wrk
from loadtests.bench.processes import Served

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
TOLD = {
    "requests": 500,
    "duration_us": 2_000_000,
    "p50_us": 1_500,
    "p90_us": 2_500,
    "p99_us": 9_000,
    "max_us": 9_999,
    "connect": 1,
    "read": 2,
    "write": 4,
    "timeout": 8,
    "status": 16,
}


def test_what_wrk_tells_is_read() -> None:
    found = from_wrk(json.dumps(TOLD))
    assert found == load.Load(250.0, 1.5, 2.5, 9.0, errors=15, non_2xx=16)


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"requests": 1}', json.dumps({**TOLD, "requests": 0})])
def test_no_figures_are_an_error(line: str) -> None:
    with pytest.raises(LoadError):
        from_wrk(line)


@needs_wrk
def test_a_closed_loop_sends_every_body(server: Served, bodies: Path) -> None:
    found = load.closed(f"{server.url}/closed", bodies, 64, 1)
    assert found.errors == found.non_2xx == 0
    assert found.requests_per_s > 0
    assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms
    seen = httpx.get(f"{server.url}/seen", trust_env=False).json()
    assert set(bodies.read_text().splitlines()) <= set(seen)


@needs_wrk
def test_a_closed_loop_counts_refusals(server: Served, bodies: Path) -> None:
    found = load.closed(f"{server.url}/bad", bodies, 1, 1)
    assert found.non_2xx > 0
    assert found.errors == 0


@needs_wrk
def test_a_server_that_is_not_there_is_an_error(bodies: Path) -> None:
    with pytest.raises(LoadError):
        load.closed("http://127.0.0.1:1/", bodies, 1, 1)


def test_without_wrk_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, bodies: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GeneratorMissing, match="apt-get install wrk"):
        load.closed("http://127.0.0.1:1/", bodies, 1, 1)
