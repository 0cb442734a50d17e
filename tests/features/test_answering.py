"""Redis may start beside who needs it: it is waited for, for as long as was said."""

from __future__ import annotations

import pytest

from features import answering as module
from features.answering import answering
from features.store import OnlineStoreError

URL = "redis://:secret@127.0.0.1:1/0"


def test_it_returns_when_redis_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([OnlineStoreError("not yet"), OnlineStoreError("not yet"), None])

    def look(_: str) -> str | None:
        if (answer := next(answers)) is not None:
            raise answer
        return answer

    monkeypatch.setattr(module, "materialized", look)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    lines: list[str] = []
    answering(URL, 60.0, lines.append)
    assert len(lines) == 1
    assert "not yet" in lines[0]


def test_without_a_wait_it_asks_once_and_keeps_the_password() -> None:
    lines: list[str] = []
    with pytest.raises(OnlineStoreError) as caught:
        answering(URL, 0.0, lines.append)
    assert lines == []
    assert "secret" not in str(caught.value)
