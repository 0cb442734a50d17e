"""`marquee train`: only options and output live here. Torch and Ray are imported where there is work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.console import fail
from features.remedy import made_by
from features.schema import FeatureSchema, SchemaError
from features.steps import shown_steps
from training.data.manifest import DataError
from training.data.manifest import Manifest as DataManifest
from training.feedback import sentence
from training.inputs import digest, up_to_date
from training.publish import PublishError, publish
from training.recipe import DEFAULT as SHIPPED
from training.recipe import Recipe, RecipeError, SplitName, read, text_of
from training.recipe_check import check

if TYPE_CHECKING:
    from training.loop import Inputs, Weights
    from training.schedule import Schedule
    from training.train import Trained

Home = Annotated[Path, typer.Option(envvar="MARQUEE_HOME", help="Where data, features and bundles are kept.")]


def train(
    context: typer.Context,
    home: Home = Path(".marquee"),
    recipe: Annotated[
        Path | None,
        typer.Option(envvar="MARQUEE_RECIPE", help="File of models and pipelines; one ships."),
    ] = None,
    show_recipe: Annotated[bool, typer.Option("--show-recipe", help="Print the recipe.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, envvar="MARQUEE_TRAIN_WORKERS", help="Data-parallel processes."),
    ] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", envvar="MARQUEE_TRAIN_GPU", help="A GPU for each process."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    seen: Annotated[
        str | None,
        typer.Option(
            envvar="MARQUEE_SEEN",
            help="Whether items that a user has met are recommended again: exclude, allow or auto.",
        ),
    ] = None,
    disliked: Annotated[
        str | None,
        typer.Option(
            envvar="MARQUEE_DISLIKED",
            help="Highest value that is a dislike, or none, or auto: 0 where values lie on both sides.",
        ),
    ] = None,
    split: Annotated[
        SplitName | None,
        typer.Option(help="What is held out: each user's last likes, or the newest of all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train anew even if nothing has changed.")] = False,
    store: Annotated[
        str | None, typer.Option("--publish", envvar="MARQUEE_PUBLISH", help="Folder or URL to copy it to.")
    ] = None,
) -> None:
    """Train the models on Ray and write a bundle; on the cluster that RAY_ADDRESS names, if it is set.

    What no option says is as in the recipe."""
    if context.invoked_subcommand is not None:
        return
    path = recipe or SHIPPED
    try:
        if show_recipe:
            typer.echo(text_of(path), nl=False)
            return
        options = {
            "seed": seed,
            "workers": workers,
            "gpu": gpu,
            "seen": seen,
            "disliked": disliked,
            "split": split,
        }
        chosen = read(path).model_copy(update={k: v for k, v in options.items() if v is not None})
        schema = _schema(home)
        DataManifest.read(home / "data").require_trainable()
        inputs = digest(home / "data", schema.fingerprint(), chosen)
        if not force and (found := up_to_date(home / "bundles", inputs)):
            directory, manifest = found
            Console().print(
                f"Bundle {manifest.version} is up to date: {escape(str(directory))}", soft_wrap=True
            )
        else:
            check(chosen, path)
            with stoppable():
                directory = _train(home, schema, inputs, chosen)
        if store:
            Console().print(f"Published as {escape(publish(directory, store))}", soft_wrap=True)
    except (RecipeError, DataError, SchemaError, PublishError) as error:
        fail(error)
    except KeyboardInterrupt:
        fail("stopped; `marquee train` resumes after the last finished epoch", 130)


def _schema(home: Path) -> FeatureSchema:
    path = home / "features" / "schema.json"
    try:
        return FeatureSchema.from_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"no features in {path.parent}: {made_by('data', 'features')}") from None


def _train(home: Path, schema: FeatureSchema, inputs: str, recipe: Recipe) -> Path:
    # numpy works on small arrays here: with more threads they wait for each other, at five times the cost.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from training.train import train as run
    from training.trainer import TrainingFailed, fit

    try:
        with shown_steps(keep=True) as show:

            def epoch(facts: Mapping[str, Any]) -> None:
                detail = f"epoch {facts['epoch']} of {facts['epochs']}, loss {facts['loss']:.3f}"
                show(f"two-tower {facts['job']}", facts["epoch"], facts["epochs"], detail)

            def on_ray(job_inputs: Inputs, schedule: Schedule, directory: Path) -> Mapping[str, Weights]:
                return fit(job_inputs, schedule, directory, epoch)

            trained = run(home, schema, inputs, recipe, on_ray, show)
    except TrainingFailed as error:
        fail(error)
    _summary(trained)
    return trained.directory


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that Ray is taken down."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _summary(trained: Trained) -> None:
    from training.figures import render

    console = Console()
    data = trained.cases.data
    for note in data.notes:
        console.print(f"[yellow]note[/yellow] {escape(note)}", highlight=False, soft_wrap=True)
    title = f"Validation, offline: leave-one-out by time, full catalogue\n{trained.cases}"
    console.print(render(trained.validation, title))
    table = Table(show_header=False, title=f"Bundle {trained.directory.name}", title_justify="left")
    table.add_row("where", escape(str(trained.directory)))
    dislikes = len(data.every) - len(data.events)
    table.add_row("feedback", sentence(data.feedback, dislikes, len(data.every)))
    for part, seconds in trained.seconds.items():
        table.add_row(part, f"{seconds:.1f} s")
    table.add_row("in all", f"{sum(trained.seconds.values()):.1f} s")
    console.print(table)
