"""What is about to be there is waited for, for as long as was said, and nothing else is tried again."""

from __future__ import annotations

from functools import partial

import pytest

from features import patience
from features.marker import materialized
from features.patience import patiently
from features.store import OnlineStoreError


def test_it_returns_what_the_first_good_try_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[OnlineStoreError | str] = [OnlineStoreError("not yet"), OnlineStoreError("not yet"), "there"]

    def look() -> str:
        if isinstance(answer := tries.pop(0), Exception):
            raise answer
        return answer

    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    lines: list[str] = []
    assert patiently(look, OnlineStoreError, 60.0, lines.append) == "there"
    assert len(lines) == 1
    assert "not yet" in lines[0]


def test_another_failure_is_not_tried_again() -> None:
    tries = []

    def look() -> None:
        tries.append(None)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        patiently(look, OnlineStoreError, 60.0, lambda _: None)
    assert len(tries) == 1


def test_without_a_wait_it_asks_once_and_keeps_the_password() -> None:
    lines: list[str] = []
    with pytest.raises(OnlineStoreError) as caught:
        patiently(partial(materialized, "redis://:secret@127.0.0.1:1/0"), OnlineStoreError, 0.0, lines.append)
    assert lines == []
    assert "secret" not in str(caught.value)
