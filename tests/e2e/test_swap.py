"""An ingress replica, without Ray around it, is given one bundle after another."""

import shutil
from pathlib import Path

import httpx
import pytest

from features.embedded import EmbeddedRedis
from serving.config import ServeConfig
from serving.deployments.ingress import Ingress
from training.bundle import read_bundle, write_bundle


@pytest.fixture
def other_bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """The same models under another version."""
    bundle = read_bundle(str(bundle_dir))
    return write_bundle(
        tmp_path / "bundles",
        schema=bundle.schema,
        catalogue=bundle.catalogue,
        components=bundle.components,
        model_card="another card",
        manifest=bundle.manifest,
    )


@pytest.fixture
def altered_bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    altered = tmp_path / "altered"
    shutil.copytree(bundle_dir, altered)
    with (altered / "ranker.safetensors").open("r+b") as file:
        file.write(b"\xff")
    return altered


async def test_a_good_bundle_is_swapped_in_and_an_altered_one_leaves_it_there(
    bundle_dir: Path,
    other_bundle: Path,
    altered_bundle: Path,
    redis: EmbeddedRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis.url)
    ingress = Ingress(ServeConfig(bundle=str(bundle_dir)))
    transport = httpx.ASGITransport(ingress.__serve_build_asgi_app__())
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:

        async def in_service() -> str | None:
            ready = await client.get("/readyz")
            return ready.json()["version"] if ready.is_success else None

        assert await in_service() is None
        await ingress.reconfigure({"bundle": str(bundle_dir)})
        assert await in_service() == bundle_dir.name

        await ingress.reconfigure({"bundle": str(other_bundle)})
        assert await in_service() == bundle_dir.name  # the old one, while the new one loads
        await ingress.settled()
        assert await in_service() == other_bundle.name

        await ingress.reconfigure({"bundle": str(altered_bundle)})
        await ingress.settled()
        assert await in_service() == other_bundle.name
        metrics = (await client.get("/metrics")).text
        assert 'marquee_degraded_total{reason="BundleError",stage="bundle"} 1.0' in metrics
        assert f'version="{other_bundle.name}"' in metrics
        answer = await client.post("/v1/recommendations", json={"user_id": "nobody"})
        assert answer.json()["model"]["version"] == other_bundle.name
    await ingress.close()
