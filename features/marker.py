"""Which rows Redis holds: one key, set when a materialisation is complete. Quick: imports no Feast."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from features.packed import PACKED_FORMAT
from features.redis_address import WRITE_TIMEOUT_S, RedisAddress, redacted
from features.redis_errors import explain, refuse_cluster
from features.store import OnlineStoreError

MARKER = "marquee:materialized"

MATERIALIZED_AT = "marquee:materialized_at"
"""Unix seconds at which rows were last found or made up to date. Beside the marker, because it changes where
the rows do not."""

ROWS = f"packed-{PACKED_FORMAT}"
"""The form of rows in Redis, in the marker before their version. Before there were packed rows the
marker held the bare version."""


def materialized(redis_url: str) -> str | None:
    """The version (`Prepared.version`) of the rows in Redis; None where there are none, half of them, or rows
    that another release wrote in another form.

    Raises:
        OnlineStoreError: Redis cannot be reached, or is a node of a Redis Cluster.
        RedisUrlError: the URL is not one of Redis.
    """
    try:
        with connect(redis_url) as client:
            refuse_cluster(client)
            value = client.get(MARKER)
    except (RedisError, OSError) as error:
        raise unreachable(redis_url, error) from error
    return unstamped(value.decode()) if isinstance(value, bytes) else None


def materialized_at(redis_url: str) -> float | None:
    """When the rows in Redis were last brought up to date, unix seconds; None where it is not recorded.

    Raises:
        OnlineStoreError: Redis cannot be reached.
        RedisUrlError: the URL is not one of Redis.
    """
    try:
        with connect(redis_url) as client:
            value = client.get(MATERIALIZED_AT)
    except (RedisError, OSError) as error:
        raise unreachable(redis_url, error) from error
    try:
        return float(value) if isinstance(value, bytes) else None
    except ValueError:
        return None


def up_to_date(redis_url: str, now: float) -> None:
    """Says that the rows in Redis are those of the data as of `now`, unix seconds.

    Raises:
        OnlineStoreError: Redis cannot be reached.
        RedisUrlError: the URL is not one of Redis.
    """
    try:
        with connect(redis_url) as client:
            client.set(MATERIALIZED_AT, f"{now:.3f}")
    except (RedisError, OSError) as error:
        raise unreachable(redis_url, error) from error


def stamped(version: str) -> str:
    """What the marker says of complete rows of this version in the form of this release."""
    return f"{ROWS}:{version}"


def unstamped(marker: str) -> str | None:
    """The version in `stamped(version)`; None for a marker of other rows."""
    form, _, version = marker.partition(":")
    return version if form == ROWS else None


def connect(redis_url: str) -> Redis:
    """A plain client with timeouts and without retries.

    Raises:
        RedisUrlError: the URL is not one of Redis.
    """
    return Redis(**RedisAddress.parse(redis_url).options(WRITE_TIMEOUT_S))


def unreachable(redis_url: str, error: Exception) -> OnlineStoreError:
    return OnlineStoreError(f"Redis at {redacted(redis_url)} {explain(error)}")
