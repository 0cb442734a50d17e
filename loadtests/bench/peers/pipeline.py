"""Talks to `in_process`: the arm that has no server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.bench.peers.arms import Program
from loadtests.bench.peers.calls import Calls
from loadtests.bench.peers.figures import MANY, Pipeline

END_S = 10.0

PAUSE_S = 1e-3
"""Seconds without work between two calls: about what a server and its client take between two requests."""


class PipelineFailed(Exception):
    """The process ended; what it said is on the terminal."""


@dataclass(frozen=True, slots=True)
class Caller:
    process: subprocess.Popen[str]

    def measure(self, seconds: float) -> Pipeline:
        """Calls for that long in each of four ways. Raises PipelineFailed."""
        one = self._told_of(Calls(seconds))
        paused = self._told_of(Calls(seconds, pause_s=PAUSE_S))
        many = self._told_of(Calls(seconds, at_once=MANY))
        together = self._told_of(Calls(seconds, at_once=MANY, together=True))
        return Pipeline(one["p50_ms"], one["cpu_ms"], paused["p50_ms"], many["cpu_ms"], together["cpu_ms"])

    def p50_ms(self, calls: Calls) -> float:
        """Of calls made in this way. Raises PipelineFailed."""
        return float(self._told_of(calls)["p50_ms"])

    def _told_of(self, calls: Calls) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(calls)) + "\n")
        self.process.stdin.flush()
        return self._told()

    def _told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        raise PipelineFailed("the pipeline's process ended")


@contextmanager
def calling(program: Program) -> Iterator[Caller]:
    """The process, ready, until the block is left; its input's end ends it."""
    with subprocess.Popen(
        [str(part) for part in program.command],
        env={**os.environ, **program.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        caller = Caller(process)
        try:
            caller._told()
            yield caller
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
