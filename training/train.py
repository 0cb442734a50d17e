"""From tables, a schema and a recipe to a bundle: data, models (`training.fitting`), validation, files."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from features.schema import FeatureSchema
from training.bundle import Manifest, write_bundle
from training.cases import Cases
from training.data.manifest import DataError
from training.data.tables import Tables
from training.dataset import Dataset, build
from training.evaluate import Row, baselines, evaluate
from training.evidence import decide
from training.fitting import fit_models
from training.loop import Inputs, Weights
from training.model_card import model_card
from training.recipe import Recipe
from training.registry import requirements
from training.schedule import Schedule

Fit = Callable[[Inputs, Schedule, Path], Mapping[str, Weights]]
"""Trains the two-towers of `Inputs.jobs`, resuming what it finds in the folder: `trainer.fit` on Ray."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Attributes:
    directory: of the bundle.
    cases, validation: figures of the offline path, ours and the baselines', and what they are of.
    seconds: part of the run → wall seconds.
    """

    directory: Path
    cases: Cases
    validation: tuple[Row, ...]
    seconds: Mapping[str, float]


@dataclass(slots=True)
class Clock:
    """Wall seconds of named parts; `begin` ends the part before it."""

    said: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    _part: str = ""
    _since: float = 0.0

    def begin(self, part: str) -> None:
        self.end()
        self.said(part)
        self._part, self._since = part, time.perf_counter()

    def end(self) -> None:
        if self._part:
            self.seconds[self._part] = time.perf_counter() - self._since
            self._part = ""


def train(
    home: Path, schema: FeatureSchema, inputs: str, recipe: Recipe, fit: Fit, said: Callable[[str], None]
) -> Trained:
    """Trains on `<home>/data` and writes a bundle into `<home>/bundles`.

    Args:
        inputs: digest of everything that goes in (`training.inputs`): names the folder of checkpoints, so
            that a run resumes exactly what it would have made.
        recipe: checked (`training.recipe_check`).
        said: called with the name of each part as it begins.

    Raises:
        DataError: no data, too little of it, another run on this home, or a kind of another package that
            cannot be fitted on it.
        TrainingFailed: as its name says.
    """
    clock = Clock(said)
    with _workspace(home / "training", inputs) as workspace:
        clock.begin("data")
        tables = Tables.read(home / "data")
        feedback = decide(tables.interactions, recipe.seen, recipe.disliked)
        data = build(tables, schema, feedback, recipe.split)
        cases = Cases.of(data, data.validation)
        made = fit_models(data, recipe, lambda given: fit(given, recipe.schedule, workspace), clock.begin)
        clock.begin("validation")
        ours = [] if made.offline is None else [made.offline]
        validation = evaluate([*ours, *baselines(data)], cases)
        clock.begin("bundle")
        directory = write_bundle(
            home / "bundles",
            schema=schema,
            catalogue=data.catalogue,
            components=made.components,
            declaration=recipe.declaration(requirements(recipe.declaration())),
            model_card=model_card(cases, tables.about, recipe, validation),
            manifest=_manifest(data, tables, recipe, inputs),
        )
        clock.end()
    return Trained(directory, cases, validation, clock.seconds)


def _manifest(data: Dataset, tables: Tables, recipe: Recipe, inputs: str) -> Manifest:
    return Manifest(
        name=f"marquee-{tables.about.name}",
        version="",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data_window=data.window,
        data_licence=tables.about.licence,
        schema_fingerprint="",
        parent=None,
        seed=recipe.seed,
        files={},
        inputs=inputs,
        feedback=data.feedback,
        split=recipe.split,
    )


@contextmanager
def _workspace(root: Path, inputs: str) -> Iterator[Path]:
    """The folder for these inputs' checkpoints. What other inputs left goes now, this one after success.

    Raises:
        DataError: another run holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another `marquee train` is at work in {root}: wait for it or stop it") from None
        workspace = root / inputs[:12]
        for stale in root.iterdir():
            if stale.is_dir() and stale != workspace:
                shutil.rmtree(stale, ignore_errors=True)
        yield workspace
        shutil.rmtree(workspace, ignore_errors=True)
