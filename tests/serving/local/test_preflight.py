"""`marquee doctor`'s look at Redis: what it says of a URL holds nothing secret."""

from __future__ import annotations

import pytest

from serving.local.preflight import findings
from serving.settings import Settings


@pytest.mark.parametrize("mark", ["/", "#", "?", "@", ":", "%", "%2F", " "])
def test_what_is_said_of_redis_holds_no_password(mark: str) -> None:
    settings = Settings(redis_url=f"redis://ana:s3cr{mark}et42@127.0.0.1:1/0")
    (found,) = [finding for finding in findings(settings) if finding.check == "REDIS_URL"]
    assert not found.ok
    assert not any(part in found.detail for part in ("s3c", "t42", "ana"))
    assert "s3c" not in repr(settings)
