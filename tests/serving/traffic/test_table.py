"""Which bundles are in service and which answers whom: the first traffic is waited for, later ones swap in
whole or not at all."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.config import MAX_BUNDLES, Traffic, TrafficEntry
from serving.traffic.table import BUCKETS, InService, OtherBundle, SameBundle, State, Table, bucket


@dataclass(frozen=True)
class Held:
    version: str


@dataclass
class Loader:
    """Loads "<version>" from "<version>" or "<version>@<place>"; a url in `held_back` waits until it is let
    go, one in `broken` is refused."""

    broken: set[str] = field(default_factory=set)
    held_back: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, url: str) -> Held:
        self.asked.append(url)
        if url in self.held_back:
            await self.held_back[url].wait()
        if url in self.broken:
            raise ValueError(f"{url} is altered")
        return Held(url.partition("@")[0])


def traffic(*shadows: str, **weights: int) -> Traffic:
    entries = [TrafficEntry(bundle=bundle, weight=weight) for bundle, weight in weights.items()]
    return Traffic(traffic=(*entries, *(TrafficEntry(bundle=bundle, shadow=True) for bundle in shadows)))


def service(loader: Loader, **told: Callable[..., None]) -> InService[Held]:
    return InService(loader, **told)


async def put(held: InService[Held], wanted: Traffic) -> None:
    held.offer(wanted)
    await held.settled()


def versions(held: InService[Held]) -> list[str]:
    assert held.table is not None
    return [each.version for each in held.table.held]


# The configuration


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "at least 1"),
        ([{"bundle": "a", "weight": 99}], "add up to 100, not 99"),
        ([{"bundle": "a", "weight": 60}, {"bundle": "b", "weight": 60}], "add up to 100, not 120"),
        ([{"bundle": "a", "shadow": True}, {"bundle": "b", "weight": 100}], "first entry is production"),
        ([{"bundle": "a", "weight": 90}, {"bundle": "b", "weight": 10, "shadow": True}], "leave out its"),
        ([{"bundle": "a", "weight": 50}, {"bundle": "a", "weight": 50}], "one entry only"),
        ([{"bundle": "a", "weight": 99.5}, {"bundle": "b", "weight": 0.5}], "valid integer"),
        ([{"bundle": "a", "weight": 101}, {"bundle": "b", "weight": -1}], "less than or equal to 100"),
        ([{"bundle": "a", "weight": True}], "valid integer"),
        ([{"bundle": "", "weight": 100}], "at least 1 character"),
        ([{"bundle": "a", "weight": 100, "wieght": 1}], "Extra inputs"),
        (
            [
                {"bundle": "a", "weight": 100},
                *({"bundle": str(i), "shadow": True} for i in range(MAX_BUNDLES)),
            ],
            f"at most {MAX_BUNDLES}",
        ),
    ],
)
def test_a_traffic_that_is_none_says_why(entries: list[dict[str, object]], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Traffic.model_validate({"traffic": entries})


# Who answers whom


def table(*shadows: str, **weights: int) -> Table[Held]:
    wanted = traffic(*shadows, **weights)
    return Table.of(wanted, [Held(url) for url in wanted.bundles])


WEIGHTS = st.lists(st.integers(0, 100), max_size=4).map(
    lambda cuts: [b - a for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), 100], strict=True)]
)


@given(WEIGHTS)
def test_every_bundle_answers_exactly_its_share_of_the_buckets(weights: list[int]) -> None:
    made = table("s", **{f"b{i}": weight for i, weight in enumerate(weights)})
    keys = iter(range(10**9))
    met: dict[int, str] = {}
    while len(met) < 500:  # of 10,000: that the others follow the same arithmetic is what the next test shows
        key = str(next(keys))
        met.setdefault(bucket(key), made.choose(key).version)
    below = 0
    for i, weight in enumerate(weights[1:], start=1):
        until = below + weight * 100
        assert all(version == f"b{i}" for at, version in met.items() if below <= at < until)
        below = until
    assert all(version == "b0" for at, version in met.items() if at >= below)


def test_shares_are_the_weights_within_what_chance_allows() -> None:
    made = table(a=80, b=15, c=5)
    answered = Counter(made.choose(f"user-{i}").version for i in range(20_000))
    for version, weight in (("a", 80), ("b", 15), ("c", 5)):
        assert answered[version] / 20_000 == pytest.approx(weight / 100, abs=0.01)  # 3.5 standard errors


@given(st.text(max_size=30), st.integers(0, 100), st.integers(0, 100))
def test_whom_a_canary_answers_it_keeps_while_its_weight_grows(user: str, one: int, other: int) -> None:
    less, more = sorted((one, other))
    before, after = table(a=100 - less, b=less), table(a=100 - more, b=more)
    if before.choose(user).version == "b":
        assert after.choose(user).version == "b"


@given(st.text(max_size=30))
def test_a_user_stays_and_shadows_answer_nobody(user: str) -> None:
    made = table("s", a=50, b=50)
    assert 0 <= bucket(user) < BUCKETS
    assert made.choose(user) == made.choose(user)
    assert made.choose(user).version != "s"
    assert table("s", a=100).choose(user).version == "a"
    assert table(a=0, b=100).choose(user).version == "b"


def test_the_hash_is_the_same_on_every_replica_and_in_every_release() -> None:
    assert [bucket(key) for key in ("196", "user-1", "ä")] == [9005, 1059, 9732]


# Swapping


async def test_the_first_traffic_is_in_service_when_begin_returns() -> None:
    held = service(Loader())
    await held.begin(traffic(a=90, b=10))
    assert versions(held) == ["a", "b"]


async def test_the_refusal_of_the_first_production_bundle_is_raised() -> None:
    loader = Loader(broken={"a"})
    held = service(loader)
    with pytest.raises(ValueError, match="a is altered"):
        await held.begin(traffic(a=90, b=10))
    assert held.table is None
    assert loader.asked == ["a"]


async def test_a_bad_canary_does_not_keep_a_new_replica_from_serving_production() -> None:
    refusals: list[Exception] = []
    loader = Loader(broken={"b"})
    held = service(loader, refused=refusals.append)
    await held.begin(traffic(a=90, b=10))
    assert held.table is not None
    assert held.table.traffic == Traffic.of("a")
    assert loader.asked == ["a", "b"]
    assert [str(error) for error in refusals] == ["b is altered"]
    assert held.state("b") == State("refused", error="b is altered")


async def test_the_old_table_serves_until_the_new_one_is_loaded() -> None:
    loader = Loader(held_back={"b": asyncio.Event()})
    swaps: list[list[Held]] = []
    held = service(loader, swapped=lambda table: swaps.append(list(table.held)))
    await held.begin(traffic(a=100))
    held.offer(traffic(a=90, b=10))
    await asyncio.sleep(0)
    assert versions(held) == ["a"]
    assert held.state("a") == State("serving", version="a")
    assert held.state("b") == State("loading")
    loader.held_back["b"].set()
    await held.settled()
    assert held.state("b") == State("serving", version="b")
    assert swaps == [[Held("a")], [Held("a"), Held("b")]]


async def test_other_weights_a_promotion_and_a_way_back_load_nothing() -> None:
    loader = Loader()
    held = service(loader)
    for wanted in (
        traffic(a=100),
        traffic("b", a=100),
        traffic(a=95, b=5),
        traffic(a=50, b=50),
        traffic(b=100),
        traffic(a=100),
    ):
        await put(held, wanted)
        assert versions(held) == list(wanted.bundles)
    assert loader.asked == ["a", "b"]


async def test_one_refused_bundle_leaves_the_whole_old_table_and_is_reported_once() -> None:
    refusals: list[Exception] = []
    loader = Loader(broken={"c"})
    held = service(loader, refused=refusals.append)
    await put(held, traffic(a=90, b=10))
    before = held.table
    await put(held, traffic(d=20, a=20, c=20, e=40))
    assert held.table is before
    assert [str(error) for error in refusals] == ["c is altered"]
    assert held.state("a") == State("serving", version="a")
    assert held.state("c") == State("refused", error="c is altered")
    assert held.state("d") == held.state("e") == State("refused", error="not taken: c is altered")
    loader.broken.clear()
    await put(held, traffic(a=90, c=10))  # it is tried again
    assert versions(held) == ["a", "c"]


async def test_two_places_of_one_bundle_are_refused() -> None:
    refusals: list[Exception] = []
    held = service(Loader(), refused=refusals.append)
    await put(held, traffic(a=100))
    await put(held, Traffic.model_validate({"traffic": [e("a", 50), e("a@elsewhere", 50)]}))
    assert versions(held) == ["a"]
    assert [type(error) for error in refusals] == [SameBundle]


def e(bundle: str, weight: int) -> dict[str, object]:
    return {"bundle": bundle, "weight": weight}


async def test_the_newest_call_wins_over_one_that_is_still_loading() -> None:
    loader = Loader(held_back={"b": asyncio.Event()})
    held = service(loader)
    await held.begin(traffic(a=100))
    held.offer(traffic(a=90, b=10))
    await asyncio.sleep(0)
    held.offer(traffic(a=90, c=10))
    loader.held_back["b"].set()
    await held.settled()
    assert versions(held) == ["a", "c"]


async def test_a_newer_call_waits_for_the_load_that_an_older_one_began() -> None:
    loader = Loader(held_back={"b": asyncio.Event()})
    held = service(loader)
    await held.begin(traffic(a=100))
    for weight in (5, 10, 20):
        held.offer(traffic(a=100 - weight, b=weight))
        await asyncio.sleep(0)
    loader.held_back["b"].set()
    await held.settled()
    assert held.table is not None
    assert held.table.traffic == traffic(a=80, b=20)
    assert loader.asked == ["a", "b"]


async def test_every_version_of_the_table_before_answers_until_other_bundles_come() -> None:
    held = service(Loader())
    for wanted in (traffic(a=90, b=10), traffic(b=90, c=10), traffic(b=50, c=50)):
        await put(held, wanted)  # the last one must not push the table before out
    assert {held.of(version).version for version in ("a", "b", "c")} == {"a", "b", "c"}
    await put(held, traffic(c=100))
    with pytest.raises(OtherBundle, match="asked for bundle a, but this replica holds c"):
        held.of("a")
    assert held.of("b") == Held("b")


async def test_a_replica_without_a_bundle_refuses_every_version() -> None:
    with pytest.raises(OtherBundle, match="holds nothing"):
        service(Loader()).of("a")
