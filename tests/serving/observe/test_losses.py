"""The cause of a loss is logged the first time that a stage is lost so."""

from __future__ import annotations

import logging

import pytest

from serving.observe import losses


def error() -> Exception:
    try:
        raise ZeroDivisionError("a defect of the ranker's")
    except ZeroDivisionError as caught:
        return caught


def test_the_first_loss_of_a_kind_is_logged_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(losses, "_logged", set())
    with caplog.at_level(logging.WARNING, logger="serving.observe.losses"):
        for stage in ("ranker", "explainer", "ranker"):
            losses.log_first(stage, error())
    assert [record.getMessage().split()[0] for record in caplog.records] == ["ranker", "explainer"]
    assert caplog.text.count("ZeroDivisionError: a defect of the ranker's") == 2
    assert "in error" in caplog.text, "its traceback"
