"""A replica follows a file: it takes what is new, keeps what it has whatever else stands there, and says what
it waits for and what it refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import Traffic, TrafficEntry
from serving.traffic import following
from serving.traffic.desired import IN_SERVICE, REFUSED, WAITING, Desired, InvalidTraffic
from serving.traffic.following import Follower
from serving.traffic.standing import Standing
from serving.traffic.table import InService


@dataclass(frozen=True)
class Held:
    version: str


@dataclass
class Loader:
    """Loads "<version>" from "<place>/<version>", unless it is missing."""

    missing: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, url: str) -> Held:
        self.asked.append(url)
        if url in self.missing:
            raise FileNotFoundError(f"{url} is not there")
        return Held(url.rpartition("/")[2])


@dataclass
class World:
    """A replica, and the file that it follows."""

    path: Path
    loader: Loader = field(default_factory=Loader)
    first: Traffic | None = None
    now: float = 0.0
    patient: bool = True
    refusals: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.service: InService[Held] = InService(self.loader, refused=self.refusals.append)
        self.follower = Follower(
            self.path, self.service, self.first, patient=self.patient, clock=lambda: self.now
        )

    async def look(self, text: str | bytes | None) -> None:
        """What the follower sees when the file has this content, and what follows."""
        self.follower.look(text.encode() if isinstance(text, str) else text)
        await self.service.settled()
        self.follower.look(text.encode() if isinstance(text, str) else text)

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        families = Standing(self.service, self.follower).collect()
        return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]


def text(*weights: int, revision: int = 1, place: str = "/b") -> str:
    entries = [TrafficEntry(bundle=f"{place}/v{at}", weight=weight) for at, weight in enumerate(weights, 1)]
    return Desired(Traffic(traffic=tuple(entries)), revision).to_json()


def world(first: str | None = None, missing: set[str] | None = None) -> World:
    traffic = None if first is None else Traffic.of(first)
    return World(Path("/etc/marquee-traffic/traffic.json"), Loader(missing or set()), traffic)


async def test_what_the_file_says_comes_into_service_and_so_does_what_is_new() -> None:
    here = world()
    await here.look(text(100))
    assert here.service.table is not None
    assert here.service.table.traffic == Traffic.of("/b/v1")
    await here.look(text(80, 20, revision=2))
    assert here.samples(IN_SERVICE) == [
        ({"url": "/b/v1", "bundle": "v1", "role": "production"}, 0.8),
        ({"url": "/b/v2", "bundle": "v2", "role": "canary"}, 0.2),
    ]
    assert here.samples(REFUSED) == here.samples(WAITING) == []


@given(st.none() | st.binary(max_size=80) | st.sampled_from(['{"traffic": []}', "{}", "null", "[1]"]))
def test_nothing_that_stands_there_takes_away_what_is_in_service(content: bytes | str | None) -> None:
    async def scenario() -> None:
        here = world()
        await here.look(text(80, 20))
        before = here.service.table
        await here.look(content)
        assert here.service.table is before
        assert [type(error) for error in here.refusals] == [InvalidTraffic] * (content is not None)
        assert len(here.samples(REFUSED)) == (content is not None)
        await here.look(text(50, 50))
        assert here.service.table is not None
        assert here.service.table.traffic.traffic[1].weight == 50
        assert here.samples(REFUSED) == []

    asyncio.run(scenario())


async def test_a_bundle_that_is_refused_is_named_with_its_reason_and_the_old_table_stays() -> None:
    here = world(missing={"/b/v2"})
    await here.look(text(100))
    await here.look(text(80, 20))
    assert here.samples(REFUSED) == [({"url": "/b/v2", "reason": "/b/v2 is not there"}, 1)]
    assert here.samples(IN_SERVICE) == [({"url": "/b/v1", "bundle": "v1", "role": "production"}, 1.0)]


async def test_what_was_refused_is_tried_again_later_and_later() -> None:
    here = world(missing={"/b/v2"})
    await here.look(text(100))
    await here.look(text(80, 20))
    for pause in (following.RETRY_S, 2 * following.RETRY_S):
        asked = len(here.loader.asked)
        here.now += pause - 0.1
        await here.look(text(80, 20))
        assert len(here.loader.asked) == asked
        here.now += 0.2
        await here.look(text(80, 20))
        assert len(here.loader.asked) > asked
        assert here.samples(REFUSED)
    assert len(here.refusals) == 1  # an alert counts traffics, not tries
    here.loader.missing.clear()
    here.now += following.RETRY_MOST_S + 1
    await here.look(text(80, 20))
    assert here.service.taken
    assert here.samples(REFUSED) == []


async def test_without_a_file_and_a_bundle_it_waits_and_says_for_what() -> None:
    here = world()
    await here.look(None)
    assert here.follower.waiting == "no bundle yet: waiting for the traffic object marquee-traffic"
    assert here.samples(WAITING) == [({"reason": here.follower.waiting}, 1)]
    await here.look(text(100))
    assert here.follower.waiting == ""


async def test_a_first_bundle_that_is_not_there_yet_is_waited_for() -> None:
    here = world("/bundles/first", missing={"/bundles/first"})
    await here.look(None)
    assert here.follower.waiting == ("no bundle yet: waiting for /bundles/first: /bundles/first is not there")
    here.loader.missing.clear()
    here.now += following.RETRY_MOST_S
    await here.look(None)
    assert here.service.taken
    await here.look(text(100))
    assert here.service.table is not None
    assert here.service.table.traffic == Traffic.of("/b/v1")


async def test_where_others_serve_a_new_replica_is_held_back_until_it_does_too(tmp_path: Path) -> None:
    """A new cluster whose replicas cannot load the bundle must not take over the users."""
    path = tmp_path / "traffic.json"
    path.write_text(text(100), encoding="utf-8")
    here = World(path, Loader({"/b/v1"}))
    begun = asyncio.create_task(here.follower.begin())
    while not here.refusals:  # noqa: ASYNC110 - a list, filled by another task
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert not begun.done()
    here.loader.missing.clear()
    path.write_text(text(100, revision=2), encoding="utf-8")
    await asyncio.wait_for(begun, 20)
    assert here.service.taken
    here.follower.stop()


async def test_where_nobody_serves_it_comes_up_without_a_bundle(tmp_path: Path) -> None:
    here = World(tmp_path / "traffic.json", Loader({"/bundles/first"}), Traffic.of("/bundles/first"))
    await asyncio.wait_for(here.follower.begin(), 20)
    assert here.service.table is None
    assert "waiting for /bundles/first" in here.follower.waiting
    here.follower.stop()


async def test_a_refused_text_at_the_start_is_told_and_waited_out(tmp_path: Path) -> None:
    here = world("/bundles/first")
    await here.look("{")
    assert here.follower.waiting.startswith("no bundle yet: the traffic object marquee-traffic is refused")
    assert here.loader.asked == []  # the first bundle may have been replaced long ago
    await here.look(text(100))
    assert here.service.taken


async def test_a_canary_that_is_refused_does_not_keep_a_new_replica_from_serving_production() -> None:
    here = world(missing={"/b/v2"})
    await here.look(text(80, 20))
    assert here.samples(IN_SERVICE) == [({"url": "/b/v1", "bundle": "v1", "role": "production"}, 1.0)]
    assert here.samples(REFUSED) == [({"url": "/b/v2", "reason": "/b/v2 is not there"}, 1)]
    here.now += 2 * following.RETRY_MOST_S
    await here.look(text(80, 20))
    here.loader.missing.clear()
    here.now += 2 * following.RETRY_MOST_S
    await here.look(text(80, 20))
    here.now += 2 * following.RETRY_MOST_S
    await here.look(text(80, 20))
    assert here.service.taken


async def until_taken(here: World, wanted: Traffic) -> None:
    async with asyncio.timeout(20):
        # The table is swapped by another task, which sets no event.
        while here.service.table is None or here.service.table.traffic != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("there", [True, False])
async def test_an_impatient_start_waits_for_its_first_bundle_and_then_follows(
    there: bool, tmp_path: Path
) -> None:
    path, swaps = tmp_path / "traffic.json", list[str]()
    here = World(path, first=Traffic.of("/b/v0"), patient=False)
    here.service.swapped = lambda table: swaps.append(table.production.version)
    if there:
        path.write_text(text(100), encoding="utf-8")
    await asyncio.wait_for(here.follower.begin(), 20)
    path.write_text(text(80, 20, revision=2), encoding="utf-8")
    await until_taken(here, Desired.parse(text(80, 20)).traffic)
    assert swaps == ["v1" if there else "v0", "v1"]  # the first once, though it stands in the file too
    here.follower.stop()


@pytest.mark.parametrize("there", [True, False])
async def test_an_impatient_start_raises_why_its_first_bundle_was_refused(
    there: bool, tmp_path: Path
) -> None:
    here = World(tmp_path / "traffic.json", Loader({"/b/v1"}), Traffic.of("/b/v1"), patient=False)
    if there:
        here.path.write_text(text(100), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="/b/v1 is not there"):
        await here.follower.begin()
    assert here.service.table is None


async def test_without_any_file_the_first_bundle_serves() -> None:
    loader = Loader()
    service = InService(loader)
    follower = Follower(None, service, Traffic.of("/b/v1"), patient=False)
    assert follower.waiting == ""
    await asyncio.wait_for(follower.begin(), 20)
    assert service.taken
    assert loader.asked == ["/b/v1"]
    follower.stop()


@pytest.mark.parametrize("event", ["swapped", "refused"])
async def test_whoever_shows_it_is_told_of_every_change(event: str) -> None:
    here = world(missing=set() if event == "swapped" else {"/b/v1"})
    told: list[Callable[[], None]] = []
    here.service.told = lambda: told.append(lambda: None)
    await here.look(text(100))
    assert told
