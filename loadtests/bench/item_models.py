"""How good item-to-item models are: the dense ones beside those of a few neighbours, on one data set.

    python -m loadtests.bench.item_models HOME

HOME has data and features (`marquee data`, `marquee features`). Each model alone, fitted on the training
events, ranks all items for each validation event, as `marquee train` does for its own figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console

from features.schema import FeatureSchema
from training.cases import Cases
from training.data.tables import Tables
from training.dataset import build
from training.evaluate import evaluate
from training.figures import render
from training.fit.linear import FUTURE, HALF_LIFE, fit_ease, fit_sequential
from training.fit.neighbours import (
    REGULARISATION,
    SHARE,
    fit_markov_field,
    fit_successors,
    neighbourhoods,
)
from training.models.arrays import Int32
from training.models.eligible import Eligible, top_k
from training.models.linear import DENSE_ITEMS, ItemModel, LinearItemModel
from training.models.neighbours import NeighbourModel

CASES_AT_ONCE = 64
EASE_HALF_LIFE, SEQUENTIAL_HALF_LIFE = 6.0, 4.0
"""Of a history's events, as in the default recipe."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One model as a `training.evaluate.Recommender`."""

    name: str
    model: ItemModel

    def recommend(self, cases: Cases, k: int) -> Int32:
        found = np.full((len(cases), k), -1, np.int32)
        data = cases.data
        shown = np.ones(data.n_items, bool)
        shown[data.catalogue.delisted] = False
        for start in range(0, len(cases), CASES_AT_ONCE):
            at = cases.positions[start : start + CASES_AT_ONCE]
            histories, hidden = data.histories(at), data.hidden_before(at)
            eligible = Eligible.all_but(hidden, shown)
            if isinstance(self.model, NeighbourModel):
                items, _ = self.model.best(histories, eligible, k)
            else:
                items, _ = top_k(eligible.of(self.model.scores(histories)), k)
            for row, best in enumerate(items):
                found[start + row, : len(best)] = best
        return found


def main(home: Path, regularisation: float = REGULARISATION, share: float = SHARE) -> None:
    """Print NDCG@10 and recall of each model."""
    console = Console()
    schema = FeatureSchema.from_json((home / "features" / "schema.json").read_text(encoding="utf-8"))
    data = build(Tables.read(home / "data"), schema)
    known = data.subset(data.train)
    events = known.offsets, known.item_index
    cases = Cases.of(data, data.validation)
    models: list[Alone] = []

    def add(name: str, fit: Callable[..., Any], kind: type[Any], half_life: float, *given: Any) -> None:
        started = time.perf_counter()
        made = fit(*events, *given)
        made = made if isinstance(made, tuple) else (made,)
        models.append(Alone(name, kind.of(*made, half_life)))
        console.print(f"{name}: {time.perf_counter() - started:.1f} s")

    if data.n_items <= DENSE_ITEMS:
        add("EASE", fit_ease, LinearItemModel, EASE_HALF_LIFE, data.n_items)
        add("sequential", fit_sequential, LinearItemModel, SEQUENTIAL_HALF_LIFE, data.n_items)
    pattern = neighbourhoods(*events, data.n_items, regularisation)
    console.print(f"{pattern.lengths.sum():,} neighbours of {data.n_items:,} items")
    given = pattern, regularisation, share
    add("field", fit_markov_field, NeighbourModel, EASE_HALF_LIFE, *given)
    more = HALF_LIFE, FUTURE, share
    add("successors", fit_successors, NeighbourModel, SEQUENTIAL_HALF_LIFE, pattern, regularisation, *more)
    console.print(render(evaluate(models, cases), f"{home}: validation, {cases}"))


if __name__ == "__main__":
    typer.run(main)
