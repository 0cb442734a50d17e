from __future__ import annotations

import io
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from features import steps
from features.steps import shown_steps


def test_a_step_that_lasts_says_so_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LINE_EVERY_S", 0.005)
    out = io.StringIO()
    with shown_steps(console=Console(file=out)) as show:
        show("fitting", 1, 4, "epoch 1 of 4")
        show("fitting", 3, 4, "epoch 3 of 4")
        while out.getvalue().count("epoch 3 of 4, 75%") < 3:  # pytest's own limit ends a hang
            time.sleep(0.005)
    assert out.getvalue().splitlines()[0] == "[0:00] fitting: epoch 1 of 4, 25%"
    said = out.getvalue()
    time.sleep(0.05)
    assert out.getvalue() == said


def test_no_line_is_written_before_a_step_or_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LINE_EVERY_S", 0.001)
    out = io.StringIO()

    def failing() -> None:
        with shown_steps(console=Console(file=out)):
            time.sleep(0.02)
            raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        failing()
    assert out.getvalue() == ""


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.sampled_from(["read", "[red]write[/]", "a\\[b", "fit: x"]), max_size=12))
def test_without_a_terminal_every_step_is_one_plain_line(names: list[str]) -> None:
    out = io.StringIO()
    with shown_steps(console=Console(file=out)) as show:
        for done, name in enumerate(names):
            show(name, done, None)
    lines = out.getvalue().splitlines()
    assert [re.sub(r"^\[\d+:\d\d\] ", "", line) for line in lines] == list(dict.fromkeys(names))
    assert "\x1b" not in out.getvalue()


def test_a_terminal_has_bars_and_keeps_them_when_asked() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with shown_steps(keep=True, console=console) as show:
        show("linear models")
        show("two-tower [held]", 2, 4, "loss 0.5")
    assert "two-tower [held]: loss 0.5" in out.getvalue()
    assert "\x1b[" in out.getvalue()
