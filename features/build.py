"""Builds what `prepare` found missing: the only part of it that needs Arrow, pandas and Feast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.feast_config import feature_store
from features.limits import too_many_items
from features.materialize import materialize
from features.offline import write_logs
from features.prepare import SCHEMA_NAME, Prepared, PrepareError, replace_text, write_state
from features.progress import Step
from features.redis_address import WRITE_TIMEOUT_S, connection_string
from features.rows import Rows, item_rows, timelines, user_rows
from features.schema import FeatureSchema

STEPS = 3


@dataclass(frozen=True, slots=True)
class Built:
    """A schema with the rows it makes of a data set."""

    prepared: Prepared
    schema: FeatureSchema
    users: Rows
    items: Rows


def build(data: Path, directory: Path, digest: str, schema: FeatureSchema | None, progress: Step) -> Built:
    """The newest rows under `schema`; where it is None, infers one and writes it with the offline log.

    Raises:
        PrepareError: the data set cannot be read, or has more items than training takes.
        SchemaError: its tables do not fit together, or a column's name is taken.
    """
    progress("read the tables", 0, STEPS)
    interactions, items, users = (_read(data / f"{n}.parquet") for n in ("interactions", "items", "users"))
    if why := too_many_items(items.num_rows):
        raise PrepareError(f"{data}: {why}")
    inferred = schema or FeatureSchema.infer(interactions, items, users)
    progress("compute states", 1, STEPS)
    lines = timelines(interactions, items, users)
    user, item = user_rows(inferred, lines, users), item_rows(inferred, lines, items)
    prepared = Prepared(
        data=digest,
        schema=inferred.fingerprint(),
        users=users.num_rows,
        items=items.num_rows,
        events=interactions.num_rows,
    )
    if schema is None:
        progress("write the offline log", 2, STEPS)
        write_logs(inferred, lines, user, item, directory)
        replace_text(directory / SCHEMA_NAME, inferred.to_json())
        (directory / "registry.db").unlink(missing_ok=True)
        feature_store(inferred, directory)
        write_state(directory, prepared)
    progress("features built", STEPS, STEPS)
    return Built(prepared, inferred, user, item)


def put_online(built: Built, directory: Path, redis_url: str, progress: Step) -> None:
    """Writes the rows into Redis.

    Raises:
        OnlineStoreError: it cannot be reached, or fails on the way.
        RedisUrlError: the URL is not one of Redis.
    """
    store = feature_store(built.schema, directory, connection_string(redis_url, WRITE_TIMEOUT_S))
    version = built.prepared.version
    materialize(store, built.schema, built.users, built.items, redis_url, version, progress)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise PrepareError(f"{path} cannot be read ({reason}): run `marquee data --force`") from error
