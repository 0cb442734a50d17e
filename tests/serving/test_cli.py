"""What `marquee serve` says when it answers, and of a configuration that it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.store import OnlineStoreError
from serving.cli import _config, _somebody, banner
from serving.settings import SettingError, Settings

ids = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@given(user=ids)
def test_whoever_is_named_can_be_asked_for(user: str) -> None:
    """Pasted into a shell, both lines ask for the user, whatever its id."""
    lines = banner("http://127.0.0.1:9", Settings(port=9), user).splitlines()
    [curl] = [line for line in lines if line.startswith("  curl")]
    [recommend] = [line for line in lines if line.startswith("  marquee recommend")]
    assert json.loads(shlex.split(curl)[-1])["user_id"] == user
    assert shlex.split(recommend)[-1] == user


@pytest.mark.parametrize("known", ["ann", None])
def test_it_names_somebody_whom_the_features_know(monkeypatch: pytest.MonkeyPatch, known: str | None) -> None:
    def look(_: str) -> str:
        if known is None:
            raise OnlineStoreError("Redis is down")
        return known

    monkeypatch.setattr("features.known_user.known_user", look)
    assert _somebody("redis://127.0.0.1:1/0") == (known or "USER_ID")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("placement: {ranking: deployment}", "{file}: `placement` is now `groups`"),
        ("groups: {a: {stages: [search]}}", "{file}: groups.a.stages.0: Input should be 'retrieval'"),
    ],
)
def test_a_configuration_that_is_refused_says_where_and_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(SettingError) as refused:
        _config(file, "bundle", Settings())
    assert str(refused.value).startswith(said.format(file=file))
