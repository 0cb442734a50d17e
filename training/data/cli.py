"""`marquee data`: gets a data set into place and says what it is. Only options and output live here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.console import fail, warn
from features.limits import too_many_items
from features.steps import shown_steps
from training.data.manifest import LOW_JOIN, MAX_REJECTED_SHARE, DataError, FileReport, Join, Manifest
from training.data.prepare import SYNTHETIC, Request, World, data_directory, prepare
from training.data.remote import is_url
from training.feedback import seen_by

_SHOWN_REJECTS = 3
"""Malformed rows of a file printed; `dataset.json` names more."""


def data(
    dataset: Annotated[
        str,
        typer.Option(
            envvar="DATASET",
            help="ml-100k, ml-latest-small, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m or synthetic.",
        ),
    ] = "ml-100k",
    dataset_path: Annotated[
        str | None,
        typer.Option(
            envvar="DATASET_PATH",
            help="A folder or zip to read instead, or its URL (s3://, gs://): MovieLens or your own tables.",
        ),
    ] = None,
    home: Annotated[Path, typer.Option(envvar="MARQUEE_HOME", help="Where Marquee keeps its files.")] = Path(
        ".marquee"
    ),
    max_rejected_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of a file's rows that may be malformed.")
    ] = MAX_REJECTED_SHARE,
    force: Annotated[bool, typer.Option("--force", help="Build anew even where the data is there.")] = False,
    users: Annotated[int | None, typer.Option(min=1, help="Synthetic only: number of users.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Synthetic only: number of items.")] = None,
    interactions: Annotated[int | None, typer.Option(min=1, help="Synthetic only: number of events.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Synthetic only: the same seed, the same world.")
    ] = None,
) -> None:
    """Get a data set into place: MovieLens, your own tables or a synthetic world."""
    given = {"users": users, "items": items, "interactions": interactions, "seed": seed}
    sizes = {name: number for name, number in given.items() if number is not None}
    try:
        if sizes and (dataset != SYNTHETIC or dataset_path):
            raise DataError(f"--{next(iter(sizes))} belongs to --dataset synthetic alone")
        with shown_steps() as show:
            path = Path(dataset_path) if dataset_path and not is_url(dataset_path) else dataset_path or None
            request = Request(dataset, path, World(**sizes))
            manifest, reused = prepare(request, home, max_rejected_share, force, show)
    except DataError as error:
        fail(error)
    _show(manifest, data_directory(home), reused)
    for join in manifest.facts.joins:
        if join.share < LOW_JOIN:
            warn(f"{_join(join)}: are the ids spelled alike?")
    for note in manifest.facts.notes:
        warn(note)
    if why := too_many_items(manifest.counts["items"]):
        warn(f"{why}. The tables are written; `marquee features` and `marquee train` will refuse them.")


def _show(manifest: Manifest, directory: Path, reused: bool) -> None:
    about, counts = manifest.about, manifest.counts
    first, last = (datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d") for second in manifest.window)
    table = Table(show_header=False, title=escape(about.name), title_justify="left", title_style="bold")
    table.add_row(
        "interactions", f"{counts['interactions']:,} ({manifest.density:.2%} of all pairs have met)"
    )
    table.add_row(
        "repeats",
        f"{manifest.facts.repeats:.1%} of the interactions are of a pair that met before: `marquee train` "
        f"takes this for --seen {seen_by(manifest.facts.repeats)}",
    )
    table.add_row("duplicates", f"{manifest.facts.duplicates:,} copies of an event were dropped")
    table.add_row("items", f"{counts['items']:,}")
    table.add_row("users", f"{counts['users']:,}")
    for join in manifest.facts.joins:
        table.add_row("joins", escape(_join(join)))
    timed = manifest.facts.timed
    table.add_row("window", f"{first} to {last}" if timed else "no times: the order of rows is taken for it")
    table.add_row("rejected rows", "\n".join(map(_rejects, about.inputs)) if manifest.rejected else "none")
    table.add_row("source", escape(about.source))
    table.add_row("licence", escape(about.licence))
    table.add_row("tables", escape(str(directory)) + (" (already there)" if reused else ""))
    Console().print(table)


def _join(join: Join) -> str:
    what = join.key.removesuffix("_id")
    return (
        f"{join.file}: {join.known:,} of {join.ids:,} {what}s of the interactions have a row "
        f"({join.share:.1%}); {join.rows - join.known:,} of its {join.rows:,} rows are of none"
    )


def _rejects(report: FileReport) -> str:
    lines = [f"{escape(report.file)}: {report.rejected:,} of {report.rows:,}"]
    lines += [f"  {reject.line}: {escape(reject.why)}" for reject in report.first[:_SHOWN_REJECTS]]
    return "\n".join(lines) if report.rejected else lines[0]
