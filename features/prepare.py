"""From a data set to features in Redis, doing only what is not already done.

    <home>/data/                 read: three Parquet files and dataset.json
    <home>/features/             written: schema.json, the log, Feast's registry, features.json when complete
    <home>/redis/                the embedded server's data; `materialized` says which rows it holds

Arrow, pandas and Feast are imported only where there is work: finding all done takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from features.embedded import LOG_DIRECTORY, redis_url
from features.marker import materialized, stamped, unstamped, up_to_date
from features.progress import Step
from features.remedy import made_by
from features.schema import FORMAT, FeatureSchema, SchemaError

STATE_NAME, SCHEMA_NAME = "features.json", "schema.json"

EMBEDDED_MARKER = "materialized"
"""File beside the embedded server's data, so that looking does not mean starting it. It is written after the
server has synced and ended, and goes when the data goes."""


class PrepareError(Exception):
    """The features cannot be built; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `<home>/features/features.json` says.

    Attributes:
        data: sha256 of `<home>/data/dataset.json`, which names the data set.
        schema: the schema's fingerprint.
    """

    data: str
    schema: str
    users: int
    items: int
    events: int
    format: int = FORMAT

    @property
    def version(self) -> str:
        return f"{self.schema}:{self.data}"

    @staticmethod
    def read(directory: Path) -> Prepared | None:
        """None where the features are absent, incomplete or of another format."""
        try:
            prepared = Prepared(**json.loads((directory / STATE_NAME).read_text(encoding="utf-8")))
            schema = read_schema(directory)
        except (OSError, ValueError, TypeError, SchemaError):
            return None
        return prepared if prepared.format == FORMAT and prepared.schema == schema.fingerprint() else None


@dataclass(frozen=True, slots=True)
class Report:
    """What there is, and whether this run built it and wrote it into Redis."""

    prepared: Prepared
    built: bool
    materialized: bool


def read_schema(directory: Path) -> FeatureSchema:
    """The schema in `<home>/features`.

    Raises:
        OSError: there is none.
        SchemaError: it cannot be read.
    """
    return FeatureSchema.from_json((directory / SCHEMA_NAME).read_text(encoding="utf-8"))


def prepare(home: Path, redis: str | None, force: bool, progress: Step) -> Report:
    """Builds the features of `<home>/data` and puts them into Redis (`redis`: a URL; None: the embedded one).

    Raises:
        PrepareError: no data set, or one that cannot be read.
        SchemaError, EmbeddedRedisError, OnlineStoreError, RedisUrlError: as their names say.
    """
    data, directory = home / "data", home / "features"
    try:
        digest = hashlib.sha256((data / "dataset.json").read_bytes()).hexdigest()
    except OSError as error:
        raise PrepareError(f"no data set in {data} ({error.strerror}): {made_by('data')}") from error
    prepared = None if force else Prepared.read(directory)
    if prepared is not None and prepared.data == digest and _online(home, redis) == prepared.version:
        if redis is not None:
            up_to_date(redis, time.time())
        return Report(prepared, built=False, materialized=False)

    from features.build import build, put_online

    built = prepared is None or prepared.data != digest
    if built:
        (directory / STATE_NAME).unlink(missing_ok=True)
        directory.mkdir(parents=True, exist_ok=True)
    result = build(data, directory, digest, None if built else read_schema(directory), progress)
    if redis is None:
        (home / "redis" / EMBEDDED_MARKER).unlink(missing_ok=True)
    with redis_url(home / "redis", redis) as url:
        put_online(result, directory, url, progress)
        up_to_date(url, time.time())
    if redis is None:
        replace_text(home / "redis" / EMBEDDED_MARKER, stamped(result.prepared.version))
    return Report(result.prepared, built, materialized=True)


def write_state(directory: Path, prepared: Prepared) -> None:
    """Says that everything before it is complete: the last thing written."""
    replace_text(directory / STATE_NAME, json.dumps(asdict(prepared), indent=1) + "\n")


def _online(home: Path, redis: str | None) -> str | None:
    if redis is not None:
        return materialized(redis)
    marker = home / "redis" / EMBEDDED_MARKER
    kept = marker.is_file() and (marker.parent / LOG_DIRECTORY).is_dir()
    return unstamped(marker.read_text(encoding="utf-8")) if kept else None


def replace_text(path: Path, text: str) -> None:
    """Writes the whole file, or leaves it as it was."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
