"""An ingress replica, without Ray around it, follows one traffic after another."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.embedded import EmbeddedRedis
from serving.config import ServeConfig, ShadowConfig
from serving.deployments.ingress import Ingress
from tests.e2e.traffic import ADMIN, SWAP_S, entry
from training.manifest import BundleError

TOKEN = {"Authorization": "Bearer t"}


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, redis: EmbeddedRedis, tmp_path: Path) -> Path:
    """Of the traffic; not there yet."""
    made = tmp_path / "traffic.json"
    monkeypatch.setenv("REDIS_URL", redis.url)
    monkeypatch.setenv("MARQUEE_ADMIN_TOKEN", "t")
    monkeypatch.setenv("MARQUEE_TRAFFIC_FILE", str(made))
    return made


def _write(file: Path, *entries: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({"traffic": entries}), encoding="utf-8")


def replica(bundle: Path, **given: Any) -> tuple[Ingress, httpx.AsyncClient]:
    """And a client that calls it."""
    ingress = Ingress(ServeConfig(bundle=str(bundle), shadow=ShadowConfig(share=1), **given), {})
    transport = httpx.ASGITransport(ingress.__serve_build_asgi_app__())
    return ingress, httpx.AsyncClient(transport=transport, base_url="http://replica")


async def _put(client: httpx.AsyncClient, *entries: Mapping[str, Any]) -> httpx.Response:
    return await client.put(ADMIN, headers=TOKEN, json={"traffic": entries})


async def _serving(client: httpx.AsyncClient) -> list[tuple[str | None, int, str]]:
    """(version, weight, state) of each bundle that the replica was told of."""
    answer = await client.get(ADMIN, headers=TOKEN)
    return [(entry["version"], entry["weight"], entry["state"]) for entry in answer.json()["traffic"]]


async def _until(client: httpx.AsyncClient, metric: str) -> None:
    """Waits until this line is in the metrics."""
    deadline = time.monotonic() + SWAP_S
    while metric not in (found := (await client.get("/metrics")).text):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def test_a_good_bundle_is_swapped_in_and_an_altered_one_leaves_everything_as_it_is(
    file: Path, bundle_dir: Path, other_bundle: Path, altered_bundle: Path
) -> None:
    ingress, client = replica(bundle_dir)
    async with client:
        assert (await client.get("/readyz")).status_code == 503
        _write(file, entry(bundle_dir, 100))
        await ingress.reconfigure({})
        assert (await client.get("/readyz")).json()["version"] == bundle_dir.name

        assert (await _put(client, entry(bundle_dir, 70), entry(other_bundle, 30))).status_code == 202
        assert await _serving(client) == [(bundle_dir.name, 70, "serving"), (None, 30, "loading")]
        await _until(client, f'marquee_bundle_weight_ratio{{bundle="{other_bundle.name}",role="canary"}} 0.3')
        assert await _serving(client) == [
            (bundle_dir.name, 70, "serving"),
            (other_bundle.name, 30, "serving"),
        ]
        answered = [await _version(client, f"user-{i}") for i in range(60)]
        assert set(answered) == {bundle_dir.name, other_bundle.name}
        assert answered == [await _version(client, f"user-{i}") for i in range(60)]

        await _put(client, entry(other_bundle, 100), entry(altered_bundle))
        await _until(client, 'marquee_bundle_refused_total{reason="BundleError"} 1.0')
        assert [await _version(client, f"user-{i}") for i in range(60)] == answered
        assert (await _serving(client))[1] == (None, 0, "refused")

        _write(file)
        await _until(client, 'marquee_bundle_refused_total{reason="InvalidTraffic"} 1.0')
        assert [await _version(client, f"user-{i}") for i in range(60)] == answered

        await _put(client, entry(other_bundle, 100), entry(bundle_dir))
        await _until(client, f'marquee_bundle_weight_ratio{{bundle="{bundle_dir.name}",role="shadow"}} 0.0')
        for i in range(5):
            assert await _version(client, f"user-{i}") == other_bundle.name
            await ingress.settled()  # else the next copy could find too many running
        metrics = (await client.get("/metrics")).text
        shadowed = f'marquee_shadow_overlap_ratio_count{{bundle="{bundle_dir.name}"}}'
        assert f"{shadowed} 5.0" in metrics
        assert (
            f'marquee_shadow_overlap_ratio_sum{{bundle="{bundle_dir.name}"}} 5.0' in metrics
        )  # equal models
    await ingress.close()


@pytest.mark.usefixtures("file")
async def test_a_first_bundle_that_is_refused_ends_the_start_with_its_reason(altered_bundle: Path) -> None:
    ingress, client = replica(altered_bundle)
    async with client:
        with pytest.raises(BundleError, match="ranker"):
            await ingress.reconfigure({})
    await ingress.close()


@pytest.mark.usefixtures("file")
async def test_where_a_configured_file_holds_the_traffic_the_admin_endpoint_changes_none(
    bundle_dir: Path, tmp_path: Path
) -> None:
    ingress, client = replica(bundle_dir, traffic_file=str(tmp_path / "mounted" / "traffic.json"))
    async with client:
        await ingress.reconfigure({})
        assert (await _put(client, entry(bundle_dir, 100))).status_code == 409
    await ingress.close()


async def _version(client: httpx.AsyncClient, user_id: str) -> str:
    answer = await client.post("/v1/recommendations", json={"user_id": user_id})
    version: str = answer.json()["model"]["version"]
    return version
