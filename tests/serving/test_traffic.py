"""Which bundle is in service: the first is waited for, later ones swap in whole or not at all."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from serving.traffic import InService, OtherBundle


@dataclass(frozen=True)
class Held:
    version: str


@dataclass
class Loader:
    """Loads "<version>"; a url in `held_back` waits until it is let go, one in `broken` is refused."""

    broken: set[str] = field(default_factory=set)
    held_back: dict[str, asyncio.Event] = field(default_factory=dict)

    async def __call__(self, url: str) -> Held:
        if url in self.held_back:
            await self.held_back[url].wait()
        if url in self.broken:
            raise ValueError(f"{url} is altered")
        return Held(url)


def service(loader: Loader, **told: Callable[..., None]) -> InService[Held]:
    return InService(loader, **told)


async def test_the_first_bundle_is_in_service_when_put_returns() -> None:
    held = service(Loader())
    await held.put("a")
    assert held.current == Held("a")


async def test_the_refusal_of_the_first_bundle_is_raised() -> None:
    held = service(Loader(broken={"a"}))
    with pytest.raises(ValueError, match="a is altered"):
        await held.put("a")
    assert held.current is None


async def test_the_old_bundle_serves_until_the_new_one_is_loaded() -> None:
    loader = Loader(held_back={"b": asyncio.Event()})
    swaps: list[Held] = []
    held = service(loader, swapped=swaps.append)
    await held.put("a")
    await held.put("b")
    await asyncio.sleep(0)
    assert held.current == Held("a")
    loader.held_back["b"].set()
    await held.settled()
    assert held.current == Held("b")
    assert swaps == [Held("a"), Held("b")]


async def test_a_refused_bundle_leaves_the_old_one_and_is_reported() -> None:
    refusals: list[Exception] = []
    held = service(Loader(broken={"b"}), refused=refusals.append)
    await held.put("a")
    await held.put("b")
    await held.settled()
    assert held.current == Held("a")
    assert [str(error) for error in refusals] == ["b is altered"]


async def test_the_newest_call_wins_over_one_that_is_still_loading() -> None:
    loader = Loader(held_back={"b": asyncio.Event()})
    held = service(loader)
    await held.put("a")
    await held.put("b")
    await asyncio.sleep(0)
    await held.put("c")
    loader.held_back["b"].set()
    await held.settled()
    assert held.current == Held("c")


async def test_the_version_before_answers_until_the_next_swap() -> None:
    held = service(Loader())
    await held.put("a")
    for url in ("b", "b"):  # putting the same bundle again must not push the one before out
        await held.put(url)
        await held.settled()
    assert held.of("a") == Held("a")
    assert held.of("b") == Held("b")
    await held.put("c")
    await held.settled()
    with pytest.raises(OtherBundle, match="asked for bundle a, but this replica holds c"):
        held.of("a")


async def test_a_replica_without_a_bundle_refuses_every_version() -> None:
    with pytest.raises(OtherBundle, match="holds nothing"):
        service(Loader()).of("a")
