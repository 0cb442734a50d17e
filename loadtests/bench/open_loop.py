"""The locustfile of `load.open`: many people, each asking once a period from a moment of their own.

Latencies are kept as they are: Locust's own statistics round to whole milliseconds. Does not belong here:
anything another process imports; Locust runs this file.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

ANSWER_S = 10.0
"""Seconds after which a request has timed out."""


class Recorder:
    """What came back of the requests that were sent within the counted seconds."""

    def __init__(self, begin: float, seconds: float) -> None:
        """`begin` in unix seconds."""
        self._begin, self._seconds = begin, seconds
        self._latencies_ms: list[float] = []
        self._errors = self._non_2xx = 0

    def __call__(self, start_time: float, response_time: float, response: Any, **_: object) -> None:
        if not 0 <= start_time - self._begin < self._seconds:
            return
        status = getattr(response, "status_code", 0) or 0
        if not status:
            self._errors += 1
            return
        self._latencies_ms.append(response_time)
        self._non_2xx += not 200 <= status < 300

    def write(self, path: Path) -> None:
        found = {
            "latencies_ms": self._latencies_ms,
            "seconds": self._seconds,
            "errors": self._errors,
            "non_2xx": self._non_2xx,
        }
        path.write_text(json.dumps(found), encoding="utf-8")


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--period", type=float, required=True, help="s between two requests of one person")
    parser.add_argument("--warm", type=float, required=True, help="s that are not counted")
    parser.add_argument("--seconds", type=float, required=True, help="s that are")
    parser.add_argument("--report", type=Path, required=True)


@events.test_start.add_listener
def begin(environment: Environment, **_: object) -> None:
    given = environment.parsed_options
    assert given is not None
    Person.bodies = itertools.cycle(given.bodies.read_text(encoding="utf-8").splitlines())
    Person.path, Person.period = given.path, given.period
    recorder = Recorder(time.time() + given.warm, given.seconds)
    environment.events.request.add_listener(recorder)
    environment.events.quit.add_listener(lambda **_: recorder.write(given.report))


class Person(FastHttpUser):
    network_timeout = connection_timeout = ANSWER_S
    bodies: itertools.cycle[str]
    path: str
    period: float

    def on_start(self) -> None:
        gevent.sleep(random.uniform(0, self.period))
        self._next = time.perf_counter()

    def wait_time(self) -> float:
        """Until the next moment of this person's own timetable, which late answers do not move."""
        self._next += self.period
        return max(0.0, self._next - time.perf_counter())

    @task
    def ask(self) -> None:
        self.client.post(self.path, data=next(self.bodies), headers={"Content-Type": "application/json"})
