"""`marquee bundle`: only options and output live here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.console import fail
from training.manifest import BundleError, latest

bundle = typer.Typer(no_args_is_help=True, help="Look at a bundle, or write it in another form.")


Home = Annotated[Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")]
Which = Annotated[str | None, typer.Option(help="URL or path of a bundle; the one trained last where unset.")]


@bundle.command()
def show(home: Home = Path(".marquee"), bundle: Which = None) -> None:
    """Print what a bundle holds, what its pipelines are made of, and what it requires."""
    from training.bundle import declared, sizes

    try:
        url = bundle or str(latest(home / "bundles"))
        manifest, declaration = declared(url)
        held = sizes(url, manifest)
    except (BundleError, OSError) as error:
        fail(error)
    console = Console()
    first, last = manifest.data_window
    console.print(
        f"[bold]{escape(manifest.name)}[/bold] {manifest.version}, made {manifest.created}, "
        f"of events from {first} to {last}; format {manifest.format}, {sum(held.values()) / 1e6:,.1f} MB",
        soft_wrap=True,
        highlight=False,
    )
    components = Table("component", "kind", "files", "MB", title="Components", title_justify="left")
    for name, spec in declaration.components.items():
        size = sum(held.get(file, 0) for file in spec.files) / 1e6
        components.add_row(escape(name), escape(spec.kind), escape(", ".join(spec.files)), f"{size:,.2f}")
    console.print(components)
    for name, pipeline in declaration.pipelines.items():
        hides = f"hides what is {pipeline.hidden}" if pipeline.hidden != "nothing" else "hides nothing"
        reads = "reads the user" if pipeline.user else "reads no user"
        stages = Table(
            "role", "stage", "kind", "models", "options",
            title=f"Pipeline {escape(name)}: {reads}, {hides}", title_justify="left",
        )  # fmt: skip
        for stage in pipeline.stages:
            models = ", ".join(sorted(set(stage.models.values())))
            options = ", ".join(f"{key} {value}" for key, value in stage.options.items())
            stages.add_row(stage.role, *map(escape, (stage.name, stage.kind, models, options)))
        console.print(stages)
    console.print(f"requires: {escape(', '.join(declaration.requires) or 'nothing beside marquee')}")


@bundle.command("export-triton")
def export_triton(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A Triton model repository; made where it is not there.")
    ],
    home: Home = Path(".marquee"),
    bundle: Which = None,
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
