"""What a feature is: names, kinds, defaults, ages, order, and the fingerprint that ties a model to them.

Everything else follows from a `FeatureSchema`: Feast's definitions, the rows in Redis, the order of model
inputs. Does not belong here: values (`transforms`), finding a schema in tables (`inference`), Feast.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2
"""Raised when the meaning of a schema's JSON, of a statistic or of an encoding changes."""

HISTORY_LENGTH = 1024
"""Events kept whole in a user's online row, newest last: all of nearly everyone's (the most active user of
MovieLens-100K has 737), and short enough for one read: 24 kB. Of the events before them the row keeps which
items they were of and the newest value of each, 8 bytes an item, so that "seen" is complete for everyone."""

USER_ID, ITEM_ID, EVENT_TIME = "user_id", "item_id", "event_timestamp"


class SchemaError(Exception):
    """Tables or a schema that cannot be used; the message says what to change."""


class Kind(StrEnum):
    """What a feature's values are, and with that how a model sees them."""

    NUMBER = "number"  # float32; one input, standardised
    CATEGORY = "category"  # one string; an input for each word of the vocabulary
    CATEGORIES = "categories"  # strings; likewise, weights adding up to 1
    TIME = "time"  # float64 unix seconds; no input of its own
    TEXT = "text"  # a string to show; never an input
    IDS = "ids"  # history: item ids, oldest first
    NUMBERS = "numbers"  # history: float32
    TIMES = "times"  # history: float64 unix seconds
    HASHES = "hashes"  # history: uint32 hashes of item ids, ascending (`features.hashing`)


HISTORY_KINDS = frozenset({Kind.IDS, Kind.NUMBERS, Kind.TIMES, Kind.HASHES})


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Attributes:
        unit: of a number, for people.
        default: what stands for a missing number, in its unit. Missing strings are "", lists are empty,
            times are NaN.
        ttl_s: seconds after which a reader should call the value stale; None: never. Feast does not enforce
            it online.
        vocabulary: of a category, sorted; any other word is encoded as zeros.
        log: whether a number enters as log(1 + x).
        mean, scale: of the number as it enters, after the logarithm; an input is (x - mean) / scale.
    """

    name: str
    kind: Kind
    description: str
    unit: str = ""
    default: float = 0.0
    ttl_s: float | None = None
    vocabulary: tuple[str, ...] = ()
    log: bool = False
    mean: float = 0.0
    scale: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model inputs it becomes, in order."""
        if self.kind is Kind.NUMBER:
            return (self.name,)
        return tuple(f"{self.name}={word}" for word in self.vocabulary)


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """The features of users, items and the moment of a request, in the order of every array of theirs.

    Attributes:
        user: statistics, then history, then the users table's own columns.
        item: statistics, then the items table's own columns.
        context: computed when asked, never stored.
        ignored: columns of the tables (`users.embedding`) whose type is not understood.
    """

    user: tuple[Feature, ...]
    item: tuple[Feature, ...]
    context: tuple[Feature, ...]
    ignored: tuple[str, ...] = ()

    @staticmethod
    def infer(interactions: pa.Table, items: pa.Table, users: pa.Table) -> FeatureSchema:
        """The schema of a data set: see `features.inference`.

        Raises:
            SchemaError: a column's name clashes with a feature's.
        """
        from features.inference import infer

        return infer(interactions, items, users)

    @property
    def user_inputs(self) -> tuple[str, ...]:
        return inputs(self.user)

    @property
    def item_inputs(self) -> tuple[str, ...]:
        return inputs(self.item)

    @property
    def context_inputs(self) -> tuple[str, ...]:
        return inputs(self.context)

    @property
    def user_width(self) -> int:
        return len(self.user_inputs)

    @property
    def item_width(self) -> int:
        return len(self.item_inputs)

    @property
    def context_width(self) -> int:
        return len(self.context_inputs)

    def to_json(self) -> str:
        """Canonical: equal schemas give equal bytes. Numbers are written so that they read back exactly."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False, indent=1)

    @staticmethod
    def from_json(text: str) -> FeatureSchema:
        """What `to_json` wrote.

        Raises:
            SchemaError: it is not a schema, or one of another format.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise SchemaError(
                    f"feature schema of format {raw['format']}, this version reads {FORMAT}: "
                    "run `marquee features --force`, then `marquee train`"
                )
            return FeatureSchema(
                user=tuple(map(_feature, raw["user"])),
                item=tuple(map(_feature, raw["item"])),
                context=tuple(map(_feature, raw["context"])),
                ignored=tuple(raw["ignored"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SchemaError(f"not a feature schema ({error!r}): run `marquee features --force`") from error

    def fingerprint(self) -> str:
        """sha256 of the JSON, 64 hex digits: a model fits the features it was trained on, or not at all."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def inputs(features: tuple[Feature, ...]) -> tuple[str, ...]:
    """Names of the model inputs of these features, in order."""
    return tuple(name for feature in features for name in feature.inputs)


def _feature(raw: Mapping[str, Any]) -> Feature:
    return Feature(**{**raw, "kind": Kind(raw["kind"]), "vocabulary": tuple(raw["vocabulary"])})
