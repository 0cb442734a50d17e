"""What a request lost is named and counted each time, and its cause is logged the first time."""

from __future__ import annotations

import logging
import time

import pytest

from serving.observe import losses as module
from serving.observe.metrics import NullRecorder
from serving.observe.request_trace import RequestTrace


class Counts(NullRecorder):
    def __init__(self) -> None:
        self.losses: list[tuple[str, str]] = []

    def lost(self, stage: str, reason: str) -> None:
        self.losses.append((stage, reason))


async def broken() -> None:
    raise ZeroDivisionError("a defect of the ranker's")


@pytest.fixture(autouse=True)
def nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_logged", set())


async def test_the_first_loss_of_a_kind_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    with caplog.at_level(logging.WARNING, logger="serving.observe.losses"):
        for _ in range(3):
            trace = RequestTrace(counts, time.monotonic() + 60)
            for stage in ("ranker", "explainer"):
                assert await trace.attempt(stage, 1_000, broken) is None
            assert trace.degraded == ["ranker", "explainer"]
    assert counts.losses == [("ranker", "ZeroDivisionError"), ("explainer", "ZeroDivisionError")] * 3
    assert [record.getMessage().split()[0] for record in caplog.records] == ["ranker", "explainer"]
    assert caplog.text.count("ZeroDivisionError: a defect of the ranker's") == 2
    assert "in broken" in caplog.text, "its traceback"


async def test_what_is_not_begun_for_want_of_time_is_said_so(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    trace = RequestTrace(counts, time.monotonic() - 1)
    assert await trace.attempt("diversity", 50, broken) is None
    assert counts.losses == [("diversity", "Deadline")]
    assert "nothing was left of the request's time for diversity" in caplog.text
