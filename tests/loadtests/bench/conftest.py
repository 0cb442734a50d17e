"""A server to load: it answers every POST, says at /seen which bodies came, and refuses at /bad."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench.processes import Served, serving
from serving.local.ports import free_block

APPLICATION = """
import json

seen = set()

async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["method"] == "POST":
        headers = dict(scope["headers"])
        assert headers[b"content-type"] == b"application/json"
        seen.add(body.decode())
    answer = json.dumps(sorted(seen)).encode() if scope["path"] == "/seen" else b"{}"
    status = 503 if scope["path"] == "/bad" else 200
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("server"), free_block()[0]
    (folder / "answering.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "uvicorn", "answering:app", "--app-dir", folder, "--port", str(port)]
    with serving([*command, "--lifespan", "off"], {}, f"http://127.0.0.1:{port}/seen", 60) as served:
        yield served


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    path = tmp_path / "bodies.jsonl"
    path.write_text("".join(f'{{"user_id": "{number}"}}\n' for number in range(20)))
    return path
