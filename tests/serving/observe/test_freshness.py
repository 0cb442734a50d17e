from __future__ import annotations

import time

import pytest

from features import marker
from features.embedded import EmbeddedRedis
from features.store import OnlineStoreError
from serving.observe import freshness
from serving.observe.prometheus import PrometheusRecorder
from tests.serving.observe.test_prometheus import samples


class Looks:
    def __init__(self) -> None:
        self.seen: list[tuple[bool, float | None]] = []

    def online_store(self, up: bool, materialized_at: float | None) -> None:
        self.seen.append((up, materialized_at))


async def looked(monkeypatch, *answers) -> list[tuple[bool, float | None]]:
    """What is recorded of the answers, in order."""
    queue = list(answers)

    def look(url: str) -> float | None:
        assert url == "redis://here"
        answer = queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(freshness, "materialized_at", look)
    looks = Looks()
    with pytest.raises(IndexError):  # nothing left to answer ends it
        await freshness.watch("redis://here", looks, period_s=0)
    return looks.seen


async def test_an_outage_is_seen_and_said_once(monkeypatch, caplog):
    down = OnlineStoreError("down")
    seen = await looked(monkeypatch, 5.0, down, down, 6.0, None, OnlineStoreError("end"))
    assert seen == [(True, 5.0), (False, None), (False, None), (True, 6.0), (True, None), (False, None)]
    assert caplog.text.count("does not answer: down") == 1


def test_what_was_materialised_stays_known_while_the_store_is_down():
    recorder = PrometheusRecorder()
    recorder.online_store(True, 1e9)
    recorder.online_store(False, None)
    found = samples(recorder)
    assert found["marquee_online_store_up"] == 0
    assert found["marquee_materialized_timestamp_seconds"] == 1e9


def test_the_moment_is_kept_in_redis(redis_url):
    assert marker.materialized_at(redis_url) is None
    now = time.time()
    marker.up_to_date(redis_url, now)
    assert marker.materialized_at(redis_url) == pytest.approx(now, abs=1e-3)


@pytest.fixture
def redis_url(tmp_path):
    with EmbeddedRedis(tmp_path) as server:
        yield server.url
