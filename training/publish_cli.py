"""`marquee publish`: only options and output live here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.console import fail
from training.manifest import BundleError, latest
from training.publish import PublishError
from training.publish import publish as copy


def publish(
    store: Annotated[str, typer.Argument(envvar="MARQUEE_PUBLISH", help="Folder or URL that holds bundles.")],
    home: Annotated[
        Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")
    ] = Path(".marquee"),
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a bundle; the one trained last where unset.")
    ] = None,
) -> None:
    """Copy a bundle to where replicas read it, whole or not at all; prints the copy's URL."""
    try:
        typer.echo(copy(bundle or latest(home / "bundles"), store))
    except (BundleError, PublishError) as error:
        fail(error)
