"""From what was measured with a cache to a table and goals. Pure: no server, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.load import Load
from loadtests.bench.peers.arms import NOOP
from loadtests.bench.peers.figures import MANY, QUANTILES, of
from loadtests.bench.result import Cell, Goal, Spread, Table

NOOP_VALIDATED = "Ray Serve no-op that validates the request and answers with as many bytes"


@dataclass(frozen=True, slots=True)
class Cached:
    """One round.

    Attributes:
        noop, validated, hit: one connection; the no-op, one that validates the request and answers with as
            many bytes as a hit, and answers from the cache.
        hits, misses: 32 connections; every answer from the cache, and none.
        zipf: 32 connections, of which `share` were answered from the cache.
    """

    noop: Load
    validated: Load
    hit: Load
    hits: Load
    misses: Load
    zipf: Load
    share: float

    @property
    def mixed(self) -> float:
        """Requests a second if the hits came as fast as hits alone, and the misses as misses alone."""
        slow = self.share / self.hits.requests_per_s + (1 - self.share) / self.misses.requests_per_s
        return 1 / slow


def table(rounds: Sequence[Cached]) -> Table:
    share = Spread(tuple(each.share for each in rounds))
    loads: tuple[tuple[str, Cell, list[Load]], ...] = (
        (f"{NOOP}, 1 connection", "", [each.noop for each in rounds]),
        (f"{NOOP_VALIDATED}, 1 connection", "", [each.validated for each in rounds]),
        ("cache hits, 1 connection", 1.0, [each.hit for each in rounds]),
        (f"cache hits, {MANY} connections", 1.0, [each.hits for each in rounds]),
        (f"cache misses, {MANY} connections", 0.0, [each.misses for each in rounds]),
        (f"Zipf users, {MANY} connections", share, [each.zipf for each in rounds]),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, hits, of(found, lambda load: load.requests_per_s), *(of(found, q) for q in QUANTILES))
        for name, hits, found in loads
    )
    columns = ("load", "share of hits", "requests/s", "p50, ms", "p90", "p99")
    return Table("With the cache, two replicas", columns, rows)


def goals(rounds: Sequence[Cached]) -> list[Goal]:
    hit, unit, least = (
        of([getattr(each, name) for each in rounds], QUANTILES[0]) for name in ("hit", "noop", "validated")
    )
    hits, misses, zipf = ([getattr(each, name) for each in rounds] for name in ("hits", "misses", "zipf"))
    alone, none = (of(loads, lambda load: load.requests_per_s).median for loads in (hits, misses))
    mixed = Spread(tuple(each.mixed for each in rounds)).median
    queue = 1e3 * MANY / of(zipf, lambda load: load.requests_per_s).median
    return [
        Goal(
            "p50 of a cache hit ÷ p50 of a Ray Serve no-op",
            hit.over(unit),
            "at most",
            1.5,
            f"p50 {hit.median:.2f} ms for a hit, {unit.median:.2f} ms for the no-op; to validate the same "
            "request and to answer with as many bytes, and nothing else, takes "
            f"{least.over(unit).median:.2f} of a no-op",
        ),
        Goal(
            "Zipf users, 7 of 10 from the cache: requests/s",
            of(zipf, lambda load: load.requests_per_s),
            "at least",
            1_000.0,
            f"hits alone are answered at {alone:.0f} a second and misses alone at {none:.0f}, which makes "
            f"{mixed:.0f} of this mixture",
        ),
        Goal(
            "Zipf users, 7 of 10 from the cache: p99, ms",
            of(zipf, QUANTILES[2]),
            "at most",
            50.0,
            f"at that rate {MANY} connections wait {queue:.0f} ms in the mean; the p99 of hits alone is "
            f"{of(hits, QUANTILES[2]).median:.0f}",
        ),
    ]
