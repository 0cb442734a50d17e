"""`marquee bundle`: only options and output live here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.console import fail
from training.manifest import BundleError, latest

bundle = typer.Typer(no_args_is_help=True, help="Look at a bundle, or write it in another form.")


@bundle.callback()
def _group() -> None:
    """Also a group while it has one command."""


@bundle.command("export-triton")
def export_triton(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A Triton model repository; made where it is not there.")
    ],
    home: Annotated[
        Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")
    ] = Path(".marquee"),
    bundle: Annotated[
        str | None, typer.Option(help="URL or path of a bundle; the one trained last where unset.")
    ] = None,
) -> None:
    """Add a bundle's networks to a Triton model repository, as a version of their own."""
    from training.bundle import read_bundle
    from training.triton_repository import export, model_version

    try:
        read = read_bundle(bundle or str(latest(home / "bundles")))
        names = export(read, directory)
    except (BundleError, OSError) as error:
        fail(error)
    version = read.manifest.version
    typer.echo(f"bundle {version} is version {model_version(version)} of {', '.join(names)} in {directory}")
