"""The id of a user who has a row in Redis, for a check of the whole path. Quick: imports no Feast.

Does not belong here: the check (`marquee verify`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import RedisError

from features.marker import connect, materialized, unreachable
from features.remedy import made_by
from features.schema import FeatureSchema, Kind
from features.store import OnlineStoreError

if TYPE_CHECKING:
    from features.rows import Rows

KNOWN_USER = "marquee:known_user"
"""Id of the user with the longest history; set and removed with the marker of complete rows."""


def note_known_user(client: Redis, schema: FeatureSchema, users: Rows) -> None:
    """Raises RedisError, OSError: Redis cannot be reached."""
    histories = next((users.columns[feature.name] for feature in schema.user if feature.kind is Kind.IDS), ())
    lengths = [len(history) for history in histories]
    if any(lengths):
        client.set(KNOWN_USER, users.ids[lengths.index(max(lengths))])


def known_user(redis_url: str) -> str:
    """An id.

    Raises:
        OnlineStoreError: Redis cannot be reached, or holds no complete rows, or none with a history.
        RedisUrlError: the URL is not one of Redis.
    """
    if materialized(redis_url) is None:
        raise OnlineStoreError(f"Redis holds no features yet, so no user is known: {made_by('features')}")
    try:
        with connect(redis_url) as client:
            value = client.get(KNOWN_USER)
    except (RedisError, OSError) as error:
        raise unreachable(redis_url, error) from error
    if not isinstance(value, bytes):
        raise OnlineStoreError(
            "Redis holds no user with a history, or of an older release: "
            "`marquee features --force` writes them anew"
        )
    return value.decode()
