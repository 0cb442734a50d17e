"""`prepare` does what is missing, and only that; a stopped or damaged run never stands in the way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from redis import Redis

from features import build as build_module
from features.embedded import EmbeddedRedis
from features.feast_store import FeastOnlineStore
from features.marker import materialized, materialized_at
from features.prepare import EMBEDDED_MARKER, STATE_NAME, Prepared, PrepareError, Report, prepare, read_schema
from features.progress import silent
from features.store import OnlineStoreError
from tests.features.worlds import START, World, films, world_of


def write(home: Path, world: World, name: str = "films") -> Path:
    (home / "data").mkdir(parents=True, exist_ok=True)
    for table in ("interactions", "items", "users"):
        pq.write_table(getattr(world, table), home / "data" / f"{table}.parquet")
    (home / "data" / "dataset.json").write_text(name)
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return write(tmp_path / "home", films())


def run(home: Path, redis: str | None = None, force: bool = False) -> tuple[bool, bool]:
    report: Report = prepare(home, redis, force, silent)
    return report.built, report.materialized


def test_the_second_run_finds_all_done(home: Path, redis_url: str) -> None:
    assert run(home, redis_url) == (True, True)
    assert run(home, redis_url) == (False, False)
    assert run(home, redis_url, force=True) == (True, True)
    prepared = Prepared.read(home / "features")
    assert prepared is not None
    assert (prepared.users, prepared.items, prepared.events) == (13, 10, 120)
    assert prepared.schema == read_schema(home / "features").fingerprint() == films().schema.fingerprint()
    assert materialized(redis_url) == prepared.version


def test_every_run_says_when_the_rows_were_up_to_date(home: Path, redis_url: str) -> None:
    assert materialized_at(redis_url) is None
    moments = []
    for _ in range(2):
        began = time.time()
        run(home, redis_url)
        moments.append(materialized_at(redis_url))
        assert moments[-1] is not None
        assert began - 1e-3 <= moments[-1] <= time.time() + 1e-3
    assert moments[0] < moments[1], "also a run that finds all done"


def test_an_emptied_redis_is_filled_again_without_building(home: Path, redis_url: str) -> None:
    run(home, redis_url)
    with Redis.from_url(redis_url) as client:
        client.flushall()
    assert run(home, redis_url) == (False, True)


def test_other_data_is_built_anew(home: Path, redis_url: str) -> None:
    run(home, redis_url)
    write(home, world_of([("u0", "i0", 1.0, START)]), "other")
    assert run(home, redis_url) == (True, True)
    prepared = Prepared.read(home / "features")
    assert prepared is not None
    assert prepared.events == 1


async def test_the_embedded_server_is_started_only_to_write(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(home) == (True, True)
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedRedis, "__enter__", lambda self: pytest.fail("started for nothing"))
        assert run(home) == (False, False)
    with EmbeddedRedis(home / "redis") as server:
        store = FeastOnlineStore(read_schema(home / "features"), server.url, read_timeout_s=10.0)
        assert (await store.read_users(["u1"])).found.tolist() == [True]
        await store.close()


def test_an_embedded_server_that_lost_its_data_is_filled_again(home: Path) -> None:
    run(home)
    for part in (home / "redis" / "appendonlydir").iterdir():
        part.unlink()
    (home / "redis" / "appendonlydir").rmdir()
    assert run(home) == (False, True)


def test_stopped_while_writing_the_log_the_next_run_starts_over(
    home: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home, redis_url)
    write(home, world_of([("u0", "i0", 1.0, START)]), "other")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "write_logs", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(home, redis_url)
    assert not (home / "features" / STATE_NAME).exists()
    assert run(home, redis_url) == (True, True)


@pytest.mark.parametrize("damaged", ["schema.json", "features.json"])
@pytest.mark.parametrize("contents", [None, "", "{}", '{"format": 99}'])
def test_damaged_state_is_built_again(home: Path, redis_url: str, damaged: str, contents: str | None) -> None:
    run(home, redis_url)
    if contents is None:
        (home / "features" / damaged).unlink()
    else:
        (home / "features" / damaged).write_text(contents)
    assert run(home, redis_url) == (True, True)


def test_no_data_and_broken_data_say_what_to_run(home: Path, redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="run `marquee data`"):
        run(tmp_path / "nowhere", redis_url)
    assert not (tmp_path / "nowhere").exists()
    (home / "data" / "users.parquet").write_bytes(b"not parquet")
    with pytest.raises(PrepareError, match=r"users\.parquet.*marquee data --force") as caught:
        run(home, redis_url)
    assert "\n" not in str(caught.value)


def test_an_unreachable_redis_loses_nothing_that_was_built(
    home: Path, tmp_path: Path, redis_url: str
) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        gone = server.url
    with pytest.raises(OnlineStoreError, match="REDIS_URL"):
        run(home, gone)
    assert run(home, redis_url) == (False, True)
    assert not (home / "redis" / EMBEDDED_MARKER).exists()


def test_finding_all_done_imports_nothing_heavy(home: Path) -> None:
    run(home)
    code = (
        "import sys; from pathlib import Path; from features.prepare import prepare\n"
        f"prepare(Path({str(home)!r}), None, False, lambda *a: None)\n"
        "print([m for m in ('feast', 'pandas', 'pyarrow', 'dask') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
