"""Addresses and places, from the environment: the only module of serving that reads environment variables.

What the platform does is configured by `serving.config` instead. Does not belong here: anything slow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

LOWEST_FREE_PORT = 1
"""0 would let the system choose, and nobody would know where to call."""


class SettingError(Exception):
    """A setting that cannot be used; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Attributes:
    host: HOST, the address to listen on; loopback, because requests carry no key yet.
    port: PORT.
    home: MARQUEE_HOME, where data, features, bundles and the embedded Redis live.
    redis_url: REDIS_URL; None starts the embedded server.
    dataset_path: DATASET_PATH, a data set on disk.
    metrics_dir: MARQUEE_METRICS_DIR, an empty folder in which the replicas of one machine add up their
        metrics; None leaves each replica with its own.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    home: Path = Path(".marquee")
    redis_url: str | None = None
    dataset_path: Path | None = None
    metrics_dir: Path | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The settings of this process; an empty variable counts as unset.

        Raises:
            SettingError: a variable makes no sense.
        """
        given = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
        defaults = cls()
        return cls(
            host=given.get("HOST", defaults.host),
            port=_port(given["PORT"]) if "PORT" in given else defaults.port,
            home=Path(given.get("MARQUEE_HOME", defaults.home)),
            redis_url=given.get("REDIS_URL"),
            dataset_path=_path(given.get("DATASET_PATH")),
            metrics_dir=_path(given.get("MARQUEE_METRICS_DIR")),
        )

    def override(self, **given: Any) -> Self:
        """These settings, with what the command line said instead; None says nothing."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def needed_redis_url(self) -> str:
        """Raises SettingError where there is none."""
        if self.redis_url is None:
            raise SettingError("REDIS_URL must be set where replicas run")
        return self.redis_url

    @property
    def bundles(self) -> Path:
        return self.home / "bundles"

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and LOWEST_FREE_PORT <= int(text) <= 65_535:
        return int(text)
    raise SettingError(f"PORT must be a whole number from {LOWEST_FREE_PORT} to 65535, not {text!r}")
