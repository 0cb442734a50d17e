"""`marquee evaluate`: judges the served pipeline beside popularity and EASE, and writes the table into the
bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from features.console import fail
from features.schema import SchemaError
from features.steps import shown_steps
from serving.errors import ServingError
from training.data.manifest import DataError
from training.manifest import FILE_NAME, BundleError, Manifest, latest

console = Console()


def evaluate(
    home: Annotated[
        Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")
    ] = Path(".marquee"),
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a bundle; the one trained last where unset.")
    ] = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="Judge on the validation split; nothing is written.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="Markdown file whose quality table is to be written anew.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Judge again even if the bundle has figures.")
    ] = False,
) -> None:
    """Evaluate the served pipeline on each user's held-out last interaction."""
    try:
        directory = bundle or latest(home / "bundles")
        if _has_figures(directory) and not (force or validation or into):
            console.print(f"Bundle {directory.name} is evaluated already; --force does it again.")
            return
        _evaluate(directory, home / "data", validation, into)
    except (BundleError, DataError, SchemaError, ServingError) as error:
        fail(error)


def _has_figures(directory: Path) -> bool:
    try:
        text = (directory / FILE_NAME).read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"no bundle at {directory} ({error}); run `marquee train` first") from None
    return bool(Manifest.from_json(text, str(directory)).metrics)


def _evaluate(directory: Path, data: Path, validation: bool, into: Path | None) -> None:
    from serving.evaluation import ServedPipeline
    from training import figures
    from training.bundle import read_bundle, write_metrics
    from training.cases import Cases
    from training.data.tables import Tables
    from training.dataset import build
    from training.evaluate import baselines
    from training.evaluate import evaluate as measured

    with shown_steps() as show:
        show("reading the bundle and its data")
        served = read_bundle(str(directory))
        tables = Tables.read(data)
        dataset = build(tables, served.schema, served.manifest.feedback, served.manifest.split)
        recommenders = (*reversed(baselines(dataset)), ServedPipeline(served, tables))
        cases = Cases.of(dataset, dataset.validation if validation else dataset.test)
        show(f"asking for {len(cases):,} users, each as of just before the held-out event")
        rows = measured(recommenders, cases)
    part = "validation" if validation else "test"
    console.print(
        figures.render(
            rows, f"Bundle {directory.name}: {part}, {served.manifest.split}, full catalogue\n{cases}"
        )
    )
    if not validation:
        write_metrics(directory, figures.as_metrics(rows))
    if into is not None:
        rewrite(into, figures.markdown(rows))


def rewrite(file: Path, table: str) -> None:
    """Puts the table between the file's two `quality` comments.

    Raises:
        ServingError: it has none.
    """
    begin, end = "<!-- quality: written by `marquee evaluate --into README.md` -->", "<!-- /quality -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ServingError(f"{file} lacks the lines {begin} and {end}")
    file.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
