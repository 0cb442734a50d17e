"""What suites measure on, made from a MARQUEE_HOME: the world, a Redis that holds its features, and requests
for its users.

Does not belong here: measuring.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from features import prepare as online
from features.embedded import EmbeddedRedis
from loadtests import traffic
from serving.config import Budgets
from training.manifest import BundleError, latest

PATIENT = Budgets(
    **dict.fromkeys(
        ("request", "request_max", "features", "source", "ranker", "diversity", "explainer"), 60_000.0
    )
)
"""ms; a slow moment of the machine must not turn a stage's cost into its absence."""

TINY = {"users": 300, "items": 200, "interactions": 8_000}
"""Sizes of the synthetic world of a quick run that has no home: trained in seconds."""


@dataclass(frozen=True, slots=True)
class World:
    """What every suite measures on: one bundle and the users to ask for, the same ones for all arms.

    Attributes:
        home: a MARQUEE_HOME with prepared data, features and a bundle in service.
        bundle: the bundle's folder.
        work: an empty folder for this run's files.
    """

    home: Path
    bundle: Path
    work: Path


class NoWorld(Exception):
    """There is nothing to measure on; the text says what to do."""


def world(home: Path, work: Path, quick: bool, on_progress: Callable[[str], None]) -> World:
    """The home with its newest bundle. A quick run without one is given a small synthetic world.

    Args:
        work: an empty folder.
        on_progress: called with what takes its time.

    Raises:
        NoWorld: the home holds no bundle, and the run is not quick.
    """
    try:
        return World(home, latest(home / "bundles"), work)
    except BundleError as error:
        if not quick:
            raise NoWorld(
                f"{error}; `make bench` prepares {home}, or marquee data, features and train"
            ) from None
    on_progress("training a small synthetic world")
    return World(work / "home", _train_tiny(work / "home"), work)


def _train_tiny(home: Path) -> Path:
    """A bundle trained in this process, without Ray."""
    from features.progress import silent
    from features.schema import FeatureSchema
    from training.data.prepare import Request, prepare
    from training.data.prepare import World as Size
    from training.data.tables import Tables
    from training.loop import Worker
    from training.loop import train as fit
    from training.recipe import default
    from training.train import train

    prepare(Request("synthetic", None, Size(**TINY, seed=1)), home, progress=silent)
    tables = Tables.read(home / "data")
    return train(
        home,
        FeatureSchema.infer(tables.interactions, tables.items, tables.users),
        inputs="bench",
        recipe=default().with_options("two_tower", epochs=1),
        fit=lambda inputs, recipe, _: fit(inputs, recipe, Worker(), None, lambda *_: None),
        said=lambda _: None,
    ).directory


@contextmanager
def redis(world: World) -> Iterator[str]:
    """URL of an embedded server of its own that holds the home's features; the home is not written to."""
    copy = world.work / "features-home"
    for part in ("data", "features"):
        if (world.home / part).is_dir() and not (copy / part).exists():
            shutil.copytree(world.home / part, copy / part)
    with EmbeddedRedis(world.work / "redis") as server:
        online.prepare(copy, server.url, force=False, progress=lambda what, done, total: None)
        yield server.url


def user_ids(world: World) -> list[str]:
    ids: list[str] = pq.read_table(world.home / "data" / "users.parquet")["user_id"].to_pylist()
    return ids


def bodies(world: World, count: int, mix: traffic.Mix | None = None, seed: int = 0) -> Path:
    """A file with `count` request bodies, one a line, as `load` wants it."""
    items = pq.read_table(world.bundle / "items.parquet")
    made = traffic.bodies(
        user_ids(world), items["item_id"].to_pylist(), filters(items), count, seed=seed, mix=mix
    )
    text = "\n".join(made) + "\n"
    path = world.work / f"bodies-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def filters(items: pa.Table) -> list[traffic.Filter]:
    """Filters that keep a good part of a catalogue: each of a list column's three commonest values, and the
    upper half of a numeric column."""
    found: list[traffic.Filter] = []
    for name in items.column_names:
        column = items[name]
        if pat.is_list(column.type) and pat.is_string(column.type.value_type):
            counts = sorted(pc.value_counts(pc.list_flatten(column)).to_pylist(), key=lambda c: -c["counts"])
            found += [{name: {"any": [value["values"]]}} for value in counts[:3]]
        elif pat.is_integer(column.type) or pat.is_floating(column.type):
            middle = pc.quantile(column, 0.5, interpolation="lower")[0].as_py()
            if middle is not None:
                found.append({name: {"gte": middle}})
    return found
