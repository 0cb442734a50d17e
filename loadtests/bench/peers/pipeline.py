"""Talks to `in_process`: the arm that has no server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from loadtests.bench.peers.arms import Program
from loadtests.bench.peers.figures import Pipeline

END_S = 10.0


class PipelineFailed(Exception):
    """The process ended; what it said is on the terminal."""


@dataclass(frozen=True, slots=True)
class Caller:
    process: subprocess.Popen[str]

    def measure(self, seconds: float) -> Pipeline:
        """Calls for that long. Raises PipelineFailed."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        told = self._told()
        return Pipeline(told["p50_ms"], told["cpu_ms"])

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
