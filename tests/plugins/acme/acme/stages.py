"""A source of picks, and a filter that keeps a genre from those who did not ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from acme.picks import Picks
from serving.batch import Candidates, Queries
from serving.eligibility import Eligibility
from serving.parts import Options, Parts
from serving.types import Mask
from training.models.ragged import Ragged, heads, splits
from training.spec import PipelineSpec, StageSpec


@dataclass(frozen=True, slots=True)
class PicksSource:
    """The same picks for everybody, as far as they may be shown."""

    picks: Picks
    eligibility: Eligibility
    limit: int
    name: str
    personal: ClassVar[bool] = False
    MODELS: ClassVar[Mapping[str, type]] = {"picks": Picks}

    class Settings(Options):
        limit: PositiveInt

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> PicksSource:
        return cls(parts.model(spec, "picks"), parts.eligibility, cls.Settings.of(spec).limit, spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def retrieve(self, queries: Queries) -> Candidates:
        every = Ragged.of([self.picks.item_index] * len(queries), np.int32)
        weight = np.tile(self.picks.weight, len(queries))
        shown = Candidates.of(every, weight).keep(self.eligibility.of(queries).allows(every))
        first = heads(shown.row_splits, self.limit)
        return shown.pick(first, splits(np.minimum(shown.lengths, self.limit)))


class FamilyFilter:
    """Nothing of a genre, unless the request's context says `{"adults": 1}`."""

    class Settings(Options):
        genre: str

    def __init__(self, kept: Mask, name: str) -> None:
        """Args:
        kept: bool [n_items].
        """
        self._kept, self.name = kept, name

    @classmethod
    def build(cls, spec: StageSpec, parts: Parts, pipeline: PipelineSpec) -> FamilyFilter:
        genre = cls.Settings.of(spec).genre
        genres: Any = parts.catalogue.table["genres"].to_pylist()
        return cls(np.array([genre not in (of or ()) for of in genres], np.bool_), spec.name)

    @staticmethod
    def takes(queries: Queries) -> Mask:
        return np.ones(len(queries), np.bool_)

    def keep(self, queries: Queries, candidates: Candidates) -> Mask:
        adults = np.array([bool(context.get("adults")) for context in queries.context], np.bool_)
        kept: Mask = adults[candidates.row] | self._kept[candidates.item_index]
        return kept
