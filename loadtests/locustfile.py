"""People who watch films: they ask for recommendations, look at one, at what is similar, and ask again.

    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000 --users 20 --run-time 60s

`--shape` says how many people there are when; `--users` is the most. At the end the test is held against
`loadtests.slo`, and the exit code is 1 where it missed something. With `--master` and `--worker` the master
judges what all workers saw. Does not belong here: requests for benchmarks (`loadtests.traffic`).
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import gevent
import numpy as np
from locust import FastHttpUser, LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.profiles import PROFILES, people
from loadtests.slo import Objectives, breaches
from loadtests.tally import Tally
from loadtests.traffic import shares

ANSWER_S = 10.0
"""Seconds after which a request has failed."""

RETRY_S = 0.2
"""Seconds before a request is tried again: a replica that ended is out of rotation by then."""

LOOK_S = 2.0
"""Mean seconds between two steps of a person, exponentially distributed; short for people, so that a machine
can stand for many."""

ITEMS = 10
"""Items asked for."""

EXPLAINED = 0.1
"""Share of requests with reasons, as in `loadtests.traffic`."""

VISITORS = 0.05
"""Share of people without a user id, whose session goes along."""

MET = 1_000
"""Items kept that answers brought, for the sessions of visitors; so no list of items is needed beforehand."""

DEFAULT_RUN_S = 60.0
"""Seconds where no --run-time is given: a shape needs an end."""

tally = Tally()


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    marquee = parser.add_argument_group("Marquee")
    marquee.add_argument("--shape", choices=sorted(PROFILES), default="steady", help="people over time")
    marquee.add_argument("--population", type=int, default=943, help="user ids are 1 to this, by Zipf's law")
    marquee.add_argument("--user-ids", type=Path, default=None, help="a file with one id a line, instead")
    marquee.add_argument("--retries", type=int, default=1, help="attempts after a failed one; 0 for none")
    marquee.add_argument("--report", type=Path, default=None, help="write what was seen there, as JSON")
    for name, default in (("failed", Objectives().failed), ("degraded", Objectives().degraded)):
        marquee.add_argument(f"--max-{name}", type=float, default=default, help=f"share {name}, at most")
    marquee.add_argument("--max-lost", type=float, default=Objectives().lost, help="share lost after retries")
    marquee.add_argument("--max-p99-ms", type=float, default=Objectives().p99_ms, help="ms, at most")


@events.init.add_listener
def begin(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    assert options is not None
    if environment.runner is not None:
        # With a shape Locust would end without a word, and without a judgement.
        gevent.signal_handler(signal.SIGTERM, environment.runner.quit)
    Person.ids = _user_ids(options.user_ids, options.population)
    Person.popularity = np.cumsum(shares(len(Person.ids), 1.0))
    Person.retries = options.retries


def _user_ids(file: Path | None, population: int) -> list[str]:
    """In the order of how often they ask: shuffled, as a low id means nothing, and alike on every worker."""
    ids = [str(1 + at) for at in range(population)] if file is None else file.read_text("utf-8").split()
    random.Random(0).shuffle(ids)
    return ids


@events.report_to_master.add_listener
def send(client_id: str, data: dict[str, Any], **_: object) -> None:
    data["marquee"] = tally.taken()


@events.worker_report.add_listener
def receive(client_id: str, data: dict[str, Any], **_: object) -> None:
    tally.add(data["marquee"])


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Says what was missed; the master, or the only process, sets the exit code."""
    options = environment.parsed_options
    assert options is not None
    if options.worker:
        return
    objectives = Objectives(options.max_failed, options.max_lost, options.max_p99_ms, options.max_degraded)
    missed = breaches(tally.outcome(), objectives)
    environment.process_exit_code = 1 if missed else 0
    print("\n".join(f"missed  {line}" for line in missed) or f"kept    {objectives}")
    if options.report is not None:
        options.report.write_text(json.dumps({**tally.taken(), "missed": missed}), encoding="utf-8")


class Shape(LoadTestShape):
    """The profile that was chosen, over the test's time."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        length, most = float(options.run_time or DEFAULT_RUN_S), int(options.num_users or 1)
        passed = self.get_run_time()
        if passed >= length:
            return None
        return people(options.shape, most, passed / length), float(options.spawn_rate or most)


class Person(FastHttpUser):
    """One session after another, each of somebody else."""

    network_timeout = connection_timeout = ANSWER_S
    ids: ClassVar[list[str]]
    popularity: np.ndarray
    retries: int
    met: ClassVar[deque[str]] = deque(maxlen=MET)

    def wait_time(self) -> float:
        return random.expovariate(1 / LOOK_S)

    @task
    def session(self) -> None:
        """Recommend, look, similar, recommend."""
        who: dict[str, Any] = {"user_id": self._somebody()}
        if self.met and random.random() < VISITORS:
            who = {"session": {"events": [{"item_id": random.choice(self.met)}]}}
        shown = self._recommend(who)
        if not shown:
            return
        gevent.sleep(self.wait_time())
        looked_at = random.choice(shown)
        self._ask(f"/v1/items/{looked_at}/similar", "/v1/items/{id}/similar", {"count": ITEMS}, who)
        gevent.sleep(self.wait_time())
        self._recommend(who)

    def _somebody(self) -> str:
        rank = int(np.searchsorted(self.popularity, random.random()))
        return self.ids[min(rank, len(self.ids) - 1)]

    def _recommend(self, who: dict[str, Any]) -> list[str]:
        body = {**who, "count": ITEMS, "explain": random.random() < EXPLAINED}
        return self._ask("/v1/recommendations", "/v1/recommendations", body, who)

    def _ask(self, path: str, name: str, body: dict[str, Any], who: dict[str, Any]) -> list[str]:
        """The ids of the answer's items; none where it failed at every attempt."""
        tally.asked += 1
        for attempt in range(1 + self.retries):
            started = time.perf_counter()
            with self.client.post(path, json=body, name=name, catch_response=True) as response:
                if (answer := _whole(response)) is not None:
                    tally.answered((time.perf_counter() - started) * 1e3, answer)
                    self.met.extend(shown := [item["id"] for item in answer["items"]])
                    return shown
                said = response.text or ""  # None where the connection broke
                response.failure(f"status {response.status_code}: {said[:200]}")
            if attempt == 0:
                tally.fail(who.get("user_id", ""))
            refused = 400 <= response.status_code < 500 and response.status_code != 429
            if refused or attempt == self.retries:
                break
            gevent.sleep(RETRY_S)
        tally.lost += 1
        return []


def _whole(response: Any) -> Any | None:
    """The answer; None where there is none, or its connection broke off after the head."""
    if response.status_code != 200:
        return None
    try:
        return response.json()
    except (ValueError, TypeError):
        return None
