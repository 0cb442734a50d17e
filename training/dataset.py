"""From tables and a schema to the arrays that models are fitted on and judged by.

An *event* is a position in `events`: sorted by user, then time, then file order, so what the user did before
it is the run of positions from the user's first. Validation and test take the ends of these runs; training
events are therefore a run of their own, and so are those that the ranker's lists are made of. Dislikes are no
events in this sense: they stand in `every` alone, which says what was met.
Does not belong here: models, and where files lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.rows import profiles
from features.schema import Feature, FeatureSchema, Kind, inputs
from features.statistics import State, Timeline
from features.store import Column
from features.transforms import encode, item_statistics, items_at, user_statistics
from training.catalogue import Catalogue, presentable
from training.data import indexed
from training.data.indexed import IndexedInteractions
from training.data.manifest import DataError
from training.data.split import SPLITS
from training.data.tables import Tables
from training.evidence import decide
from training.feedback import Feedback
from training.models.ragged import Items, Ragged, ranges, splits
from training.past import disliked, hidden

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

KEPT_EVENTS = 10
"""Training events that a user keeps before more than one is held back (`held_back`). Where people have few
events, the models that are to be judged on what is held back need nearly all of them."""

MIN_LISTED_SHARE = 0.5
"""Of the items of interactions, so many must have a row in items for the table to be the catalogue: what has
none was then taken out, and is not recommended."""

ENCODED_EVENTS = 1 << 18
"""Events whose users' features are encoded at once: 50 MB of float64 on the way to float32."""

MIN_TRAINING_EVENTS, MIN_TEST_USERS, MIN_ITEMS = 200, 10, 10
"""Below these there is nothing to learn, or nothing to choose by: a two-tower would memorise the rows."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Attributes:
    feedback: what the interactions mean.
    every: all interactions. events: those of them that are likes, of n.
    at: int64 [n], where in `every` each of `events` is.
    train, validation, test: positions into `events`, int64, ascending.
    user_features: float32 [n, schema.user_width], inputs of each event's user just before it.
    catalogue: items in the order of `events.item_ids`; statistics among its features are as of the end of
        the training events.
    notes: sentences about what was left out, for whoever trains.
    """

    schema: FeatureSchema
    feedback: Feedback
    every: IndexedInteractions
    events: IndexedInteractions
    at: Int64
    train: Int64
    validation: Int64
    test: Int64
    user_features: Float32
    catalogue: Catalogue
    notes: tuple[str, ...] = ()

    @property
    def n_items(self) -> int:
        return len(self.catalogue)

    @property
    def n_listed(self) -> int:
        """Items that may be recommended."""
        return self.n_items - len(self.catalogue.delisted)

    @property
    def item_profiles(self) -> Float32:
        """float32 [m, p]: the catalogue's features without the statistics, which come first; one column of
        zeros where items have no columns of their own."""
        statistics = item_statistics(State.empty(0))
        own = inputs(tuple(feature for feature in self.schema.item if feature.name not in statistics))
        if not own:
            return np.zeros((self.n_items, 1), np.float32)
        return np.ascontiguousarray(self.catalogue.features[:, self.schema.item_width - len(own) :])

    @property
    def categories(self) -> Float32:
        """float32 [m, c]: how much of an item each word is, of items' first column of several words (of films
        the genres), else of one word; c is 0 where they have none."""
        for kind in (Kind.CATEGORIES, Kind.CATEGORY):
            start = 0
            for feature in self.schema.item:
                width = len(feature.inputs)
                if feature.kind is kind and width:
                    return self.catalogue.features[:, start : start + width]
                start += width
        return np.zeros((self.n_items, 0), np.float32)

    def histories(self, positions: Int64) -> Items:
        """The items that each event's user had before it, oldest first."""
        starts = self.events.offsets[self.events.user_index[positions]]
        return Ragged(self.events.item_index[ranges(starts, positions)], splits(positions - starts))

    def hidden(self, position: int) -> Int32:
        """The items that could not be recommended to its user just before this event, for what was met."""
        start = self.every.offsets[self.events.user_index[position]]
        past = slice(int(start), int(self.at[position]))
        met = self.every.item_index[past]
        return hidden(self.feedback.seen, met, disliked(self.feedback, met, self.every.value[past]))

    def hidden_before(self, positions: Int64) -> Items:
        """`hidden` of each event."""
        return Ragged.of([self.hidden(position) for position in positions.tolist()], np.int32)

    def hold_out(self, per_user: int) -> tuple[Int64, Int64]:
        """Training events as (older, newest): the newest `per_user` of each user at most, by `held_back`."""
        users = self.events.user_index[self.train]
        counts = np.bincount(users, minlength=len(self.events.user_ids))
        older = self.train < (self.events.offsets[:-1] + counts - held_back(counts, per_user))[users]
        return self.train[older], self.train[~older]

    def examples(self, positions: Int64) -> Int64:
        """Those with a history: a user's first event teaches nothing."""
        return positions[positions > self.events.offsets[self.events.user_index[positions]]]

    def subset(self, positions: Int64) -> IndexedInteractions:
        return self.events.select(self.events.row[positions])

    @property
    def window(self) -> tuple[str, str]:
        """First and last training event, UTC, ISO 8601."""
        times = self.events.timestamp[self.train]
        first, last = (datetime.fromtimestamp(int(t), UTC) for t in (times.min(), times.max()))
        return first.isoformat(), last.isoformat()


def held_back(counts: Int64, most: int) -> Int64:
    """int64 [u]: how many of each user's events, of which there are `counts` [u], others must not see.

    At most `most`, and no more than leave `KEPT_EVENTS`; one, where a user has less than that. A pair is the
    least that teaches anything, so of the users with two events every other one keeps both, and those with
    one keep it: models of the older events always have something to learn, wherever there is anything.
    """
    held = np.clip(counts - KEPT_EVENTS, 1, most)
    pairs = np.flatnonzero(counts == 2)
    held[pairs[::2]] = 0
    held[counts < 2] = 0
    return held


def build(
    tables: Tables, schema: FeatureSchema, feedback: Feedback | None = None, split: str = "leave_one_out"
) -> Dataset:
    """Split and encoded.

    Args:
        split: what is held out, of `training.data.split.SPLITS`.
        feedback: what the interactions mean; None: what they themselves say (`training.evidence`).

    Raises:
        DataError: too few users, items or interactions to train on.
    """
    feedback = decide(tables.interactions) if feedback is None else feedback
    every = indexed.encode(tables)
    at = np.flatnonzero(feedback.likes(every.value))
    events = every if len(at) == len(every) else every.select(every.row[at])
    liked = np.sort(events.row)
    parts = SPLITS[split](tables.interactions.take(liked))
    place = np.empty(len(every), np.int64)
    place[events.row] = np.arange(len(events))
    train, validation, test = (
        np.sort(place[liked[rows]]) for rows in (parts.train, parts.validation, parts.test)
    )
    delisted, about_delisted = _delisted(tables, every)
    validation, test = (_without(delisted, events.item_index, each) for each in (validation, test))
    users = min(len(np.unique(events.user_index[each])) for each in (validation, test))
    _require_enough(len(train), users, len(events.item_ids), tables.about.name)
    shown, hidden = presentable(tables.items)
    user_features = _user_features(schema, every, tables.users)
    features = item_features(schema, events.select(events.row[train]), tables.items)
    return Dataset(
        schema,
        feedback,
        every,
        events,
        at,
        train,
        validation,
        test,
        user_features if len(at) == len(every) else user_features[at],
        Catalogue(shown, features, delisted),
        (*about_delisted, *(f"items.{name} is in no answer: JSON cannot say its values" for name in hidden)),
    )


def _delisted(tables: Tables, events: IndexedInteractions) -> tuple[Int32, tuple[str, ...]]:
    """Items of interactions that the source's items table does not have, and what is to be said of them.

    Who takes an item out of the table wants it out of the answers too. A table that has less than
    `MIN_LISTED_SHARE` of the items that people met is a table of something else (other ids, a sample), and
    takes nothing out.
    """
    met = np.unique(events.item_index)
    listed = tables.facts.listed_items
    gone = met[met >= (len(events.item_ids) if listed is None else listed)]
    if not len(gone):
        return gone, ()
    have = f"items has a row for {len(met) - len(gone):,} of the {len(met):,} items of interactions"
    if len(met) - len(gone) < MIN_LISTED_SHARE * len(met):
        return gone[:0], (f"{have}, less than half: it is not taken for the catalogue, every item counts",)
    return gone, (f"{have}: the other {len(gone):,} count in histories and are not recommended",)


def _without(items: Int32, item_index: Int32, positions: Int64) -> Int64:
    return positions[~np.isin(item_index[positions], items)] if len(items) else positions


def _require_enough(train: int, users: int, items: int, name: str) -> None:
    for have, need, what in (
        (train, MIN_TRAINING_EVENTS, "training interactions"),
        (users, MIN_TEST_USERS, "users with interactions to hold out (three each, where the last is)"),
        (items, MIN_ITEMS, "items"),
    ):
        if have < need:
            raise DataError(f"{name} has {have:,} {what}; training needs {need:,}: choose a larger data set")


def _user_features(schema: FeatureSchema, events: IndexedInteractions, users: pa.Table) -> Float32:
    """Of each event's user, just before it: what Feast's point-in-time join gives, a hundred times faster
    (`features.offline.training_set`; `tests/training/test_dataset.py` holds them equal)."""
    line = Timeline.of(events.user_index, events.value, events.timestamp, len(events.user_ids))
    seen = np.arange(len(events)) - events.offsets[events.user_index]
    per_user = _encoded(schema.user, profiles(schema.user, users), users.num_rows)
    made = np.empty((len(events), schema.user_width), np.float32)
    for start in range(0, len(events), ENCODED_EVENTS):
        part = slice(start, start + ENCODED_EVENTS)
        user = events.user_index[part]
        before = user_statistics(line.at(user.astype(np.intp), seen[part].astype(np.intp)))
        per_event = _encoded(schema.user, before, len(user))
        made[part, : per_event.shape[1]] = per_event
        made[part, per_event.shape[1] :] = per_user[user]
    return made


def item_features(schema: FeatureSchema, events: IndexedInteractions, items: pa.Table) -> Float32:
    """float32 [m, schema.item_width]: items as of the newest of `events`."""
    line = Timeline.of(events.item_index, events.value, events.timestamp, len(events.item_ids))
    latest = item_statistics(line.latest())
    columns = {**items_at(latest, float(events.timestamp.max())), **profiles(schema.item, items)}
    return _encoded(schema.item, columns, items.num_rows)


def _encoded(features: Sequence[Feature], columns: Mapping[str, Column], rows: int) -> Float32:
    """Inputs of those features there are columns for, in the schema's order; of no column too."""
    return encode([feature for feature in features if feature.name in columns], columns, rows)
