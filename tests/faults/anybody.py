"""Folders of tables as anybody might have them, and the whole way from such a folder to answers, in this
process: read, features, training of an epoch, evaluation, and the HTTP interface over what was trained."""

from __future__ import annotations

import asyncio
import csv
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from features.memory_store import MemoryOnlineStore
from features.progress import silent
from features.schema import FeatureSchema
from serving.build import Placement, compose
from serving.config import ServeConfig
from serving.engine import Engine
from serving.evaluation import PATIENT, ServedPipeline
from serving.http.api import create_api
from serving.observe.prometheus import PrometheusRecorder
from serving.program import Here
from serving.traffic.live import Live
from serving.worker_threads import WorkerThreads
from tests.serving.fakes import post
from training.bundle import read_bundle
from training.cases import Cases
from training.data.prepare import Request, prepare
from training.data.tables import Tables
from training.dataset import build
from training.evaluate import Row as Measured
from training.evaluate import evaluate
from training.loop import Worker
from training.loop import train as fit
from training.recipe import default
from training.train import train

START, DAY = 1_700_000_000, 86_400
Row = dict[str, object]


@dataclass(frozen=True)
class Shape:
    """Which tables and columns a folder has, and how much is in them.

    Attributes:
        each: fewest and most events of a user.
        repeats: whether people meet the same things again.
        value, time: what the columns of interactions say.
        items, users: which columns these tables have: none of them, the ids alone, or some.
        unlisted: share of the items people met that the items table lacks.
    """

    users_n: int = 40
    items_n: int = 25
    each: tuple[int, int] = (6, 14)
    repeats: bool = False
    value: str = "none"
    time: str = "rising"
    items: str = "none"
    users: str = "none"
    unlisted: float = 0.0
    seed: int = 0

    @property
    def enough(self) -> bool:
        """Surely as much as training needs, and of events that can be learned from."""
        new_and_liked = not self.repeats and self.value != "signed"
        return self.users_n >= 40 and self.items_n >= 25 and self.each == (6, 14) and new_and_liked

    def write(self, folder: Path) -> Path:
        chance = random.Random(self.seed)
        folder.mkdir(parents=True)
        write(folder / "interactions.csv", self._events(chance))
        if self.items != "none":
            listed = range(int(self.unlisted * self.items_n), self.items_n)
            write(folder / "items.csv", (self._item(item) for item in listed))
        if self.users != "none":
            write(folder / "users.csv", (self._user(user) for user in range(self.users_n)))
        return folder

    def _events(self, chance: random.Random) -> Iterable[Row]:
        for user in range(self.users_n):
            wanted, everything = chance.randint(*self.each), range(self.items_n)
            few = chance.sample(everything, min(2 if self.repeats else wanted, self.items_n))
            for event in range(wanted if self.repeats else len(few)):
                row: Row = {"user_id": f"u{user}", "item_id": f"i{few[event % len(few)]}"}
                if self.value != "none":
                    stars, thumbs = chance.randint(1, 5), (event + user) % 3 - 1
                    values = {"ratings": stars, "signed": thumbs, "zeros": 0, "same": 2.5}
                    row["value"] = values[self.value]
                if self.time != "none":
                    row["timestamp"] = START if self.time == "same" else START + DAY * event + user
                yield row

    def _item(self, item: int) -> Row:
        row: Row = {"item_id": f"i{item}"}
        if self.items in ("title", "all"):
            row["title"] = f"The {item}th" if item % 3 else ""
        if self.items == "all":
            row |= {"kind[]": "a|b" if item % 2 else "", "year": 1990 + item, "empty": ""}
        return row

    def _user(self, user: int) -> Row:
        more: Row = {"age": 20 + user, "job": "nurse" if user % 2 else "cook"} if self.users == "all" else {}
        return {"user_id": f"u{user}", **more}


shapes = st.builds(
    Shape,
    users_n=st.sampled_from([1, 12, 40, 60, 90, 120]),
    items_n=st.sampled_from([1, 10, 25, 40, 40]),
    each=st.sampled_from([(1, 4), (4, 4), (4, 12), (6, 14), (6, 14)]),
    repeats=st.booleans(),
    value=st.sampled_from(["none", "ratings", "signed", "zeros", "same"]),
    time=st.sampled_from(["none", "rising", "rising", "same"]),
    items=st.sampled_from(["none", "ids", "title", "all"]),
    users=st.sampled_from(["none", "ids", "all"]),
    unlisted=st.sampled_from([0.0, 0.2, 0.8, 1.0]),
    seed=st.integers(0, 3),
)


def write(path: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    names = list(rows[0]) if rows else ["item_id"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True)
class Journey:
    """Attributes:
    cases, figures: of the evaluation of the served pipeline.
    answers: of every known user, as JSON, asked all at once.
    others: of a user nobody knows, a ranking, what is similar to an item.
    """

    tables: Tables
    engine: Engine
    cases: Cases
    figures: Measured
    answers: dict[str, dict[str, Any]]
    others: tuple[dict[str, Any], ...]
    delisted: frozenset[str]


def movielens(folder: Path, seed: int = 0) -> Path:
    """A folder in the layout of ml-latest-small and its larger sisters, which have no users."""
    ratings = list(Shape(value="ratings", seed=seed)._events(random.Random(seed)))
    folder.mkdir(parents=True)
    users = [{"userId": str(r["user_id"])[1:], "movieId": str(r["item_id"])[1:]} for r in ratings]
    write(
        folder / "ratings.csv",
        (
            {**who, "rating": row["value"], "timestamp": row["timestamp"]}
            for who, row in zip(users, ratings, strict=True)
        ),
    )
    films = range(25)
    write(
        folder / "movies.csv",
        ({"movieId": n, "title": f"Film {n} ({1990 + n})", "genres": "Drama|Action"} for n in films),
    )
    write(
        folder / "tags.csv", ({"userId": 1, "movieId": n, "tag": "slow", "timestamp": START} for n in films)
    )
    write(folder / "links.csv", ({"movieId": n, "imdbId": f"{n:07}", "tmdbId": n} for n in films))
    return folder


def journey(folder: Path, home: Path, people: int | None = None, **settings: Any) -> Journey:
    """From the folder to answers; `settings` are the recipe's.

    Args:
        people: users who are asked for, those with most interactions; None: everyone.

    Raises:
        DataError, SchemaError: what the commands print as one line.
    """
    prepare(Request("own", folder), home, progress=silent)
    tables = Tables.read(home / "data")
    schema = FeatureSchema.infer(tables.interactions, tables.items, tables.users)
    directory = train(
        home,
        schema,
        inputs="tests",
        recipe=default().with_options("two_tower", epochs=1).model_copy(update=settings),
        fit=lambda inputs, recipe, _: fit(inputs, recipe, Worker(), None, lambda *_: None),
        said=lambda _: None,
    ).directory
    bundle = read_bundle(str(directory))
    data = build(tables, schema, bundle.manifest.feedback)
    figures = evaluate([ServedPipeline(bundle, tables)], cases := Cases.of(data, data.test))
    delisted = frozenset(bundle.catalogue.ids[index] for index in bundle.catalogue.delisted)
    config = ServeConfig(bundle=bundle.manifest.version, budgets=PATIENT)
    store = MemoryOnlineStore.from_events(schema, tables.interactions, tables.items, tables.users)
    often = Counter(tables.interactions["user_id"].cast("string").to_pylist())
    users = [user for user, _ in often.most_common(people)]
    workers = WorkerThreads()
    engine = compose(bundle, store, config, placement=Placement(runner=Here(workers)))
    answers, others = asyncio.run(_asked(engine, config, users))
    workers.close()
    by_user = dict(zip(users, answers, strict=True))
    return Journey(tables, engine, cases, figures[0], by_user, others, delisted)


async def _asked(
    engine: Engine, config: ServeConfig, users: Sequence[str]
) -> tuple[list[dict[str, Any]], tuple[dict[str, Any], ...]]:
    app = create_api(Live.of(engine), config, PrometheusRecorder())

    async def answer(path: str, body: dict[str, object]) -> dict[str, Any]:
        reply = await post(app, path, body)
        assert reply.status == 200, reply.body
        said: dict[str, Any] = reply.json
        return said

    item = engine.catalogue.ids[0]
    answers, together = [], config.limits.in_flight
    for first in range(0, len(users), together):
        some = users[first : first + together]
        asked = (answer("/v1/recommendations", {"user_id": user, "explain": True}) for user in some)
        answers += await asyncio.gather(*asked)
    return answers, (
        await answer("/v1/recommendations", {"user_id": "nobody at all", "explain": True}),
        await answer("/v1/rank", {"user_id": users[0], "item_ids": [item], "explain": True}),
        await answer(f"/v1/items/{item}/similar", {}),
    )
