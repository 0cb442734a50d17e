"""`marquee features`: builds the features of a data set and puts them into Redis."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.console import fail
from features.embedded import EmbeddedRedisError
from features.marker import materialized
from features.patience import patiently
from features.prepare import PrepareError, Report, prepare, read_schema
from features.redis_address import RedisUrlError, redacted
from features.schema import FeatureSchema, SchemaError
from features.steps import shown_steps
from features.store import OnlineStoreError

FAILURES = (PrepareError, SchemaError, EmbeddedRedisError, OnlineStoreError, RedisUrlError, OSError)


def features(
    home: Annotated[
        Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")
    ] = Path(".marquee"),
    redis_url: Annotated[
        str | None,
        typer.Option(envvar="REDIS_URL", help="Redis to write to; else the embedded one."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build anew even if nothing has changed.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a Redis that does not answer yet.")
    ] = 0.0,
) -> None:
    """Build the features and materialise them into Redis."""
    console, began = Console(), time.monotonic()
    try:
        if redis_url:
            look = partial(materialized, redis_url)
            patiently(look, OnlineStoreError, wait, lambda line: console.print(escape(line), soft_wrap=True))
        with shown_steps() as show:
            done = prepare(home, redis_url or None, force, show)
        schema = read_schema(home / "features")
    except FAILURES as error:
        fail(error)
    where = redacted(redis_url) if redis_url else f"the embedded server in {home / 'redis'}"
    if done.materialized:
        console.print(_table(done, schema))
    for column in schema.ignored:
        console.print(f"[yellow]ignored[/yellow] {column}: its type is not one a feature can have")
    state = "written to" if done.materialized else "up to date in"
    console.print(
        f"Features {done.prepared.schema[:12]}: {done.prepared.users:,} users and "
        f"{done.prepared.items:,} items {state} {where} ({time.monotonic() - began:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )


def _table(done: Report, schema: FeatureSchema) -> Table:
    table = Table("group", "features", "model inputs", "rows online")
    table.add_row("user", str(len(schema.user)), str(schema.user_width), f"{done.prepared.users:,}")
    table.add_row("item", str(len(schema.item)), str(schema.item_width), f"{done.prepared.items:,}")
    table.add_row("context", str(len(schema.context)), str(schema.context_width), "on demand")
    return table
