"""An ingress replica, without Ray around it, is given one traffic after another."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from features.embedded import EmbeddedRedis
from serving.config import ServeConfig, ShadowConfig
from serving.deployments.ingress import Ingress


def user_config(*entries: tuple[Path, int]) -> dict[str, Any]:
    """A weight of 0 makes a shadow."""
    return {
        "traffic": [
            {"bundle": str(b), "weight": w} if w else {"bundle": str(b), "shadow": True} for b, w in entries
        ]
    }


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch, redis: EmbeddedRedis) -> None:
    monkeypatch.setenv("REDIS_URL", redis.url)
    monkeypatch.setenv("MARQUEE_ADMIN_TOKEN", "t")


async def _serving(client: httpx.AsyncClient) -> list[tuple[str | None, int, str]]:
    """(version, weight, state) of each bundle that the replica was told of."""
    answer = await client.get("/v1/admin/traffic", headers={"Authorization": "Bearer t"})
    return [(entry["version"], entry["weight"], entry["state"]) for entry in answer.json()["traffic"]]


@pytest.mark.usefixtures("asked_for")
async def test_a_good_bundle_is_swapped_in_and_an_altered_one_leaves_everything_as_it_is(
    bundle_dir: Path, other_bundle: Path, altered_bundle: Path
) -> None:
    ingress = Ingress(ServeConfig(bundle=str(bundle_dir), shadow=ShadowConfig(share=1)), {})
    transport = httpx.ASGITransport(ingress.__serve_build_asgi_app__())
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        assert (await client.get("/readyz")).status_code == 503
        await ingress.reconfigure(user_config((bundle_dir, 100)))
        assert (await client.get("/readyz")).json()["version"] == bundle_dir.name

        await ingress.reconfigure(user_config((bundle_dir, 70), (other_bundle, 30)))
        assert await _serving(client) == [(bundle_dir.name, 70, "serving"), (None, 30, "loading")]
        await ingress.settled()
        assert await _serving(client) == [
            (bundle_dir.name, 70, "serving"),
            (other_bundle.name, 30, "serving"),
        ]
        answered = [await _version(client, f"user-{i}") for i in range(60)]
        assert set(answered) == {bundle_dir.name, other_bundle.name}
        assert answered == [await _version(client, f"user-{i}") for i in range(60)]

        await ingress.reconfigure(user_config((other_bundle, 100), (altered_bundle, 0)))
        await ingress.settled()
        assert [await _version(client, f"user-{i}") for i in range(60)] == answered
        assert (await _serving(client))[1] == (None, 0, "refused")
        metrics = (await client.get("/metrics")).text
        assert 'marquee_bundle_refused_total{reason="BundleError"} 1.0' in metrics

        await ingress.reconfigure({"traffic": []})  # must not raise: Serve would end the replica
        await ingress.reconfigure(user_config((other_bundle, 100), (bundle_dir, 0)))
        await ingress.settled()
        for i in range(5):
            assert await _version(client, f"user-{i}") == other_bundle.name
            await ingress.settled()  # else the next copy could find too many running
        metrics = (await client.get("/metrics")).text
        assert 'marquee_bundle_refused_total{reason="ValidationError"} 1.0' in metrics
        shadowed = f'marquee_shadow_overlap_ratio_count{{bundle="{bundle_dir.name}"}}'
        assert f"{shadowed} 5.0" in metrics
        assert (
            f'marquee_shadow_overlap_ratio_sum{{bundle="{bundle_dir.name}"}} 5.0' in metrics
        )  # equal models
    await ingress.close()


async def _version(client: httpx.AsyncClient, user_id: str) -> str:
    answer = await client.post("/v1/recommendations", json={"user_id": user_id})
    version: str = answer.json()["model"]["version"]
    return version
